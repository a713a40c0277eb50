#include "runtime/kernel_table.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/activations.hpp"
#include "kernels/bias.hpp"
#include "kernels/convolution.hpp"
#include "kernels/dropout.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gating.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/losses.hpp"
#include "kernels/normalization.hpp"
#include "kernels/optim.hpp"
#include "kernels/packing.hpp"
#include "kernels/penalties.hpp"
#include "kernels/pooling.hpp"
#include "kernels/random.hpp"
#include "kernels/softmax.hpp"
#include "kernels/sums.hpp"
#include "runtime/cpu.hpp"

namespace nnfast {

#define NNFAST_DECLARE(name, Kernels, _) extern const Kernels name;
#define NNFAST_DECLARE_ALL(space)   \
  namespace space {                 \
  NNFAST_FAMILIES(NNFAST_DECLARE, ) \
  }
#if defined(__x86_64__)
NNFAST_DECLARE_ALL(x86_64_v2)
NNFAST_DECLARE_ALL(x86_64_v3)
NNFAST_DECLARE_ALL(x86_64_v4)
#else
NNFAST_DECLARE_ALL(neon)
#endif
#undef NNFAST_DECLARE_ALL
#undef NNFAST_DECLARE

namespace {

#if defined(__x86_64__)

// The kernels of a family, and those of a narrower instruction set where there are none: see kernels/from_avx2.hpp.
template <class Kernels>
Kernels completed(const Kernels& kernels, const Kernels& narrower) {
  static_assert(std::has_unique_object_representations_v<Kernels>, "pointers and whole numbers, without padding");
  using Words = std::array<std::uintptr_t, sizeof(Kernels) / sizeof(std::uintptr_t)>;
  auto words = std::bit_cast<Words>(kernels);
  const auto others = std::bit_cast<Words>(narrower);
  for (std::size_t i = 0; i < words.size(); ++i)
    if (!words[i]) words[i] = others[i];
  return std::bit_cast<Kernels>(words);
}

struct CompletedKernels {
#define NNFAST_MEMBER(name, Kernels, _) Kernels name = completed(x86_64_v4::name, x86_64_v3::name);
  NNFAST_FAMILIES(NNFAST_MEMBER, )
#undef NNFAST_MEMBER
};
const CompletedKernels completed_v4;

#endif

#define NNFAST_ADDRESS(name, Kernels, of) &of name,
#define NNFAST_TABLE(isa, of) \
  KernelTable { isa, NNFAST_FAMILIES(NNFAST_ADDRESS, of) }
constexpr KernelTable tables[] = {
#if defined(__x86_64__)
    NNFAST_TABLE("x86-64-v2", x86_64_v2::),
    NNFAST_TABLE("x86-64-v3", x86_64_v3::),
    NNFAST_TABLE("x86-64-v4", completed_v4.),
#else
    NNFAST_TABLE("neon", neon::),
#endif
};
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
