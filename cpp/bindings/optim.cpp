#include "ops/optim.hpp"

#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <optional>
#include <span>

#include "bindings/array_lists.hpp"
#include "bindings/bfloat16.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "bindings/ufuncs.hpp"
#include "ops/factored.hpp"
#include "ops/optim_rows.hpp"

namespace nnfast {
namespace {

using ParameterArrays = StridedArrays<kOptimArrays>;

int state_dtype(int dtype) { return is_16_bits(dtype) ? NPY_FLOAT32 : dtype; }

// How a state is packed, by the dtype of its array. codes: how it is in 8 bits.
Packing packing_of(const Array& array, Packing codes) {
  if (array.dtype() == NPY_UINT16) return Packing::bfloat16;
  return array.dtype() == NPY_UINT8 ? codes : Packing::none;
}

// How what is packed is rounded depends on a seed, on the count of steps, and on the parameter's place among all.
struct Rounding {
  bool any = false;
  std::uint64_t seed = 0, step = 0;
  std::vector<std::uint64_t> places;  // of parameters that are a choice from all
  // (seed, step, places or None), or None where no state is packed.
  static Rounding of(py::handle value) {
    if (value.is_none()) return {};
    const auto item = [&](Py_ssize_t i) { return py::handle(PyTuple_GET_ITEM(value.ptr(), i)); };
    Rounding found{true, Argument<std::uint64_t>::of(item(0)), Argument<std::uint64_t>::of(item(1)), {}};
    if (!item(2).is_none()) found.places = Argument<std::vector<std::uint64_t>>::of(item(2));
    return found;
  }
  std::uint64_t key(std::size_t i) const { return any ? rounding_key(seed, step, places.empty() ? i : places[i]) : 0; }
};

// Where the arrays that a step writes lie, to see quickly that a gradient is none of them.
class WrittenMemory {
 public:
  void reserve(std::size_t extents) { extents_.reserve(extents); }
  // In ascending order of `low`.
  void add(const Extent& e) {
    if (!extents_.empty() && e.low <= extents_.back().high) {
      extents_.back().high = std::max(extents_.back().high, e.high);
    } else {
      extents_.push_back(e);
    }
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
  ListName names[kOptimArrays];
};

// The parameters of an optimizer and their state. Checked once, and again when an array is another.
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

  OptimArrays() = default;
  // Checks them. `held`: whether holds() is asked later; packable: which states may be packed.
  OptimArrays(const Lists& given, bool held, PackableStates packable)
      : count_(PyList_GET_SIZE(given.lists[kParam])), packable_(packable) {
    for (int k = 0; k < kOptimArrays; ++k)
      if (given.lists[k] && k != kGrad) take_list(given, k, held);
    require_apart(given);
  }

  std::size_t size() const { return arrays_[kParam].size(); }
  const Array& param(std::size_t i) const { return arrays_[kParam][i].array; }

  // Checks what the parameters are to begin with, other arrays of their shapes and dtypes, and gives the array of each,
  // or none where it is the parameter itself.
  std::vector<Array> sources(PyObject* list, const ListName& name, const Lists& names) const {
    require_count(static_cast<std::size_t>(PyList_GET_SIZE(list)), name.name, size());
    std::vector<Array> found(size());
    for (std::size_t i = 0; i < size(); ++i) {
      const Named source = read_element(list, name, static_cast<std::ptrdiff_t>(i), param(i).dtype());
      require_like(source, param(i));
      if (same_elements(source.array, param(i))) continue;
      if (memory_.touches(source.array)) require_apart_from_all(source, names);
      found[i] = source.array;
    }
    return found;
  }
  void begin_with(const std::vector<Array>& sources) const {
    for (std::size_t i = 0; i < sources.size(); ++i)
      if (sources[i] && PyArray_CopyInto(param(i).get(), sources[i].get()) != 0) throw py::error_already_set();
  }

  // A parameter of bfloat16 is a float32 one for the kernels, its master. Before a step a master takes its parameter's
  // numbers where these were written to, and after it the parameter takes the master's, rounded.
  void refresh_masters() const {
    for_bfloat16([](const Array& param, const Array& master) { refresh_from_bfloat16(param, master); });
  }
  void round_masters() const {
    for_bfloat16([](const Array& param, const Array& master) { round_to_bfloat16(param, master); });
  }

  // The parameters of a step; `strided` owns the strides of those that are not contiguous, `held` the gradients.
  // accumulated: a list of arrays, or None for parameters without, or null; these may have None for a gradient. some:
  // whether others may have None, too, which then have no elements in this step.
  // Nothing has been written when it throws.
  std::vector<OptimParameter> parameters(PyObject* grads, PyObject* accumulated, const Lists& names,
                                         std::vector<ParameterArrays>& strided, std::vector<Array>& held,
                                         bool some) const {
    std::vector<OptimParameter> parameters(size());
    held.reserve(accumulated ? 2 * size() : size());
    int lists[kOptimArrays], count = 0;
    for (int k = 0; k < kOptimArrays; ++k)
      if (!arrays_[k].empty()) lists[count++] = k;
    std::ptrdiff_t begin = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      OptimParameter& parameter = parameters[i];
      parameter.begin = begin;
      begin += parameter.n = param(i).size();
      const bool bfloat16 = is_bfloat16(param(i));
      parameter.dtype = bfloat16 ? Dtype::f32 : param(i).floating();
      parameter.grad_scale = 1;
      const Array* of[kOptimArrays] = {};
      bool contiguous = true;
      const auto take = [&](int k, const Array& array) {
        of[k] = &array;
        parameter.data[k] = array.data();
        contiguous &= PyArray_IS_C_CONTIGUOUS(array.get()) != 0;
      };
      for (const int k : std::span(lists, static_cast<std::size_t>(count))) {
        const Held& array = arrays_[k][i];
        if (array.packing != Packing::none) {
          parameter.packings[k - kState0] = array.packing;
          parameter.data[k] = array.array.data();
        } else if (array.array) {
          if (bfloat16 && k == kParam) continue;
          take(bfloat16 && k == kMaster ? kParam : k, array.array);
        }
      }
      const auto at = static_cast<Py_ssize_t>(i);
      const bool waits = accumulated && PyList_GET_ITEM(accumulated, at) != Py_None;
      const bool given = PyList_GET_ITEM(grads, at) != Py_None || !(waits || some);
      if (!given && !waits) {
        begin -= parameter.n;
        parameter.n = 0;
        continue;
      }
      if (given) take(kGrad, held.emplace_back(in_float32(gradient_of(grads, i, names))));
      // Alone it is the gradient, but of float16, whose gradients have another dtype.
      if (waits)
        take(given || param(i).dtype() == NPY_HALF ? kAccumulated : kGrad,
             held.emplace_back(accumulated_of(accumulated, i, names)));
      if (contiguous) continue;
      if (strided.empty()) strided.reserve(2 * size());  // they are large, and seldom needed
      parameter.in_memory_order = &strided.emplace_back(strided_arrays(of, true));
      parameter.in_c_order = &strided.emplace_back(strided_arrays(of, false));
    }
    return parameters;
  }

