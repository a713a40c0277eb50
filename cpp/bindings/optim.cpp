#include "kernels/optim.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "bindings/array_lists.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

struct RuleRow {
  const char* name;
  int states;
  double cost;
};
constexpr RuleRow kRules[] = {
#define NNFAST_ROW(rule, name, states, cost) {name, states, cost},
    NNFAST_OPTIM_RULES(NNFAST_ROW)
#undef NNFAST_ROW
};
constexpr double kGradientsNs = 0.1, kSumsNs = 0.2;

using Walk = StridedArrays<kOptimArrays>;

// One parameter in a step: where its arrays lie, and what is done to them.
struct Piece {
  char* data[kOptimArrays];
  std::ptrdiff_t begin, n;  // its first element's position in the whole list, and how many
  // Null where all arrays are contiguous; else in the order in which the parameter lies in memory, and in C order.
  const Walk *walk, *c_order;
  int dtype;
  const double* numbers;
  double grad_scale;
};

int state_dtype(int dtype) { return dtype == NPY_HALF ? NPY_FLOAT32 : dtype; }

// Of the parameter and its gradient, in bytes.
std::ptrdiff_t element_size(int dtype) { return dtype == NPY_HALF ? 2 : dtype == NPY_FLOAT32 ? 4 : 8; }

// Where the arrays that a step writes lie, to see quickly that a gradient is none of them.
class WrittenMemory {
 public:
  void add(const Array& array) {
    const Extent e = extent(array);
    if (e.high > e.low) extents_.push_back(e);
  }
  // Sorted and joined.
  void sort() {
    std::sort(extents_.begin(), extents_.end(), [](const Extent& a, const Extent& b) { return a.low < b.low; });
    std::size_t kept = 0;
    for (const Extent& e : extents_) {
      if (kept && e.low <= extents_[kept - 1].high) {
        extents_[kept - 1].high = std::max(extents_[kept - 1].high, e.high);
      } else {
        extents_[kept++] = e;
      }
    }
    extents_.resize(kept);
  }
  bool touches(const Array& array) const {
    const Extent e = extent(array);
    const auto after = std::upper_bound(extents_.begin(), extents_.end(), e.low,
                                        [](const char* low, const Extent& b) { return low <= b.low; });
    if (after != extents_.end() && after->low < e.high) return true;
    return after != extents_.begin() && (after - 1)->high > e.low;
  }

 private:
  std::vector<Extent> extents_;
};

// Lists of arrays that belong to an optimizer, by the name errors call them.
struct Lists {
  PyObject* lists[kOptimArrays];
  const char* names[kOptimArrays];
};

// The parameters of an optimizer with what is kept beside them. Checked once, and again when an array is another.
class OptimArrays {
 public:
  // Whether the lists hold the very arrays that were checked.
  bool holds(const Lists& given) const {
    for (int k = 0; k < kOptimArrays; ++k) {
      if (k == kGrad) continue;
      if (!given.lists[k] != arrays_[k].empty() && count_ > 0) return false;
      if (!given.lists[k]) continue;
      if (PyList_GET_SIZE(given.lists[k]) != static_cast<Py_ssize_t>(arrays_[k].size())) return false;
      for (std::size_t i = 0; i < arrays_[k].size(); ++i) {
        const Held& held = arrays_[k][i];
        const PyObject* array = PyList_GET_ITEM(given.lists[k], i);
        if (!held.array && array == Py_None) continue;
        if (array != held.array.object().ptr() || !held.as_it_was()) return false;
      }
    }
    return true;
  }

  // Checks and takes them.
  void take(const Lists& given) {
    OptimArrays made;
    made.count_ = PyList_GET_SIZE(given.lists[kParam]);
    for (int k = 0; k < kOptimArrays; ++k)
      if (given.lists[k] && k != kGrad) made.take_list(given, k);
    made.require_apart(given);
    made.memory_.sort();
    *this = std::move(made);
  }

  std::size_t size() const { return arrays_[kParam].size(); }
  const Array& param(std::size_t i) const { return arrays_[kParam][i].array; }

