// Dropout (Srivastava et al. 2014): a mask that is a function of seed and position alone, and its application.
//
// Element i is dropped when its 32 random bits are below p 2^32. The high 16 of them decide nearly always, and only
// they are made at first: halfword i of the words of stream kHighBits (philox.hpp), the lower half of a word first.
// Where they equal the threshold's, the low 16 come from the same place of stream kLowBits.
#include "kernels/dropout.hpp"

#include "kernels/channels.hpp"
#include "kernels/elementwise_loop.hpp"
#include "kernels/from_avx2.hpp"
#include "simd/bits.hpp"
#include "simd/elements.hpp"
#include "simd/float_state.hpp"
#include "simd/philox.hpp"
#include "simd/reduce.hpp"

namespace nnfast {
namespace {

constexpr std::uint32_t kHighBits = 1, kLowBits = 2;
using Halfwords = Vec<std::uint16_t>;

enum class Is { below, equal, not_below };

// One bit a lane.
template <Is is>
NNFAST_INLINE std::uint32_t compare_lanes(Halfwords a, Halfwords b) {
#if defined(__AVX512BW__)
  const auto x = bit_cast<__m512i>(a), y = bit_cast<__m512i>(b);
  if constexpr (is == Is::below) return _mm512_cmplt_epu16_mask(x, y);
  if constexpr (is == Is::equal) return _mm512_cmpeq_epu16_mask(x, y);
  return _mm512_cmpge_epu16_mask(x, y);
#else
  const VecN<std::int16_t, kLanes<Halfwords>> lanes = is == Is::below ? a < b : is == Is::equal ? a == b : a >= b;
#if defined(__AVX2__)
  const auto wide = bit_cast<__m256i>(lanes);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(bytes));
#elif defined(__x86_64__)
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(bit_cast<__m128i>(lanes), _mm_setzero_si128())));
#else
  std::uint32_t bits = 0;
  for (int i = 0; i < kLanes<Halfwords>; ++i) bits |= (static_cast<std::uint32_t>(lanes[i]) & 1u) << i;
  return bits;
#endif
#endif
}

// The bits of kMaskBlock elements.
struct MaskBlock {
  std::uint64_t word[2] = {};
  // Those of a vector of halfwords, part `part` of word `word` of a block.
  NNFAST_INLINE void place(std::uint32_t bits, int of_word, int part) {
    const int at = 2 * kCountersInBlock * of_word + kLanes<Halfwords> * part;
    word[at / 64] |= static_cast<std::uint64_t>(bits) << (at % 64);
  }
};

// with(word, part): what the random halfwords there are compared with.
template <Is is, class With>
NNFAST_INLINE MaskBlock compare(const PhiloxBlock& random, With with) {
  MaskBlock result;
  unrolled<PhiloxBlock::kParts>([&](int part) NNFAST_INLINED {
    for (int word = 0; word < 4; ++word)
      result.place(compare_lanes<is>(bit_cast<Halfwords>(random.part[part].word[word]), with(word, part)), word, part);
  });
  return result;
}
template <Is is>
NNFAST_INLINE MaskBlock compare(const PhiloxBlock& random, Halfwords with) {
  return compare<is>(random, [&](int, int) NNFAST_INLINED { return with; });
}

// Which elements of a block of a stream are kept, for one threshold.
class KeptBlocks {
 public:
  NNFAST_INLINE explicit KeptBlocks(const DropoutMask& mask)
      : key_(mask.seed),
        high_(broadcast<Halfwords>(static_cast<std::uint16_t>(mask.threshold >> 16))),
        low_(broadcast<Halfwords>(static_cast<std::uint16_t>(mask.threshold))),
        low_decides_((mask.threshold & 0xffff) != 0),
        none_(mask.threshold >> 32 != 0) {}
  NNFAST_INLINE MaskBlock operator()(std::uint64_t block) const {
    if (none_) return {};
    const PhiloxBlock random(key_, block, kHighBits);
    MaskBlock kept = compare<Is::not_below>(random, high_);
    if (!low_decides_) return kept;
    const MaskBlock equal = compare<Is::equal>(random, high_);
    if (equal.word[0] | equal.word[1]) [[unlikely]] {
      const MaskBlock below = compare<Is::below>(PhiloxBlock(key_, block, kLowBits), low_);
      for (int k = 0; k < 2; ++k) kept.word[k] &= ~(equal.word[k] & below.word[k]);
    }
    return kept;
  }

