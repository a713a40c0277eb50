#include "ops/convolution.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "ops/convolution_patches.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Workspace of all threads: packed weights or partial sums.
constexpr std::ptrdiff_t kSharedBytes = std::ptrdiff_t{6} << 20;
// What panels may take of the first-level cache.
constexpr std::ptrdiff_t kCachedBytes = std::ptrdiff_t{16} << 10;
// What planes may that are multiplied as they lie.
constexpr std::ptrdiff_t kCachedPlaneBytes = std::ptrdiff_t{28} << 10;
// Images are summed in so many groups at most, whose sums are added.
constexpr std::ptrdiff_t kImageGroups = 16;

constexpr std::ptrdiff_t rounded_up(std::ptrdiff_t a, std::ptrdiff_t b) { return divided_up(a, b) * b; }

// ---- correlation: the convolution itself, and its gradient with respect to the input ----

// Output (i, position) is the sum over channels and taps of weight (i, channel, tap) and the pixel at the tap.
struct Correlation {
  Dtype dtype;
  std::ptrdiff_t batch, groups;
  Source input;
  Images output;
  std::ptrdiff_t rows, height, width;  // of the output: channels of a group, and positions
  std::vector<Tap> taps;
  const char* weights;
  Dtype weight_dtype;
  std::ptrdiff_t row_stride, channel_stride, group_stride;  // of weights, in bytes
  std::vector<std::ptrdiff_t> tap_offsets;                  // of each tap in weights, in bytes
  const char* bias;                                         // or null
};

// Where the positions of a tile lie in its planes; beyond them, whatever follows in the workspace.
void fill_positions(const Tile& tile, const PlaneView& planes, std::ptrdiff_t count, std::int32_t* at) {
  std::ptrdiff_t n = 0;
  for (std::ptrdiff_t i = 0; i < tile.rows; ++i)
    for (std::ptrdiff_t j = 0; j < tile.columns; ++j) at[n++] = static_cast<std::int32_t>(i * planes.pitch + j);
  for (; n < count; ++n) at[n] = at[n - 1] + (planes.in_image ? 0 : 1);
}

class Correlator {
 public:
  Correlator(const Correlation& of, Workspaces& workspaces)
      : of_(of),
        kernel_(*kernels().convolution),
        size_(size_of(parameter_dtype(of.dtype))),
        lanes_(kernel_.lanes[of.dtype]),
        in_place_(pays_in_place(of)),
        tiling_(tiling_of(of)),
        depth_(of.input.channels, of.taps, of.input.step, tiling_),
        workspaces_(workspaces) {
    // Rows in strips, as even as can be: packed weights, and results where they must wait, have to fit.
    const std::ptrdiff_t row_bytes = std::max<std::ptrdiff_t>(1, depth_.rows() * size_);
    const std::ptrdiff_t most = std::clamp(kSharedBytes / row_bytes - kMaxRows, kMaxRows, kResultRows);
    strips_ = divided_up(of.rows, most);
    strip_rows_ = divided_up(of.rows, strips_);
    strip_bytes_ = (strip_rows_ + kMinRows) * row_bytes;
    together_ = std::clamp<std::ptrdiff_t>(kSharedBytes / strip_bytes_, 1, strips_ * of.groups);
  }

  // Of the packed weights.
  std::ptrdiff_t bytes() const { return together_ * strip_bytes_; }

  void run(char* packed) const {
    const std::ptrdiff_t strips = strips_ * of_.groups;
    for (std::ptrdiff_t first = 0; first < strips; first += together_)
      run(packed, first, std::min(together_, strips - first));
  }

 private:
  // How many columns further the planes of a tile reach than the tile.
  static std::ptrdiff_t reach(const Correlation& of) {
    std::ptrdiff_t low = 0, high = 0;
    for (const Tap& tap : of.taps) {
      low = std::min(low, tap.column);
      high = std::max(high, tap.column);
    }
    return (high - low) / of.input.step.column;
  }
  // Panels are packed for all rows, which few do not pay for. Without them results are copied once more, which a short
  // sum does not pay for, and the reach at the end of each line is computed for nothing.
  static bool pays_in_place(const Correlation& of) {
    const std::ptrdiff_t most = in_place_rows(parameter_dtype(of.dtype));
    const std::ptrdiff_t taps = std::ssize(of.taps);
    if (taps > kBlock) return false;  // planes of other shapes for each block of them
    return of.rows <= kFewRows || (of.rows <= most && taps > 1 && 3 * of.rows <= taps * of.input.channels &&
                                   of.rows * reach(of) <= 2 * of.width);
  }

