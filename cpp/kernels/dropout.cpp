// Dropout (Srivastava et al. 2014): a mask that is a function of seed and position alone, and its application.
//
// Element i is dropped when its 32 random bits are below p 2^32. The high 16 of them decide nearly always, and only
// they are made at first: 128 elements take 16 Philox counters. Element 32 j + 2 c + h of a block has half h of word j
// of the block's counter c. Where the high bits equal the threshold's, the low 16 come from the same place of stream 1.
#include "kernels/dropout.hpp"

#include "simd/bits.hpp"
#include "simd/float_state.hpp"
#include "simd/philox.hpp"

namespace nnfast {
namespace {

using Halves = Vec<std::uint16_t>;
constexpr int kCounters = 16;  // a block
constexpr int kParts = kCounters / kLanes<Words>;

// One bit a lane from a comparison's lanes.
NNFAST_INLINE std::uint32_t pack_lanes(VecN<std::int16_t, kLanes<Halves>> lanes) {
#if defined(__AVX512BW__)
  return _mm512_movepi16_mask(bit_cast<__m512i>(lanes));
#elif defined(__AVX2__)
  const auto wide = bit_cast<__m256i>(lanes);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(bytes));
#elif defined(__x86_64__)
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(bit_cast<__m128i>(lanes), _mm_setzero_si128())));
#else
  std::uint32_t bits = 0;
  for (int i = 0; i < kLanes<Halves>; ++i) bits |= (static_cast<std::uint32_t>(lanes[i]) & 1u) << i;
  return bits;
#endif
}

// Places the bits of a vector of halves, part `part` of word `word`, into the 128 bits of a block.
NNFAST_INLINE void place(std::uint64_t (&block)[2], std::uint32_t bits, int word, int part) {
  const int at = 2 * kCounters * word + kLanes<Halves> * part;
  block[at / 64] |= static_cast<std::uint64_t>(bits) << (at % 64);
}

struct Comparison {
  std::uint64_t above[2] = {}, equal[2] = {};
};

// Compares the 128 halves of the block that begins at counter `first` with a threshold.
NNFAST_INLINE Comparison compare_block(std::uint64_t seed, std::uint64_t first, std::uint32_t stream,
                                       std::uint16_t threshold) {
  Comparison result;
  const Halves bound = broadcast<Halves>(threshold);
#pragma GCC unroll 4
  for (int part = 0; part < kParts; ++part) {
    const PhiloxBlock random = philox(seed, first + static_cast<std::uint64_t>(part * kLanes<Words>), stream);
    for (int word = 0; word < 4; ++word) {
      const Halves halves = bit_cast<Halves>(random.word[word]);
      place(result.above, pack_lanes(halves > bound), word, part);
      place(result.equal, pack_lanes(halves == bound), word, part);
    }
  }
  return result;
}

void dropout_mask(const DropoutMask& mask, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const auto high = static_cast<std::uint16_t>(mask.threshold >> 16);
  const auto low = static_cast<std::uint16_t>(mask.threshold);
  const bool keep_none = mask.threshold >> 32 != 0;
  for (std::ptrdiff_t i = begin; i < end; i += kMaskBlock) {
    const auto first = static_cast<std::uint64_t>(i / kMaskBlock * kCounters);
    Comparison kept = compare_block(mask.seed, first, 0, high);
    if (kept.equal[0] | kept.equal[1]) [[unlikely]] {
      const Comparison lower = compare_block(mask.seed, first, 1, low);
      for (int k = 0; k < 2; ++k) kept.above[k] |= kept.equal[k] & (lower.above[k] | lower.equal[k]);
    }
    if (keep_none) kept.above[0] = kept.above[1] = 0;
    const std::ptrdiff_t left = end - i;
    if (left < kMaskBlock) {
      if (left < 64) kept.above[0] &= (std::uint64_t{1} << left) - 1;
      kept.above[1] = left <= 64 ? 0 : kept.above[1] & ((std::uint64_t{1} << (left - 64)) - 1);
    }
    const std::ptrdiff_t bytes = left < kMaskBlock ? (left + 7) / 8 : kMaskBlock / 8;
    __builtin_memcpy(mask.bits + i / 8, kept.above, static_cast<std::size_t>(bytes));
  }
}

// The bits of elements position, position + 1, ..., count of them (at most 16), in the low bits of the result.
NNFAST_INLINE std::uint32_t mask_bits(const std::uint8_t* bits, std::ptrdiff_t position, std::ptrdiff_t count) {
  const std::uint8_t* from = bits + position / 8;
  const auto offset = position % 8;
  if (offset == 0 && count == 16) {
    std::uint16_t word;
    __builtin_memcpy(&word, from, sizeof word);
    return word;
  }
  std::uint32_t word = 0;
  for (std::ptrdiff_t k = 0; 8 * k < offset + count; ++k) word |= static_cast<std::uint32_t>(from[k]) << (8 * k);
  return word >> offset;
}

// One vector: kept where its bit of `bits` is set. Selected, not multiplied: a dropped NaN or infinity becomes 0.
template <class V>
NNFAST_INLINE V keep(V x, std::uint32_t bits, V factor) {
  return lanes_of<V>(bits) ? x * factor : V{};
}

template <class T>
void dropout_apply(const std::uint8_t* bits, std::ptrdiff_t position, const char* from, std::ptrdiff_t from_stride,
                   char* to, std::ptrdiff_t to_stride, std::ptrdiff_t n, double scale) {
  using V = Vec<T>;
  constexpr int step = 16;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  const ExceptionScope exceptions;
  const V factor = broadcast<V>(static_cast<T>(scale));
  std::ptrdiff_t i = 0;
  if (from_stride == size && to_stride == size && position % 8 == 0) {
    for (; i + step <= n; i += step) {
      const std::uint32_t word = mask_bits(bits, position + i, step);
#pragma GCC unroll 8
      for (int lane = 0; lane < step; lane += kLanes<V>) {
        const V x = load<V>(reinterpret_cast<const T*>(from) + i + lane);
        store(reinterpret_cast<T*>(to) + i + lane, keep(x, word >> lane, factor));
      }
    }
  }
  for (; i < n; i += kLanes<V>) {
    const std::ptrdiff_t count = n - i < kLanes<V> ? n - i : kLanes<V>;
    const V x = load_strided<V>(from + i * from_stride, from_stride, count, T{0});
    const V y = keep(x, mask_bits(bits, position + i, count), factor);
    store_strided(to + i * to_stride, to_stride, y, count);
  }
}

void philox_words(std::uint64_t key, std::uint64_t first, std::uint32_t stream, std::uint32_t* words,
                  std::ptrdiff_t blocks) {
  for (std::ptrdiff_t i = 0; i < blocks; i += kLanes<Words>) {
    const PhiloxBlock random = philox(key, first + static_cast<std::uint64_t>(i), stream);
    for (std::ptrdiff_t lane = 0; lane < kLanes<Words> && i + lane < blocks; ++lane)
      for (int word = 0; word < 4; ++word) words[4 * (i + lane) + word] = random.word[word][lane];
  }
}

}  // namespace

namespace NNFAST_ISA {

extern const DropoutKernels dropout;
const DropoutKernels dropout = {dropout_mask, dropout_apply<float>, dropout_apply<double>, philox_words};

}  // namespace NNFAST_ISA
}  // namespace nnfast