 private:
  PhiloxKey key_;
  Halfwords high_, low_;
  bool low_decides_, none_;
};

// As above, with a threshold for each channel.
class KeptByChannel {
 public:
  explicit KeptByChannel(const DropoutMask& mask)
      : mask_(mask), key_(mask.seed), high_{mask.high_thresholds, mask.channels, mask.inner} {}
  MaskBlock operator()(std::uint64_t block) const {
    // A block may begin before the array; its bits there are not used.
    const auto first = static_cast<std::ptrdiff_t>(block * kMaskBlock - mask_.offset);
    const std::ptrdiff_t before = first < 0 ? -first : 0;
    std::uint16_t high[kMaskBlock + decltype(high_)::kRoom];
    for (std::ptrdiff_t e = 0; e < before; ++e) high[e] = 0;
    high_.fill(high + before, first + before, kMaskBlock - before);
    const auto at = [&](int word, int part) NNFAST_INLINED {
      return load<Halfwords>(high + 2 * kCountersInBlock * word + kLanes<Halfwords> * part);
    };
    const PhiloxBlock random(key_, block, kHighBits);
    MaskBlock kept = compare<Is::not_below>(random, at);
    const MaskBlock equal = compare<Is::equal>(random, at);
    if (equal.word[0] | equal.word[1]) [[unlikely]]
      decide(block, first, high, equal, kept);
    return kept;
  }

 private:
  const DropoutMask& mask_;
  PhiloxKey key_;
  ByChannel<std::uint16_t> high_;

  // Elements whose high bits are those of their threshold: by all bits.
  [[gnu::noinline]] void decide(std::uint64_t block, std::ptrdiff_t first, const std::uint16_t* high,
                                const MaskBlock& equal, MaskBlock& kept) const {
    std::uint16_t low[kMaskBlock];
    store_halves(PhiloxBlock(key_, block, kLowBits), low);
    for (std::ptrdiff_t e = first < 0 ? -first : 0; e < kMaskBlock; ++e) {
      const std::uint64_t bit = std::uint64_t{1} << (e % 64);
      if (!(equal.word[e / 64] & bit)) continue;
      const std::uint64_t threshold = mask_.thresholds[(first + e) / mask_.inner % mask_.channels];
      if ((std::uint64_t{high[e]} << 16 | low[e]) < threshold) kept.word[e / 64] &= ~bit;
    }
  }
  static void store_halves(const PhiloxBlock& random, std::uint16_t* to) {
    for (int word = 0; word < 4; ++word)
      for (int part = 0; part < PhiloxBlock::kParts; ++part)
        store(to + 2 * kCountersInBlock * word + kLanes<Halfwords> * part,
              bit_cast<Halfwords>(random.part[part].word[word]));
  }
};

// The last kMaskBlock - shift bits of one block and the first of the next.
NNFAST_INLINE MaskBlock joined_blocks(const MaskBlock& now, const MaskBlock& next, unsigned shift) {
  const std::uint64_t words[4] = {now.word[0], now.word[1], next.word[0], next.word[1]};
  const unsigned skipped = shift / 64, left = shift % 64;
  MaskBlock result;
  for (unsigned k = 0; k < 2; ++k) {
    const std::uint64_t* from = words + k + skipped;
    result.word[k] = left ? from[0] >> left | from[1] << (64 - left) : from[0];
  }
  return result;
}

