// Activations: the formulas of formulas.hpp as loops, and maxout.
#include "kernels/activations.hpp"

#include <cstdint>

#include "kernels/elementwise_loop.hpp"
#include "kernels/formulas.hpp"
#include "kernels/largest.hpp"

namespace nnfast {
namespace {

template <class Formula>
struct Forward {
  static constexpr unsigned raises = Formula::forward_raises;
  static constexpr bool by_table = requires { Formula::forward_by_table; };
  static constexpr bool varying_params = requires { Formula::varying_params; };
  template <class... V>
  NNFAST_INLINE static auto apply(V... v) {
    return Formula::forward(v...);
  }
  static constexpr bool splits = requires { Formula::splits; } && kSplits;
  template <class... V>
  NNFAST_INLINE static auto rare(V... v) {
    return Formula::rare(v...);
  }
  template <class... V>
  NNFAST_INLINE static auto common(V... v) {
    return Formula::common(v...);
  }
};

template <class Formula>
struct Backward {
  static constexpr unsigned raises = Formula::backward_raises;
  static constexpr bool by_table = requires { Formula::backward_by_table; };
  static constexpr bool varying_params = requires { Formula::varying_params; };
  template <class... V>
  NNFAST_INLINE static auto apply(V... v) {
    return Formula::backward(v...);
  }
};

// ---- maxout (Goodfellow et al. 2013): the largest of every `pieces` consecutive elements ----

// Vectors of groups, whose elements of one piece are contiguous where the axis is not the last.
template <class T>
void maxout_strided(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  using V = Vec<T>;
  using Bytes = VecN<std::uint8_t, kLanes<V>>;
  for (std::ptrdiff_t j = 0; j < groups; j += kLanes<V>) {
    const std::ptrdiff_t count = smaller(groups - j, kLanes<V>);
    const char* x = row.x + j * row.group_stride;
    V best = load_elements<T>(x, row.group_stride, 0, count);
    Mask<V> which{};
    for (std::ptrdiff_t piece = 1; piece < pieces; ++piece)
      keep_better(best, which, load_elements<T>(x + piece * row.x_stride, row.group_stride, 0, count),
                  broadcast<Mask<V>>(static_cast<Element<Mask<V>>>(piece)));
    store_elements<T>(row.y, row.y_stride, j, best, count);
    const Bytes bytes = __builtin_convertvector(which, Bytes);
    if (count == kLanes<V> && row.which_stride == 1) {
      store_bytes(row.which + j, bytes);
    } else {
      for (std::ptrdiff_t i = 0; i < count; ++i) store_element(row.which + (j + i) * row.which_stride, bytes[i]);
    }
  }
}

template <class T>
void maxout_backward_strided(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  using V = Vec<T>;
  using Bytes = VecN<std::uint8_t, kLanes<V>>;
  for (std::ptrdiff_t j = 0; j < groups; j += kLanes<V>) {
    const std::ptrdiff_t count = smaller(groups - j, kLanes<V>);
    const V dy = load_elements<T>(row.y, row.y_stride, j, count);
    Bytes bytes{};
    if (count == kLanes<V> && row.which_stride == 1) {
      bytes = load_bytes<Bytes>(row.which + j);
    } else {
      for (std::ptrdiff_t i = 0; i < count; ++i)
        bytes[i] = load_element<std::uint8_t>(row.which + (j + i) * row.which_stride);
    }
    const Mask<V> which = __builtin_convertvector(bytes, Mask<V>);
    for (std::ptrdiff_t piece = 0; piece < pieces; ++piece) {
      const V dx = which == static_cast<Element<Mask<V>>>(piece) ? dy : V{};
      store_elements<T>(row.x + j * row.group_stride + piece * row.x_stride, row.group_stride, 0, dx, count);
    }
  }
}

// Where the lanes of a vector of groups lie in the `Pieces` vectors of their elements, and the other way round.
template <class V, int Pieces>
struct Interleaving {
  using I = Element<Mask<V>>;
  static constexpr int lanes = kLanes<V>;
  alignas(sizeof(V)) I element[Pieces][lanes] = {};  // of group `lane`, the piece's position among all elements
  alignas(sizeof(V)) I group[Pieces][lanes] = {};    // of element `lane` of a vector, its group
  alignas(sizeof(V)) I piece[Pieces][lanes] = {};    // and its piece
  constexpr Interleaving() {
    for (int k = 0; k < Pieces; ++k) {
      for (int lane = 0; lane < lanes; ++lane) {
        element[k][lane] = lane * Pieces + k;
        group[k][lane] = (k * lanes + lane) / Pieces;
        piece[k][lane] = (k * lanes + lane) % Pieces;
      }
    }
  }
};

// Whole vectors of groups whose arrays are contiguous; returns how many groups.
template <class T, int Pieces>
std::ptrdiff_t maxout_contiguous(const MaxoutRow& row, std::ptrdiff_t groups) {
  using V = Vec<T>;
  using I = Mask<V>;
  using Bytes = VecN<std::uint8_t, kLanes<V>>;
  constexpr Interleaving<V, Pieces> at;
  std::ptrdiff_t j = 0;
  for (; j + kLanes<V> <= groups; j += kLanes<V>) {
    const T* x = reinterpret_cast<const T*>(row.x) + j * Pieces;
    V best{};
    I which{};
    for (int piece = 0; piece < Pieces; ++piece) {
      V candidate{};
      for (int k = 0; k < Pieces; ++k) {
        const I index = load<I>(at.element[piece]) - k * kLanes<V>;
        const V part = permute(load<V>(x + k * kLanes<V>), index & (kLanes<V> - 1));
        candidate = (index >= 0) & (index < kLanes<V>) ? part : candidate;
      }
      if (piece == 0) {
        best = candidate;
      } else {
        keep_better(best, which, candidate, broadcast<I>(piece));
      }
    }
    store(reinterpret_cast<T*>(row.y) + j, best);
    const Bytes bytes = __builtin_convertvector(which, Bytes);
    __builtin_memcpy(row.which + j, &bytes, sizeof bytes);
  }
  return j;
}

template <class T, int Pieces>
std::ptrdiff_t maxout_backward_contiguous(const MaxoutRow& row, std::ptrdiff_t groups) {
  using V = Vec<T>;
  using I = Mask<V>;
  using Bytes = VecN<std::uint8_t, kLanes<V>>;
  constexpr Interleaving<V, Pieces> at;
  std::ptrdiff_t j = 0;
  for (; j + kLanes<V> <= groups; j += kLanes<V>) {
    const V dy = load<V>(reinterpret_cast<const T*>(row.y) + j);
    Bytes bytes;
    __builtin_memcpy(&bytes, row.which + j, sizeof bytes);
    const I which = __builtin_convertvector(bytes, I);
    for (int k = 0; k < Pieces; ++k) {
      const I group = load<I>(at.group[k]);
      const V dx = permute(which, group) == load<I>(at.piece[k]) ? permute(dy, group) : V{};
      store(reinterpret_cast<T*>(row.x) + j * Pieces + k * kLanes<V>, dx);
    }
  }
  return j;
}

template <class T>
bool contiguous(const MaxoutRow& row, std::ptrdiff_t pieces) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  return row.x_stride == size && row.group_stride == pieces * size && row.y_stride == size && row.which_stride == 1;
}

MaxoutRow behind(MaxoutRow row, std::ptrdiff_t groups) {
  row.x += groups * row.group_stride;
  row.y += groups * row.y_stride;
  row.which += groups * row.which_stride;
  return row;
}

// 2 to 4 pieces of contiguous arrays have code of their own; all else goes element by element.
template <class T>
void maxout(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  std::ptrdiff_t done = 0;
  if (contiguous<T>(row, pieces)) {
    if (pieces == 2) done = maxout_contiguous<T, 2>(row, groups);
    if (pieces == 3) done = maxout_contiguous<T, 3>(row, groups);
    if (pieces == 4) done = maxout_contiguous<T, 4>(row, groups);
  }
  maxout_strided<T>(behind(row, done), groups - done, pieces);
}

template <class T>
void maxout_backward(const MaxoutRow& row, std::ptrdiff_t groups, std::ptrdiff_t pieces) {
  std::ptrdiff_t done = 0;
  if (contiguous<T>(row, pieces)) {
    if (pieces == 2) done = maxout_backward_contiguous<T, 2>(row, groups);
    if (pieces == 3) done = maxout_backward_contiguous<T, 3>(row, groups);
    if (pieces == 4) done = maxout_backward_contiguous<T, 4>(row, groups);
  }
  maxout_backward_strided<T>(behind(row, done), groups - done, pieces);
}

}  // namespace

namespace NNFAST_ISA {

extern const ActivationKernels activations;
const ActivationKernels activations = {
#define NNFAST_FORWARD(formula, name, params) elementwise_entry<Forward<formula>, 1 + params, params>,
    {NNFAST_ACTIVATIONS(NNFAST_FORWARD)},
#define NNFAST_BACKWARD(formula, name, params) elementwise_entry<Backward<formula>, 2 + params, params>,
    {NNFAST_ACTIVATIONS(NNFAST_BACKWARD)},    elementwise_entry<PReluWeight, 2, 0>,
    {nullptr, maxout<float>, maxout<double>}, {nullptr, maxout_backward<float>, maxout_backward<double>},
};

}  // namespace NNFAST_ISA
}  // namespace nnfast
