#include "ops/packing.hpp"

#include <algorithm>

#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
std::uint64_t mixed(std::uint64_t bits) {
  bits += 0x9e3779b97f4a7c15u;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

std::uint64_t rounding_key(std::uint64_t seed, std::uint64_t step, std::uint64_t array) {
  return mixed(mixed(mixed(seed) ^ step) ^ array);
}

RoundingKeys chunk_keys(std::uint64_t rounding_key, std::ptrdiff_t chunk) {
  const std::uint64_t keys = mixed(rounding_key ^ static_cast<std::uint64_t>(chunk + 1));
  return {{static_cast<std::uint32_t>(keys), static_cast<std::uint32_t>(keys >> 32)}};
}

void unpack_chunk(Packing packing, const char* from, float* to, std::ptrdiff_t n) {
  const PackingKernels& kernel = *kernels().packing;
  if (packing == Packing::bfloat16) return kernel.unpack_bfloat16(from, to, n);
  kernel.unpack_blocks(packing, from, to, n);
}

void pack_chunk(Packing packing, float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                const RoundingKeys& keys, int state) {
  const PackingKernels& kernel = *kernels().packing;
  const std::uint32_t key = keys.of_pair[state / 2];
  const bool upper = state % 2 != 0;
  if (packing == Packing::bfloat16) return kernel.pack_bfloat16(from, to, n, words, key, upper);
  std::fill(from + n, from + packed_blocks(n) * kPackedBlock, 0.0f);
  kernel.pack_blocks(packing, from, to, n, words, key, upper);
}

bool has_flagged_block(const char* blocks, std::ptrdiff_t n) {
  bool flagged = false;
  for (std::ptrdiff_t i = 0; i < packed_blocks(n); ++i) flagged |= blocks[(i + 1) * kPackedBlockBytes - 1] != 0;
  return flagged;
}

void unpack(Packing packing, const char* from, float* to, std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("packing");
  const std::ptrdiff_t chunks = (n + kPackedChunk - 1) / kPackedChunk;
  parallel_for(chunks, kCost.ns * kPackedChunk, [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    float numbers[kPackedChunk];
    for (std::ptrdiff_t begin = first * kPackedChunk; begin < std::min(last * kPackedChunk, n); begin += kPackedChunk) {
      const std::ptrdiff_t count = std::min(n - begin, kPackedChunk);
      unpack_chunk(packing, from + packed_offset(packing, begin), numbers, count);
      std::copy_n(numbers, count, to + begin);
    }
  });
}

}  // namespace nnfast
