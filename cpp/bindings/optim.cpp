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

// Checks everything before anything is written: dtypes, shapes, that what is written shares no memory with the rest.
template <int Arrays>
std::vector<Item<Arrays>> checked_items(const py::list& params, const py::list& grads,
                                        const std::array<py::list, Arrays - 2>& state) {
  if (params.size() != grads.size())
    throw py::value_error("grads must have one array for each of the " + std::to_string(params.size()) +
                          " parameters, got " + std::to_string(grads.size()));
  std::vector<Item<Arrays>> items;
  items.reserve(params.size());
  std::ptrdiff_t begin = 0;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const py::handle given = grads[i];
    const Array param(py::reinterpret_borrow<py::object>(params[i]));
    const std::string name = indexed("grads", static_cast<std::ptrdiff_t>(i));
    if (!PyArray_Check(given.ptr()))
      throw py::type_error(name + " must be a numpy.ndarray, got " + Py_TYPE(given.ptr())->tp_name);
    if (!PyArray_ISWRITEABLE(param.get()))
      throw py::value_error(indexed("params", static_cast<std::ptrdiff_t>(i)) + " must be writeable, but is read-only");
    const Array grad(py::reinterpret_borrow<py::object>(given));
    if (grad.dtype() != param.dtype() || !PyArray_ISNOTSWAPPED(grad.get()))
      throw py::type_error(name + " must have dtype " + dtype_name(param.dtype()) + ", got " +
                           std::string(py::str(grad.object().attr("dtype"))));
    if (!PyArray_SAMESHAPE(grad.get(), param.get()))
      throw py::value_error(name + " must have shape " + shape_text(param) + ", got " + shape_text(grad));
    Array arrays[Arrays] = {param, grad};
    for (int k = 2; k < Arrays; ++k) arrays[k] = Array(py::reinterpret_borrow<py::object>(state[k - 2][i]));
    Item<Arrays> item{strided(arrays), {}, begin, param.is_float64()};
    item.walk.inner_strides(item.strides);
    begin += param.size();
    if (param.size() > 0) items.push_back(item);
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
  std::vector<Array> arrays;
  for (std::size_t i = 0; i < params.size(); ++i) {
    const py::handle value = params[i];
    const std::string name = indexed("params", static_cast<std::ptrdiff_t>(i));
    if (!PyArray_Check(value.ptr()))
      throw py::type_error(name + " must be a numpy.ndarray, got " + Py_TYPE(value.ptr())->tp_name);
    const bool f64 = PyArray_TYPE(reinterpret_cast<PyArrayObject*>(value.ptr())) == NPY_FLOAT64;
    const int dtype = PyArray_TYPE(reinterpret_cast<PyArrayObject*>(value.ptr()));
    if (dtype != NPY_FLOAT32 && !f64)
      throw py::type_error(name + " must have dtype float32 or float64, got " + dtype_name(dtype));
    arrays.push_back(written(value, dtype, name.c_str()));
  }
  for (std::size_t i = 0; i < arrays.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require_disjoint(arrays[j], indexed("params", static_cast<std::ptrdiff_t>(j)).c_str(), arrays[i],
                       indexed("params", static_cast<std::ptrdiff_t>(i)).c_str());
}

void sgd(const py::list& params, const py::list& grads, double lr, double weight_decay, bool maximize) {
  const auto items = checked_items<2>(params, grads, {});
  const SgdStep step{lr, 0, 0, weight_decay, false, maximize, false};
  run(items, step, kernels().optim->sgd_f32, kernels().optim->sgd_f64, 0.1);
}

void sgd_momentum(const py::list& params, const py::list& grads, const py::list& momentum_buffer, double lr,
                  double momentum, double dampening, double weight_decay, bool nesterov, bool maximize, bool first) {
  const auto items = checked_items<3>(params, grads, {{momentum_buffer}});
  const SgdStep step{lr, momentum, dampening, weight_decay, nesterov, maximize, first};
  run(items, step, kernels().optim->sgd_momentum_f32, kernels().optim->sgd_momentum_f64, 0.15);
}

void adam(const py::list& params, const py::list& grads, const py::list& exp_avg, const py::list& exp_avg_sq,
          double step_size, double beta1, double beta2, double eps, double inv_sqrt_correction, double weight_decay,
          bool maximize) {
  const auto items = checked_items<4>(params, grads, {{exp_avg, exp_avg_sq}});
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
