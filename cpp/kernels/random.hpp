// The family of random numbers: streams of Philox words, and numbers computed from them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nnfast {

// Element i of an array is element offset + i of the stream's elements of that kind; an element of 32 bits is one word
// of the stream (philox.hpp), one of 64 bits two, the first being the lower half. Kinds of number:
//
//   bits     the words themselves
//   uniform  low + (high - low) u, u = 0, 1, ... 2^24 - 1 of 2^24, or of 2^53: the upper bits of the element
//   normal   mean + std z, by Box and Muller: an element of a block's first half gives the radius, one of its second
//   half
//            the angle, and the two products replace both
struct RandomStream {
  std::uint64_t seed;
  std::uint32_t stream;
  std::uint64_t offset;
  double first, second;  // low and high - low; mean and std
};

// Elements [begin, end) of an array, to `to` and on at a byte stride.
using RandomFn = void (*)(const RandomStream& stream, std::ptrdiff_t begin, std::ptrdiff_t end, char* to,
                          std::ptrdiff_t stride);

// Elements of 32 bits in a block of the stream; ranges that begin at its multiples waste no work.
constexpr std::ptrdiff_t kRandomBlock = 64;

struct RandomKernels {
  RandomFn bits_32, bits_64, uniform_f32, uniform_f64, normal_f32, normal_f64;
  // The four words of each of the counters first, first + 1, ...
  void (*philox)(std::uint64_t seed, std::uint64_t first, std::uint32_t stream, std::uint32_t* words,
                 std::ptrdiff_t counters);
};

}  // namespace nnfast
