// Products of weights and patches of images, in registers: up to six rows of weights by two vectors of positions, or
// more where there are more registers. Every element is a sum over channels, then taps, in order, on every instruction
// set.
#include "kernels/convolution.hpp"

#include "kernels/rows.hpp"
#include "simd/float_state.hpp"
#include "simd/transpose.hpp"

namespace nnfast {
namespace {

constexpr int kVectors = 2;
template <class T>
constexpr std::ptrdiff_t kPanelLanes = kVectors * kLanes<Vec<T>>;

// ---- planes ----

constexpr std::ptrdiff_t divided_up(std::ptrdiff_t a, std::ptrdiff_t b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

// The elements [first, last) of a line of n that begins at `start` and lie in [0, size).
struct Inside {
  std::ptrdiff_t first, last;
  constexpr Inside() : first(0), last(0) {}
  Inside(std::ptrdiff_t start, std::ptrdiff_t step, std::ptrdiff_t n, std::ptrdiff_t size) {
    last = divided_up(size - start, step);
    last = last < 0 ? 0 : smaller(last, n);
    first = divided_up(-start, step);
    first = first < 0 ? 0 : smaller(first, last);
  }
};

// Copies n elements, whole vectors of them where they are contiguous: the last one overlaps the one before.
template <class S>
NNFAST_INLINE void copy_line(const char* from, std::ptrdiff_t stride, char* to, std::ptrdiff_t n) {
  using T = Computed<S>;
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, size = sizeof(T);
  if (stride == static_cast<std::ptrdiff_t>(sizeof(S)) && n >= lanes) {
    std::ptrdiff_t i = 0;
    for (; i + lanes <= n; i += lanes) store_bytes(to + i * size, Stored<S>::load(from + i * stride));
    if (i < n) store_bytes(to + (n - lanes) * size, Stored<S>::load(from + (n - lanes) * stride));
    return;
  }
  for (std::ptrdiff_t i = 0; i < n; ++i) store_value<T>(to + i * size, load_value<S>(from + i * stride));
}

// Clears a line of n elements but for those inside, or some of those too, which are written next.
template <class T>
NNFAST_INLINE void clear_around(T* line, std::ptrdiff_t n, const Inside& inside) {
  using V = Vec<T>;
  using Edge = VecN<T, 16 / sizeof(T)>;  // of most kernels, and rarely across a cache line
  constexpr std::ptrdiff_t lanes = kLanes<V>, edge = kLanes<Edge>;
  if (n >= edge && inside.first <= edge && inside.last >= n - edge) {
    store_bytes(line, Edge{});
    return store_bytes(line + n - edge, Edge{});
  }
  if (n < lanes) {
    for (std::ptrdiff_t i = 0; i < n; ++i) line[i] = 0;
    return;
  }
  for (std::ptrdiff_t i = 0; i < inside.first; i += lanes) store(line + smaller(i, n - lanes), V{});
  for (std::ptrdiff_t i = n; i > inside.last; i -= lanes) store(line + (i < lanes ? 0 : i - lanes), V{});
}

template <class S>
void copy_planes(const Planes& from, std::ptrdiff_t channels, void* to) {
  constexpr Inside kNothing;
  const ImageView& image = from.image;
  const std::ptrdiff_t size = from.rows * from.columns, stride = image.column_stride * from.column_step;
  // The order that reads memory in its own.
  const bool by_channel = image.channel_stride >= image.row_stride || image.channel_stride < 0;
  for (std::ptrdiff_t p = 0; p < from.count; ++p) {
    const Plane plane{from.origin.row + from.planes[p].row, from.origin.column + from.planes[p].column};
    const Inside rows(plane.row, from.row_step, from.rows, from.height);
    const Inside columns(plane.column, from.column_step, from.columns, from.width);
    const char* data = image.data + plane.column * image.column_stride + columns.first * stride;
    const auto copy = [&](std::ptrdiff_t c, std::ptrdiff_t i) NNFAST_INLINED {
      Computed<S>* line = static_cast<Computed<S>*>(to) + (c * from.count + p) * size + i * from.columns;
      const bool there = i >= rows.first && i < rows.last;
      clear_around(line, from.columns, there ? columns : kNothing);
      if (there)
        copy_line<S>(data + c * image.channel_stride + (plane.row + i * from.row_step) * image.row_stride, stride,
                     reinterpret_cast<char*>(line + columns.first), columns.last - columns.first);
    };
    const std::ptrdiff_t outer = by_channel ? channels : from.rows, inner = by_channel ? from.rows : channels;
    for (std::ptrdiff_t i = 0; i < outer; ++i)
      for (std::ptrdiff_t j = 0; j < inner; ++j) copy(by_channel ? i : j, by_channel ? j : i);
  }
}

// ---- panels ----

// Where the lanes of a vector of positions lie: in a run from the first lane, and one that ends with the last.
template <class V>
struct Runs {
  bool two;       // or fewer; else the lanes are anywhere
  Mask<V> first;  // the lanes of the first run
  explicit Runs(const std::int32_t* at) : two(true) {
    constexpr int lanes = kLanes<V>;
    for (int i = 0; i < lanes; ++i) {
      first[i] = at[i] == at[0] + i ? -1 : 0;
      two = two && (first[i] || at[i] == at[lanes - 1] - (lanes - 1 - i));
    }
  }
};

template <class T>
void pack_panel(const void* planes, const std::int32_t* offsets, std::ptrdiff_t rows, const std::int32_t* at,
                void* panel) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, width = kPanelLanes<T>;
  const T* from = static_cast<const T*>(planes);
  T* to = static_cast<T*>(panel);
  const T* first[kVectors];
  const T* last[kVectors];
  Mask<V> in_first[kVectors];
  bool two_runs = true;
  for (int v = 0; v < kVectors; ++v) {
    const Runs<V> runs(at + v * lanes);
    first[v] = from + at[v * lanes];
    last[v] = from + at[(v + 1) * lanes - 1] - (lanes - 1);
    in_first[v] = runs.first;
    two_runs = two_runs && runs.two;
  }
  if (first[0] == last[0] && first[1] == last[1]) {
    for (std::ptrdiff_t k = 0; k < rows; ++k, to += width)
      unrolled<kVectors>([&](int v) NNFAST_INLINED { store(to + v * lanes, load<V>(first[v] + offsets[k])); });
  } else if (two_runs) {
    for (std::ptrdiff_t k = 0; k < rows; ++k, to += width)
      unrolled<kVectors>([&](int v) NNFAST_INLINED {
        store(to + v * lanes, in_first[v] ? load<V>(first[v] + offsets[k]) : load<V>(last[v] + offsets[k]));
      });
  } else {
    for (std::ptrdiff_t k = 0; k < rows; ++k, to += width)
      for (std::ptrdiff_t i = 0; i < width; ++i) to[i] = from[offsets[k] + at[i]];
  }
}

template <class S>
void pack_weights(const char* weights, std::ptrdiff_t row_stride, std::ptrdiff_t rows, const std::ptrdiff_t* at,
                  std::ptrdiff_t depth, void* to) {
  using T = Computed<S>;
  const RowTiles tiles(rows);
  T* packed = static_cast<T*>(to);
  for (std::ptrdiff_t tile = 0; tile < tiles.count; ++tile) {
    const std::ptrdiff_t there = tiles.rows_of(tile), padded = tiles.padded_rows_of(tile);
    const char* first = weights + tiles.first_of(tile) * row_stride;
    for (std::ptrdiff_t k = 0; k < depth; ++k)
      for (std::ptrdiff_t i = 0; i < padded; ++i)
        *packed++ = i < there ? load_value<S>(first + i * row_stride + at[k]) : 0;
  }
}

template <class T, int Rows>
NNFAST_INLINE void multiply_rows(const T* weights, const T* panel, const PanelProduct& product, char* c,
                                 std::ptrdiff_t rows, const T* bias) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>;
  V sums[Rows][kVectors] = {};
  for (std::ptrdiff_t k = 0; k < product.depth; ++k, weights += Rows, panel += kPanelLanes<T>) {
    V x[kVectors];
    unrolled<kVectors>([&](int v) NNFAST_INLINED { x[v] = load<V>(panel + v * lanes); });
    unrolled<Rows>([&](int i) NNFAST_INLINED {
      const V w = broadcast<V>(weights[i]);
      unrolled<kVectors>([&](int v) NNFAST_INLINED { sums[i][v] = fma(w, x[v], sums[i][v]); });
    });
  }
  unrolled<Rows>([&](int i) NNFAST_INLINED {
    if (i >= rows) return;
    unrolled<kVectors>([&](int v) NNFAST_INLINED {
      char* to = c + i * product.row_stride + v * static_cast<std::ptrdiff_t>(sizeof(V));
      V sum = sums[i][v];
      if (product.add) sum = load_bytes<V>(to) + sum;
      if (bias) sum += broadcast<V>(bias[i]);
      store_bytes(to, sum);
    });
  });
}

template <class T, int Rows>
void multiply_panel_rows(const T* weights, const PanelProduct& product, char* c, std::ptrdiff_t rows, const T* bias) {
  const T* panel = static_cast<const T*>(product.panels);
  for (std::ptrdiff_t p = 0; p < product.count; ++p, panel += product.depth * kPanelLanes<T>)
    multiply_rows<T, Rows>(weights, panel, product, c + p * kPanelLanes<T> * static_cast<std::ptrdiff_t>(sizeof(T)),
                           rows, bias);
}

template <class T>
void multiply_panels(const PanelProduct& product) {
  const ExceptionScope exceptions;
  const RowTiles tiles(product.rows);
  const T *weights = static_cast<const T*>(product.weights), *bias = static_cast<const T*>(product.bias);
  char* c = product.c;
  for (std::ptrdiff_t tile = 0; tile < tiles.count; ++tile) {
    const std::ptrdiff_t rows = tiles.rows_of(tile), padded = tiles.padded_rows_of(tile);
    if (padded == 6) {
      multiply_panel_rows<T, 6>(weights, product, c, rows, bias);
    } else if (padded == 5) {
      multiply_panel_rows<T, 5>(weights, product, c, rows, bias);
    } else {
      multiply_panel_rows<T, 4>(weights, product, c, rows, bias);
    }
    weights += padded * product.depth;
    c += rows * product.row_stride;
    if (bias) bias += rows;
  }
}

// Keeps the compiler from loading ahead, where it then runs out of 16 registers and moves sums to memory.
NNFAST_INLINE void in_this_order() {
  if (kVectorBytes == 32) asm volatile("");
}

// Vectors of positions whose sums of so many rows fit in registers, and do not wait for each other.
constexpr int vectors_in_place(int rows) {
  if (rows == 1) return kLongestStep;
  return rows * 4 <= (kVectorBytes == 64 ? 24 : 12) ? 4 : 2;
}

template <class T, int Rows, int Vectors>
NNFAST_INLINE void multiply_positions(const TileProduct& product, const T* weights, const T* bias, std::ptrdiff_t at,
                                      char* c) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>;
  const T* const planes = static_cast<const T*>(product.planes) + at;
  V sums[Rows][Vectors] = {};
  for (std::ptrdiff_t k = 0; k < product.depth; ++k, weights += Rows < kMinRows ? kMinRows : Rows) {
    const T* const from = planes + product.offsets[k];
    // All of the shorter side of the tile of sums are in registers, of the longer one at a time.
    if constexpr (Rows < Vectors) {
      V w[Rows];
      unrolled<Rows>([&](int i) NNFAST_INLINED { w[i] = broadcast<V>(weights[i]); });
      unrolled<Vectors>([&](int v) NNFAST_INLINED {
        in_this_order();
        const V x = load<V>(from + v * lanes);
        unrolled<Rows>([&](int i) NNFAST_INLINED { sums[i][v] = fma(w[i], x, sums[i][v]); });
      });
    } else {
      V x[Vectors];
      unrolled<Vectors>([&](int v) NNFAST_INLINED { x[v] = load<V>(from + v * lanes); });
      unrolled<Rows>([&](int i) NNFAST_INLINED {
        in_this_order();
        const V w = broadcast<V>(weights[i]);
        unrolled<Vectors>([&](int v) NNFAST_INLINED { sums[i][v] = fma(w, x[v], sums[i][v]); });
      });
    }
  }
  V results[Rows][Vectors];  // an array, where the sums are registers: the loop stays short
  unrolled<Rows>([&](int i)
                     NNFAST_INLINED { unrolled<Vectors>([&](int v) NNFAST_INLINED { results[i][v] = sums[i][v]; }); });
  for (int i = 0; i < Rows; ++i)
    for (int v = 0; v < Vectors; ++v) {
      char* const to = c + i * product.channel_stride + (at + v * lanes) * static_cast<std::ptrdiff_t>(sizeof(T));
      V sum = results[i][v];
      if (product.add) sum = load_bytes<V>(to) + sum;
      if (bias) sum += broadcast<V>(bias[i]);
      store_bytes(to, sum);
    }
}

