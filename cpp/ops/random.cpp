#include "ops/random.hpp"

#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

struct Filler {
  RandomFn fn;
  Cost cost;
};

Filler filler(RandomKind kind, bool wide) {
  const RandomKernels& kernel = *kernels().random;
  switch (kind) {
    case RandomKind::bits:
      return wide ? Filler{kernel.bits_64, cost_of("bits_64")} : Filler{kernel.bits_32, cost_of("bits_32")};
    case RandomKind::uniform:
      return wide ? Filler{kernel.uniform_f64, cost_of("uniform_f64")}
                  : Filler{kernel.uniform_f32, cost_of("uniform_f32")};
    default:
      return wide ? Filler{kernel.normal_f64, cost_of("normal_f64")} : Filler{kernel.normal_f32, cost_of("normal_f32")};
  }
}

}  // namespace

void fill_random(RandomKind kind, bool wide, const RandomStream& stream, const StridedArrays<1>& out) {
  const Filler fill = filler(kind, wide);
  std::ptrdiff_t strides[1];
  out.inner_strides(strides);
  const auto range = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    out.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      fill.fn(stream, position, position + count, at[0], strides[0]);
    });
  };
  // Threads begin where blocks of the stream do.
  const auto lead = static_cast<std::ptrdiff_t>(-stream.offset % kRandomBlock);
  const std::ptrdiff_t n = out.size(), alone = std::min(lead, n);
  if (alone > 0) range(0, alone);
  parallel_for(
      n - alone, fill.cost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) { range(alone + begin, alone + end); },
      kRandomBlock);
}

}  // namespace nnfast