  Tiling tiling_of(const Correlation& of) const {
    const std::ptrdiff_t taps = std::ssize(of.taps), channels = std::max<std::ptrdiff_t>(1, of.input.channels);
    std::ptrdiff_t most = tile_positions(in_place_, of.input.channels, taps, size_);
    if (in_place_ && of.rows > kFewRows) {
      const std::ptrdiff_t together = std::max(of.rows, std::min(channels, kBlock / taps));
      most = std::max(lanes_, std::min(most, kCachedPlaneBytes / (size_ * together)));
    }
    // What a line of results takes, with the reach of each row, has to fit.
    const auto fits = [&](const Tiling& tiling) {
      return !in_place_ ||
             (tiling.rows * (tiling.columns + reach(of)) + kLongestStep * lanes_) * size_ <= kResultBytes / of.rows;
    };
    while (most > 1 && !fits(Tiling(of.height, of.width, most))) most /= 2;
    // Few images are cut into more tiles, so that all threads have some: the bits do not depend on it.
    const std::ptrdiff_t images = of.batch * of.groups, wanted = 2 * thread_limit();
    while (most > 2 * lanes_ && images * Tiling(of.height, of.width, most).count() < wanted) most /= 2;
    return Tiling(of.height, of.width, most);
  }

  struct Strip {
    std::ptrdiff_t group, row, rows;
  };
  Strip strip(std::ptrdiff_t index) const {
    const std::ptrdiff_t row = index % strips_ * strip_rows_;
    return {index / strips_, row, std::min(strip_rows_, of_.rows - row)};
  }
  // The packed weights of a block, of the strip at `place` among those that are packed.
  char* weights_of(char* packed, std::ptrdiff_t place, const Strip& strip, const Depth::Block& block) const {
    return packed + place * strip_bytes_ + RowTiles(strip.rows).padded_rows() * block.begin * size_;
  }