// Blocks of an array need not begin where blocks of its stream do.
template <class Kept>
void write_mask(const DropoutMask& mask, std::uint8_t* bits, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const Kept kept(mask);
  const std::uint64_t first = mask.offset + static_cast<std::uint64_t>(begin);
  const auto shift = static_cast<unsigned>(first % kMaskBlock);
  std::uint64_t block = first / kMaskBlock;
  MaskBlock next;
  if (shift) next = kept(block);
  for (std::ptrdiff_t i = begin; i < end; i += kMaskBlock, ++block) {
    MaskBlock now;
    if (shift) {
      const MaskBlock before = next;
      next = kept(block + 1);
      now = joined_blocks(before, next, shift);
    } else {
      now = kept(block);
    }
    const std::ptrdiff_t left = end - i;
    if (left < kMaskBlock) {
      if (left < 64) now.word[0] &= (std::uint64_t{1} << left) - 1;
      now.word[1] = left <= 64 ? 0 : now.word[1] & ((std::uint64_t{1} << (left - 64)) - 1);
    }
    const std::ptrdiff_t bytes = left < kMaskBlock ? (left + 7) / 8 : kMaskBlock / 8;
    __builtin_memcpy(bits + (i - begin) / 8, now.word, static_cast<std::size_t>(bytes));
  }
}

void dropout_mask(const DropoutMask& mask, std::uint8_t* bits, std::ptrdiff_t begin, std::ptrdiff_t end) {
  mask.thresholds ? write_mask<KeptByChannel>(mask, bits, begin, end) : write_mask<KeptBlocks>(mask, bits, begin, end);
}

// ---- application ----

// Keeping as vectors. Selected, not multiplied: a dropped NaN or infinity must not pass.
template <class V>
struct KeepingVectors {
  V scale, shift, dropped;
  NNFAST_INLINE explicit KeepingVectors(const Keeping& keeping)
      : scale(broadcast<V>(static_cast<Element<V>>(keeping.scale))),
        shift(broadcast<V>(static_cast<Element<V>>(keeping.shift))),
        dropped(broadcast<V>(static_cast<Element<V>>(keeping.dropped))) {}
  NNFAST_INLINE V operator()(V x, std::uint32_t bits) const { return select(bits, fma(x, scale, shift), dropped); }
};

// The elements of a run, contiguous or not.
template <class S, bool Dense>
struct Elements {
  using V = typename Stored<S>::V;
  const DropoutRun run;  // a copy, which no store can change
  NNFAST_INLINE V load(std::ptrdiff_t i, std::ptrdiff_t count) const {
    if (Dense && count == kLanes<V>) return Stored<S>::load(run.from + i * static_cast<std::ptrdiff_t>(sizeof(S)));
    return Stored<S>::load(run.from + i * run.from_stride, run.from_stride, count);
  }
  template <bool Stream>
  NNFAST_INLINE void store(std::ptrdiff_t i, V v, std::ptrdiff_t count) const {
    char* at = run.to + i * static_cast<std::ptrdiff_t>(sizeof(S));
    if (!Dense || count < kLanes<V>) return Stored<S>::store(run.to + i * run.to_stride, run.to_stride, v, count);
    if constexpr (Stream && Stored<S>::streams) return stream(reinterpret_cast<S*>(at), v);
    Stored<S>::store(at, v);
  }
  // Before the first whose result can be streamed.
  NNFAST_INLINE std::ptrdiff_t lead() const {
    const auto past = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(run.to) % kVectorBytes);
    constexpr auto bytes = static_cast<std::ptrdiff_t>(kVectorBytes), size = static_cast<std::ptrdiff_t>(sizeof(S));
    return past ? smaller(run.n, (bytes - past) / size) : 0;
  }
};

// Calls body(elements, i, count, bits) for the vectors of a run; the body stores by elements.store<stream>.
template <class S, bool Dense, bool Stream, class Body>
NNFAST_INLINE void for_vectors(const DropoutRun& given, Body body) {
  constexpr std::ptrdiff_t lanes = kLanes<typename Stored<S>::V>, step = 16;
  const Elements<S, Dense> elements{given};
  const DropoutRun& run = elements.run;
  const auto some = [&](std::ptrdiff_t i, std::ptrdiff_t count) NNFAST_INLINED {
    body(elements, i, count, bits_at(run.bits, run.position + i, count), std::bool_constant<false>{});
  };
  std::ptrdiff_t i = 0;
  if constexpr (Dense) {
    if (Stream && (i = elements.lead()) > 0) some(0, i);
#pragma GCC unroll 4
    for (; i + step <= run.n; i += step) {
      const std::uint32_t bits = bits_at(run.bits, run.position + i, step);
      unrolled<step / lanes>([&](int u) NNFAST_INLINED {
        body(elements, i + u * lanes, lanes, bits >> u * lanes, std::bool_constant<Stream>{});
      });
    }
  }
  for (; i < run.n; i += lanes) some(i, smaller(lanes, run.n - i));
}