template <class T, int Rows>
void multiply_tile_rows(const TileProduct& product, const T* weights, const T* bias, char* c) {
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, most = vectors_in_place(Rows);
  // Steps of `most` vectors, and first as many of one less as leave nothing over.
  const std::ptrdiff_t vectors = divided_up(product.positions, lanes), steps = divided_up(vectors, most);
  const std::ptrdiff_t shorter = steps * most - vectors;
  for (std::ptrdiff_t step = 0, at = 0; step < steps; ++step) {
    if (step < shorter) {
      multiply_positions<T, Rows, most - 1>(product, weights, bias, at, c);
      at += (most - 1) * lanes;
    } else {
      multiply_positions<T, Rows, most>(product, weights, bias, at, c);
      at += most * lanes;
    }
  }
}

// By rows; of float64 up to kFewRows.
template <class T>
using MultiplyTileRows = void (*)(const TileProduct&, const T*, const T*, char*);
template <class T>
constexpr MultiplyTileRows<T> tile_rows(std::ptrdiff_t rows) {
  if (rows == 1) return multiply_tile_rows<T, 1>;
  if (rows == 2) return multiply_tile_rows<T, 2>;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (rows == 4) return multiply_tile_rows<T, 4>;
    if (rows == 5) return multiply_tile_rows<T, 5>;
    if (rows == 6) return multiply_tile_rows<T, 6>;
  }
  return multiply_tile_rows<T, 3>;
}