  void run(char* packed, std::ptrdiff_t first, std::ptrdiff_t strips) const {
    const std::ptrdiff_t blocks = depth_.count(), tiles = tiling_.count();
    const auto weights = static_cast<double>(strip_rows_ * depth_.rows());
    parallel_for(strips * blocks, weights / static_cast<double>(blocks), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t item = begin; item < end; ++item) {
        const Strip to = strip(first + item / blocks);
        const Depth::Block block = depth_.block(item % blocks);
        pack(to, block, weights_of(packed, item / blocks, to, block));
      }
    });
    constexpr double kNs = cost_of("convolution").ns;
    const double ns = kNs * weights * static_cast<double>(tiling_.rows * tiling_.columns);
    parallel_for(of_.batch * strips * tiles, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      const Workspaces::Lease workspace(workspaces_);
      for (std::ptrdiff_t item = begin; item < end; ++item) {
        const std::ptrdiff_t place = item / tiles % strips;
        run_tile(packed, item / tiles / strips, strip(first + place), place, Tile(tiling_, item % tiles), *workspace);
      }
    });
  }

  void pack(const Strip& strip, const Depth::Block& block, char* to) const {
    std::ptrdiff_t at[kBlock];
    for (std::ptrdiff_t c = 0; c < block.channels; ++c)
      for (std::ptrdiff_t t = 0; t < block.taps.count; ++t)
        at[c * block.taps.count + t] =
            (block.channel + c) * of_.channel_stride + of_.tap_offsets[static_cast<std::size_t>(block.taps.first + t)];
    kernel_.pack_weights[of_.weight_dtype](of_.weights + strip.group * of_.group_stride + strip.row * of_.row_stride,
                                           of_.row_stride, strip.rows, at, block.count, to);
  }

  void run_tile(char* packed, std::ptrdiff_t image, const Strip& strip, std::ptrdiff_t place, const Tile& tile,
                Workspace& workspace) const {
    ImageView to = channels_from(of_.output, image, strip.group * of_.rows + strip.row);
    to.data += tile.row * to.row_stride + tile.column * to.column_stride;
    // Where columns are contiguous in memory, results are written there; others wait in the workspace.
    const bool direct = of_.dtype != Dtype::f16 && to.column_stride == size_;
    const bool one_run = direct && (tile.rows == 1 || to.row_stride == tile.columns * size_);
    std::ptrdiff_t pitch = tile.columns, written = 0, waiting = 0;
    for (std::ptrdiff_t b = 0; b < depth_.count(); ++b) {
      const Depth::Block block = depth_.block(b);
      const PlaneView planes = planes_of(of_.input, image, strip.group, block, tile, of_.dtype, !in_place_, workspace);
      if (in_place_) pitch = planes.pitch;
      const std::ptrdiff_t positions = (tile.rows - 1) * pitch + tile.columns;
      // In place steps are of single vectors, half as wide as panels, and exact if there are several.
      const std::ptrdiff_t step = in_place_ ? lanes_ / 2 : lanes_;
      const bool exact = !in_place_ || positions >= exact_vectors(strip.rows) * step;
      written = one_run && exact && (tile.rows == 1 || pitch == tile.columns) ? positions / step * step : 0;
      waiting = written < positions
                    ? rounded_up(positions - written, lanes_) + (in_place_ ? kLongestStep / 2 * lanes_ : 0)
                    : 0;
      const void* const weights = weights_of(packed, place, strip, block);
      const void* const bias =
          of_.bias && b == depth_.count() - 1 ? of_.bias + (strip.group * of_.rows + strip.row) * size_ : nullptr;
      if (in_place_) {
        const auto multiply = [&](std::ptrdiff_t first, std::ptrdiff_t end, char* c, std::ptrdiff_t channel_stride) {
          kernel_.multiply_tile[of_.dtype]({weights, static_cast<const char*>(planes.data) + first * size_,
                                            workspace.offsets, strip.rows, block.count, end - first, c, channel_stride,
                                            b > 0, bias});
        };
        if (written > 0) multiply(0, written, to.data, to.channel_stride);
        if (waiting > 0) multiply(written, positions, workspace.result, waiting * size_);
        continue;
      }
      fill_positions(tile, planes, written + waiting, workspace.at);
      // As many panels at a time as stay in the first-level cache, so that short rows of weights are read once for all.
      const std::ptrdiff_t panel_bytes = std::max<std::ptrdiff_t>(1, block.count) * lanes_ * size_;
      const std::ptrdiff_t together = std::max<std::ptrdiff_t>(1, kCachedBytes / panel_bytes);
      const std::ptrdiff_t panels = (written + waiting) / lanes_, panels_written = written / lanes_;
      for (std::ptrdiff_t p = 0, end = 0; p < panels; p = end) {
        const bool there = p < panels_written;
        end = std::min(p + together, there ? panels_written : panels);
        for (std::ptrdiff_t q = p; q < end; ++q)
          kernel_.pack_panel[of_.dtype](planes.data, workspace.offsets, block.count, workspace.at + q * lanes_,
                                        workspace.panel + (q - p) * panel_bytes);
        kernel_.multiply_panels[of_.dtype](
            {weights, workspace.panel, strip.rows, block.count, end - p,
             there ? to.data + p * lanes_ * size_ : workspace.result + (p - panels_written) * lanes_ * size_,
             there ? to.channel_stride : waiting * size_, b > 0, bias});
      }
    }
    store(strip, tile, written, pitch, waiting, to, workspace);
  }

  // Stores the results from position `first` on.
  void store(const Strip& strip, const Tile& tile, std::ptrdiff_t first, std::ptrdiff_t pitch,
             std::ptrdiff_t channel_stride, ImageView to, const Workspace& workspace) const {
    if (first == tile.positions()) return;
    std::ptrdiff_t rows = tile.rows, columns = tile.columns;
    if (first > 0) {
      to.data += first * size_;
      columns = tile.positions() - first;
      rows = 1;
    }
    kernel_.store_tile[of_.dtype](workspace.result, channel_stride, pitch, strip.rows, rows, columns, to);
  }

  const Correlation& of_;
  const ConvolutionKernels& kernel_;
  std::ptrdiff_t size_;  // of an element as computed
  std::ptrdiff_t lanes_;
  bool in_place_;  // no panels: every position is read from the planes themselves
  Tiling tiling_;
  Depth depth_;
  Workspaces& workspaces_;
  std::ptrdiff_t strips_, strip_rows_, strip_bytes_, together_;
};