  // The pieces of a step; `walks` keeps those that are not contiguous, `held` the gradients. Nothing has been written
  // when it throws.
  std::vector<Piece> pieces(PyObject* grads, const Lists& names, std::vector<Walk>& walks,
                            std::vector<Array>& held) const {
    std::vector<Piece> pieces(size());
    walks.reserve(2 * size());
    held.reserve(size());
    std::ptrdiff_t begin = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      const Named grad = element(grads, "grads", static_cast<std::ptrdiff_t>(i));
      require_like(grad, param(i));
      if (memory_.touches(grad.array)) require_apart_from_all(grad, names);
      held.push_back(grad.array);
      Piece& piece = pieces[i];
      piece.begin = begin;
      begin += piece.n = param(i).size();
      piece.dtype = param(i).dtype();
      bool contiguous = PyArray_IS_C_CONTIGUOUS(grad.array.get());
      for (int k = 0; k < kOptimArrays; ++k) {
        piece.data[k] = k == kGrad ? grad.array.data() : arrays_[k].empty() ? nullptr : arrays_[k][i].data;
        if (piece.data[k] && k != kGrad) contiguous &= PyArray_IS_C_CONTIGUOUS(arrays_[k][i].array.get()) != 0;
      }
      if (contiguous) continue;
      piece.walk = &walks.emplace_back(walk(i, grad.array, piece.data, true));
      piece.c_order = &walks.emplace_back(walk(i, grad.array, piece.data, false));
    }
    return pieces;
  }

 private:
  struct Held {
    Array array;  // none of a parameter that needs no master
    char* data = nullptr;
    std::vector<npy_intp> shape_and_strides;

    Held() = default;
    explicit Held(const Array& checked) : array(checked), data(checked.data()) {
      const int ndim = array.ndim();
      shape_and_strides.assign(PyArray_DIMS(array.get()), PyArray_DIMS(array.get()) + ndim);
      shape_and_strides.insert(shape_and_strides.end(), PyArray_STRIDES(array.get()),
                               PyArray_STRIDES(array.get()) + ndim);
    }
    // An array can be given other memory, another shape or be made read-only and still be the same object.
    bool as_it_was() const {
      const int ndim = array.ndim();
      const npy_intp* was = shape_and_strides.data();
      return array.data() == data && PyArray_ISWRITEABLE(array.get()) &&
             shape_and_strides.size() == 2 * static_cast<std::size_t>(ndim) &&
             PyArray_CompareLists(PyArray_DIMS(array.get()), was, ndim) &&
             PyArray_CompareLists(PyArray_STRIDES(array.get()), was + ndim, ndim);
    }
  };
  Py_ssize_t count_ = 0;
  std::vector<Held> arrays_[kOptimArrays];
  WrittenMemory memory_;

  void take_list(const Lists& given, int k) {
    const char* name = given.names[k];
    require_count(static_cast<std::size_t>(PyList_GET_SIZE(given.lists[k])), name, static_cast<std::size_t>(count_));
    for (Py_ssize_t i = 0; i < count_; ++i) {
      if (k == kMaster && param(i).dtype() != NPY_HALF && PyList_GET_ITEM(given.lists[k], i) == Py_None) {
        arrays_[k].emplace_back();
        continue;
      }
      const Named named = element(given.lists[k], name, i);
      if (k == kParam) {
        require_parameter(named, given.lists[kMaster] != nullptr);
      } else {
        require_like(named, param(i), state_dtype(param(i).dtype()));
      }
      require_writeable(named);
      require_apart_from_itself(named);
      arrays_[k].emplace_back(named.array);
      memory_.add(named.array);
    }
  }

  // One element a place: the steps of the larger strides leave room for the smaller.
  static void require_apart_from_itself(const Named& given) {
    const Array& array = given.array;
    std::vector<std::pair<std::ptrdiff_t, std::ptrdiff_t>> axes;  // stride, length
    for (int d = 0; d < array.ndim(); ++d)
      if (array.shape(d) != 1) axes.emplace_back(std::abs(array.stride(d)), array.shape(d));
    std::sort(axes.begin(), axes.end());
    std::ptrdiff_t room = PyArray_ITEMSIZE(array.get());
    for (const auto& [stride, length] : axes) {
      if (length == 0) return;
      if (stride < room) throw py::value_error(given.name() + " must not overlap itself, but has strides that do");
      room += (length - 1) * stride;
    }
  }

  // Halves need a master, which an optimizer has if it was made for some.
  static void require_parameter(const Named& param, bool masters) {
    const int dtype = param.array.dtype();
    if (dtype == NPY_HALF && !masters)
      throw py::type_error(param.name() + " must not become float16 after the optimizer was made");
    if (dtype != NPY_HALF && dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64)
      throw py::type_error(param.name() + " must have dtype float16, float32 or float64, got " +
                           dtype_name(param.array));
    require_like(param, param.array);  // refuses foreign byte order
  }

  // What is written must be apart from each other. By their order in memory, so that neighbours alone are compared
  // unless extents overlap.
  void require_apart(const Lists& names) const {
    struct Place {
      Extent extent;
      int list;
      std::size_t index;
    };
    std::vector<Place> order;
    for (int k = 0; k < kOptimArrays; ++k)
      for (std::size_t i = 0; i < arrays_[k].size(); ++i)
        if (arrays_[k][i].array && arrays_[k][i].array.size() > 0) order.push_back({extent(arrays_[k][i].array), k, i});
    std::sort(order.begin(), order.end(), [](const Place& a, const Place& b) { return a.extent.low < b.extent.low; });
    for (std::size_t a = 0; a < order.size(); ++a) {
      const Array& first = arrays_[order[a].list][order[a].index].array;
      for (std::size_t b = a + 1; b < order.size() && order[b].extent.low < order[a].extent.high; ++b)
        if (share_memory(first, arrays_[order[b].list][order[b].index].array)) {
          auto [x, y] = std::minmax(order[a], order[b], [](const Place& p, const Place& q) {
            return std::pair(p.list, p.index) < std::pair(q.list, q.index);
          });
          throw py::value_error(indexed(names.names[x.list], static_cast<std::ptrdiff_t>(x.index)) + " and " +
                                indexed(names.names[y.list], static_cast<std::ptrdiff_t>(y.index)) +
                                " must not share memory");
        }
    }
  }

  void require_apart_from_all(const Named& grad, const Lists& names) const {
    for (int k = 0; k < kOptimArrays; ++k)
      for (std::size_t i = 0; i < arrays_[k].size(); ++i)
        if (arrays_[k][i].array && share_memory(grad.array, arrays_[k][i].array))
          throw py::value_error(grad.name() + " and " + indexed(names.names[k], static_cast<std::ptrdiff_t>(i)) +
                                " must not share memory");
  }

  Walk walk(std::size_t i, const Array& grad, char* const (&data)[kOptimArrays], bool as_in_memory) const {
    Walk walk;
    walk.ndim = grad.ndim();
    for (int d = 0; d < walk.ndim; ++d) {
      walk.shape[d] = grad.shape(d);
      for (int k = 0; k < kOptimArrays; ++k)
        walk.strides[k][d] = k == kGrad ? grad.stride(d) : !data[k] ? 0 : arrays_[k][i].array.stride(d);
    }
    for (int k = 0; k < kOptimArrays; ++k) walk.data[k] = data[k];
    if (as_in_memory) walk.sort_axes();
    walk.coalesce();
    return walk;
  }
};

