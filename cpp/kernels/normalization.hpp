// The family of normalisation.
//
// What is normalised together is a *set* of values: a channel of a batch, a group of channels of one image, one channel
// of one image. Its *members* are counted in C order whatever their strides, so that sums do not depend on the layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/per_dtype.hpp"

namespace nnfast {

constexpr int kNormalizedArrays = 4;
constexpr int kMaxAxes = 64;  // NumPy's

// Axes that are walked together, in C order; byte strides for each array.
struct Axes {
  int count = 0;
  std::ptrdiff_t shape[kMaxAxes];
  std::ptrdiff_t strides[kNormalizedArrays][kMaxAxes];

  // To clear and copy the room for all of NumPy's axes would take a tenth of a call on a small array.
  Axes() {}
  Axes(const Axes& other) { *this = other; }
  Axes& operator=(const Axes& other) {
    count = other.count;
    for (int d = 0; d < count; ++d) {
      shape[d] = other.shape[d];
      for (int a = 0; a < kNormalizedArrays; ++a) strides[a][d] = other.strides[a][d];
    }
    return *this;
  }
};

// Arrays of one value a set or a parameter are doubles for all dtypes of x, so that a mean keeps its digits.
struct Normalization {
  // Forward: x, y, add (or null). Backward: dy, x, dx, dadd (or null).
  char* data[kNormalizedArrays];
  Axes sets, members;
  std::ptrdiff_t set_count, member_count;

  // Member i of set s has parameter (s mod groups) * segments + i / segment.
  std::ptrdiff_t groups, segments, segment;
  const double *gamma, *beta;
  double eps;

  const double* origin;          // forward: what moments are taken about, a value of x's dtype a set
  const double *mean, *inv_std;  // a set each
  // Backward, a set each: dx = (gamma dy - offset - (x - mean) slope) inv_std; null where the statistics are constants.
  const double *offset, *slope;

  // Where relu was positive, or null: rows of `bits_stride` bytes, a multiple of 8. Of one row a set, bit i is member
  // i's; if `across`, of one row a member, bit s is set s's.
  std::uint8_t* bits;
  std::ptrdiff_t bits_stride;
  bool across;  // the lanes of a vector are sets; else members
  // Where lanes are sets, what the maps take of each: kConstants rows of constants_row numbers.
  void* constants;
  std::ptrdiff_t constants_row;
  bool stream;  // by non-temporal stores
  // Bytes from the sets of data[0] and data[1] that are mapped to those that are summed next, or 0: their prefetch. To
  // map also waits for stores, to sum for these alone, and the processor prefetches within a page.
  std::ptrdiff_t ahead[2];
  // Whether the sums ask for the lines of the result, which is written next: to sum waits for no store.
  bool claims;
  bool halves;  // where there are enough members, the sums of their halves are taken on their own
};

constexpr int kConstants = 5;
// Room for whole vectors, and not a power of two: rows would share lines of the first-level cache.
constexpr std::ptrdiff_t constants_row(std::ptrdiff_t sets) { return (sets + 63) / 64 * 64 + 16; }

// One double a set; from inv_std on they may be null.
struct SetStatistics {
  double *mean, *variance, *inv_std = nullptr;
  double *mean_low = nullptr, *variance_low = nullptr;  // what rounding took from mean and variance; 0 but for float64
};

// Sets whose sums a call takes, at most.
constexpr std::ptrdiff_t kSetTile = 64;
// Members whose sums are taken on their own; 16 sums, member i of them in sum i mod 16.
constexpr std::ptrdiff_t kMemberChunk = 4096;

// The sums a set has: two terms, and what rounding took from each, which is 0 but for the squares of float64.
constexpr int kTerms = 2, kSums = 2 * kTerms;

// Sets [set, set_end) and their members [first, last). Of set s, term t goes to sums[t * stride + s - set], and what
// rounding took from it kTerms rows further on.
using SetSumsFn = void (*)(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
                           std::ptrdiff_t last, double* sums, std::ptrdiff_t stride);
using SetMapFn = void (*)(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, std::ptrdiff_t first,
                          std::ptrdiff_t last);

struct SetKernels {
  std::ptrdiff_t computed_size;  // of an element as it is computed with
  // What the moments of each set are taken about: the mean of so many of its first members. Of sets that are lanes
  // `origins` gives the first member, about which that mean is taken.
  std::ptrdiff_t origin_members;
  void (*origins)(const Normalization& norm, std::ptrdiff_t set, std::ptrdiff_t set_end, double* values);
  SetSumsFn moments;  // of x - origin: itself and its square
  bool (*finish_moments)(const Normalization& norm, const double* sums, std::ptrdiff_t stride, double* origin,
                         const SetStatistics& to, std::ptrdiff_t set, std::ptrdiff_t set_end);
  void (*forward_constants)(const Normalization& norm);  // before normalise, where lanes are sets
  SetMapFn normalise;
  SetSumsFn gradient_sums;  // dy (0 where relu was not positive), and dy (x - mean); of one segment
  void (*backward_constants)(const Normalization& norm);  // before gradient, likewise
  SetMapFn gradient;
};

struct NormalizationKernels {
  PerDtype<SetKernels> sets;
  void (*invert)(const double* variance, double eps, double* inv_std, std::ptrdiff_t n);
};

}  // namespace nnfast