// ---- gradient with respect to the weights ----

class WeightGradient {
 public:
  WeightGradient(const ConvolutionShape& shape, const Images& dy, const Source& x, const std::vector<Tap>& taps,
                 const ConvolutionWeights& dw, Workspaces& workspaces)
      : shape_(shape),
        dy_(dy),
        x_(x),
        dw_(dw),
        kernel_(*kernels().convolution),
        size_(size_of(parameter_dtype(shape.dtype))),
        lanes_(kernel_.lanes[shape.dtype]),
        few_(shape.out_channels <= kFewChannels),
        tiling_(shape.rows.output, shape.columns.output,
                tile_positions(few_, shape.in_channels, std::ssize(taps), size_)),
        depth_(shape.in_channels, taps, x.step, tiling_),
        workspaces_(workspaces) {
    // How images are grouped decides on the bits, so nothing here depends on the instruction set or on threads.
    const std::ptrdiff_t depth = std::max<std::ptrdiff_t>(1, depth_.rows());
    const std::ptrdiff_t most = std::clamp(kSharedBytes / ((depth + kMinRows) * size_), kColumns, kResultRows);
    strips_ = divided_up(shape.out_channels, most / kColumns * kColumns);
    columns_ = rounded_up(divided_up(shape.out_channels, strips_), kColumns);
    const std::ptrdiff_t block_bytes = (kBlock + kMinRows) * columns_ * size_;
    blocks_ = std::clamp<std::ptrdiff_t>(kSharedBytes / block_bytes, 1, depth_.count());
    part_bytes_ = (std::min(depth, blocks_ * kBlock) + kMinRows) * columns_ * size_;
    const std::ptrdiff_t parts = std::max<std::ptrdiff_t>(1, kSharedBytes / part_bytes_),
                         strips = strips_ * shape.groups;
    image_groups_ =
        std::clamp<std::ptrdiff_t>(parts / strips, 1, std::clamp<std::ptrdiff_t>(shape.batch, 1, kImageGroups));
    together_ = std::clamp<std::ptrdiff_t>(parts / image_groups_, 1, strips);
    sums_ = memory_of(part_bytes_ * image_groups_ * together_);
  }

  void run() const {
    const std::ptrdiff_t strips = strips_ * shape_.groups;
    for (std::ptrdiff_t first = 0; first < strips; first += together_)
      for (std::ptrdiff_t block = 0; block < depth_.count(); block += blocks_)
        run({first, std::min(together_, strips - first), block, std::min(depth_.count(), block + blocks_)});
  }

 private:
  // Lanes of the widest panel, and so channels whose sums are side by side.
  static constexpr std::ptrdiff_t kColumns = 32;

  // Strips of output channels, and blocks of the patches: what is summed at a time.
  struct Part {
    std::ptrdiff_t first, strips, block, end_block;
  };
  struct Strip {
    std::ptrdiff_t group, channel, channels;
  };
  Strip strip(std::ptrdiff_t index) const {
    const std::ptrdiff_t channel = index % strips_ * columns_;
    return {index / strips_, channel, std::min(columns_, shape_.out_channels - channel)};
  }
  char* sums(std::ptrdiff_t place, std::ptrdiff_t image_group) const {
    return sums_.get() + (place * image_groups_ + image_group) * part_bytes_;
  }

