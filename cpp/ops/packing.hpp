// Packed numbers: where they lie in their arrays, and the keys of the bits that round them.
#pragma once

#include "kernels/packing.hpp"

namespace nnfast {

// The byte at which number i lies; of 8 bits the first of a block.
constexpr std::ptrdiff_t packed_offset(Packing packing, std::ptrdiff_t i) {
  return packing == Packing::bfloat16 ? 2 * i : i / kPackedBlock * kPackedBlockBytes;
}

// How many blocks n numbers have.
constexpr std::ptrdiff_t packed_blocks(std::ptrdiff_t n) { return (n + kPackedBlock - 1) / kPackedBlock; }

// 64 bits mixed, each of which depends on all.
std::uint64_t mixed(std::uint64_t bits);

// The key of all that is rounded for an array in a step.
std::uint64_t rounding_key(std::uint64_t seed, std::uint64_t step, std::uint64_t array);

// Of a chunk of such an array.
RoundingKeys chunk_keys(std::uint64_t rounding_key, std::ptrdiff_t chunk);

// n floats, at most a chunk, for which `to` has room.
void unpack_chunk(Packing packing, const char* from, float* to, std::ptrdiff_t n);
// Of the state of this number. `from` has room for a chunk, of which what is after n is overwritten.
void pack_chunk(Packing packing, float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                const RoundingKeys& keys, int state);

// Whether one of the blocks of n numbers has one that is not finite.
bool has_flagged_block(const char* blocks, std::ptrdiff_t n);

// Writes n floats.
void unpack(Packing packing, const char* from, float* to, std::ptrdiff_t n);

}  // namespace nnfast
