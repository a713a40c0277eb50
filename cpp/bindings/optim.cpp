#include "kernels/optim.hpp"

#include "bindings/array_lists.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

// All elements of all parameters are one range, so that threads share the list evenly whatever its arrays' sizes.
template <int Arrays, class Step>
void run(const std::vector<Item<Arrays>>& items, const Step& step, OptimFn<Step> f32, OptimFn<Step> f64,
         double ns_per_element) {
  py::gil_scoped_release release;
  parallel_for(
      elements_of(items), ns_per_element,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        for_items(items, begin, end, [&](const Item<Arrays>& item, std::ptrdiff_t first, std::ptrdiff_t last) {
          const OptimFn<Step> fn = item.f64 ? f64 : f32;
          item.walk.for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
            fn(step, at, item.strides, count);
          });
        });
      },
      16);
}

// The parameters an optimizer is made for: distinct, writeable float32 or float64 arrays.
void check_params(const py::list& params) {
  std::vector<Named> given;
  for (std::size_t i = 0; i < params.size(); ++i) {
    given.push_back(element(params, "params", static_cast<std::ptrdiff_t>(i)));
    const Named& param = given.back();
    require_floats(param);
    require_like(param, param.array);  // refuses foreign byte order
    require_writeable(param);
    for (const Named& other : given)
      if (&other != &param && share_memory(other.array, param.array))
        throw py::value_error(other.name() + " and " + param.name() + " must not share memory");
  }
}

void sgd(const py::list& params, const py::list& grads, double lr, double weight_decay, bool maximize) {
  const auto items = checked_items<2>({{{"params", params, true}, {"grads", grads, false}}});
  const SgdStep step{lr, 0, 0, weight_decay, false, maximize, false};
  run(items, step, kernels().optim->sgd_f32, kernels().optim->sgd_f64, 0.1);
}

void sgd_momentum(const py::list& params, const py::list& grads, const py::list& momentum_buffer, double lr,
                  double momentum, double dampening, double weight_decay, bool nesterov, bool maximize, bool first) {
  const auto items = checked_items<3>(
      {{{"params", params, true}, {"grads", grads, false}, {"momentum_buffer", momentum_buffer, true}}});
  const SgdStep step{lr, momentum, dampening, weight_decay, nesterov, maximize, first};
  run(items, step, kernels().optim->sgd_momentum_f32, kernels().optim->sgd_momentum_f64, 0.15);
}

void adam(const py::list& params, const py::list& grads, const py::list& exp_avg, const py::list& exp_avg_sq,
          double step_size, double beta1, double beta2, double eps, double inv_sqrt_correction, double weight_decay,
          bool maximize) {
  const auto items = checked_items<4>({{{"params", params, true},
                                        {"grads", grads, false},
                                        {"exp_avg", exp_avg, true},
                                        {"exp_avg_sq", exp_avg_sq, true}}});
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