template <class T>
void multiply_tile(const TileProduct& product) {
  const ExceptionScope exceptions;
  const RowTiles tiles(product.rows);
  const T *weights = static_cast<const T*>(product.weights), *bias = static_cast<const T*>(product.bias);
  char* c = product.c;
  for (std::ptrdiff_t tile = 0; tile < tiles.count; ++tile) {
    const std::ptrdiff_t rows = tiles.rows_of(tile);
    tile_rows<T>(rows)(product, weights, bias, c);
    weights += tiles.padded_rows_of(tile) * product.depth;
    c += rows * product.channel_stride;
    if (bias) bias += rows;
  }
}

// Copies raise nothing, and asking costs as much as to copy a hundred elements.
struct NoScope {};
template <class S>
using ConversionScope = std::conditional_t<std::is_same_v<S, Computed<S>>, NoScope, ExceptionScope>;

template <class S>
void store_tile(const void* tile, std::ptrdiff_t channel_stride, std::ptrdiff_t pitch, std::ptrdiff_t channels,
                std::ptrdiff_t rows, std::ptrdiff_t columns, const ImageView& to) {
  using T = Computed<S>;
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, size = sizeof(T);
  [[maybe_unused]] const ConversionScope<S> exceptions;
  const bool copied = std::is_same_v<S, T> && to.column_stride == size;
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    const char* from = static_cast<const char*>(tile) + c * channel_stride * size;
    char* line = to.data + c * to.channel_stride;
    for (std::ptrdiff_t i = 0; i < rows; ++i, from += pitch * size, line += to.row_stride) {
      if (copied) {
        copy_line<T>(from, size, line, columns);
        continue;
      }
      for (std::ptrdiff_t j = 0; j < columns; j += lanes) {
        const std::ptrdiff_t count = smaller(lanes, columns - j);
        store_elements<S>(line, to.column_stride, j, load_elements<T>(from, Contiguous<T>{}, j, count), count);
      }
    }
  }
}