  void run(const Part& part) const {
    constexpr double kNs = cost_of("convolution").ns;
    const std::ptrdiff_t places = part.strips * image_groups_, blocks = part.end_block - part.block;
    // Blocks are shared where there is little else: each of them transposes dy.
    const std::ptrdiff_t shared = places < 4 * thread_limit() ? blocks : 1;
    const double products = static_cast<double>(shape_.batch * shape_.rows.output * shape_.columns.output) *
                            static_cast<double>(columns_ * blocks * kBlock);
    parallel_for(places * shared, kNs * products / static_cast<double>(image_groups_ * shared),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   const Workspaces::Lease workspace(workspaces_);
                   for (std::ptrdiff_t item = begin; item < end; ++item) {
                     const std::ptrdiff_t b = part.block + item % shared, place = item / shared;
                     sum_images(part, place / image_groups_, place % image_groups_, b,
                                shared == 1 ? part.end_block : b + 1, *workspace);
                   }
                 });
    parallel_for(part.strips, static_cast<double>(columns_ * blocks * kBlock * image_groups_),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   for (std::ptrdiff_t place = begin; place < end; ++place)
                     size_ == sizeof(double) ? store<double>(part, place) : store<float>(part, place);
                 });
  }

  void sum_images(const Part& part, std::ptrdiff_t place, std::ptrdiff_t image_group, std::ptrdiff_t first,
                  std::ptrdiff_t end, Workspace& workspace) const {
    const Strip to = strip(part.first + place);
    const std::ptrdiff_t origin = depth_.block(part.block).begin, row_bytes = columns_ * size_;
    char* const sums = this->sums(place, image_group);
    const Depth::Block last = depth_.block(end - 1);
    const std::ptrdiff_t begin_row = depth_.block(first).begin, end_row = last.begin + last.count;
    std::memset(sums + (begin_row - origin) * row_bytes, 0,
                static_cast<std::size_t>((end_row - begin_row) * row_bytes));
    const std::ptrdiff_t begin_image = image_group * shape_.batch / image_groups_;
    const std::ptrdiff_t end_image = (image_group + 1) * shape_.batch / image_groups_;
    for (std::ptrdiff_t image = begin_image; image < end_image; ++image)
      for (std::ptrdiff_t t = 0; t < tiling_.count(); ++t) {
        const Tile tile(tiling_, t);
        const Gradients gradients = few_ ? lines(image, to, tile, workspace) : panels(image, to, tile, workspace);
        for (std::ptrdiff_t b = first; b < end; ++b) {
          const Depth::Block block = depth_.block(b);
          const PlaneView planes = planes_of(x_, image, to.group, block, tile, shape_.dtype, !few_, workspace);
          add_block(planes, block.count, gradients, to, tile, sums + (block.begin - origin) * row_bytes, workspace);
        }
      }
  }

  // Channels of dy, one tile: `next` bytes from one of them, or one panel, to the next.
  struct Gradients {
    const char* data;
    std::ptrdiff_t next, pitch;  // pitch: elements from one row to the next
  };

  // Channels as they lie, or a copy where they are no rows of contiguous elements.
  Gradients lines(std::ptrdiff_t image, const Strip& strip, const Tile& tile, Workspace& workspace) const {
    return lines(dy_of(image, strip, tile), strip.channels, tile, workspace.result);
  }
  Gradients lines(const ImageView& dy, std::ptrdiff_t channels, const Tile& tile, char* copy) const {
    const auto size = static_cast<std::uintptr_t>(size_);
    const bool aligned = (reinterpret_cast<std::uintptr_t>(dy.data) | static_cast<std::uintptr_t>(dy.row_stride) |
                          static_cast<std::uintptr_t>(dy.channel_stride)) %
                             size ==
                         0;
    if (shape_.dtype != Dtype::f16 && dy.column_stride == size_ && aligned)
      return {dy.data, dy.channel_stride, dy.row_stride / size_};
    constexpr Plane kOrigin{};
    kernel_.copy_planes[shape_.dtype](
        {dy, tile.rows, tile.columns, kOrigin, &kOrigin, 1, 1, 1, tile.rows, tile.columns}, channels, copy);
    return {copy, tile.positions() * size_, tile.columns};
  }
  ImageView dy_of(std::ptrdiff_t image, const Strip& strip, const Tile& tile) const {
    ImageView dy = channels_from(dy_, image, strip.group * shape_.out_channels + strip.channel);
    dy.data += tile.row * dy.row_stride + tile.column * dy.column_stride;
    return dy;
  }

  // Panels across channels, in the workspace's result.
  Gradients panels(std::ptrdiff_t image, const Strip& strip, const Tile& tile, Workspace& workspace) const {
    ImageView dy = dy_of(image, strip, tile);
    const std::ptrdiff_t panel = lanes_ * tile.positions() * size_;
    char* to = workspace.result;
    for (std::ptrdiff_t m = 0; m < strip.channels; m += lanes_, to += panel, dy.data += lanes_ * dy.channel_stride) {
      const std::ptrdiff_t channels = std::min(lanes_, strip.channels - m);
      const Gradients from = lines(dy, channels, tile, workspace.panel);
      const bool one_run = from.pitch == tile.columns;
      const std::ptrdiff_t columns = one_run ? tile.positions() : tile.columns;
      for (std::ptrdiff_t r = 0; r < (one_run ? 1 : tile.rows); ++r)
        kernel_.transpose[shape_.dtype](from.data + r * from.pitch * size_, from.next / size_, channels, columns,
                                        to + r * columns * lanes_ * size_);
    }
    return {workspace.result, panel, tile.columns};
  }

  void add_block(const PlaneView& planes, std::ptrdiff_t depth, const Gradients& gradients, const Strip& strip,
                 const Tile& tile, char* sums, const Workspace& workspace) const {
    const bool one_run = planes.pitch == tile.columns && gradients.pitch == tile.columns;
    const std::ptrdiff_t rows = one_run ? 1 : tile.rows, columns = one_run ? tile.positions() : tile.columns;
    const auto add = (few_ ? kernel_.add_channel_gradient : kernel_.add_patch_gradient)[shape_.dtype];
    const char* dy = gradients.data;
    for (std::ptrdiff_t m = 0; m < strip.channels; m += few_ ? 1 : lanes_, dy += gradients.next)
      add({planes.data, workspace.offsets, depth, rows, columns, planes.pitch, dy, std::min(lanes_, strip.channels - m),
           gradients.pitch, sums + m * size_, columns_});
  }

  // Adds the sums of the groups of images in their order.
  template <class T>
  void store(const Part& part, std::ptrdiff_t place) const {
    const Strip from = strip(part.first + place);
    const Depth::Block first = depth_.block(part.block), last = depth_.block(part.end_block - 1);
    const std::ptrdiff_t rows = last.begin + last.count - first.begin;
    T* const total = reinterpret_cast<T*>(sums(place, 0));
    for (std::ptrdiff_t g = 1; g < image_groups_; ++g) {
      const T* const more = reinterpret_cast<const T*>(sums(place, g));
      for (std::ptrdiff_t k = 0; k < rows * columns_; k += columns_)
        for (std::ptrdiff_t m = k; m < k + from.channels; ++m) total[m] += more[m];
    }
    const std::ptrdiff_t columns = shape_.columns.kernel, taps = shape_.rows.kernel * columns;
    const ConvolutionWeights& to = dw_;
    for (std::ptrdiff_t k = 0; k < rows; ++k) {
      const std::ptrdiff_t channel = (first.begin + k) / taps, tap = (first.begin + k) % taps;
      char* const weight = to.data + (from.group * shape_.out_channels + from.channel) * to.strides[0] +
                           channel * to.strides[1] + tap / columns * to.strides[2] + tap % columns * to.strides[3];
      kernel_.store_tile[to.dtype](total + k * columns_, 0, 0, 1, 1, from.channels, {weight, 0, 0, to.strides[0]});
    }
  }

  const ConvolutionShape& shape_;
  const Images& dy_;
  Source x_;
  const ConvolutionWeights& dw_;
  const ConvolutionKernels& kernel_;
  std::ptrdiff_t size_, lanes_;
  bool few_;  // channels: their gradients stay as they lie
  Tiling tiling_;
  Depth depth_;
  Workspaces& workspaces_;
  std::ptrdiff_t strips_, columns_, blocks_, part_bytes_, image_groups_, together_;
  Memory sums_;
};

