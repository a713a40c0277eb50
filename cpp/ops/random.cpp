#include "ops/random.hpp"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>
#include <vector>

#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

struct Filler {
  RandomFn fn;
  Cost cost;
};

Filler filler(RandomKind kind, bool wide) {
  const RandomKernels& kernel = *kernels().random;
  switch (kind) {
    case RandomKind::bits:
      return wide ? Filler{kernel.bits_64, cost_of("bits_64")} : Filler{kernel.bits_32, cost_of("bits_32")};
    case RandomKind::uniform:
      return wide ? Filler{kernel.uniform_f64, cost_of("uniform_f64")}
                  : Filler{kernel.uniform_f32, cost_of("uniform_f32")};
    case RandomKind::normal:
      return wide ? Filler{kernel.normal_f64, cost_of("normal_f64")} : Filler{kernel.normal_f32, cost_of("normal_f32")};
    case RandomKind::exponential:
      return wide ? Filler{kernel.exponential_f64, cost_of("exponential_f64")}
                  : Filler{kernel.exponential_f32, cost_of("exponential_f32")};
    case RandomKind::truncated:
      return wide ? Filler{kernel.truncated_f64, cost_of("truncated_f64")}
                  : Filler{kernel.truncated_f32, cost_of("truncated_f32")};
    case RandomKind::narrow:
      return {kernel.narrow_f64, cost_of("narrow_f64")};
    default:
      return {wide ? kernel.integers_64 : kernel.integers_32, cost_of("integers")};
  }
}

}  // namespace

void fill_random(RandomKind kind, bool wide, const RandomStream& stream, const StridedArrays<1>& out) {
  const Filler fill = filler(kind, wide);
  std::ptrdiff_t strides[1];
  out.inner_strides(strides);
  const auto range = [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    out.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
      fill.fn(stream, position, position + count, at[0], strides[0]);
    });
  };
  // Threads begin where blocks of the stream do.
  const auto lead = static_cast<std::ptrdiff_t>(-stream.offset % kRandomBlock);
  const std::ptrdiff_t n = out.size(), alone = std::min(lead, n);
  if (alone > 0) range(0, alone);
  parallel_for(
      n - alone, fill.cost.ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) { range(alone + begin, alone + end); },
      kRandomBlock);
}

// ---- permutations ----

namespace {

// The words of a stream from an element on, one after the other.
class WordReader {
  static constexpr std::ptrdiff_t kBuffer = 4 * kRandomBlock;
  RandomStream stream_;
  std::uint32_t words_[kBuffer];
  std::ptrdiff_t at_ = kBuffer;

 public:
  WordReader(std::uint64_t seed, std::uint32_t stream, std::uint64_t offset) : stream_{seed, stream, offset} {}
  std::uint32_t next() {
    if (at_ == kBuffer) {
      kernels().random->bits_32(stream_, 0, kBuffer, reinterpret_cast<char*>(words_), sizeof words_[0]);
      stream_.offset += kBuffer;
      at_ = 0;
    }
    return words_[at_++];
  }
  // In [0, range), each equally likely (Lemire 2019).
  std::uint32_t below(std::uint32_t range) {
    std::uint64_t product = std::uint64_t{next()} * range;
    if (static_cast<std::uint32_t>(product) < range) {
      const std::uint32_t rejected = -range % range;
      while (static_cast<std::uint32_t>(product) < rejected) product = std::uint64_t{next()} * range;
    }
    return static_cast<std::uint32_t>(product >> 32);
  }
};

constexpr std::uint32_t kBucketStream = 1, kShuffleStream = 2;

// Fisher and Yates. A bucket has its own part of the stream, far longer than it is.
void shuffle(std::uint64_t seed, std::uint64_t bucket, std::int64_t* numbers, std::ptrdiff_t n) {
  WordReader words(seed, kShuffleStream, bucket << 36);
  for (std::ptrdiff_t i = n - 1; i > 0; --i)
    std::swap(numbers[i], numbers[words.below(static_cast<std::uint32_t>(i + 1))]);
}

constexpr Cost kPermutation = cost_of("permutation");
constexpr std::ptrdiff_t kBucket = 1 << 15;  // numbers, so that they are shuffled in the cache
constexpr std::ptrdiff_t kParts = 64;        // that numbers are dealt from at the same time
constexpr int kMaxBits = 16;

// For each part of the numbers and each bucket, how many go there; then where the next of them goes.
struct Places {
  int bits;
  std::ptrdiff_t n, part = (n + kParts - 1) / kParts, buckets = std::ptrdiff_t{1} << bits;
  std::vector<std::ptrdiff_t> of = std::vector<std::ptrdiff_t>(static_cast<std::size_t>(kParts * buckets));
  std::ptrdiff_t& at(std::ptrdiff_t p, std::ptrdiff_t bucket) {
    return of[static_cast<std::size_t>(p * buckets + bucket)];
  }
};

// Calls to_bucket(number, its place) for every number; the numbers of a part in order, on one thread.
template <class ToBucket>
void deal(std::uint64_t seed, Places& places, ToBucket to_bucket) {
  const double ns = kPermutation.ns * static_cast<double>(places.part);
  parallel_for(kParts, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t p = begin; p < end; ++p) {
      const std::ptrdiff_t first = std::min(places.n, p * places.part), last = std::min(places.n, first + places.part);
      WordReader words(seed, kBucketStream, static_cast<std::uint64_t>(first));
      for (std::ptrdiff_t i = first; i < last; ++i) to_bucket(i, places.at(p, words.next() >> (32 - places.bits)));
    }
  });
}

}  // namespace

void permutation(std::uint64_t seed, std::int64_t* out, std::ptrdiff_t n) {
  if (n <= kBucket) {
    std::iota(out, out + n, std::int64_t{0});
    return shuffle(seed, 0, out, n);
  }
  const auto most = static_cast<int>(std::bit_width(static_cast<std::size_t>((n - 1) / kBucket)));
  Places places{most < kMaxBits ? most : kMaxBits, n};
  std::vector<std::ptrdiff_t> ends(static_cast<std::size_t>(places.buckets));
  deal(seed, places, [](std::ptrdiff_t, std::ptrdiff_t& count) { ++count; });
  std::ptrdiff_t place = 0;
  for (std::ptrdiff_t b = 0; b < places.buckets; ++b) {
    for (std::ptrdiff_t p = 0; p < kParts; ++p) place += std::exchange(places.at(p, b), place);
    ends[static_cast<std::size_t>(b)] = place;
  }
  deal(seed, places, [out](std::ptrdiff_t i, std::ptrdiff_t& next) { out[next++] = i; });
  const double ns = kPermutation.ns * static_cast<double>(n) / static_cast<double>(places.buckets);
  parallel_for(places.buckets, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t b = begin; b < end; ++b) {
      const std::ptrdiff_t first = b > 0 ? ends[static_cast<std::size_t>(b - 1)] : 0;
      shuffle(seed, static_cast<std::uint64_t>(b), out + first, ends[static_cast<std::size_t>(b)] - first);
    }
  });
}

}  // namespace nnfast