// ---- gradients with respect to the weights ----

// Vectors of a panel across channels; of float64 always two, which is less code.
template <class T>
constexpr int vectors_across(std::ptrdiff_t channels) {
  return sizeof(T) == sizeof(float) && channels <= kLanes<Vec<T>> ? 1 : kVectors;
}

template <class T>
void transpose(const void* channels, std::ptrdiff_t channel_stride, std::ptrdiff_t count, std::ptrdiff_t positions,
               void* to) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>, side = kSquare<T>;
  const T* from = static_cast<const T*>(channels);
  T* result = static_cast<T*>(to);
  const int vectors = vectors_across<T>(count);
  const std::ptrdiff_t width = vectors * lanes;
  const T* channel[kPanelLanes<T>];  // beyond the last one the last one again
  for (std::ptrdiff_t m = 0; m < width; ++m) channel[m] = from + smaller(m, count - 1) * channel_stride;
  if (positions < side) {
    for (std::ptrdiff_t p = 0; p < positions; ++p)
      for (std::ptrdiff_t m = 0; m < width; ++m) result[p * width + m] = channel[m][p];
    return;
  }
  for (std::ptrdiff_t begin = 0; begin < positions; begin += side) {
    const std::ptrdiff_t p = smaller(begin, positions - side);
    for (int v = 0; v < vectors; ++v) {
      V columns[side];
      load_square<T>(columns, [&](std::ptrdiff_t row) NNFAST_INLINED { return channel[v * lanes + row] + p; });
      for (std::ptrdiff_t i = 0; i < side; ++i) store(result + (p + i) * width + v * lanes, columns[i]);
    }
  }
}

