#include "runtime/cpu.hpp"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nnfast {
namespace {

#if defined(__x86_64__)

// The compilers' own answers to the levels' names are younger than the compilers of some systems, or in a library that
// others do not link.
struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf(unsigned number) { __get_cpuid_count(number, 0, &eax, &ebx, &ecx, &edx); }
};

bool all(unsigned word, unsigned bits) { return (word & bits) == bits; }

// The registers that the system saves when it changes threads.
unsigned saved_registers() {
  unsigned low, high;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool has_v2() {
  return all(Leaf(1).ecx, bit_SSE3 | bit_SSSE3 | bit_CMPXCHG16B | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT) &&
         all(Leaf(0x80000001).ecx, bit_LAHF_LM);
}

bool has_v3() {
  constexpr unsigned vectors = 0x06;
  return has_v2() && all(Leaf(1).ecx, bit_OSXSAVE | bit_AVX | bit_FMA | bit_MOVBE | bit_F16C) &&
         all(saved_registers(), vectors) && all(Leaf(7).ebx, bit_AVX2 | bit_BMI | bit_BMI2) &&
         all(Leaf(0x80000001).ecx, bit_ABM);
}

bool has_v4() {
  constexpr unsigned wide_vectors = 0xe6;
  return has_v3() && all(saved_registers(), wide_vectors) &&
         all(Leaf(7).ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL);
}

#endif

}  // namespace

bool cpu_supports(const char* isa) {
#if defined(__x86_64__)
  if (std::strcmp(isa, "x86-64-v2") == 0) return has_v2();
  if (std::strcmp(isa, "x86-64-v3") == 0) return has_v3();
  if (std::strcmp(isa, "x86-64-v4") == 0) return has_v4();
#elif defined(__aarch64__)
  if (std::strcmp(isa, "neon") == 0) return true;
#endif
  return false;
}

}  // namespace nnfast