  // A parameter as a table, whose gradient is of some rows; nothing where its rows are not to be stepped alone.
  std::optional<OptimTable> table(std::size_t i, const Array& indices, const Array& values) const {
    const Array& whole = param(i);
    OptimTable found{};
    found.rows = whole.shape(0);
    const std::ptrdiff_t bytes = found.rows == 0 ? 0 : PyArray_NBYTES(whole.get()) / found.rows;
    if (bytes < kLeastRowBytes || bytes > kMostRowBytes) return {};
    if (memory_.touches(values) || memory_.touches(indices)) return {};
    for (int k = 0; k < kOptimArrays; ++k) {
      if (arrays_[k].empty()) continue;
      const Held& held = arrays_[k][i];
      if (!PyArray_IS_C_CONTIGUOUS(held.array.get()) || held.packing != Packing::none) return {};
      found.row.data[k] = held.array.data();
    }
    found.row.dtype = whole.floating();
    found.row.n = bytes / size_of(found.row.dtype);
    found.indices = indices.as<const std::int64_t>();
    found.values.n = found.row.n;
    found.values.strides[0] = size_of(found.row.dtype);
    auto& outer = found.values.outer;
    outer.ndim = 1;
    outer.shape[0] = indices.size();
    outer.strides[0][0] = bytes;
    outer.data[0] = values.data();
    return found;
  }

  // Whether a gradient can be added to a sum as they lie: both contiguous and like the parameter.
  bool accumulates(std::size_t i, const Array& sum, const Array& grad) const {
    for (const Array* array : {&sum, &grad})
      if (array->dtype() != param(i).dtype() || !PyArray_ISNOTSWAPPED(array->get()) ||
          !PyArray_IS_C_CONTIGUOUS(array->get()) || !PyArray_SAMESHAPE(array->get(), param(i).get()))
        return false;
    return !is_16_bits(param(i).dtype()) && PyArray_ISWRITEABLE(sum.get()) && !memory_.touches(sum) &&
           !memory_.touches(grad);
  }

  // Checks gradients alone.
  void check_gradients(PyObject* grads, const Lists& names) const {
    for (std::size_t i = 0; i < size(); ++i) gradient_of(grads, i, names);
  }

 private:
  template <class Body>
  void for_bfloat16(Body body) const {
    for (std::size_t i = 0; i < arrays_[kMaster].size(); ++i)
      if (is_bfloat16(param(i))) body(param(i), arrays_[kMaster][i].array);
  }
  static Array in_float32(const Array& grad) { return is_bfloat16(grad) ? widened_bfloat16(grad) : grad; }

  struct Held {
    Array array;  // none of a parameter that needs no master
    Packing packing = Packing::none;
    char* data = nullptr;
    std::vector<npy_intp> shape_and_strides;

