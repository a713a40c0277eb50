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
  const std::uint64_t halves = mixed(rounding_key ^ static_cast<std::uint64_t>(chunk + 1)), codes = mixed(halves);
  RoundingKeys keys{{static_cast<std::uint32_t>(halves), static_cast<std::uint32_t>(halves >> 32)}, {}};
  for (int k = 0; k < 4; ++k) keys.codes[k] = static_cast<std::uint16_t>(codes >> (16 * k));
  return keys;
}

void unpack_chunk(Packing packing, const char* from, float* to, std::ptrdiff_t n) {
  const PackingKernels& kernel = *kernels().packing;
  if (packing == Packing::bfloat16) return kernel.unpack_bfloat16(from, to, n);
  std::uint16_t halves[kPackedChunk];
  kernel.unpack_codes[packing == Packing::unsigned8](from, halves, n);
  kernel.unpack_bfloat16(reinterpret_cast<const char*>(halves), to, n);
}

void pack_chunk(Packing packing, float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                const RoundingKeys& keys, int state) {
  const PackingKernels& kernel = *kernels().packing;
  const std::uint32_t key = keys.halves[state / 2];
  const bool upper = state % 2 != 0;
  if (packing == Packing::bfloat16) return kernel.pack_bfloat16(from, to, n, words, key, upper);
  std::uint16_t halves[kPackedChunk];
  const std::ptrdiff_t whole = packed_blocks(n) * kPackedBlock;
  std::fill(from + n, from + whole, 0.0f);
  kernel.pack_bfloat16(from, reinterpret_cast<char*>(halves), whole, words, key, upper);
  kernel.pack_codes[packing == Packing::unsigned8](halves, to, n, words, keys.codes[state]);
}

void unpack(Packing packing, const char* from, float* to, std::ptrdiff_t n) {
  constexpr Cost kCost = cost_of("packing");
  const std::ptrdiff_t chunks = (n + kPackedChunk - 1) / kPackedChunk;
  parallel_for(chunks, kCost.ns * kPackedChunk, [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    for (std::ptrdiff_t begin = first * kPackedChunk; begin < std::min(last * kPackedChunk, n); begin += kPackedChunk)
      unpack_chunk(packing, from + packed_offset(packing, begin), to + begin, std::min(n - begin, kPackedChunk));
  });
}

}  // namespace nnfast
