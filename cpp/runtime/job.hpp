// A range of work cut into chunks, as the threading runtimes distribute it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "runtime/parallel.hpp"

namespace nnfast {

// The thread's rounding and subnormal modes. A thread of ours starts with the default ones, the caller may have others.
class FloatMode {
 public:
#if defined(__x86_64__)
  static FloatMode current() { return FloatMode(_mm_getcsr() & ~kStatus); }
  void apply() const { _mm_setcsr(mode_); }

 private:
  static constexpr std::uint32_t kStatus = 0x3f;  // the flags of exceptions that were raised
  explicit FloatMode(std::uint32_t mode) : mode_(mode) {}
  std::uint32_t mode_;

 public:
  FloatMode() : mode_(0x1f80) {}
#elif defined(__aarch64__)
  static FloatMode current() {
    FloatMode mode;
    asm volatile("mrs %0, fpcr" : "=r"(mode.mode_)::"memory");
    return mode;
  }
  void apply() const { asm volatile("msr fpcr, %0" ::"r"(mode_) : "memory"); }
  FloatMode() = default;

 private:
  std::uint64_t mode_ = 0;
#endif
};

struct Job {
  detail::RangeFn call;
  void* body;
  std::ptrdiff_t items, multiple, chunks;
  FloatMode mode;

  // What a range may begin at, and so the most chunks.
  std::ptrdiff_t units() const { return (items + multiple - 1) / multiple; }

  void run_chunk(std::ptrdiff_t chunk) const {
    const std::ptrdiff_t begin = units() * chunk / chunks * multiple;
    const std::ptrdiff_t end = std::min(items, units() * (chunk + 1) / chunks * multiple);
    if (begin < end) call(body, begin, end);
  }
};

}  // namespace nnfast
