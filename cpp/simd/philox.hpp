// Philox4x32-10, the counter-based random bits of Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (2011): four words are a function of a counter and a key alone, so any element's bits can be had directly.
#pragma once

#include "simd/vector.hpp"

namespace nnfast {
namespace {

using Words = Vec<std::uint32_t>;

struct PhiloxBlock {
  Words word[4];  // lane i: the words of counter i
};

// The two halves of the 64-bit products a * m, lane by lane.
struct HighLow {
  Words high, low;
};

NNFAST_INLINE HighLow multiply_wide(Words a, std::uint32_t m) {
  using Pairs = Vec<std::uint64_t>;
  const auto product = [m](Pairs x) {
#if defined(__AVX512F__)
    return bit_cast<Pairs>(_mm512_mul_epu32(bit_cast<__m512i>(x), _mm512_set1_epi64(m)));
#elif defined(__AVX2__)
    return bit_cast<Pairs>(_mm256_mul_epu32(bit_cast<__m256i>(x), _mm256_set1_epi64x(m)));
#elif defined(__x86_64__)
    return bit_cast<Pairs>(_mm_mul_epu32(bit_cast<__m128i>(x), _mm_set1_epi64x(m)));
#else
    return (x & 0xffffffffu) * m;
#endif
  };
  const Pairs pairs = bit_cast<Pairs>(a);
  const Pairs even = product(pairs), odd = product(pairs >> 32);
  constexpr std::uint64_t low_half = 0xffffffffu;
  return {bit_cast<Words>((even >> 32) | (odd & ~low_half)), bit_cast<Words>((even & low_half) | (odd << 32))};
}

// The blocks of counters first, first + 1, ..., one a lane; `stream` is the counter's third word.
NNFAST_INLINE PhiloxBlock philox(std::uint64_t key, std::uint64_t first, std::uint32_t stream) {
  Words lane{};
  for (int i = 0; i < kLanes<Words>; ++i) lane[i] = static_cast<std::uint32_t>(i);
  const Words low = lane + static_cast<std::uint32_t>(first);
  const auto carried = low < static_cast<std::uint32_t>(first);  // -1 where the low word overflowed
  Words c0 = low;
  Words c1 = bit_cast<Words>(broadcast<Mask<Words>>(static_cast<std::int32_t>(first >> 32)) - carried);
  Words c2 = broadcast<Words>(stream);
  Words c3{};
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const HighLow p0 = multiply_wide(c0, 0xD2511F53u), p1 = multiply_wide(c2, 0xCD9E8D57u);
    c0 = p1.high ^ c1 ^ k0;
    c1 = p1.low;
    c2 = p0.high ^ c3 ^ k1;
    c3 = p0.low;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace
}  // namespace nnfast