template <class S, class Body>
NNFAST_INLINE void over_run(const DropoutRun& run, Body body) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  if (run.from_stride != size || run.to_stride != size) return for_vectors<S, false, false>(run, body);
  run.stream ? for_vectors<S, true, true>(run, body) : for_vectors<S, true, false>(run, body);
}

// With a scale for each element.
template <class S>
void dropout_apply_scaled(const DropoutRun& run) {
  using V = typename Stored<S>::V;
  using T = Element<V>;
  const ExceptionScope exceptions;
  const T* scales = static_cast<const T*>(run.scales);
  over_run<S>(run, [&](const auto& x, std::ptrdiff_t i, std::ptrdiff_t count, std::uint32_t bits,
                       auto streaming) NNFAST_INLINED {
    const V scale = count == kLanes<V> ? load<V>(scales + i) : load_partial<V>(scales + i, count, T{0});
    x.template store<streaming>(i, select(bits, x.load(i, count) * scale, V{}), count);
  });
}

template <class S>
void dropout_apply(const Keeping& keeping, const DropoutRun& run) {
  if (run.scales) return dropout_apply_scaled<S>(run);
  const ExceptionScope exceptions;
  const KeepingVectors<typename Stored<S>::V> keep(keeping);
  over_run<S>(run, [&](const auto& x, std::ptrdiff_t i, std::ptrdiff_t count, std::uint32_t bits, auto streaming)
                       NNFAST_INLINED { x.template store<streaming>(i, keep(x.load(i, count), bits), count); });
}

template <class S>
void bias_relu_dropout(const Keeping& keeping, const DropoutRun& run, const char* bias, std::uint8_t* all_bits) {
  using V = typename Stored<S>::V;
  const ExceptionScope exceptions;
  const KeepingVectors<V> keep(keeping);
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(S));
  const std::ptrdiff_t position = run.position;
  over_run<S>(run, [&](const auto& x, std::ptrdiff_t i, std::ptrdiff_t count, std::uint32_t bits, auto streaming)
                       NNFAST_INLINED {
                         const V sum = x.load(i, count) + Stored<S>::load(bias + i * size, size, count);
                         const std::uint32_t kept = bits & ~bits_of<V>(sum <= 0);
                         put_bits(all_bits, position + i, kept, count);
                         x.template store<streaming>(i, keep(sum, kept), count);
                       });
}

template <class S>
void dropout_sums(const Keeping& keeping, const DropoutRun& run, double* sums) {
  using V = typename Stored<S>::V;
  const ExceptionScope exceptions;
  const KeepingVectors<V> keep(keeping);
  over_run<S>(run, [&](const auto& x, std::ptrdiff_t i, std::ptrdiff_t count, std::uint32_t bits, auto streaming)
                       NNFAST_INLINED {
                         const V kept = keep(x.load(i, count), bits);
                         x.template store<streaming>(i, kept, count);
                         add_doubles(sums + i, kept, count);
                       });
}

void dropout_fence() { fence(); }

// s == 0 ? 0 : x s, which drops whole slices of an array.
struct KeepScaled {
  static constexpr unsigned raises = kRaisedOverflow;
  template <class V>
  NNFAST_INLINE static V apply(V x, V s) {
    return s == 0 ? V{} : x * s;
  }
};

}  // namespace

namespace NNFAST_ISA {

extern const DropoutKernels dropout;
const DropoutKernels dropout = {
    dropout_mask,
    {NNFAST_FROM_AVX2(dropout_apply<Float16>), dropout_apply<float>, dropout_apply<double>},
    {NNFAST_FROM_AVX2(bias_relu_dropout<Float16>), bias_relu_dropout<float>, bias_relu_dropout<double>},
    {NNFAST_FROM_AVX2(dropout_sums<Float16>), dropout_sums<float>, dropout_sums<double>},
    dropout_fence,
    elementwise_entry<KeepScaled, 2, 1>,
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
