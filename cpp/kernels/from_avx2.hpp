// Kernels that AVX-512 takes from AVX2, so that a wheel does not have them twice: the bits are the same, and what they
// gain from wider vectors is little, or few people wait for them. NNFAST_FROM_AVX2(kernel) in the table of a family is
// null on AVX-512, where the kernel is not compiled either, and runtime/kernel_table.cpp puts that of AVX2 there. It
// may stand around one kernel or those of all dtypes. `python -m bench --avx2` shows what a kernel gains.
#pragma once

#if defined(__AVX512F__)
#define NNFAST_FROM_AVX2(...) \
  {                           \
  }
#else
#define NNFAST_FROM_AVX2(...) __VA_ARGS__
#endif
