#include "runtime/kernel_table.hpp"

#include <atomic>
#include <cstring>

#include "runtime/cpu.hpp"

#if defined(__x86_64__)
#define NNFAST_FOR_EACH_ISA(X) X(x86_64_v2, "x86-64-v2") X(x86_64_v3, "x86-64-v3") X(x86_64_v4, "x86-64-v4")
#else
#define NNFAST_FOR_EACH_ISA(X) X(neon, "neon")
#endif

namespace nnfast {

#define NNFAST_DECLARE(name, Kernels, _) extern const Kernels name;
#define NNFAST_DECLARE_ALL(space, isa) \
  namespace space {                    \
  NNFAST_FAMILIES(NNFAST_DECLARE, )    \
  }
NNFAST_FOR_EACH_ISA(NNFAST_DECLARE_ALL)
#undef NNFAST_DECLARE_ALL
#undef NNFAST_DECLARE

namespace {

#define NNFAST_ADDRESS(name, Kernels, space) &space::name,
#define NNFAST_TABLE(space, isa) KernelTable{isa, NNFAST_FAMILIES(NNFAST_ADDRESS, space)},
constexpr KernelTable tables[] = {NNFAST_FOR_EACH_ISA(NNFAST_TABLE)};
#undef NNFAST_TABLE
#undef NNFAST_ADDRESS

std::atomic<const KernelTable*> current{&tables[0]};

}  // namespace

std::span<const KernelTable> built_kernels() { return tables; }

const KernelTable& kernels() { return *current.load(std::memory_order_relaxed); }

bool choose_kernels(const char* cap) {
  const KernelTable* best = &tables[0];
  bool cap_known = cap == nullptr;
  for (const KernelTable& table : tables) {
    if (cpu_supports(table.isa)) best = &table;
    if (cap && std::strcmp(cap, table.isa) == 0) {
      cap_known = true;
      break;
    }
  }
  if (cap_known) current.store(best, std::memory_order_relaxed);
  return cap_known;
}

}  // namespace nnfast
