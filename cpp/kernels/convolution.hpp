// The family of convolutions: what a matrix product over patches of images is made of.
//
// An image is worked on in tiles of output positions. Of the input, a tile sees planes: zero-padded, contiguous copies
// of what its taps touch, laid so that neighbouring positions are neighbouring elements for every tap. Row k of the
// matrix of patches, a channel and a tap, then begins at an offset of its own in the planes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/per_dtype.hpp"

namespace nnfast {

// Rows of the matrix that a micro-kernel holds in registers: kMinRows to kMaxRows, as even as can be.
constexpr std::ptrdiff_t kMaxRows = 6, kMinRows = 4;

namespace {

// How n rows are cut: the first `longer` tiles have `rows` + 1, the others `rows`.
struct RowTiles {
  std::ptrdiff_t count, rows, longer;
  constexpr explicit RowTiles(std::ptrdiff_t n)
      : count((n + kMaxRows - 1) / kMaxRows), rows(count ? n / count : 0), longer(count ? n % count : 0) {}
  constexpr std::ptrdiff_t rows_of(std::ptrdiff_t tile) const { return rows + (tile < longer); }
  // As computed and as packed: rows beyond those there are count for nothing.
  constexpr std::ptrdiff_t padded_rows_of(std::ptrdiff_t tile) const {
    return rows_of(tile) < kMinRows ? kMinRows : rows_of(tile);
  }
  constexpr std::ptrdiff_t first_of(std::ptrdiff_t tile) const { return tile * rows + (tile < longer ? tile : longer); }
  // Of all tiles.
  constexpr std::ptrdiff_t padded_rows() const {
    std::ptrdiff_t sum = 0;
    for (std::ptrdiff_t tile = 0; tile < count; ++tile) sum += padded_rows_of(tile);
    return sum;
  }
};

}  // namespace

// Images at byte strides.
struct ImageView {
  char* data;
  std::ptrdiff_t channel_stride, row_stride, column_stride;
};

// Element (i, j) of a plane is pixel (i * row_step, j * column_step) counted from origin + plane, 0 outside of the
// image.
struct Plane {
  std::ptrdiff_t row, column;
};
struct Planes {
  ImageView image;
  std::ptrdiff_t height, width;
  Plane origin;
  const Plane* planes;
  std::ptrdiff_t count, row_step, column_step;
  std::ptrdiff_t rows, columns;  // of a plane
};

// Copies the planes of the first `channels` channels, one channel after the other; elements of float16 are widened.
using CopyPlanesFn = void (*)(const Planes& from, std::ptrdiff_t channels, void* to);

// Packs rows of patches at lanes() positions into a panel, row by row: element (k, j) is planes[offsets[k] + at[j]].
using PackPanelFn = void (*)(const void* planes, const std::int32_t* offsets, std::ptrdiff_t rows,
                             const std::int32_t* at, void* panel);

// Packs rows of weights as a product wants them, [tile][k][row] of RowTiles(rows); weight (i, k) lies i * row_stride +
// at[k] bytes from `weights`.
using PackWeightsFn = void (*)(const char* weights, std::ptrdiff_t row_stride, std::ptrdiff_t rows,
                               const std::ptrdiff_t* at, std::ptrdiff_t depth, void* to);

// A product of packed weights and panels: c(i, j) = [c(i, j) +] sum over k of weights(i, k) panel(k, j) [+ bias(i)].
struct PanelProduct {
  const void *weights, *panels;  // weights: of RowTiles(rows), [tile][k][row]
  std::ptrdiff_t rows, depth;    // depth: how many k
  std::ptrdiff_t count;          // of panels, one after the other, in c too
  char* c;
  std::ptrdiff_t row_stride;  // of c, in bytes; a row of it is contiguous
  bool add;
  const void* bias;  // or null
};
using MultiplyPanelsFn = void (*)(const PanelProduct& product);

constexpr std::ptrdiff_t kFewRows = 3;
constexpr std::ptrdiff_t in_place_rows(Dtype dtype) { return dtype == Dtype::f64 ? kFewRows : 16; }
// Vectors are taken in steps of n or n - 1, n being this for a single row and 4 or 2 for more.
constexpr std::ptrdiff_t kLongestStep = 8;
// From so many on none is left over.
constexpr std::ptrdiff_t exact_vectors(std::ptrdiff_t rows) {
  const std::ptrdiff_t step = rows == 1 ? kLongestStep : 4;
  return (step - 1) * (step - 2);
}
// The same product of rows and the positions of a tile as they lie in its planes, where panels would not pay: element j
// of a row is the sum over k of weights(i, k) planes[offsets[k] + j]. Rows of c are written in whole vectors, of which
// up to kLongestStep - 2 lie beyond `positions`, none if there are exact_vectors(rows) or more.
struct TileProduct {
  const void *weights, *planes;  // weights as for a panel
  const std::int32_t* offsets;
  std::ptrdiff_t rows, depth, positions;
  char* c;
  std::ptrdiff_t channel_stride;  // of c, in bytes
  bool add;
  const void* bias;  // or null
};
using MultiplyTileFn = void (*)(const TileProduct& product);

// Rows of `columns` contiguous elements, `pitch` from one to the next, into an image; float16 is rounded.
using StoreTileFn = void (*)(const void* tile, std::ptrdiff_t channel_stride, std::ptrdiff_t pitch,
                             std::ptrdiff_t channels, std::ptrdiff_t rows, std::ptrdiff_t columns, const ImageView& to);

// Positions of up to lanes() channels, `channel_stride` elements apart, as vectors across channels: one, where they fit
// into it, or two. What lanes beyond the channels hold does not matter.
using TransposeFn = void (*)(const void* channels, std::ptrdiff_t channel_stride, std::ptrdiff_t count,
                             std::ptrdiff_t positions, void* to);

// Adds to c(k, m) the sum over positions of planes[offsets[k] + position] * gradients(position, m).
struct PatchGradient {
  const void* planes;
  const std::int32_t* offsets;
  std::ptrdiff_t rows;                            // of patches: how many k
  std::ptrdiff_t tile_rows, tile_columns, pitch;  // positions, and elements from one row of them to the next in planes
  const void* gradients;                          // as transposed
  std::ptrdiff_t channels;                        // of them
  std::ptrdiff_t gradient_pitch;                  // of a single channel, elements from one row to the next
  void* c;
  std::ptrdiff_t row_stride;  // of c, in elements
};
using AddPatchGradientFn = void (*)(const PatchGradient& gradient);
// Where there are so few channels, their gradients are added one by one and stay as they lie.
constexpr std::ptrdiff_t kFewChannels = 4;

// The sum of a channel: of the sums of its images, `stride` bytes apart.
using SumImagesFn = double (*)(ImageView first, std::ptrdiff_t stride, std::ptrdiff_t images, std::ptrdiff_t rows,
                               std::ptrdiff_t columns);

struct ConvolutionKernels {
  PerDtype<std::ptrdiff_t> lanes;  // of a panel
  PerDtype<CopyPlanesFn> copy_planes;
  PerDtype<PackPanelFn> pack_panel;
  PerDtype<PackWeightsFn> pack_weights;
  PerDtype<MultiplyPanelsFn> multiply_panels;
  PerDtype<MultiplyTileFn> multiply_tile;
  PerDtype<StoreTileFn> store_tile;
  PerDtype<TransposeFn> transpose;
  PerDtype<AddPatchGradientFn> add_patch_gradient, add_channel_gradient;
  PerDtype<SumImagesFn> sum_images;
};

}  // namespace nnfast
