// The family of packed numbers: float32 in 16 or 8 bits, as the state of an optimizer may be stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nnfast {

// bfloat16: the upper half of a float32. The others: a byte each, in blocks that share a base exponent B. With s
// codes an octave, code c stands for (1 + (c % s) / s) 2^(c / s + B - 127):
//   squares8   that number: 32 octaves of s = 8, and never zero, as averages of squares are divisors;
//   average8   that number less 2^(B - 127), and the sign in the uppermost bit: 16 octaves of s = 8, below them equal
//              steps down to zero;
//   momentum8  the same of 4 octaves of s = 32: for what is added to parameters as it is, where the error counts, not
//              the relative one.
// So a code's bits are a float's, and adding 2^(B - 127) to a number is all that makes it one of a code.
enum class Packing : int { none, bfloat16, average8, momentum8, squares8 };

constexpr std::ptrdiff_t kPackedBlock = 128;  // numbers that share a base
// The codes, the base, and whether one of the numbers is not finite; then the two largest codes are infinity and NaN.
constexpr std::ptrdiff_t kPackedBlockBytes = kPackedBlock + 2;

// Numbers that a kernel takes at most, and that share a key of the random bits.
constexpr std::ptrdiff_t kPackedChunk = 1024;

// Rounding is stochastic: up or down, by a probability that makes the expected value the number itself. An average that
// changes by less than half a step of the format would stand still under rounding to nearest. The random bits of a
// number are those of a word of a table, which an array has for a step, plus a key of its chunk: those of any two
// numbers are independent, for the cost of an addition. A word serves two states, the first by its lower bits, the
// second by its upper ones, 16 for bfloat16, and as many as are cut off for a code.
struct RoundingKeys {
  std::uint32_t of_pair[2];  // of states
};

struct PackingKernels {
  // kPackedChunk words that are a function of the key alone.
  void (*random)(std::uint64_t key, std::uint32_t* words);
  void (*unpack_bfloat16)(const char* from, float* to, std::ptrdiff_t n);
  // By the lower or the upper bits of the words plus `key`. `from` has room for a whole chunk.
  void (*pack_bfloat16)(const float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words, std::uint32_t key,
                        bool upper);
  // Whole blocks: of zeros after n.
  void (*unpack_blocks)(Packing packing, const char* from, float* to, std::ptrdiff_t n);
  void (*pack_blocks)(Packing packing, const float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                      std::uint32_t key, bool upper);
};

}  // namespace nnfast
