// How images become the matrix of patches: tiles of positions, taps and the planes they lie in, and what a thread works
// in.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "ops/convolution.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Rows of the matrix of patches that are worked on together: what a sum takes before it is added to the others.
constexpr std::ptrdiff_t kBlock = 256;
// Bytes of such a row in a tile.
constexpr std::ptrdiff_t kTileBytes = 1024;
// Workspace of a thread.
constexpr std::ptrdiff_t kPlaneBytes = kBlock * kTileBytes, kPanelBytes = kBlock * 2 * 64;  // two vectors a row
constexpr std::ptrdiff_t kResultRows = 384, kResultBytes = kResultRows * kTileBytes;

constexpr std::ptrdiff_t divided_up(std::ptrdiff_t a, std::ptrdiff_t b) { return (a + b - 1) / b; }
std::ptrdiff_t floor_divided(std::ptrdiff_t a, std::ptrdiff_t b) { return a / b - (a % b < 0); }

// ---- workspace ----

struct Deleter {
  void operator()(char* memory) const { ::operator delete(memory, std::align_val_t{64}); }
};
using Memory = std::unique_ptr<char, Deleter>;
Memory memory_of(std::ptrdiff_t bytes) {
  return Memory(static_cast<char*>(::operator new(static_cast<std::size_t>(bytes), std::align_val_t{64})));
}

// What a thread works in.
struct Workspace {
  alignas(64) char planes[kPlaneBytes + 1024];
  alignas(64) char panel[kPanelBytes];
  alignas(64) char result[kResultBytes];
  std::int32_t offsets[kBlock];
  std::int32_t at[kTileBytes / sizeof(float)];
};
static_assert(sizeof(Workspace) <= std::size_t{1} << 20);

// One for each thread that may take part in a call.
class Workspaces {
 public:
  Workspaces()
      : taken_(static_cast<std::size_t>(thread_limit())),
        memory_(memory_of(static_cast<std::ptrdiff_t>(taken_.size() * sizeof(Workspace)))) {}

  class Lease {
   public:
    explicit Lease(Workspaces& from) : from_(from) {
      while (from.taken_[index_].exchange(true, std::memory_order_acquire)) index_ = (index_ + 1) % from.taken_.size();
    }
    ~Lease() { from_.taken_[index_].store(false, std::memory_order_release); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return reinterpret_cast<Workspace*>(from_.memory_.get())[index_]; }

   private:
    Workspaces& from_;
    std::size_t index_ = 0;
  };

 private:
  std::vector<std::atomic<bool>> taken_;
  Memory memory_;
};

// ---- tiles and taps ----

// Positions of an image in rectangles of at most `most`, as even as can be.
struct Tiling {
  std::ptrdiff_t rows, columns, height, width;
  Tiling(std::ptrdiff_t image_rows, std::ptrdiff_t image_columns, std::ptrdiff_t most)
      : height(image_rows), width(image_columns) {
    const auto even = [](std::ptrdiff_t n, std::ptrdiff_t fit) {
      return n == 0 ? 1 : divided_up(n, divided_up(n, fit));
    };
    columns = even(width, most);
    rows = even(height, columns < width ? 1 : most / columns);
  }
  std::ptrdiff_t across() const { return divided_up(width, columns); }
  std::ptrdiff_t count() const { return divided_up(height, rows) * across(); }
};
struct Tile {
  std::ptrdiff_t row, column, rows, columns;
  Tile(const Tiling& tiling, std::ptrdiff_t index)
      : row(index / tiling.across() * tiling.rows),
        column(index % tiling.across() * tiling.columns),
        rows(std::min(tiling.rows, tiling.height - row)),
        columns(std::min(tiling.columns, tiling.width - column)) {}
  std::ptrdiff_t positions() const { return rows * columns; }
};

// The pixel that a position is multiplied with, relative to the position times the step.
struct Tap {
  std::ptrdiff_t row, column;
};

// Taps that are worked on together: the planes they lie in, and where they begin there.
struct TapBlock {
  std::ptrdiff_t first, count;
  std::vector<Plane> planes;
  std::ptrdiff_t rows = 0, columns = 0;
  std::vector<std::int32_t> offsets;