    Held() = default;
    Held(const Array& checked, Packing packed, bool held) : array(checked), packing(packed), data(checked.data()) {
      if (!held) return;
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
  PackableStates packable_{};
  std::vector<Held> arrays_[kOptimArrays];
  WrittenMemory memory_;

  void take_list(const Lists& given, int k, bool held) {
    const ListName& name = given.names[k];
    arrays_[k].reserve(static_cast<std::size_t>(count_));
    require_count(static_cast<std::size_t>(PyList_GET_SIZE(given.lists[k])), name.name,
                  static_cast<std::size_t>(count_));
    for (Py_ssize_t i = 0; i < count_; ++i) {
      if (k == kMaster && !is_16_bits(param(i).dtype()) && PyList_GET_ITEM(given.lists[k], i) == Py_None) {
        arrays_[k].emplace_back();
        continue;
      }
      const Named named = element(given.lists[k], name, i);
      const Packing packing = packing_at(k, i, named.array);
      if (k == kParam) {
        require_parameter(named, given.lists[kMaster] != nullptr);
      } else if (packing != Packing::none) {
        require_packed(named, param(i), packing);
      } else {
        require_like(named, param(i), state_dtype(param(i).dtype()));
      }
      require_writeable(named);
      if (!PyArray_ISCARRAY_RO(named.array.get())) require_apart_from_itself(named);
      arrays_[k].emplace_back(named.array, packing, held);
    }
  }

  Packing packing_at(int k, Py_ssize_t i, const Array& array) const {
    if (!packable_.any || k < kState0 || k >= kEma || param(i).dtype() == NPY_FLOAT64) return Packing::none;
    return packing_of(array, packable_.codes[k - kState0]);
  }

  // One number after the other: of bfloat16 in the parameter's shape, of 8 bits in blocks.
  static void require_packed(const Named& state, const Array& param, Packing packing) {
    const std::vector<std::ptrdiff_t> blocks{packed_blocks(param.size()), kPackedBlockBytes};
    if (packing == Packing::bfloat16)
      require_like(state, param, NPY_UINT16);
    else if (!has_shape(state.array, blocks))
      throw py::value_error(state.name() + " must have shape " + shape_text(blocks) + ", got " +
                            shape_text(state.array));
    if (!PyArray_IS_C_CONTIGUOUS(state.array.get())) throw py::value_error(state.name() + " must be contiguous");
  }

  // No two elements share memory: the steps of the larger strides leave room for the smaller.
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

  // float16 and bfloat16 need a master, which an optimizer has if it was made for some.
  static void require_parameter(const Named& param, bool masters) {
    const int dtype = param.array.dtype();
    const bool narrow = dtype == NPY_HALF || is_bfloat16(param.array);
    if (narrow && !masters)
      throw py::type_error(param.name() + " must not become " + dtype_name(param.array) + " after its state was made");
    if (!narrow && dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64)
      throw py::type_error(param.name() + " must have dtype float16, bfloat16, float32 or float64, got " +
                           dtype_name(param.array));
    require_like(param, param.array);  // refuses foreign byte order
  }

  // Arrays that are written must not share memory. In the order of their memory, so that only neighbours are compared
  // unless extents overlap.
  void require_apart(const Lists& names) {
    struct Entry {
      Extent extent;
      int list;
      std::size_t index;
    };
    std::vector<Entry> order;
    order.reserve(kOptimArrays * static_cast<std::size_t>(count_));
    for (int k = 0; k < kOptimArrays; ++k)
      for (std::size_t i = 0; i < arrays_[k].size(); ++i) {
        if (!arrays_[k][i].array) continue;
        const Extent e = extent(arrays_[k][i].array);
        if (e.low < e.high) order.push_back({e, k, i});
      }
    std::sort(order.begin(), order.end(), [](const Entry& a, const Entry& b) { return a.extent.low < b.extent.low; });
    memory_.reserve(order.size());
    for (std::size_t a = 0; a < order.size(); ++a) {
      memory_.add(order[a].extent);
      const Array& first = arrays_[order[a].list][order[a].index].array;
      for (std::size_t b = a + 1; b < order.size() && order[b].extent.low < order[a].extent.high; ++b)
        if (share_memory(first, arrays_[order[b].list][order[b].index].array)) {
          auto [x, y] = std::minmax(order[a], order[b], [](const Entry& p, const Entry& q) {
            return std::pair(p.list, p.index) < std::pair(q.list, q.index);
          });
          throw py::value_error(names.names[x.list].of(static_cast<std::ptrdiff_t>(x.index)) + " and " +
                                names.names[y.list].of(static_cast<std::ptrdiff_t>(y.index)) +
                                " must not share memory");
        }
    }
  }

  void require_apart_from_all(const Named& grad, const Lists& names) const {
    for (int k = 0; k < kOptimArrays; ++k)
      for (std::size_t i = 0; i < arrays_[k].size(); ++i)
        if (arrays_[k][i].array && share_memory(grad.array, arrays_[k][i].array))
          throw py::value_error(grad.name() + " and " + names.names[k].of(static_cast<std::ptrdiff_t>(i)) +
                                " must not share memory");
  }

  // A gradient, checked.
  Array gradient_of(PyObject* grads, std::size_t i, const Lists& names) const {
    const Named grad = read_element(grads, names.names[kGrad], static_cast<std::ptrdiff_t>(i), param(i).dtype());
    require_like(grad, param(i));
    if (memory_.touches(grad.array)) require_apart_from_all(grad, names);
    return grad.array;
  }

  // What was accumulated for a parameter, checked.
  Array accumulated_of(PyObject* accumulated, std::size_t i, const Lists& names) const {
    const Named sum = element(accumulated, names.names[kAccumulated], static_cast<std::ptrdiff_t>(i));
    require_like(sum, param(i), state_dtype(param(i).dtype()));
    if (memory_.touches(sum.array)) require_apart_from_all(sum, names);
    return sum.array;
  }

  // Of arrays of one shape, or null.
  static ParameterArrays strided_arrays(const Array* const (&of)[kOptimArrays], bool in_memory_order) {
    ParameterArrays walk;
    walk.ndim = of[kParam]->ndim();
    for (int d = 0; d < walk.ndim; ++d) {
      walk.shape[d] = of[kParam]->shape(d);
      for (int k = 0; k < kOptimArrays; ++k) walk.strides[k][d] = of[k] ? of[k]->stride(d) : 0;
    }
    for (int k = 0; k < kOptimArrays; ++k) walk.data[k] = of[k] ? of[k]->data() : nullptr;
    if (in_memory_order) walk.sort_axes();
    walk.coalesce();
    return walk;
  }
};

// ---- hyperparameters ----

std::vector<std::string> hyperparameter_names(int rule) {
  std::vector<std::string> names(std::begin(kSharedHyperparameterNames), std::end(kSharedHyperparameterNames));
  for (const char* name : kOptimRules[rule].hyperparameters)
    if (name) names.push_back(name);
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

int rule_named(const std::string& name) {
  if (const std::optional<OptimRule> rule = optim_rule(name)) return static_cast<int>(*rule);
  throw py::value_error("rule must be the name of a rule of NNFAST_OPTIM_RULES, got " + name);
}

// Whether a dict has the very objects under the keys, or, without keys, a list has them in its order, as far as it
// goes; False for other containers. objects, keys: lists or tuples.
bool holds_same(py::handle container, py::handle objects, py::handle keys) {
  PyObject* const* object = PySequence_Fast_ITEMS(objects.ptr());
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(objects.ptr());
  if (!keys.is_none()) {
    if (!PyDict_CheckExact(container.ptr()) || PySequence_Fast_GET_SIZE(keys.ptr()) != count) return false;
    PyObject* const* key = PySequence_Fast_ITEMS(keys.ptr());
    for (Py_ssize_t i = 0; i < count; ++i) {
      const PyObject* value = PyDict_GetItemWithError(container.ptr(), key[i]);
      if (!value && PyErr_Occurred()) throw py::error_already_set();
      if (value != object[i]) return false;
    }
    return true;
  }
  if (!PyList_CheckExact(container.ptr())) return false;
  const Py_ssize_t there = std::min(count, PyList_GET_SIZE(container.ptr()));
  return std::equal(object, object + there, PySequence_Fast_ITEMS(container.ptr()));
}

// A key that dicts find by its address.
py::str interned(const char* name) {
  PyObject* key = PyUnicode_InternFromString(name);
  if (!key) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(key);
}

// Attributes of nnfast.optim.Optimizer that a plain step reads.
struct Attributes {
  py::str params = interned("params"), state = interned("state"), master = interned("_master"),
          names = interned("_names"), given = interned("_given"), special = interned("_special"), ema = interned("ema"),
          skip_nonfinite = interned("skip_nonfinite"), carried = interned("_carried"), seen = interned("_seen"),
          checked = interned("_checked"), lr = interned("lr"), step_count = interned("step_count"),
          clip_kind = interned("_clip_kind"), clip_limit = interned("_clip_limit"),
          accumulated = interned("_accumulated"), maximize = interned("maximize"), clip_value = interned("_clip_value"),
          ema_decay = interned("ema_decay"), convention = interned("convention");
  // Settings.
  py::str weight_decay = interned("weight_decay"), decoupled = interned("decoupled_weight_decay"),
          betas = interned("betas"), eps = interned("eps"), eps_root = interned("eps_root"),
          bias_correction = interned("bias_correction"), momentum = interned("momentum"),
          dampening = interned("dampening"), nesterov = interned("nesterov");
  // Its method, and attributes of what was accumulated and of Rows.
  py::str done = interned("_done"), pending = interned("pending"), clear = interned("clear"),
          indices = interned("indices"), values = interned("values");
  py::float_ no_product{1.0};  // what rules other than NAdam are handed
};

bool are_arrays(PyObject* list) {
  PyObject* const* items = PySequence_Fast_ITEMS(list);
  return std::all_of(items, items + PyList_GET_SIZE(list), [](PyObject* item) { return PyArray_CheckExact(item); });
}

py::object attribute(py::handle of, const py::str& name) {
  PyObject* value = PyObject_GetAttr(of.ptr(), name.ptr());
  if (!value) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
}

// Indices as contiguous int64, or nothing where one is not in [0, n).
Array indices_below(const Array& given, std::ptrdiff_t n) {
  if (!PyTypeNum_ISINTEGER(given.dtype())) return {};
  const Array indices(py::reinterpret_steal<py::object>(
      PyArray_FromArray(given.get(), PyArray_DescrFromType(NPY_INT64),
                        NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST)));
  if (!indices) throw py::error_already_set();
  const auto* index = indices.as<const std::int64_t>();
  const bool inside = std::all_of(index, index + indices.size(), [n](std::int64_t i) { return i >= 0 && i < n; });
  return inside ? indices : Array();
}

// A gradient by rows, which the arrays own.
struct RowsGradient {
  Array indices, values;
};

// Those of a table, or nothing where Python has to say why they are none.
std::optional<RowsGradient> rows_of_table(const RowsGradient& given, const Array& table) {
  const auto& [indices, values] = given;
  const int axes = indices.ndim();
  if (table.ndim() == 0 || values.dtype() != table.dtype() || !PyArray_ISNOTSWAPPED(values.get()) ||
      !PyArray_IS_C_CONTIGUOUS(values.get()) || values.ndim() != axes + table.ndim() - 1)
    return {};
  if (!PyArray_CompareLists(PyArray_DIMS(values.get()), PyArray_DIMS(indices.get()), axes) ||
      !PyArray_CompareLists(PyArray_DIMS(values.get()) + axes, PyArray_DIMS(table.get()) + 1, table.ndim() - 1))
    return {};
  Array found = indices_below(indices, table.shape(0));
  if (!found) return {};
  return RowsGradient{std::move(found), values};
}

// An optimizer's arrays and its rule.
class Optimizer {
 public:
  Optimizer(const std::string& rule, std::vector<std::string> state_names, const std::vector<std::string>& given,
            py::tuple setting_names, bool packed)
      : rule_(rule_named(rule)),
        packable_(packed ? packable_states(static_cast<OptimRule>(rule_)) : PackableStates{}),
        state_names_(std::move(state_names)),
        hyperparameters_(hyperparameter_names(rule_)),
        setting_names_(std::move(setting_names)) {
    for (const std::string& name : state_names_) state_keys_.push_back(interned(name.c_str()));
    if (static_cast<int>(state_names_.size()) != kOptimRules[rule_].states)
      throw py::value_error("state_names must be " + std::to_string(kOptimRules[rule_].states) + " names for rule " +
                            rule + ", got " + std::to_string(state_names_.size()));
    if (given != hyperparameters_)
      throw py::value_error("hyperparameters of rule " + rule + " must be (" + joined(hyperparameters_) + "), got (" +
                            joined(given) + ")");
  }

  // Checks params, state (lists by name), ema and master, and the gradients unless they are None, before anything is
  // changed. keys: what errors call the arrays by, a list of as many or None.
  void check(const py::list& params, py::handle state, py::handle ema, py::handle master, py::handle keys,
             py::handle grads) {
    const py::list states = states_of(state);
    const Lists given = lists(params, states, ema, master, keys);
    if (!arrays_->holds(given)) take(given);
    if (!PyList_Check(grads.ptr())) return;
    require_count(static_cast<std::size_t>(PyList_GET_SIZE(grads.ptr())), given.names[kGrad].name, params.size());
    arrays_->check_gradients(grads.ptr(), given);
  }

  // rounding: of the states that are packed. hyperparameters: a row for each group; groups: the row of each parameter,
  // or None for the only one. Returns whether the step was made, and the sums of each parameter or None. accumulated:
  // what is added to the gradients, a list of arrays or None, in which case the gradient is not; or None for nothing.
  py::tuple step(const py::list& params, const py::list& grads, py::handle state, py::handle ema, py::handle master,
                 py::handle hyperparameters, py::handle groups, int clip_norm, double max_norm, bool skip_nonfinite,
                 bool want_sums, py::handle keys, py::handle accumulated, double grad_scale,
                 std::optional<py::handle> rounding) {
    const OptimOptions options{
        static_cast<ClipNorm>(clip_norm), max_norm, grad_scale, skip_nonfinite, want_sums, !ema.is_none()};
    const py::object results = want_sums ? new_sums(params.size()) : py::none();
    const bool done = run(params, grads, accumulated, state, ema, master, rows_of(hyperparameters), groups, keys,
                          options, Rounding::of(rounding.value_or(py::none())), results);
    return py::make_tuple(done, results);
  }

  // The step that nearly all are, of whose own cost Python would be the most: of an nnfast.optim.Optimizer, whose
  // attributes are given, that is not special and without an average, by a list of arrays and by settings that are the
  // very objects that were checked; grads may be None where gradients wait. False, with nothing done, for all others.
  // row_of: its method _row.
  bool plain_step(const py::dict& self, py::handle grads, py::handle row_of, py::handle grad_scale) {
    const bool given = PyList_CheckExact(grads.ptr()) && are_arrays(grads.ptr());
    if (!given && !grads.is_none()) return false;
    std::optional<PlainStep> plain = plain_step_of(self, row_of, grad_scale);
    if (!plain) return false;
    const bool waiting = !plain->pending.is_none();
    if (!given && !waiting) return false;
    if (waiting && !(PyList_CheckExact(plain->pending.ptr()) && are_arrays(plain->pending.ptr()))) return false;
    run(plain->params, given ? py::reinterpret_borrow<py::list>(grads) : nones(plain->params.size()), plain->pending,
        plain->state, py::none(), plain->master, std::move(plain->row), py::none(), py::none(), plain->options, {},
        py::none());
    if (plain->product)  // the rule goes on with it
      check_done(PyObject_CallMethodOneArg(PyMethod_GET_SELF(row_of.ptr()), of_.done.ptr(), plain->t.ptr()));
    else
      count(self, *plain);
    if (waiting) check_done(PyObject_CallMethodNoArgs(plain->accumulated.ptr(), of_.clear.ptr()));
    return true;
  }

  // As plain_step, by a list that has instances of rows_type, whose rows are updated where they lie; False, too, where
  // the step needs all gradients first, or arrays are not contiguous.
  bool rows_step(const py::dict& self, py::handle grads, py::handle row_of, py::handle grad_scale,
                 py::handle rows_type) {
    if (!PyList_CheckExact(grads.ptr())) return false;
    const auto list = py::reinterpret_borrow<py::list>(grads);
    const auto is_rows = [&](std::size_t i) {
      return reinterpret_cast<PyObject*>(Py_TYPE(PyList_GET_ITEM(list.ptr(), i))) == rows_type.ptr();
    };
    for (std::size_t i = 0; i < list.size(); ++i)
      if (!is_rows(i) && !PyArray_CheckExact(PyList_GET_ITEM(list.ptr(), i))) return false;
    std::optional<PlainStep> plain = plain_step_of(self, row_of, grad_scale);
    if (!plain || plain->product || !plain->accumulated.is_none() || !plain->master.is_none()) return false;
    if (plain->options.clip_norm != ClipNorm::none || list.size() != plain->params.size()) return false;
    const py::list states = states_of(plain->state);
    const Lists names = lists(plain->params, states, py::none(), py::none(), py::none());
    if (!arrays_->holds(names)) take(names);
    const std::shared_ptr<const OptimArrays> arrays = arrays_;

    std::vector<RowsGradient> gradients;
    std::vector<OptimTable> tables;
    py::list dense(list.size());  // None for Rows
    for (std::size_t i = 0; i < list.size(); ++i) {
      PyObject* const item = PyList_GET_ITEM(list.ptr(), i);
      PyList_SET_ITEM(dense.ptr(), i, Py_NewRef(is_rows(i) ? Py_None : item));
      if (!is_rows(i)) continue;
      const RowsGradient given{Array(attribute(item, of_.indices)), Array(attribute(item, of_.values))};
      if (!PyArray_CheckExact(given.indices.object().ptr()) || !PyArray_CheckExact(given.values.object().ptr()))
        return false;
      std::optional<RowsGradient> found = rows_of_table(given, arrays->param(i));
      if (!found) return false;
      std::optional<OptimTable> table = arrays->table(i, found->indices, found->values);
      if (!table) return false;
      gradients.push_back(std::move(*found));
      tables.push_back(*table);
    }
    Step step(*arrays, names, dense, py::none(), std::move(plain->row), py::none(), hyperparameters_.size(), {}, true);
    std::ptrdiff_t elements = 0;
    for (OptimTable& table : tables) {
      table.row.hyperparameters = step.rows.data();
      table.row.grad_scale = plain->options.grad_scale;
      elements += table.values.rows() * table.row.n;
    }
    unsigned raised = kRaisedNothing;
    {
      const ReleasedGil released(elements);
      for (const OptimTable& table : tables) raised |= optim_step_rows(static_cast<OptimRule>(rule_), table);
    }
    if (tables.size() < list.size()) step.run(rule_, plain->options);
    count(self, *plain);
    report("embedding_backward", raised);
    return true;
  }

  // Adds gradients to what the next step takes, `pending`, a list of arrays or None, which become those of `sums` where
  // nothing was pending. False, with nothing done, unless all are lists of contiguous arrays that are as the
  // parameters.
  bool accumulate(const py::list& params, py::handle grads_in, py::handle state, py::handle ema, py::handle master,
                  py::handle keys, const py::list& sums, const py::list& pending) {
    if (!PyList_CheckExact(grads_in.ptr()) || !are_arrays(grads_in.ptr()) || !are_arrays(sums.ptr())) return false;
    const auto grads = py::reinterpret_borrow<py::list>(grads_in);
    const std::size_t count = params.size();
    if (grads.size() != count || sums.size() != count || pending.size() != count) return false;
    const py::list states = states_of(state);
    const Lists given = lists(params, states, ema, master, keys);
    if (!arrays_->holds(given)) take(given);
    std::vector<OptimParameter> begun, added;
    std::vector<Array> held;
    std::vector<Extent> written;
    held.reserve(2 * count);
    for (std::size_t i = 0; i < count; ++i) {
      const Array& sum = held.emplace_back(py::reinterpret_borrow<py::object>(PyList_GET_ITEM(sums.ptr(), i)));
      const Array& grad = held.emplace_back(py::reinterpret_borrow<py::object>(PyList_GET_ITEM(grads.ptr(), i)));
      if (!arrays_->accumulates(i, sum, grad)) return false;
      std::vector<OptimParameter>& to = PyList_GET_ITEM(pending.ptr(), i) == Py_None ? begun : added;
      OptimParameter parameter{};
      parameter.data[kParam] = sum.data();
      parameter.data[kGrad] = grad.data();
      parameter.begin = to.empty() ? 0 : to.back().begin + to.back().n;
      parameter.n = grad.size();
      parameter.dtype = grad.floating();
      parameter.grad_scale = 1;
      to.push_back(parameter);
      written.push_back(extent(sum));
    }
    std::sort(written.begin(), written.end(), [](const Extent& a, const Extent& b) { return a.low < b.low; });
    for (std::size_t i = 1; i < count; ++i)
      if (written[i].low < written[i - 1].high) return false;
    WrittenMemory memory;
    for (const Extent& e : written) memory.add(e);
    for (std::size_t i = 0; i < count; ++i)
      if (memory.touches(held[2 * i + 1])) return false;
    {
      std::ptrdiff_t elements = 0;
      for (const auto* list : {&begun, &added}) elements += list->empty() ? 0 : list->back().begin + list->back().n;
      const ReleasedGil released(elements);
      optim_accumulate(begun, added);
    }
    // The lists may have been changed while the GIL was released; the arrays are held.
    for (std::size_t i = 0; i < count; ++i)
      if (PyList_SetItem(pending.ptr(), static_cast<Py_ssize_t>(i), Py_NewRef(held[2 * i].object().ptr())) != 0)
        throw py::error_already_set();
    return true;
  }

  // The hyperparameters of a step that all rules have.
  py::tuple shared_row(const py::dict& self, double lr, const py::dict& settings) {
    return tuple_of(shared_row_of(self, lr, settings));
  }

  // All of a step of SGD, Adam or AMSGrad.
  py::tuple row(const py::dict& self, double t, double lr, const py::dict& settings) {
    if (!has_row()) throw py::value_error("rule must be sgd, sgd_momentum, adam or amsgrad");
    return tuple_of(row_of(self, t, lr, settings));
  }

  // A step of arrays that are not held, as a function takes them. labels: what the arrays of each state are called in
  // the dict that is the state; sources: what `params` begin with, or None; alone: whether it is of one array, without
  // a key.
  void update(const py::list& params, const py::list& grads, const py::dict& state, const py::tuple& labels,
              py::handle master, py::handle hyperparameters, int clip_norm, double max_norm, py::handle sources,
              py::handle keys, bool alone) {
    const py::list states = labelled(state, labels);
    Lists given = lists(params, states, py::none(), master, keys);
    for (ListName& name : given.names) name.alone = alone;
    for (int k = kState0; k < kOptimArrays; ++k) given.names[k].in_state = true;
    const ListName w{"w", given.names[kParam].keys, alone};
    given.names[kParam].name = sources.is_none() ? "w" : "out";
    given.names[kGrad].name = "dw";
    const OptimArrays arrays(given, false, {});
    const std::vector<Array> begins =
        sources.is_none() ? std::vector<Array>() : arrays.sources(sources.ptr(), w, given);
    Step step(arrays, given, grads, py::none(), rows_of(hyperparameters), py::none(), hyperparameters_.size(), {});
    arrays.begin_with(begins);
    arrays.refresh_masters();
    step.run(rule_, {static_cast<ClipNorm>(clip_norm), max_norm, 1, false, false, false});
    arrays.round_masters();
  }

 private:
  int rule_;
  PackableStates packable_;
  std::vector<std::string> state_names_, hyperparameters_;
  std::vector<py::str> state_keys_;
  py::tuple setting_names_;
  Attributes of_;
  std::shared_ptr<const OptimArrays> arrays_ = std::make_shared<OptimArrays>();

  // What a plain step is made of.
  struct PlainStep {
    py::list params;
    py::object state, master, accumulated, pending, t;
    py::object product;  // what the rule carries from step to step, if it does
    std::vector<double> row;
    OptimOptions options;
  };

  // Of an nnfast.optim.Optimizer with these attributes, unless it is special or has an average.
  std::optional<PlainStep> plain_step_of(const py::dict& self, py::handle python_row, py::handle grad_scale) const {
    const auto get = [&](const py::str& name) { return item_or_none(self, name); };
    const py::handle params = get(of_.params), names = get(of_.names), given = get(of_.given), lr = get(of_.lr);
    if (!names.is_none() || !PyList_CheckExact(params.ptr()) || get(of_.special).ptr() != Py_False) return {};
    if (!PyFloat_CheckExact(grad_scale.ptr())) return {};
    const double scale = PyFloat_AS_DOUBLE(grad_scale.ptr());
    if (!(scale > 0 && std::isfinite(scale))) return {};
    const py::handle carried = get(of_.carried);
    const bool carries = PyList_CheckExact(carried.ptr()) && PyList_GET_SIZE(carried.ptr()) == 1;
    if (!get(of_.ema).is_none() || !(carried.is_none() || (carries && PyMethod_Check(python_row.ptr())))) return {};
    if (get(of_.skip_nonfinite).ptr() != Py_False) return {};
    if (PyTuple_CheckExact(given.ptr()) &&
        !holds_same(PyTuple_GET_ITEM(given.ptr(), 0), PyTuple_GET_ITEM(given.ptr(), 1), names))
      return {};
    if (!holds_same(self, PyList_GET_ITEM(get(of_.seen).ptr(), 0), setting_names_)) return {};
    if (!PyFloat_CheckExact(lr.ptr()) || !(PyFloat_AS_DOUBLE(lr.ptr()) >= 0)) return {};
    const auto clip = static_cast<ClipNorm>(Argument<int>::of(get(of_.clip_kind)));
    if (clip == ClipNorm::adaptive) return {};

    PlainStep step;
    step.options = {clip, Argument<double>::of(get(of_.clip_limit)), scale, false, false, false};
    step.params = py::reinterpret_borrow<py::list>(params);
    step.state = py::reinterpret_borrow<py::object>(get(of_.state));
    step.master = py::reinterpret_borrow<py::object>(get(of_.master));
    step.accumulated = py::reinterpret_borrow<py::object>(get(of_.accumulated));
    step.pending = step.accumulated.is_none() ? py::none() : attribute(step.accumulated, of_.pending);
    step.t = py::int_(Argument<std::ptrdiff_t>::of(get(of_.step_count)) + 1);
    // Owned: the method may put others in their place.
    const auto checked = py::reinterpret_borrow<py::object>(PyList_GET_ITEM(get(of_.checked).ptr(), 0)),
               rate = py::reinterpret_borrow<py::object>(lr);
    step.product = carries ? py::reinterpret_borrow<py::object>(PyList_GET_ITEM(carried.ptr(), 0)) : py::object();
    if (has_row()) {
      step.row = row_of(self, PyLong_AsDouble(step.t.ptr()), PyFloat_AS_DOUBLE(lr.ptr()), checked);
      return step;
    }
    PyObject* const arguments[] = {step.t.ptr(), rate.ptr(), checked.ptr(),
                                   carries ? step.product.ptr() : of_.no_product.ptr()};
    const auto row = py::reinterpret_steal<py::object>(PyObject_Vectorcall(python_row.ptr(), arguments, 4, nullptr));
    if (!row) throw py::error_already_set();
    step.row = row_of_one(row);
    return step;
  }

  // Whether the rule's row is computed here: Python takes 0.3 to 0.65 microseconds for it, a third of a small step.
  bool has_row() const {
    using enum OptimRule;
    const auto rule = static_cast<OptimRule>(rule_);
    return rule == Sgd || rule == SgdMomentum || rule == Adam || rule == AmsGrad;
  }

  static void append(std::vector<double>& row, std::initializer_list<double> more) { row.insert(row.end(), more); }
  static py::tuple tuple_of(const std::vector<double>& numbers) {
    py::tuple made(numbers.size());
    for (std::size_t i = 0; i < numbers.size(); ++i)
      PyTuple_SET_ITEM(made.ptr(), static_cast<Py_ssize_t>(i), py::float_(numbers[i]).release().ptr());
    return made;
  }

  // The first hyperparameters of a step of checked settings, as kernels/optim.hpp has them. self: attributes of the
  // nnfast.optim.Optimizer.
  std::vector<double> shared_row_of(const py::dict& self, double lr, py::handle settings) const {
    const auto attribute = [&](const py::str& name) { return item_or_none(self, name); };
    const py::handle ema_decay = attribute(of_.ema_decay);
    double decay = Argument<double>::of(item_or_none(settings, of_.weight_decay)), shrink = 1;
    if (Argument<bool>::of(item_or_none(settings, of_.decoupled))) {
      shrink = 1 - lr * decay;
      decay = 0;
    }
    std::vector<double> row;
    row.reserve(kMaxHyperparameters);
    append(row,
           {Argument<bool>::of(attribute(of_.maximize)) ? -1.0 : 1.0, Argument<double>::of(attribute(of_.clip_value)),
            decay, shrink, ema_decay.is_none() ? 0 : Argument<double>::of(ema_decay)});
    return row;
  }

  // All of a rule that has its row here, at step t.
  std::vector<double> row_of(const py::dict& self, double t, double lr, py::handle settings) const {
    const auto number = [&](const py::str& name) { return Argument<double>::of(item_or_none(settings, name)); };
    const auto is_on = [&](const py::str& name) { return Argument<bool>::of(item_or_none(settings, name)); };
    std::vector<double> row = shared_row_of(self, lr, settings);
    const py::handle convention = item_or_none(self, of_.convention);
    if (!PyUnicode_Check(convention.ptr())) throw py::type_error("convention must be a str");
    const auto is_of = [&](const char* name) { return PyUnicode_CompareWithASCIIString(convention.ptr(), name) == 0; };
    switch (static_cast<OptimRule>(rule_)) {
      case OptimRule::Sgd:
        append(row, {lr});
        break;
      case OptimRule::SgdMomentum: {
        const double momentum = number(of_.momentum), nesterov = is_on(of_.nesterov) ? 1 : 0;
        // Without momentum v is the gradient, whatever the dampening.
        const double gain = momentum != 0 && t > 1 ? 1 - number(of_.dampening) : 1;
        if (is_of("keras") || is_of("cs231n"))
          append(row, {1, momentum, lr * gain, lr, nesterov});
        else
          append(row, {lr, momentum, gain, 1, nesterov});
        break;
      }
      default:
        append_adam(row, t, lr, settings, is_of("keras"), is_of("optax"));
    }
    return row;
  }

  // Those of Adam and AMSGrad by themselves.
  void append_adam(std::vector<double>& row, double t, double lr, py::handle settings, bool keras, bool optax) const {
    const py::handle betas = item_or_none(settings, of_.betas);
    if (!PyTuple_CheckExact(betas.ptr()) || PyTuple_GET_SIZE(betas.ptr()) != 2)
      throw py::type_error("betas must be two numbers");
    const double beta1 = Argument<double>::of(PyTuple_GET_ITEM(betas.ptr(), 0)),
                 beta2 = Argument<double>::of(PyTuple_GET_ITEM(betas.ptr(), 1));
    double left1 = 1, left2 = 1;
    if (Argument<bool>::of(item_or_none(settings, of_.bias_correction))) {
      left1 -= std::pow(beta1, t);
      left2 -= std::pow(beta2, t);
    }
    const double root = Argument<double>::of(item_or_none(settings, of_.eps_root));
    double correction = std::pow(left2, -0.5), eps_root = root * left2, largest = 1;
    if (keras) {
      lr *= std::sqrt(left2);
      correction = 1;
      eps_root = root;
    }
    const bool amsgrad = static_cast<OptimRule>(rule_) == OptimRule::AmsGrad;
    if (amsgrad && optax) {  // the largest is of what is corrected already
      correction = 1;
      eps_root = root;
      largest = 1 / left2;
    }
    append(row, {lr / left1, Argument<double>::of(item_or_none(settings, of_.eps)), eps_root, correction, beta1,
                 1 - beta1, beta2, 1 - beta2});
    if (amsgrad) append(row, {largest});
  }

  // The value of a key, borrowed, or None where there is none.
  static py::handle item_or_none(py::handle dict, const py::str& key) {
    PyObject* value = PyDict_GetItemWithError(dict.ptr(), key.ptr());
    if (!value && PyErr_Occurred()) throw py::error_already_set();
    return value ? value : Py_None;
  }

  void count(const py::dict& self, const PlainStep& step) const {
    if (PyDict_SetItem(self.ptr(), of_.step_count.ptr(), step.t.ptr()) != 0) throw py::error_already_set();
  }

  // Of a method that was called for what it does.
  static void check_done(PyObject* result) {
    if (!result) throw py::error_already_set();
    Py_DECREF(result);
  }

  static py::list nones(std::size_t count) {
    py::list list(count);
    for (std::size_t i = 0; i < count; ++i) PyList_SET_ITEM(list.ptr(), i, Py_NewRef(Py_None));
    return list;
  }

  // What one step works on, all of it checked before anything is written.
  struct Step {
    Step(const OptimArrays& arrays, const Lists& names, const py::list& grads, py::handle accumulated,
         std::vector<double> hyperparameter_rows, py::handle groups, std::size_t row_length, const Rounding& rounding,
         bool some = false)
        : rows(std::move(hyperparameter_rows)) {
      require_count(grads.size(), names.names[kGrad].name, arrays.size());
      PyObject* const sums_of_grads = PyList_Check(accumulated.ptr()) ? accumulated.ptr() : nullptr;
      if (sums_of_grads)
        require_count(static_cast<std::size_t>(PyList_GET_SIZE(sums_of_grads)), names.names[kAccumulated].name,
                      arrays.size());
      parameters = arrays.parameters(grads.ptr(), sums_of_grads, names, strided, gradients, some);
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        const long row = groups.is_none() ? 0 : PyLong_AsLong(PyList_GET_ITEM(groups.ptr(), i));
        parameters[i].hyperparameters = rows.data() + static_cast<std::size_t>(row) * row_length;
        parameters[i].rounding_key = rounding.key(i);
      }
    }
    bool run(int rule, const OptimOptions& options) {
      const ReleasedGil released(parameters.empty() ? 0 : parameters.back().begin + parameters.back().n);
      return optim_step(static_cast<OptimRule>(rule), parameters, options, sums);
    }

    std::vector<double> rows;
    std::vector<ParameterArrays> strided;
    std::vector<Array> gradients;
    std::vector<OptimParameter> parameters;
    OptimSumsList sums;
  };

  // Whether the step was made; `sums` takes those of each parameter, unless it is None.
  bool run(const py::list& params, const py::list& grads, py::handle accumulated, py::handle state, py::handle ema,
           py::handle master, std::vector<double> rows, py::handle groups, py::handle keys, const OptimOptions& options,
           const Rounding& rounding, const py::object& sums) {
    const py::list states = states_of(state);
    const Lists given = lists(params, states, ema, master, keys);
    if (!arrays_->holds(given)) take(given);
    // Owned to the end: without the GIL another thread may give this optimizer other arrays, or change the list.
    const std::shared_ptr<const OptimArrays> arrays = arrays_;
    Step step(*arrays, given, grads, accumulated, std::move(rows), groups, hyperparameters_.size(), rounding);
    arrays->refresh_masters();
    const bool done = step.run(rule_, options);
    if (done) arrays->round_masters();
    if (!sums.is_none()) store(step.sums, sums);
    return done;
  }

  // The value of a key of the caller's dict.
  static PyObject* value_of(py::handle state, PyObject* key) {
    if (PyDict_CheckExact(state.ptr()))
      if (PyObject* found = PyDict_GetItemWithError(state.ptr(), key)) return Py_NewRef(found);
    PyObject* value = PyObject_GetItem(state.ptr(), key);
    if (value) return value;
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) throw py::error_already_set();
    PyErr_Clear();
    throw py::value_error("state must have " + std::string(py::repr(key)));
  }

