#include "kernels/optim.hpp"

#include <array>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// One parameter with its gradient and state, walked together.
template <int Arrays>
struct Item {
  StridedArrays<Arrays> walk;
  std::ptrdiff_t strides[Arrays];
  std::ptrdiff_t begin;  // its first element's position in the whole list
  bool f64;
};

std::string indexed(const char* list, std::ptrdiff_t i) { return std::string(list) + "[" + std::to_string(i) + "]"; }

// The arrays of one parameter, with the names of their lists for errors: made into text only when there is one.
struct Named {
  const char* list;
  std::ptrdiff_t index;
  Array array;
  std::string name() const { return indexed(list, index); }
};

Named element(const py::list& list, const char* name, std::ptrdiff_t i) {
  const py::handle value = PyList_GET_ITEM(list.ptr(), i);
  if (!PyArray_Check(value.ptr()))
    throw py::type_error(indexed(name, i) + " must be a numpy.ndarray, got " + Py_TYPE(value.ptr())->tp_name);
  return {name, i, Array(py::reinterpret_borrow<py::object>(value))};
}

void require_like(const Named& given, const Array& param) {
  const Array& array = given.array;
  if (array.dtype() != param.dtype() || !PyArray_ISNOTSWAPPED(array.get()))
    throw py::type_error(given.name() + " must have dtype " + dtype_name(param.dtype()) + ", got " +
                         std::string(py::str(array.object().attr("dtype"))));
  if (!PyArray_SAMESHAPE(array.get(), param.get()))
    throw py::value_error(given.name() + " must have shape " + shape_text(param) + ", got " + shape_text(array));
}

void require_writeable(const Named& given) {
  if (!PyArray_ISWRITEABLE(given.array.get()))
    throw py::value_error(given.name() + " must be writeable, but is read-only");
}

struct NamedList {
  const char* name;
  const py::list& arrays;
};

// Checks everything before anything is written. lists: parameters, gradients, then the state.
template <int Arrays>
std::vector<Item<Arrays>> checked_items(const std::array<NamedList, Arrays>& lists) {
  const std::size_t count = lists[0].arrays.size();
  for (const NamedList& list : lists)
    if (list.arrays.size() != count)
      throw py::value_error(std::string(list.name) + " must have one array for each of the " + std::to_string(count) +
                            " parameters, got " + std::to_string(list.arrays.size()));
  std::vector<Item<Arrays>> items;
  items.reserve(count);
  std::ptrdiff_t begin = 0;
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(count); ++i) {
    Array arrays[Arrays];
    for (int k = 0; k < Arrays; ++k) {
      const Named given = element(lists[k].arrays, lists[k].name, i);
      if (k > 0) require_like(given, arrays[0]);
      if (k != 1) require_writeable(given);
      for (int other = 0; other < k; ++other)
        if (share_memory(given.array, arrays[other]))
          throw py::value_error(given.name() + " and " + indexed(lists[other].name, i) + " must not share memory");
      arrays[k] = given.array;
    }
    Item<Arrays> item{strided(arrays), {}, begin, arrays[0].is_float64()};
    item.walk.sort_axes();
    item.walk.coalesce();
    item.walk.inner_strides(item.strides);
    begin += arrays[0].size();
    if (arrays[0].size() > 0) items.push_back(item);
  }
  return items;
}

// All elements of all parameters are one range, so that threads share the list evenly whatever its arrays' sizes.
template <int Arrays, class Step>
void run(const std::vector<Item<Arrays>>& items, const Step& step, OptimFn<Step> f32, OptimFn<Step> f64,
         double ns_per_element) {
  if (items.empty()) return;
  const std::ptrdiff_t total = items.back().begin + items.back().walk.size();
  py::gil_scoped_release release;
  parallel_for(
      total, ns_per_element,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        auto item = std::upper_bound(items.begin(), items.end(), begin,
                                     [](std::ptrdiff_t at, const auto& i) { return at < i.begin; });
        for (--item; item != items.end() && item->begin < end; ++item) {
          const std::ptrdiff_t first = std::max<std::ptrdiff_t>(begin - item->begin, 0);
          const std::ptrdiff_t last = std::min(end - item->begin, item->walk.size());
          const OptimFn<Step> fn = item->f64 ? f64 : f32;
          item->walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
            fn(step, at, item->strides, count);
          });
        }
      },
      16);
}

// The parameters an optimizer is made for: distinct, writeable float32 or float64 arrays.
void check_params(const py::list& params) {
  std::vector<Named> given;
  for (std::size_t i = 0; i < params.size(); ++i) {
    given.push_back(element(params, "params", static_cast<std::ptrdiff_t>(i)));
    const Named& param = given.back();
    const int dtype = param.array.dtype();
    if (dtype != NPY_FLOAT32 && dtype != NPY_FLOAT64)
      throw py::type_error(param.name() + " must have dtype float32 or float64, got " + dtype_name(dtype));
    require_like(param, param.array);  // refuses foreign byte order
    require_writeable(param);
    for (const Named& other : given)
      if (&other != &param && share_memory(other.array, param.array))
        throw py::value_error(other.name() + " and " + param.name() + " must not share memory");
  }
}

void sgd(const py::list& params, const py::list& grads, double lr, double weight_decay, bool maximize) {
  const auto items = checked_items<2>({{{"params", params}, {"grads", grads}}});
  const SgdStep step{lr, 0, 0, weight_decay, false, maximize, false};
  run(items, step, kernels().optim->sgd_f32, kernels().optim->sgd_f64, 0.1);
}

void sgd_momentum(const py::list& params, const py::list& grads, const py::list& momentum_buffer, double lr,
                  double momentum, double dampening, double weight_decay, bool nesterov, bool maximize, bool first) {
  const auto items = checked_items<3>({{{"params", params}, {"grads", grads}, {"momentum_buffer", momentum_buffer}}});
  const SgdStep step{lr, momentum, dampening, weight_decay, nesterov, maximize, first};
  run(items, step, kernels().optim->sgd_momentum_f32, kernels().optim->sgd_momentum_f64, 0.15);
}

void adam(const py::list& params, const py::list& grads, const py::list& exp_avg, const py::list& exp_avg_sq,
          double step_size, double beta1, double beta2, double eps, double inv_sqrt_correction, double weight_decay,
          bool maximize) {
  const auto items =
      checked_items<4>({{{"params", params}, {"grads", grads}, {"exp_avg", exp_avg}, {"exp_avg_sq", exp_avg_sq}}});
  const AdamStep step{step_size, beta1, beta2, eps, inv_sqrt_correction, weight_decay, maximize};
  run(items, step, kernels().optim->adam_f32, kernels().optim->adam_f64, 0.4);
}

}  // namespace

void bind_optim(py::module_& module) {
  module.def("check_params", &check_params, py::arg("params"));
  module.def("sgd", &sgd);
  module.def("sgd_momentum", &sgd_momentum);
  module.def("adam", &adam);
}

}  // namespace nnfast
