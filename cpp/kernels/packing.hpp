// The family of packed numbers: float32 in 16 or 8 bits, as the state of an optimizer may be stored.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nnfast {

// bfloat16: the upper half of a float32. signed8, unsigned8: a byte each, in blocks that share an exponent E: code c
// is 2^(c / 8 - F) (1 + c % 8 / 8) times 2^(E - 127), where F is 15 or 31, so that its bits are those of the bfloat16
// whose last 4 are dropped. 0 is zero; the two largest codes are infinity and NaN. signed8 has the sign in its
// uppermost bit. Of unsigned8 nothing but zero becomes zero: it is for averages of squares, which are divisors.
enum class Packing : int { none, bfloat16, signed8, unsigned8 };

constexpr std::ptrdiff_t kPackedBlock = 128;  // numbers that share an exponent
// The codes, the exponent, and whether one of the numbers is not finite.
constexpr std::ptrdiff_t kPackedBlockBytes = kPackedBlock + 2;

// Numbers that a kernel takes at most, and that share a key of the random bits.
constexpr std::ptrdiff_t kPackedChunk = 1024;

// What is added to the words of a chunk: where states become bfloat16, one for each two, and from there 8 bits.
struct RoundingKeys {
  std::uint32_t halves[2];
  std::uint16_t codes[4];
};

// Rounding is stochastic: up or down, by a probability that makes the expected value the number itself. An average that
// changes by less than half a step of the format would stand still under rounding to nearest. The random bits of a
// number are a word of a table, which an array has for a step, plus a key of its chunk: those of any two numbers are
// independent, for the cost of an addition.
struct PackingKernels {
  // kPackedChunk words that are a function of the key alone.
  void (*random)(std::uint64_t key, std::uint32_t* words);
  void (*unpack_bfloat16)(const char* from, float* to, std::ptrdiff_t n);
  // By the lower or the upper halves of the words plus `key`. `from` has room for a whole chunk.
  void (*pack_bfloat16)(const float* from, char* to, std::ptrdiff_t n, const std::uint32_t* words, std::uint32_t key,
                        bool upper);
  // From 8 bits to bfloat16 and back, signed ones first; whole blocks, of zeros after n. The words' halves from `at` on
  // plus `key` round, whatever they have rounded by other keys.
  void (*unpack_codes[2])(const char* from, std::uint16_t* to, std::ptrdiff_t n);
  void (*pack_codes[2])(const std::uint16_t* from, char* to, std::ptrdiff_t n, const std::uint32_t* words,
                        std::uint16_t key);
};

}  // namespace nnfast