  py::list states_of(py::handle state) const {
    py::list states(state_keys_.size());
    for (std::size_t k = 0; k < state_keys_.size(); ++k)
      PyList_SET_ITEM(states.ptr(), k, value_of(state, state_keys_[k].ptr()));
    return states;
  }

  // The values of a dict by their labels, a list for each tuple of them.
  static py::list labelled(const py::dict& state, const py::tuple& labels) {
    py::list lists(labels.size());
    for (std::size_t k = 0; k < labels.size(); ++k) {
      PyObject* names = PyTuple_GET_ITEM(labels.ptr(), k);
      const Py_ssize_t count = PyTuple_GET_SIZE(names);
      py::list values(static_cast<std::size_t>(count));
      for (Py_ssize_t i = 0; i < count; ++i)
        PyList_SET_ITEM(values.ptr(), i, value_of(state, PyTuple_GET_ITEM(names, i)));
      lists[k] = values;
    }
    return lists;
  }

  void take(const Lists& given) { arrays_ = std::make_shared<OptimArrays>(given, true, packable_); }

  Lists lists(const py::list& params, const py::list& states, py::handle ema, py::handle master,
              py::handle keys) const {
    PyObject* key_list = keys_or_null(keys, params.size());
    Lists given{};
    const auto take = [&](int k, PyObject* list, const char* name) {
      given.lists[k] = list;
      given.names[k] = {name, key_list};
    };
    take(kParam, params.ptr(), "params");
    take(kGrad, nullptr, "grads");
    for (std::size_t k = 0; k < state_names_.size(); ++k)
      take(kState0 + static_cast<int>(k), PyList_GET_ITEM(states.ptr(), k), state_names_[k].c_str());
    take(kEma, ema.is_none() ? nullptr : ema.ptr(), "ema");
    take(kMaster, master.is_none() ? nullptr : master.ptr(), "master");
    given.names[kAccumulated] = {"accumulated", key_list};
    for (PyObject* list : given.lists)
      if (list && !PyList_Check(list)) throw py::type_error("state must be lists of arrays");
    return given;
  }

