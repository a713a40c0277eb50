// Random numbers out of blocks of Philox words.
#include "kernels/random.hpp"

#include "kernels/unrolled.hpp"
#include "simd/float_state.hpp"
#include "simd/math.hpp"
#include "simd/philox.hpp"

namespace nnfast {
namespace {

// The elements of type T that a vector of words is.
template <class T>
using Bits = Vec<std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;

// 0 <= u < 1, from the bits that fit: 24 of a word, 53 of two.
NNFAST_INLINE Vec<float> unit(Vec<std::uint32_t> bits) {
  return __builtin_convertvector(bit_cast<Vec<std::int32_t>>(bits >> 8), Vec<float>) * 0x1p-24f;
}
NNFAST_INLINE Vec<double> unit(Vec<std::uint64_t> bits) {
  // 52 bits as the digits after 1, and the 53rd: conversions of 64 bits are not everywhere.
  constexpr auto one = __builtin_bit_cast(std::uint64_t, 1.0), half_digit = __builtin_bit_cast(std::uint64_t, 0x1p-53);
  const auto above = bit_cast<Vec<double>>((bits >> 12) | one) - 1;
  return above + bit_cast<Vec<double>>((Vec<std::uint64_t>{} - (bits >> 11 & 1)) & half_digit);
}

// 0 < u <= 1, as fine near 0 as the type has words for: what the tails of the normal distribution are made of.
NNFAST_INLINE Vec<float> unit_above_zero(Vec<std::uint32_t> bits) {
  return (__builtin_convertvector(bit_cast<Vec<std::int32_t>>(bits >> 1), Vec<float>) + 0.5f) * 0x1p-31f;
}
NNFAST_INLINE Vec<double> unit_above_zero(Vec<std::uint64_t> bits) { return unit(bits) + 0x1p-54; }

// Word j of a block, and where its elements stand in it.
template <class T, class Body>
NNFAST_INLINE void for_words(const PhiloxBlock& block, int j, Body body) {
  unrolled<PhiloxBlock::kParts>([&](int k) NNFAST_INLINED {
    constexpr int elements = kLanes<Bits<T>>;
    body(bit_cast<Bits<T>>(block.part[k].word[j]), (j * PhiloxBlock::kParts + k) * elements, k);
  });
}

template <class T>
struct RandomBits {
  using Type = T;
  NNFAST_INLINE explicit RandomBits(const RandomStream&) {}
  NNFAST_INLINE void operator()(const PhiloxBlock& block, T* to) const {
    for (int j = 0; j < 4; ++j)
      for_words<T>(block, j, [&](Bits<T> bits, int at, int) NNFAST_INLINED { store(to + at, bits); });
  }
};

template <class T>
struct Uniform {
  using Type = T;
  T low, range;
  NNFAST_INLINE explicit Uniform(const RandomStream& stream)
      : low(static_cast<T>(stream.first)), range(static_cast<T>(stream.second)) {}
  NNFAST_INLINE void operator()(const PhiloxBlock& block, T* to) const {
    for (int j = 0; j < 4; ++j)
      for_words<T>(block, j,
                   [&](Bits<T> bits, int at, int) NNFAST_INLINED { store(to + at, unit(bits) * range + low); });
  }
};

// Box, Muller, "A note on the generation of random normal deviates", 1958.
template <class T>
struct Normal {
  using Type = T;
  T mean, std;
  NNFAST_INLINE explicit Normal(const RandomStream& stream)
      : mean(static_cast<T>(stream.first)), std(static_cast<T>(stream.second)) {}
  NNFAST_INLINE void operator()(const PhiloxBlock& block, T* to) const {
    constexpr int half = kWordsInBlock * 2 / static_cast<int>(sizeof(T));
    for (int j = 0; j < 2; ++j)
      for_words<T>(block, j, [&](Bits<T> bits, int at, int k) NNFAST_INLINED {
        const auto angle = sin_cos_turns(unit(bit_cast<Bits<T>>(block.part[k].word[j + 2])));
        const auto radius = sqrt(log_of(unit_above_zero(bits)) * -2);
        store(to + at, radius * angle.cos * std + mean);
        store(to + at + half, radius * angle.sin * std + mean);
      });
  }
};

// Whole blocks are written directly; of the first and the last block, and with a stride, single elements.
template <class Kind>
void fill(const RandomStream& stream, std::ptrdiff_t begin, std::ptrdiff_t end, char* to, std::ptrdiff_t stride) {
  using T = typename Kind::Type;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr std::ptrdiff_t in_block = 4 * kWordsInBlock / size;
  const ExceptionScope exceptions;
  const Kind kind(stream);
  const PhiloxKey key(stream.seed);
  for (std::ptrdiff_t i = begin; i < end;) {
    const std::uint64_t element = stream.offset + static_cast<std::uint64_t>(i);
    const auto skipped = static_cast<std::ptrdiff_t>(element % in_block);
    const PhiloxBlock block(key, element / in_block, stream.stream);
    const std::ptrdiff_t count = end - i < in_block - skipped ? end - i : in_block - skipped;
    char* at = to + (i - begin) * stride;
    if (count == in_block && stride == size) {
      kind(block, reinterpret_cast<T*>(at));
    } else {
      T elements[in_block];
      kind(block, elements);
      for (std::ptrdiff_t k = 0; k < count; ++k) store_element(at + k * stride, elements[skipped + k]);
    }
    i += count;
  }
}

void philox_words(std::uint64_t seed, std::uint64_t first, std::uint32_t stream, std::uint32_t* words,
                  std::ptrdiff_t counters) {
  const PhiloxKey key(seed);
  for (std::ptrdiff_t i = 0; i < counters; i += kLanes<Words>) {
    const PhiloxWords random = philox(key, first + static_cast<std::uint64_t>(i), stream);
    for (std::ptrdiff_t lane = 0; lane < kLanes<Words> && i + lane < counters; ++lane)
      for (int word = 0; word < 4; ++word) words[4 * (i + lane) + word] = random.word[word][lane];
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const RandomKernels random;
const RandomKernels random = {fill<RandomBits<std::uint32_t>>,
                              fill<RandomBits<std::uint64_t>>,
                              fill<Uniform<float>>,
                              fill<Uniform<double>>,
                              fill<Normal<float>>,
                              fill<Normal<double>>,
                              philox_words};

}  // namespace NNFAST_ISA
}  // namespace nnfast
