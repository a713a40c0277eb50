#include "runtime/cpu.hpp"

#include <cstring>

namespace nnfast {

bool cpu_supports(const char* isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (std::strcmp(isa, "x86-64-v2") == 0) return __builtin_cpu_supports("x86-64-v2");
  if (std::strcmp(isa, "x86-64-v3") == 0) return __builtin_cpu_supports("x86-64-v3");
  if (std::strcmp(isa, "x86-64-v4") == 0) return __builtin_cpu_supports("x86-64-v4");
#elif defined(__aarch64__)
  if (std::strcmp(isa, "neon") == 0) return true;
#endif
  return false;
}

}  // namespace nnfast