template <class T, int Rows, int Vectors>
void add_gradient_rows(const PatchGradient& gradient, const std::int32_t* offsets, std::ptrdiff_t there, T* c) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>;
  const T* x[Rows];
  unrolled<Rows>([&](int i) NNFAST_INLINED {
    x[i] = static_cast<const T*>(gradient.planes) + offsets[i < there ? i : there - 1];
  });
  const T* dy = static_cast<const T*>(gradient.gradients);
  V sums[Rows][Vectors] = {};
  for (std::ptrdiff_t r = 0; r < gradient.tile_rows; ++r) {
    const std::ptrdiff_t row = r * gradient.pitch;
    for (std::ptrdiff_t j = row; j < row + gradient.tile_columns; ++j, dy += Vectors * lanes) {
      V g[Vectors];
      unrolled<Vectors>([&](int v) NNFAST_INLINED { g[v] = load<V>(dy + v * lanes); });
      unrolled<Rows>([&](int i) NNFAST_INLINED {
        const V pixel = broadcast<V>(x[i][j]);
        unrolled<Vectors>([&](int v) NNFAST_INLINED { sums[i][v] = fma(pixel, g[v], sums[i][v]); });
      });
    }
  }
  unrolled<Rows>([&](int i) NNFAST_INLINED {
    if (i >= there) return;
    unrolled<Vectors>([&](int v) NNFAST_INLINED {
      T* to = c + i * gradient.row_stride + v * lanes;
      store(to, load<V>(to) + sums[i][v]);
    });
  });
}

// Most rows at a time, and the rest four by four.
template <class T, int Most, int Vectors>
void add_gradient_tiles(const PatchGradient& gradient) {
  constexpr std::ptrdiff_t most = Most, least = kMinRows;
  T* c = static_cast<T*>(gradient.c);
  for (std::ptrdiff_t k = 0; k < gradient.rows;) {
    const std::ptrdiff_t left = gradient.rows - k;
    const bool many = left > most - least;
    const std::ptrdiff_t there = smaller(left, many ? most : least);
    (many ? add_gradient_rows<T, Most, Vectors> : add_gradient_rows<T, kMinRows, Vectors>)(gradient,
                                                                                           gradient.offsets + k, there,
                                                                                           c + k * gradient.row_stride);
    k += there;
  }
}

template <class T>
void add_patch_gradient(const PatchGradient& gradient) {
  const ExceptionScope exceptions;
  if constexpr (vectors_across<T>(1) == 1)
    if (vectors_across<T>(gradient.channels) == 1) return add_gradient_tiles<T, 2 * kMaxRows, 1>(gradient);
  add_gradient_tiles<T, kMaxRows, kVectors>(gradient);
}

// The sum of kReduceBlock partial sums, added in double.
template <class T>
NNFAST_INLINE double sum_of_parts(const Vec<T> (&parts)[kReduceParts<T>]) {
  Vec<double> doubles[kReduceDoubles];
  for (int part = 0; part < kReduceParts<T>; ++part) {
    const Widened<Vec<T>> wide = widen(parts[part]);
    for (int k = 0; k < wide.count; ++k) doubles[part * wide.count + k] = wide.part[k];
  }
  return sum_of_block(doubles);
}

