// One value a channel, as values of the elements: how class weights, sample weights and probabilities of channels reach
// kernels that take one an element.
#pragma once

#include <cstddef>

namespace nnfast {
namespace {

// Element i has values[i / inner % channels].
template <class T>
struct ByChannel {
  const T* values;
  std::ptrdiff_t channels, inner;

  // `fill` may overwrite as many elements past the last: those of a piece of 64 bytes.
  static constexpr std::ptrdiff_t kRoom = 64 / static_cast<std::ptrdiff_t>(sizeof(T));
  typedef T Quarter __attribute__((vector_size(16)));

  // The values of the elements [first, first + count). A run of a channel is stored by pieces, over its end, which the
  // next run overwrites; and what repeats is copied in ever longer pieces: runs may be short.
  void fill(T* to, std::ptrdiff_t first, std::ptrdiff_t count) const {
    const std::ptrdiff_t period = channels * inner;
    std::ptrdiff_t channel = first / inner % channels, left = inner - first % inner;
    const std::ptrdiff_t filled = count < period ? count : period;
    if (inner == 1) {
      const std::ptrdiff_t head = channels - channel < filled ? channels - channel : filled;
      __builtin_memcpy(to, values + channel, static_cast<std::size_t>(head) * sizeof(T));
      __builtin_memcpy(to + head, values, static_cast<std::size_t>(filled - head) * sizeof(T));
    } else {
      for (std::ptrdiff_t at = 0; at < filled; left = inner) {
        const std::ptrdiff_t run = left < filled - at ? left : filled - at;
        const Quarter quarter = values[channel] - Quarter{};
        for (std::ptrdiff_t k = 0; k < run; k += kRoom)
#pragma GCC unroll 4
          for (std::ptrdiff_t q = 0; q < 4; ++q)
            __builtin_memcpy(to + at + k + q * kRoom / 4, &quarter, sizeof quarter);
        at += run;
        if (++channel == channels) channel = 0;
      }
    }
    for (std::ptrdiff_t have = filled; have < count; have *= 2) {
      const std::ptrdiff_t copied = have < count - have ? have : count - have;
      __builtin_memcpy(to + have, to, static_cast<std::size_t>(copied) * sizeof(T));
    }
  }
};

}  // namespace
}  // namespace nnfast