  std::vector<double> rows_of(py::handle rows) const {
    std::vector<double> values;
    values.reserve(static_cast<std::size_t>(PyTuple_GET_SIZE(rows.ptr())) * hyperparameters_.size());
    for (Py_ssize_t r = 0; r < PyTuple_GET_SIZE(rows.ptr()); ++r)
      append_row(values, PyTuple_GET_ITEM(rows.ptr(), r), r);
    return values;
  }
  std::vector<double> row_of_one(const py::object& row) const {
    std::vector<double> values;
    values.reserve(hyperparameters_.size());
    append_row(values, row.ptr(), 0);
    return values;
  }
  void append_row(std::vector<double>& values, PyObject* row, Py_ssize_t r) const {
    const auto n = static_cast<std::size_t>(PyTuple_GET_SIZE(row));
    if (n != hyperparameters_.size())
      throw py::value_error("hyperparameters[" + std::to_string(r) + "] must be (" + joined(hyperparameters_) +
                            "), got " + std::to_string(n) + " numbers");
    for (std::size_t i = 0; i < n; ++i)
      values.push_back(PyFloat_AsDouble(PyTuple_GET_ITEM(row, static_cast<Py_ssize_t>(i))));
    if (PyErr_Occurred()) throw py::error_already_set();
  }