// Calls fn on the elements [first, last) of a piece.
void run_piece(const Piece& piece, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last, double* sums) {
  if (piece.walk) {
    std::ptrdiff_t strides[kOptimArrays];
    piece.walk->inner_strides(strides);
    piece.walk->for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      char* arrays[kOptimArrays];
      for (int k = 0; k < kOptimArrays; ++k) arrays[k] = piece.data[k] ? at[k] : nullptr;
      fn(piece.numbers, piece.grad_scale, arrays, strides, count, sums);
    });
    return;
  }
  const std::ptrdiff_t own = element_size(piece.dtype), kept = element_size(state_dtype(piece.dtype));
  char* arrays[kOptimArrays];
  std::ptrdiff_t strides[kOptimArrays];
  for (int k = 0; k < kOptimArrays; ++k) {
    strides[k] = k == kParam || k == kGrad ? own : kept;
    arrays[k] = piece.data[k] ? piece.data[k] + first * strides[k] : nullptr;
  }
  fn(piece.numbers, piece.grad_scale, arrays, strides, last - first, sums);
}

// The sums of a block of gradients, of any layout as of one whose elements lie next to each other: clipping multiplies
// by what comes of them.
void sum_gradients(const Piece& piece, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last, double* sums) {
  if (!piece.c_order) return run_piece(piece, fn, first, last, sums);
  alignas(double) char block[kOptimBlock * sizeof(double)];
  const std::ptrdiff_t size = element_size(piece.dtype);
  std::ptrdiff_t steps[kOptimArrays], strides[kOptimArrays] = {};
  piece.c_order->inner_strides(steps);
  piece.c_order->for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
    for (std::ptrdiff_t i = 0; i < count; ++i)
      std::memcpy(block + (position - first + i) * size, at[kGrad] + i * steps[kGrad], static_cast<std::size_t>(size));
  });
  char* arrays[kOptimArrays] = {};
  arrays[kGrad] = block;
  strides[kGrad] = size;
  fn(piece.numbers, 1, arrays, strides, last - first, sums);
}