Source input_of(const ConvolutionShape& shape, const Images& x) {
  return {x, shape.in_channels, shape.rows.input, shape.columns.input, {shape.rows.stride, shape.columns.stride}};
}

std::vector<Tap> taps_of(const ConvolutionShape& shape) {
  std::vector<Tap> taps;
  taps.reserve(
      static_cast<std::size_t>(shape.rows.kernel * shape.columns.kernel));  // refused at once if there are too many
  for (std::ptrdiff_t i = 0; i < shape.rows.kernel; ++i)
    for (std::ptrdiff_t j = 0; j < shape.columns.kernel; ++j)
      taps.push_back(
          {i * shape.rows.dilation - shape.rows.padding, j * shape.columns.dilation - shape.columns.padding});
  return taps;
}

Correlation forward(const ConvolutionShape& shape, const Images& x, const ConvolutionWeights& w, const void* bias,
                    const Images& y) {
  Correlation of{shape.dtype,
                 shape.batch,
                 shape.groups,
                 input_of(shape, x),
                 y,
                 shape.out_channels,
                 shape.rows.output,
                 shape.columns.output,
                 {},
                 w.data,
                 w.dtype,
                 w.strides[0],
                 w.strides[1],
                 shape.out_channels * w.strides[0],
                 {},
                 static_cast<const char*>(bias)};
  if (shape.in_channels == 0) return of;
  of.taps = taps_of(shape);
  of.tap_offsets.reserve(of.taps.size());
  for (std::ptrdiff_t i = 0; i < shape.rows.kernel; ++i)
    for (std::ptrdiff_t j = 0; j < shape.columns.kernel; ++j)
      of.tap_offsets.push_back(i * w.strides[2] + j * w.strides[3]);
  return of;
}