  std::ptrdiff_t channel_size() const { return static_cast<std::ptrdiff_t>(planes.size()) * rows * columns; }

  TapBlock(const std::vector<Tap>& taps, std::ptrdiff_t begin, std::ptrdiff_t end, Tap step, const Tiling& tiling)
      : first(begin), count(end - begin) {
    share_planes(taps, step, tiling);
    if (channel_size() > count * tiling.rows * tiling.columns) separate_planes(taps, tiling);
  }

 private:
  // Taps that differ by multiples of the step lie in one plane.
  void share_planes(const std::vector<Tap>& taps, Tap step, const Tiling& tiling) {
    std::vector<Tap> remainder, quotient;
    Tap low{}, high{};
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      const Tap tap = taps[t], q{floor_divided(tap.row, step.row), floor_divided(tap.column, step.column)};
      if (t == first) low = high = q;
      low = {std::min(low.row, q.row), std::min(low.column, q.column)};
      high = {std::max(high.row, q.row), std::max(high.column, q.column)};
      quotient.push_back(q);
      remainder.push_back({tap.row - q.row * step.row, tap.column - q.column * step.column});
    }
    rows = tiling.rows + high.row - low.row;
    columns = tiling.columns + high.column - low.column;
    for (std::size_t t = 0; t < remainder.size(); ++t) {
      const Plane plane{low.row * step.row + remainder[t].row, low.column * step.column + remainder[t].column};
      const auto same = [&](const Plane& p) { return p.row == plane.row && p.column == plane.column; };
      const auto found = std::find_if(planes.begin(), planes.end(), same);
      const std::ptrdiff_t index = found - planes.begin();
      if (found == planes.end()) planes.push_back(plane);
      offsets.push_back(static_cast<std::int32_t>((index * rows + quotient[t].row - low.row) * columns +
                                                  quotient[t].column - low.column));
    }
  }

  // A plane for each tap, where they lie far apart.
  void separate_planes(const std::vector<Tap>& taps, const Tiling& tiling) {
    rows = tiling.rows;
    columns = tiling.columns;
    planes.clear();
    offsets.clear();
    for (std::ptrdiff_t t = first; t < first + count; ++t) {
      planes.push_back({taps[t].row, taps[t].column});
      offsets.push_back(static_cast<std::int32_t>((t - first) * rows * columns));
    }
  }
};

// The rows of the matrix of patches, channels times taps, in blocks.
class Depth {
 public:
  struct Block {
    const TapBlock& taps;
    std::ptrdiff_t channel, channels, begin, count;  // begin, count: of rows
  };

  Depth(std::ptrdiff_t channels, const std::vector<Tap>& taps, Tap step, const Tiling& tiling)
      : channels_(channels), taps_(static_cast<std::ptrdiff_t>(taps.size())) {
    for (std::ptrdiff_t t = 0; t < std::max<std::ptrdiff_t>(taps_, 1); t += kBlock)
      blocks_.emplace_back(taps, t, std::min(taps_, t + kBlock), step, tiling);
    together_ = std::max<std::ptrdiff_t>(1, kBlock / std::max<std::ptrdiff_t>(taps_, 1));
  }
  std::ptrdiff_t rows() const { return channels_ * taps_; }
  // One at least, which may be empty.
  std::ptrdiff_t count() const {
    return std::max<std::ptrdiff_t>(1, divided_up(channels_, together_)) * static_cast<std::ptrdiff_t>(blocks_.size());
  }
  Block block(std::ptrdiff_t index) const {
    const auto tap_blocks = static_cast<std::ptrdiff_t>(blocks_.size());
    const TapBlock& taps = blocks_[static_cast<std::size_t>(index % tap_blocks)];
    const std::ptrdiff_t channel = index / tap_blocks * together_, channels = std::min(together_, channels_ - channel);
    return {taps, channel, channels, channel * taps_ + taps.first, channels * taps.count};
  }

 private:
  std::ptrdiff_t channels_, taps_, together_;
  std::vector<TapBlock> blocks_;
};

