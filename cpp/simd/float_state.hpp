// The floating-point state of the thread: which exceptions were raised, and flushing of subnormals.
#pragma once

#include <cstdint>

#include "simd/raised.hpp"
#include "simd/vector.hpp"

namespace nnfast {
namespace {

#if defined(__x86_64__)
using FloatState = std::uint32_t;
NNFAST_INLINE FloatState float_state() { return _mm_getcsr(); }
NNFAST_INLINE void set_float_state(FloatState state) { _mm_setcsr(state); }
NNFAST_INLINE FloatState flushing_subnormals(FloatState state) { return state | 0x8040u; }  // FTZ and DAZ
NNFAST_INLINE unsigned raised_in(FloatState state) {
  return ((state & 0x01u) ? kRaisedInvalid : 0u) | ((state & 0x08u) ? kRaisedOverflow : 0u);
}
// Without the flags of rounding and of subnormal operands.
NNFAST_INLINE FloatState telling(FloatState state) { return state & ~0x22u; }
#elif defined(__aarch64__)
struct FloatState {
  std::uint64_t control, status;
  bool operator==(const FloatState&) const = default;
};
NNFAST_INLINE FloatState float_state() {
  FloatState state;
  asm volatile("mrs %0, fpcr" : "=r"(state.control)::"memory");
  asm volatile("mrs %0, fpsr" : "=r"(state.status)::"memory");
  return state;
}
NNFAST_INLINE void set_float_state(FloatState state) {
  asm volatile("msr fpcr, %0" ::"r"(state.control) : "memory");
  asm volatile("msr fpsr, %0" ::"r"(state.status) : "memory");
}
NNFAST_INLINE FloatState flushing_subnormals(FloatState state) { return {state.control | (1u << 24), state.status}; }
NNFAST_INLINE unsigned raised_in(FloatState state) {
  return ((state.status & 1u) ? kRaisedInvalid : 0u) | ((state.status & 4u) ? kRaisedOverflow : 0u);
}
NNFAST_INLINE FloatState telling(FloatState state) { return {state.control, state.status & ~std::uint64_t{0x90}}; }
#endif

// Keeps the arithmetic of a loop between its two ends: the compiler does not know that it reads the state.
NNFAST_INLINE void fence_arithmetic() { asm volatile("" ::: "memory"); }

// Keeps the floating-point exceptions of a loop from the caller's flags; raised() returns them. That a result was
// rounded, or an operand subnormal, is left in the flags: nearly every loop leaves it there, NumPy reports neither, and
// to set the state waits for all arithmetic before it, which took a loop of 64 elements four times as long.
class ExceptionScope {
 public:
  ExceptionScope() : before_(float_state()) { fence_arithmetic(); }
  ~ExceptionScope() {
    fence_arithmetic();
    if (telling(float_state()) != telling(before_)) set_float_state(before_);
  }
  ExceptionScope(const ExceptionScope&) = delete;
  ExceptionScope& operator=(const ExceptionScope&) = delete;
  unsigned raised() const {
    fence_arithmetic();
    return raised_in(float_state()) & ~raised_in(before_);
  }

 private:
  FloatState before_;
};

// Subnormals count as zero until the scope ends. A decaying average (Adam's m of a dead unit) otherwise stops at a
// subnormal and costs a hundred cycles an element from then on.
class FlushSubnormalsScope {
 public:
  FlushSubnormalsScope() : before_(float_state()) {
    set_float_state(flushing_subnormals(before_));
    fence_arithmetic();
  }
  ~FlushSubnormalsScope() {
    fence_arithmetic();
    set_float_state(before_);
  }
  FlushSubnormalsScope(const FlushSubnormalsScope&) = delete;
  FlushSubnormalsScope& operator=(const FlushSubnormalsScope&) = delete;

 private:
  FloatState before_;
};

}  // namespace
}  // namespace nnfast
