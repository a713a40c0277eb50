#include "ops/penalties.hpp"

#include "bindings/array_lists.hpp"
#include "bindings/axes.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "ops/normalization.hpp"

namespace nnfast {
namespace {

// The arrays of both lists at i, checked. `held`: another thread may drop them from the lists meanwhile.
PenalizedArray checked(const py::list& params, const py::list* grads, PyObject* keys, std::ptrdiff_t i,
                       std::vector<Array>& held) {
  const Named param = element(params.ptr(), {"params", keys}, i);
  require_floats(param);
  require_like(param, param.array);  // refuses foreign byte order
  held.push_back(param.array);
  Array arrays[2] = {param.array, param.array};
  if (grads) {
    const Named grad = element(grads->ptr(), {"grads", keys}, i);
    require_like(grad, param.array);
    require_writeable(grad);
    if (share_memory(grad.array, param.array))
      throw py::value_error(grad.name() + " and " + param.name() + " must not share memory");
    held.push_back(arrays[1] = grad.array);
  }
  StridedArrays<2> walk = strided(arrays);
  if (!grads) {
    walk.data[1] = nullptr;
    std::fill_n(walk.strides[1], walk.ndim, 0);
  }
  walk.sort_axes();
  walk.coalesce();
  return {param.array.floating(), walk};
}

// grads: a list of arrays like params, or None; keys: what errors call the arrays by, or None. Everything is checked
// before anything is written.
double penalty_of(const py::list& params, double l1, double l2, py::handle grads_in, py::handle keys_in) {
  py::list grads;
  if (!grads_in.is_none()) {
    grads = py::reinterpret_borrow<py::list>(grads_in);
    require_count(grads.size(), "grads", params.size());
  }
  PyObject* keys = keys_or_null(keys_in, params.size());
  std::vector<PenalizedArray> arrays;
  std::vector<Array> held;
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(params.size()); ++i)
    arrays.push_back(checked(params, grads_in.is_none() ? nullptr : &grads, keys, i, held));
  py::gil_scoped_release release;
  return elastic_net({l1, l2}, arrays);
}

// Scales the sets of values along the axes `which` down, in place, to norms of at most `limit`. weight: checked, of
// float32 or float64, writeable.
void max_norm(const py::object& weight_in, const std::vector<int>& which, double limit) {
  const Array weight(weight_in);
  Normalization norm = sets_along({&weight, nullptr, &weight, nullptr}, which);
  norm.data[2] = nullptr;  // until the norms are known
  norm.groups = norm.set_count;
  norm.segments = 1;
  norm.segment = norm.member_count;
  norm.across = norm.sets.count == 1 && sets_lie_closer(norm);
  py::gil_scoped_release release;
  limit_norms(weight.floating(), norm, limit);
}

}  // namespace

void bind_penalties(py::module_& module) {
  def<&penalty_of>(module, "elastic_net");
  def<&max_norm>(module, "max_norm");
}

}  // namespace nnfast