template <class T, int Taps>
NNFAST_INLINE void add_channel_rows(const PatchGradient& gradient, const std::int32_t* offsets, T* c) {
  using V = Vec<T>;
  constexpr std::ptrdiff_t lanes = kLanes<V>;
  constexpr int parts = kReduceParts<T>;
  const T *planes = static_cast<const T*>(gradient.planes), *dy = static_cast<const T*>(gradient.gradients);
  V sums[Taps][parts] = {};
  const std::ptrdiff_t whole = gradient.tile_columns / kReduceBlock * kReduceBlock;
  for (std::ptrdiff_t r = 0; r < gradient.tile_rows; ++r, planes += gradient.pitch, dy += gradient.gradient_pitch) {
    for (std::ptrdiff_t j = 0; j < whole; j += kReduceBlock)
      unrolled<parts>([&](int part) NNFAST_INLINED {
        const V g = load<V>(dy + j + part * lanes);
        unrolled<Taps>([&](int t) NNFAST_INLINED {
          sums[t][part] = fma(load<V>(planes + offsets[t] + j + part * lanes), g, sums[t][part]);
        });
      });
    unrolled<parts>([&](int part) NNFAST_INLINED {
      const std::ptrdiff_t at = whole + part * lanes, count = part_count<T>(gradient.tile_columns - whole, part);
      if (count == 0) return;
      const V g = load_partial<V>(dy + at, count, 0);
      const Mask<V> there = lanes_between<V>(0, count);
      unrolled<Taps>([&](int t) NNFAST_INLINED {
        const V x = load<V>(planes + offsets[t] + at);  // beyond the row anything
        sums[t][part] = fma(there ? x : V{}, g, sums[t][part]);
      });
    });
  }
  unrolled<Taps>([&](int t) NNFAST_INLINED { c[t * gradient.row_stride] += static_cast<T>(sum_of_parts<T>(sums[t])); });
}

template <class T>
void add_channel_gradient(const PatchGradient& gradient) {
  constexpr int taps = kReduceParts<T> > 4 ? 1 : 8 / kReduceParts<T>;
  const ExceptionScope exceptions;
  T* c = static_cast<T*>(gradient.c);
  std::ptrdiff_t k = 0;
  for (; k + taps <= gradient.rows; k += taps)
    add_channel_rows<T, taps>(gradient, gradient.offsets + k, c + k * gradient.row_stride);
  for (; k < gradient.rows; ++k) add_channel_rows<T, 1>(gradient, gradient.offsets + k, c + k * gradient.row_stride);
}

template <class S>
NNFAST_INLINE double sum_image(const ImageView& image, std::ptrdiff_t rows, std::ptrdiff_t columns) {
  using T = Computed<S>;
  constexpr std::ptrdiff_t lanes = kLanes<Vec<T>>, size = sizeof(S);
  BlockSum<T> sum;
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    const char* const row = image.data + i * image.row_stride;
    std::ptrdiff_t j = 0;
    if (!kShort && std::is_same_v<S, T> && image.column_stride == size)  // no call, so the sums stay in registers
      for (; j + kReduceBlock <= columns; j += kReduceBlock)
        unrolled<kReduceParts<T>>(
            [&](int part) NNFAST_INLINED { sum.add(Stored<S>::load(row + (j + part * lanes) * size), part); });
    for (; j < columns; j += kReduceBlock)
      for (int part = 0; part < kReduceParts<T>; ++part) {
        const std::ptrdiff_t count = part_count<T>(columns - j, part);
        if (count > 0) sum.add(load_elements<S>(row, image.column_stride, j + part * lanes, count), part);
      }
  }
  return sum.total();
}

template <class S>
double sum_images(ImageView image, std::ptrdiff_t stride, std::ptrdiff_t images, std::ptrdiff_t rows,
                  std::ptrdiff_t columns) {
  const ExceptionScope exceptions;
  if (image.row_stride == columns * image.column_stride) {
    columns *= rows;
    rows = 1;
  }
  double sum = 0;
  for (std::ptrdiff_t i = 0; i < images; ++i, image.data += stride) sum += sum_image<S>(image, rows, columns);
  return sum;
}

}  // namespace

namespace NNFAST_ISA {

extern const ConvolutionKernels convolution;
const ConvolutionKernels convolution = {
    {kPanelLanes<float>, kPanelLanes<float>, kPanelLanes<double>},
    {copy_planes<Float16>, copy_planes<float>, copy_planes<double>},
    {pack_panel<float>, pack_panel<float>, pack_panel<double>},
    {pack_weights<Float16>, pack_weights<float>, pack_weights<double>},
    {multiply_panels<float>, multiply_panels<float>, multiply_panels<double>},
    {multiply_tile<float>, multiply_tile<float>, multiply_tile<double>},
    {store_tile<Float16>, store_tile<float>, store_tile<double>},
    {transpose<float>, transpose<float>, transpose<double>},
    {add_patch_gradient<float>, add_patch_gradient<float>, add_patch_gradient<double>},
    {add_channel_gradient<float>, add_channel_gradient<float>, add_channel_gradient<double>},
    {sum_images<Float16>, sum_images<float>, sum_images<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