// All elements of all parameters are one range, so that threads share the list evenly whatever its arrays' sizes.
void run_plain(const std::vector<Piece>& pieces, const OptimFns& fns, double ns_per_element) {
  if (pieces.empty()) return;
  parallel_for(
      pieces.back().begin + pieces.back().n, ns_per_element,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        auto piece = std::upper_bound(pieces.begin(), pieces.end(), begin,
                                      [](std::ptrdiff_t at, const Piece& p) { return at < p.begin; });
        for (--piece; piece != pieces.end() && piece->begin < end; ++piece) {
          const std::ptrdiff_t first = std::max<std::ptrdiff_t>(begin - piece->begin, 0);
          const std::ptrdiff_t last = std::min(end - piece->begin, piece->n);
          if (first < last) run_piece(*piece, by_dtype(fns, piece->dtype), first, last, nullptr);
        }
      },
      16);
}

using Sums = std::vector<std::array<double, kOptimSums>>;  // of each parameter

// By blocks, whose sums are added in their order: they depend neither on threads nor on the other parameters.
using BlockRun = void (*)(const Piece& piece, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last, double* sums);
Sums run_blocks(const std::vector<Piece>& pieces, const OptimFns& fns, double ns_per_element, bool sums,
                BlockRun run_block = run_piece) {
  std::vector<std::pair<std::size_t, std::ptrdiff_t>> blocks;  // piece, first element
  for (std::size_t i = 0; i < pieces.size(); ++i)
    for (std::ptrdiff_t first = 0; first < pieces[i].n; first += kOptimBlock) blocks.emplace_back(i, first);
  Sums of_blocks(sums ? blocks.size() : 0), totals(sums ? pieces.size() : 0);
  parallel_for(static_cast<std::ptrdiff_t>(blocks.size()), ns_per_element * kOptimBlock,
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t b = begin; b < end; ++b) {
                   const auto [i, first] = blocks[static_cast<std::size_t>(b)];
                   const Piece& piece = pieces[i];
                   run_block(piece, by_dtype(fns, piece.dtype), first, std::min(first + kOptimBlock, piece.n),
                             sums ? of_blocks[static_cast<std::size_t>(b)].data() : nullptr);
                 }
               });
  for (std::size_t b = 0; b < of_blocks.size(); ++b)
    for (int k = 0; k < kOptimSums; ++k) totals[blocks[b].first][k] += of_blocks[b][k];
  return totals;
}

// ---- what a step is asked to do ----

enum class ClipNorm : int { none, each, global };

struct Wanted {
  ClipNorm clip_norm;
  double max_norm;
  bool clip_value, skip_nonfinite, sums;
  bool gradients_first() const { return clip_norm != ClipNorm::none || skip_nonfinite; }
};

bool all_finite(const Sums& sums) {
  for (const auto& of : sums)
    if (of[kNaNs] + of[kInfinities] > 0) return false;
  return true;
}

// torch.nn.utils.clip_grad_norm_'s factor: at most 1, and a little less than would be exact.
double clip_factor(double squares, double max_norm) {
  const double factor = max_norm / (std::sqrt(squares) + 1e-6);
  return factor < 1 ? factor : (factor == factor ? 1 : factor);
}

void clip(std::vector<Piece>& pieces, const Sums& sums, const Wanted& wanted) {
  double all = 0;
  for (const auto& of : sums) all += of[kGradSquares];
  for (std::size_t i = 0; i < pieces.size(); ++i)
    pieces[i].grad_scale =
        clip_factor(wanted.clip_norm == ClipNorm::global ? all : sums[i][kGradSquares], wanted.max_norm);
}

// An optimizer's arrays and its rule.
class Optimizer {
 public:
  Optimizer(const std::string& rule, std::vector<std::string> state_names) : names_(std::move(state_names)) {
    for (int r = 0; r < static_cast<int>(OptimRule::Count); ++r)
      if (rule == kRules[r].name) rule_ = r;
    if (rule_ < 0 || static_cast<int>(names_.size()) != kRules[rule_].states)
      throw py::value_error("no rule " + rule + " with " + std::to_string(names_.size()) + " arrays of state");
  }

  // Checks params, states (a list of lists) and what else is kept before anything is changed.
  void check(const py::list& params, const py::list& states, py::handle ema, py::handle master) {
    take(lists(params, states, ema, master));
  }

