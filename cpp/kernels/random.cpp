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

// A block of a stream, and of those that its rejected elements come from.
struct BlockPlace {
  const PhiloxKey& key;
  std::uint64_t index;
  std::uint32_t stream;
  NNFAST_INLINE PhiloxBlock words() const { return {key, index, stream}; }
  [[gnu::noinline]] PhiloxBlock words_by_call() const { return words(); }
  NNFAST_INLINE BlockPlace in(std::uint32_t other) const { return {key, index, other}; }
  NNFAST_INLINE BlockPlace attempt(std::uint32_t rejections) const {
    return in(rejections == 0 ? stream : kRetries + rejections);
  }
};

template <class T>
struct RandomBits {
  using Type = T;
  NNFAST_INLINE explicit RandomBits(const RandomStream&) {}
  NNFAST_INLINE void operator()(const BlockPlace& place, T* to) const {
    const PhiloxBlock block = place.words();
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
  NNFAST_INLINE void operator()(const BlockPlace& place, T* to) const {
    const PhiloxBlock block = place.words();
    for (int j = 0; j < 4; ++j)
      for_words<T>(block, j,
                   [&](Bits<T> bits, int at, int) NNFAST_INLINED { store(to + at, unit(bits) * range + low); });
  }
};

// Box, Muller, "A note on the generation of random normal deviates", 1958.
template <class T>
struct Normal {  // a call, which Truncated shares
  using Type = T;
  T mean, std;
  NNFAST_INLINE explicit Normal(const RandomStream& stream)
      : mean(static_cast<T>(stream.first)), std(static_cast<T>(stream.second)) {}
  [[gnu::noinline]] void operator()(const BlockPlace& place, T* to) const {
    const PhiloxBlock block = place.words();
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

template <class T>
struct Decaying {
  using Type = T;
  T factor;
  NNFAST_INLINE explicit Decaying(const RandomStream& stream) : factor(static_cast<T>(-stream.first)) {}
  NNFAST_INLINE void operator()(const BlockPlace& place, T* to) const {
    const PhiloxBlock block = place.words_by_call();
    for (int j = 0; j < 4; ++j)
      for_words<T>(block, j, [&](Bits<T> bits, int at, int) NNFAST_INLINED {
        store(to + at, log_of(unit_above_zero(bits)) * factor + Vec<T>{});  // not -0
      });
  }
};

// Elements of T in a block.
template <class T>
constexpr int kInBlock = 4 * kWordsInBlock / static_cast<int>(sizeof(T));

// Calls propose(rejections, z, kept) until every element of a block has a z that is kept, and store(i, z) for it.
template <class T, class Propose, class Store>
NNFAST_INLINE void until_kept(Propose propose, Store store) {
  T z[kInBlock<T>];
  bool kept[kInBlock<T>], done[kInBlock<T>] = {};
  int left = kInBlock<T>;
  for (std::uint32_t rejections = 0; left > 0; ++rejections) {
    propose(rejections, z, kept);
    for (int i = 0; i < kInBlock<T>; ++i) {
      if (done[i] || !kept[i]) continue;
      store(i, z[i]);
      done[i] = true;
      --left;
    }
  }
}

// mean + std z; rounding does not lead over the bounds.
template <class T>
struct Bounded {
  T mean, std, lowest, highest;
  NNFAST_INLINE explicit Bounded(const RandomStream& stream)
      : mean(static_cast<T>(stream.first)), std(static_cast<T>(stream.second)) {
    const auto at = [&](double z) { return static_cast<T>(stream.first + stream.second * z); };
    lowest = at(stream.second < 0 ? stream.high : stream.low);
    highest = at(stream.second < 0 ? stream.low : stream.high);
  }
  NNFAST_INLINE T operator()(T z) const {
    const T x = z * std + mean;
    return x < lowest ? lowest : (x > highest ? highest : x);
  }
};

template <class T>
struct Truncated {
  using Type = T;
  Normal<T> standard;
  Bounded<T> bounded;
  T low, high;
  NNFAST_INLINE explicit Truncated(const RandomStream& stream)
      : standard({0, 0, 0, 0, 1}),
        bounded(stream),
        low(static_cast<T>(stream.low)),
        high(static_cast<T>(stream.high)) {}
  void operator()(const BlockPlace& place, T* to) const {
    until_kept<T>(
        [&](std::uint32_t rejections, T* z, bool* kept) {
          standard(place.attempt(rejections), z);
          for (int i = 0; i < kInBlock<T>; ++i) kept[i] = (z[i] >= low) & (z[i] <= high);
        },
        [&](int i, T z) { to[i] = bounded(z); });
  }
};

// Proposals of density exp(-rate z) in [low, high], high > 0, kept by the ratio of the normal density to it, which is
// highest at max(low, 0).
struct Narrow {
  using Type = double;
  using V = Vec<double>;
  RandomStream from;
  Bounded<double> bounded;
  NNFAST_INLINE explicit Narrow(const RandomStream& stream) : from(stream), bounded(stream) {}
  void operator()(const BlockPlace& place, double* to) const {
    const double top = from.low > 0 ? from.low : 0, width = from.high - from.low;
    until_kept<double>(
        [&](std::uint32_t rejections, double* z, bool* kept) {
          const PhiloxBlock block = place.attempt(rejections).words_by_call(),
                            second = place.in(kSecond + rejections).words_by_call();
          for (int j = 0; j < 4; ++j)
            for_words<double>(block, j, [&](Bits<double> bits, int at, int k) NNFAST_INLINED {
              const V u = unit(bits), v = unit_above_zero(bit_cast<Bits<double>>(second.part[k].word[j]));
              const V step = from.rate > 0 ? log_of(1 + u * from.fall) / -from.rate : u * width;
              const V beyond = step + (from.low - top);
              const auto keep = log_of(v) < from.rate * step - beyond * (top + beyond * 0.5);
              store(z + at, from.low + step);
              for (int lane = 0; lane < kLanes<V>; ++lane) kept[at + lane] = keep[lane] != 0;
            });
        },
        [&](int i, double z) { to[i] = bounded(z); });
  }
};

__extension__ using Wide = unsigned __int128;

// Elements whose product's lower half is below 2^64 mod range are rejected: some numbers would have one more of them.
template <class T>
struct Integers {
  using Type = T;
  static constexpr int kElementBytes = 8;
  std::uint64_t lowest, range, rejected;
  NNFAST_INLINE explicit Integers(const RandomStream& stream)
      : lowest(stream.lowest), range(stream.range), rejected(range == 0 ? 0 : -range % range) {}
  NNFAST_INLINE static void elements(const BlockPlace& place, std::uint64_t* to) {
    const PhiloxBlock block = place.words_by_call();
    for (int j = 0; j < 4; ++j)
      for_words<std::uint64_t>(block, j,
                               [&](Bits<std::uint64_t> bits, int at, int) NNFAST_INLINED { store(to + at, bits); });
  }
  void operator()(const BlockPlace& place, T* to) const {
    constexpr int n = kInBlock<std::uint64_t>;
    std::uint64_t first[n];
    elements(place, first);
    bool none = true;
    for (int i = 0; i < n; ++i) {
      const Wide product = static_cast<Wide>(first[i]) * range;
      to[i] = static_cast<T>(lowest + (range == 0 ? first[i] : static_cast<std::uint64_t>(product >> 64)));
      none &= static_cast<std::uint64_t>(product) >= rejected;
    }
    if (__builtin_expect(none, 1)) return;
    until_kept<std::uint64_t>(
        [&](std::uint32_t rejections, std::uint64_t* number, bool* kept) {
          elements(place.attempt(rejections), number);
          for (int i = 0; i < n; ++i) {
            const Wide product = static_cast<Wide>(number[i]) * range;
            number[i] = static_cast<std::uint64_t>(product >> 64);
            kept[i] = static_cast<std::uint64_t>(product) >= rejected;
          }
        },
        [&](int i, std::uint64_t number) { to[i] = static_cast<T>(lowest + number); });
  }
};

// Bytes of a stream's element that a number comes from.
template <class Kind>
consteval int element_bytes() {
  if constexpr (requires { Kind::kElementBytes; }) return Kind::kElementBytes;
  return static_cast<int>(sizeof(typename Kind::Type));
}

// Whole blocks are written directly; of the first and the last block, and with a stride, single elements. A kind is
// called at one place, since it is much code.
template <class Kind>
void fill(const RandomStream& stream, std::ptrdiff_t begin, std::ptrdiff_t end, char* to, std::ptrdiff_t stride) {
  using T = typename Kind::Type;
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  constexpr std::ptrdiff_t in_block = 4 * kWordsInBlock / element_bytes<Kind>();
  const ExceptionScope exceptions;
  const Kind kind(stream);
  const PhiloxKey key(stream.seed);
  for (std::ptrdiff_t i = begin; i < end;) {
    const std::uint64_t element = stream.offset + static_cast<std::uint64_t>(i);
    const auto skipped = static_cast<std::ptrdiff_t>(element % in_block);
    const std::ptrdiff_t count = end - i < in_block - skipped ? end - i : in_block - skipped;
    char* at = to + (i - begin) * stride;
    const bool whole = count == in_block && stride == size;
    const std::ptrdiff_t blocks = whole ? (end - i) / in_block : 1;
    T elements[in_block];
    T* block = whole ? reinterpret_cast<T*>(at) : elements;
    BlockPlace place{key, element / in_block, stream.stream};
    for (std::ptrdiff_t b = 0; b < blocks; ++b, ++place.index, block += in_block) kind(place, block);
    for (std::ptrdiff_t k = 0; !whole && k < count; ++k) store_element(at + k * stride, elements[skipped + k]);
    i += whole ? blocks * in_block : count;
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
                              fill<Decaying<float>>,
                              fill<Decaying<double>>,
                              fill<Truncated<float>>,
                              fill<Truncated<double>>,
                              fill<Narrow>,
                              fill<Integers<std::uint32_t>>,
                              fill<Integers<std::uint64_t>>,
                              philox_words};

}  // namespace NNFAST_ISA
}  // namespace nnfast
