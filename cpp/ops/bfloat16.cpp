#include "ops/bfloat16.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "ops/elementwise.hpp"
#include "ops/raised.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr std::ptrdiff_t kBlock = 512;  // elements that are float32 at a time
constexpr Cost kConversion = cost_of("bfloat16");

float widened(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

std::uint16_t rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, nan = (bits >> 16 & 0x8000) | 0x7fc0;
  return static_cast<std::uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? nan : nearest);
}

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void store(char* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

// What is done to an element of each array.
void widen(const char* bfloat16, char* to) { store(to, widened(load<std::uint16_t>(bfloat16))); }
void round(char* bfloat16, const char* from) { store(bfloat16, rounded(load<float>(from))); }
void refresh(const char* bfloat16, char* to) {
  const auto bits = load<std::uint16_t>(bfloat16);
  const auto value = load<float>(to);
  store(to, rounded(value) == bits ? value : widened(bits));
}

// With constant steps, where they are those of contiguous arrays, so that the compiler makes vectors of it.
template <auto element>
void run(char* bfloat16, std::ptrdiff_t step, char* float32, std::ptrdiff_t float_step, std::ptrdiff_t n) {
  if (step == 2 && float_step == 4) {
    for (std::ptrdiff_t i = 0; i < n; ++i) element(bfloat16 + 2 * i, float32 + 4 * i);
  } else {
    for (std::ptrdiff_t i = 0; i < n; ++i) element(bfloat16 + i * step, float32 + i * float_step);
  }
}

template <auto element>
void run_all(Bfloat16AndFloat& arrays) {
  arrays.sort_axes();
  arrays.coalesce();
  std::ptrdiff_t steps[2];
  arrays.inner_strides(steps);
  parallel_for(arrays.size(), kConversion.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    arrays.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      run<element>(at[0], steps[0], at[1], steps[1], count);
    });
  });
}

}  // namespace

void widen_bfloat16(Bfloat16AndFloat arrays) { run_all<widen>(arrays); }
void round_to_bfloat16(Bfloat16AndFloat arrays) { run_all<round>(arrays); }
void refresh_from_bfloat16(Bfloat16AndFloat arrays) { run_all<refresh>(arrays); }

unsigned run_elementwise_bfloat16(ElementwiseFn fn, int inputs, int params, char* const* arrays,
                                  const std::ptrdiff_t* strides, std::ptrdiff_t n, const Cost& cost) {
  const auto block = [&](char* const* given, std::ptrdiff_t count) {
    alignas(64) float values[kMaxElementwiseArrays][kBlock];
    char* at[kMaxElementwiseArrays];
    std::ptrdiff_t steps[kMaxElementwiseArrays];
    for (int k = 0; k <= inputs; ++k) {
      const bool param = k >= inputs - params && k < inputs;
      at[k] = param ? given[k] : reinterpret_cast<char*>(values[k]);
      steps[k] = param ? strides[k] : (strides[k] == 0 && k < inputs ? 0 : 4);
      if (!param && k < inputs) run<widen>(given[k], strides[k], at[k], 4, steps[k] == 0 ? 1 : count);
    }
    const unsigned raised = fn(at, steps, count, false);
    run<round>(given[inputs], strides[inputs], at[inputs], 4, count);
    return raised;
  };
  const auto range = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    unsigned raised = 0;
    for (; begin < end; begin += kBlock) {
      char* at[kMaxElementwiseArrays];
      for (int k = 0; k <= inputs; ++k) at[k] = arrays[k] + begin * strides[k];
      raised |= block(at, std::min(kBlock, end - begin));
    }
    return raised;
  };
  if (feeds_itself(arrays, strides, inputs)) {
    unsigned raised = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) raised |= range(i, i + 1);
    return raised;
  }
  SharedRaised raised;
  const double ns = cost.ns + kConversion.ns * (inputs - params + 1);
  parallel_for(n, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) { raised.add(range(begin, end)); });
  return raised.all();
}

}  // namespace nnfast