  // numbers: a row of kOptimNumbers for each group; groups: the row of each parameter, or None for the only one.
  // Returns whether it was done, and the sums of each parameter if they are wanted.
  py::tuple step(const py::list& params, const py::list& grads, const py::list& states, py::handle ema,
                 py::handle master, py::handle numbers_in, py::handle groups, int clip_norm, double max_norm,
                 bool clip_value, bool skip_nonfinite, bool want_sums) {
    const Lists given = lists(params, states, ema, master);
    if (!arrays_->holds(given)) take(given);
    // Kept to the end: without the GIL another thread may give this optimizer other arrays, or change the list.
    const std::shared_ptr<const OptimArrays> arrays = arrays_;
    require_count(grads.size(), "grads", arrays->size());
    std::vector<Walk> walks;
    std::vector<Array> gradients;
    std::vector<Piece> pieces = arrays->pieces(grads.ptr(), given, walks, gradients);
    const std::vector<double> numbers = rows_of_numbers(numbers_in);
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const long row = groups.is_none() ? 0 : PyLong_AsLong(PyList_GET_ITEM(groups.ptr(), i));
      pieces[i].numbers = numbers.data() + row * kOptimNumbers;
      pieces[i].grad_scale = 1;
    }
    const Wanted wanted{static_cast<ClipNorm>(clip_norm), max_norm, clip_value, skip_nonfinite, want_sums};
    const py::object results = want_sums ? new_sums(pieces.size()) : py::none();
    Sums sums;
    bool done = true;
    {
      py::gil_scoped_release release;
      done = run(pieces, wanted, !ema.is_none(), sums);
    }
    if (want_sums) store(sums, results);
    return py::make_tuple(done, results);
  }

 private:
  int rule_ = -1;
  std::vector<std::string> names_;
  std::shared_ptr<const OptimArrays> arrays_ = std::make_shared<OptimArrays>();

  void take(const Lists& given) {
    const auto taken = std::make_shared<OptimArrays>();
    taken->take(given);
    arrays_ = taken;
  }

  Lists lists(const py::list& params, const py::list& states, py::handle ema, py::handle master) const {
    Lists given{{params.ptr()}, {"params", "grads"}};
    for (std::size_t k = 0; k < names_.size(); ++k) {
      given.lists[kState0 + k] = PyList_GET_ITEM(states.ptr(), k);
      given.names[kState0 + k] = names_[k].c_str();
    }
    given.lists[kEma] = ema.is_none() ? nullptr : ema.ptr();
    given.names[kEma] = "ema";
    given.lists[kMaster] = master.is_none() ? nullptr : master.ptr();
    given.names[kMaster] = "master";
    for (PyObject* list : given.lists)
      if (list && !PyList_Check(list)) throw py::type_error("state must be lists of arrays");
    return given;
  }

  static std::vector<double> rows_of_numbers(py::handle rows) {
    std::vector<double> numbers;
    for (Py_ssize_t r = 0; r < PyTuple_GET_SIZE(rows.ptr()); ++r) {
      PyObject* row = PyTuple_GET_ITEM(rows.ptr(), r);
      const Py_ssize_t n = PyTuple_GET_SIZE(row);
      for (Py_ssize_t i = 0; i < kOptimNumbers; ++i)
        numbers.push_back(i < n ? PyFloat_AsDouble(PyTuple_GET_ITEM(row, i)) : 0);
    }
    if (PyErr_Occurred()) throw py::error_already_set();
    return numbers;
  }

  bool run(std::vector<Piece>& pieces, const Wanted& wanted, bool ema, Sums& sums) const {
    const OptimKernels& kernel = *kernels().optim;
    const double cost = kRules[rule_].cost;
    if (wanted.gradients_first()) {
      sums = run_blocks(pieces, kernel.gradients, kGradientsNs, true, sum_gradients);
      if (wanted.skip_nonfinite && !all_finite(sums)) return false;
      if (wanted.clip_norm != ClipNorm::none) clip(pieces, sums, wanted);
    }
    if (ema || wanted.clip_value || wanted.sums) {
      Sums found = run_blocks(pieces, kernel.full[rule_], cost + (wanted.sums ? kSumsNs : 0), wanted.sums);
      if (wanted.sums) sums = std::move(found);
    } else {
      run_plain(pieces, kernel.plain[rule_], cost);
    }
    return true;
  }

  static py::object new_sums(std::size_t params) {
    return new_array({static_cast<std::ptrdiff_t>(params), kOptimSums}, NPY_FLOAT64).object();
  }
  static void store(const Sums& sums, const py::object& results) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      std::copy(sums[i].begin(), sums[i].end(), Array(results).as<double>() + i * kOptimSums);
  }
};

}  // namespace

void bind_optim(py::module_& module) {
  py::class_<Optimizer>(module, "Optimizer")
      .def(py::init<const std::string&, std::vector<std::string>>())
      .def("check", &Optimizer::check)
      .def("step", &Optimizer::step);
}

}  // namespace nnfast