// Inputs along an axis that lie a multiple of the stride apart, from `first` on, and what they are multiplied with: of
// the gradient at `position` from their own place, and of the kernel.
struct Phase {
  struct Tap {
    std::ptrdiff_t position, kernel;
  };
  std::ptrdiff_t first;
  std::vector<Tap> taps;
};
// Those that anything is multiplied with.
std::vector<Phase> phases_of(const ConvolutionAxis& axis) {
  std::vector<Phase> phases;
  for (std::ptrdiff_t k = 0; k < axis.kernel; ++k) {
    const std::ptrdiff_t distance = k * axis.dilation - axis.padding;
    const std::ptrdiff_t position = -floor_divided(distance, axis.stride);
    const std::ptrdiff_t first = distance + position * axis.stride;
    if (first >= axis.input) continue;
    const auto found = std::find_if(phases.begin(), phases.end(), [&](const Phase& p) { return p.first == first; });
    Phase& phase = found == phases.end() ? phases.emplace_back(Phase{first, {}}) : *found;
    if (phase.taps.empty()) phase.taps.reserve(static_cast<std::size_t>((axis.kernel - k - 1) / axis.stride + 1));
    phase.taps.push_back({position, k});
  }
  return phases;
}

// The gradient with respect to the inputs is a convolution of dy for each pair of phases.
std::vector<Correlation> input_gradient(const ConvolutionShape& shape, const Images& dy, const ConvolutionWeights& w,
                                        const Images& dx) {
  const auto of = [&](const Images& to, std::ptrdiff_t height, std::ptrdiff_t width) {
    return Correlation{shape.dtype,  shape.batch,
                       shape.groups, {dy, shape.out_channels, shape.rows.output, shape.columns.output, {1, 1}},
                       to,           shape.in_channels,
                       height,       width,
                       {},           w.data,
                       w.dtype,      w.strides[1],
                       w.strides[0], shape.out_channels * w.strides[0],
                       {},           nullptr};
  };
  std::vector<Correlation> parts;
  const ConvolutionAxis &rows = shape.rows, &columns = shape.columns;
  const bool any = shape.out_channels * rows.output * columns.output > 0;
  const std::vector<Phase> row_phases = any ? phases_of(rows) : std::vector<Phase>();
  const std::vector<Phase> column_phases = any ? phases_of(columns) : std::vector<Phase>();
  // Where some inputs are multiplied with nothing, all become 0 first.
  if (std::ssize(row_phases) < std::min(rows.stride, rows.input) ||
      std::ssize(column_phases) < std::min(columns.stride, columns.input))
    parts.push_back(of(dx, rows.input, columns.input));
  for (const Phase& row : row_phases)
    for (const Phase& column : column_phases) {
      Images to = dx;
      to.first.data += row.first * dx.first.row_stride + column.first * dx.first.column_stride;
      to.first.row_stride *= rows.stride;
      to.first.column_stride *= columns.stride;
      Correlation part = of(to, divided_up(rows.input - row.first, rows.stride),
                            divided_up(columns.input - column.first, columns.stride));
      for (const Phase::Tap& i : row.taps)
        for (const Phase::Tap& j : column.taps) {
          part.taps.push_back({i.position, j.position});
          part.tap_offsets.push_back(i.kernel * w.strides[2] + j.kernel * w.strides[3]);
        }
      parts.push_back(std::move(part));
    }
  return parts;
}