// Positions of a tile: as many as fit where all is read from the planes themselves, else what the panels are cut from.
std::ptrdiff_t tile_positions(bool few, std::ptrdiff_t channels, std::ptrdiff_t taps, std::ptrdiff_t size) {
  if (!few) return kTileBytes / size;
  const std::ptrdiff_t block = std::max<std::ptrdiff_t>(1, std::min(channels * taps, kBlock));
  return std::min(kPlaneBytes / (size * block), kResultBytes / (size * kFewChannels));
}

// Images of `channels` channels a group, and the step from one position to the next.
struct Source {
  Images images;
  std::ptrdiff_t channels, height, width;
  Tap step;
};

ImageView channels_from(const Images& images, std::ptrdiff_t image, std::ptrdiff_t channel) {
  ImageView view = images.first;
  view.data += image * images.stride + channel * view.channel_stride;
  return view;
}

// Where the planes of a block are: in the workspace, or the image itself, whose memory ends with it.
struct PlaneView {
  const void* data;
  std::ptrdiff_t pitch;
  bool in_image;
};

// The image as it lies, where the block has one tap, no zeros and neighbours in memory: most kernels of 1 by 1.
std::optional<PlaneView> view_of(const Planes& planes, const Depth::Block& block, const Tile& tile, std::ptrdiff_t size,
                                 std::int32_t* offsets) {
  const ImageView& image = planes.image;
  if (block.taps.count != 1 || planes.column_step != 1 || image.column_stride != size) return std::nullopt;
  const Plane first{planes.origin.row + planes.planes[0].row, planes.origin.column + planes.planes[0].column};
  const bool inside = first.row >= 0 && first.row + (tile.rows - 1) * planes.row_step < planes.height &&
                      first.column >= 0 && first.column + tile.columns <= planes.width;
  const std::ptrdiff_t pitch = planes.row_step * image.row_stride;
  const char* const data = image.data + first.row * image.row_stride + first.column * size;
  constexpr std::ptrdiff_t kMost = std::ptrdiff_t{1} << 29;  // offsets are of 32 bits
  const bool reachable =
      std::abs(image.channel_stride) < kMost / kBlock * size && std::abs(pitch) < kMost / kBlock * size;
  const bool aligned = (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(image.channel_stride) |
                        static_cast<std::uintptr_t>(pitch)) %
                           static_cast<std::uintptr_t>(size) ==
                       0;
  if (!inside || !reachable || !aligned) return std::nullopt;
  for (std::ptrdiff_t c = 0; c < block.channels; ++c)
    offsets[c] = static_cast<std::int32_t>(c * image.channel_stride / size);
  return PlaneView{data, pitch / size, true};
}

// Finds or fills planes, and the offsets of the block's rows in them. `exact`: nothing beyond the tile is read.
PlaneView planes_of(const Source& source, std::ptrdiff_t image, std::ptrdiff_t group, const Depth::Block& block,
                    const Tile& tile, Dtype dtype, bool exact, Workspace& workspace) {
  const TapBlock& taps = block.taps;
  const PlaneView own{workspace.planes, taps.columns, false};
  if (block.count == 0) return own;
  const Planes planes{channels_from(source.images, image, group * source.channels + block.channel),
                      source.height,
                      source.width,
                      {tile.row * source.step.row, tile.column * source.step.column},
                      taps.planes.data(),
                      std::ssize(taps.planes),
                      source.step.row,
                      source.step.column,
                      taps.rows,
                      taps.columns};
  if (exact && dtype != Dtype::f16)
    if (const auto view = view_of(planes, block, tile, size_of(dtype), workspace.offsets)) return *view;
  kernels().convolution->copy_planes[dtype](planes, block.channels, workspace.planes);
  for (std::ptrdiff_t c = 0; c < block.channels; ++c)
    for (std::ptrdiff_t t = 0; t < taps.count; ++t)
      workspace.offsets[c * taps.count + t] =
          static_cast<std::int32_t>(c * taps.channel_size()) + taps.offsets[static_cast<std::size_t>(t)];
  return own;
}

}  // namespace
}  // namespace nnfast