  static py::object new_sums(std::size_t params) {
    return new_array({static_cast<std::ptrdiff_t>(params), kOptimSums}, NPY_FLOAT64).object();
  }
  static void store(const OptimSumsList& sums, const py::object& results) {
    for (std::size_t i = 0; i < sums.size(); ++i)
      std::copy(sums[i].begin(), sums[i].end(), Array(results).as<double>() + i * kOptimSums);
  }
};

// Divides matrices g (..., m, n) by the roots of their factored second moments, row_var (..., m, 1) and col_var
// (..., 1, n), which take the squares of g in the share given; returns the norm of the quotients. Of one dtype, float32
// or float64, and contiguous; g not empty.
double factored_by(py::handle g_in, py::handle row_in, py::handle column_in, double share, double eps) {
  const Array g = any_array(g_in, "g"), row = any_array(row_in, "row_var"), column = any_array(column_in, "col_var");
  if ((g.dtype() != NPY_FLOAT32 && g.dtype() != NPY_FLOAT64) || g.ndim() < 2 || g.size() == 0)
    throw py::value_error("g must be an array of float32 or float64 with two axes or more, and not empty");
  for (const Array* array : {&g, &row, &column})
    if (array->dtype() != g.dtype() || !PyArray_CHKFLAGS(array->get(), NPY_ARRAY_CARRAY) ||
        !PyArray_ISNOTSWAPPED(array->get()))
      throw py::value_error("g, row_var and col_var must be contiguous and writeable, and of one dtype");
  const std::ptrdiff_t rows = g.shape(g.ndim() - 2), columns = g.shape(g.ndim() - 1);
  if (row.size() * columns != g.size() || column.size() * rows != g.size())
    throw py::value_error("row_var and col_var must have a number for each row and column of g");
  const ReleasedGil released(g.size());
  return factored({g.floating(), g.data(), row.data(), column.data(), g.size() / (rows * columns), rows, columns},
                  share, eps);
}

}  // namespace

void bind_optim(py::module_& module) {
  py::class_<Optimizer> optimizer(module, "Optimizer");
  optimizer.def(
      py::init<const std::string&, std::vector<std::string>, const std::vector<std::string>&, py::tuple, bool>(),
      py::arg("rule"), py::arg("state_names"), py::arg("hyperparameters"), py::arg("setting_names"),
      py::arg("packed") = false);
  def<&Optimizer::check>(optimizer, "check");
  def<&Optimizer::step>(optimizer, "step");
  def<&Optimizer::plain_step>(optimizer, "plain_step");
  def<&Optimizer::rows_step>(optimizer, "rows_step");
  def<&Optimizer::accumulate>(optimizer, "accumulate");
  def<&Optimizer::update>(optimizer, "update");
  def<&Optimizer::shared_row>(optimizer, "shared_row");
  def<&Optimizer::row>(optimizer, "row");
  def<&holds_same>(module, "holds_same");
  def<&factored_by>(module, "factored");
}

}  // namespace nnfast