// Convolutions that are run one after the other, with memory for any of them.
class Correlators {
 public:
  Correlators(std::vector<Correlation> of, Workspaces& workspaces) : of_(std::move(of)) {
    std::ptrdiff_t bytes = 0;
    for (const Correlation& correlation : of_) {
      correlators_.emplace_back(correlation, workspaces);
      bytes = std::max(bytes, correlators_.back().bytes());
    }
    packed_ = memory_of(bytes);
  }
  void run() const {
    for (const Correlator& correlator : correlators_) correlator.run(packed_.get());
  }

 private:
  std::vector<Correlation> of_;
  std::vector<Correlator> correlators_;
  Memory packed_;
};

// The sums of dy over all but the channels.
void sum_images(const ConvolutionShape& shape, const Images& dy, double* db) {
  constexpr double kNs = cost_of("column_sums").ns;
  const std::ptrdiff_t pixels = shape.batch * shape.rows.output * shape.columns.output;
  parallel_for(shape.groups * shape.out_channels, kNs * static_cast<double>(pixels),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t c = begin; c < end; ++c) {
                   db[c] = kernels().convolution->sum_images[shape.dtype](
                       channels_from(dy, 0, c), dy.stride, shape.batch, shape.rows.output, shape.columns.output);
                 }
               });
}

}  // namespace

void convolution(const ConvolutionShape& shape, const Images& x, const ConvolutionWeights& w, const void* bias,
                 const Images& y) {
  if (shape.batch * shape.groups * shape.out_channels * shape.rows.output * shape.columns.output == 0) return;
  Workspaces workspaces;
  Correlators({forward(shape, x, w, bias, y)}, workspaces).run();
}

void convolution_backward(const ConvolutionShape& of, const Images& dy, const Images& x, const ConvolutionWeights& w,
                          const ConvolutionGradients& to) {
  ConvolutionShape shape = of;
  // Without positions there are no pixels either: images of nothing, however many, are not looped over.
  if (shape.rows.output * shape.columns.output == 0) shape.batch = std::min<std::ptrdiff_t>(shape.batch, 1);
  Workspaces workspaces;
  std::optional<Correlators> dx;
  std::optional<WeightGradient> dw;
  if (to.dx && shape.batch * shape.groups * shape.in_channels * shape.rows.input * shape.columns.input > 0)
    dx.emplace(input_gradient(shape, dy, w, *to.dx), workspaces);
  if (to.dw && shape.groups * shape.out_channels * shape.in_channels * shape.rows.kernel * shape.columns.kernel > 0)
    dw.emplace(shape, dy, input_of(shape, x), taps_of(shape), *to.dw, workspaces);
  if (dx) dx->run();
  dx.reset();
  if (dw) dw->run();
  if (to.db) sum_images(shape, dy, to.db);
}

}  // namespace nnfast
