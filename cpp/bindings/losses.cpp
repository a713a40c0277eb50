#include "kernels/losses.hpp"

#include <limits>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Class indices as contiguous int64, each in [0, classes).
Array class_indices(py::handle labels, std::ptrdiff_t rows, std::ptrdiff_t classes) {
  Array array(py::reinterpret_steal<py::object>(
      PyArray_FromAny(labels.ptr(), PyArray_DescrFromType(NPY_INT64), 0, 0,
                      NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST, nullptr)));
  if (!array) throw py::error_already_set();
  require_shape(array, {rows}, "labels");
  const auto* index = array.as<const std::int64_t>();
  for (std::ptrdiff_t i = 0; i < rows; ++i)
    if (index[i] < 0 || index[i] >= classes)
      throw py::value_error("labels must be class indices in [0, " + std::to_string(classes) + "), got " +
                            std::to_string(index[i]) + " at position " + std::to_string(i));
  return array;
}

py::tuple softmax_cross_entropy(py::handle logits_in, py::handle labels_in, py::handle out) {
  const Array logits = read_floats(logits_in, "logits");
  if (logits.ndim() != 2 || logits.size() == 0)
    throw py::value_error("logits must have shape (N, C) with N, C at least 1, got " + shape_text(logits));
  const std::ptrdiff_t rows = logits.shape(0), classes = logits.shape(1);

  const Array given = any_array(labels_in);
  Array labels, targets;
  if (PyTypeNum_ISINTEGER(given.dtype()) && given.ndim() != 2) {
    labels = class_indices(given.object(), rows, classes);
  } else if (PyTypeNum_ISFLOAT(given.dtype()) || PyTypeNum_ISINTEGER(given.dtype())) {
    require_shape(given, logits, "labels", "logits");
    targets = read_as(given.object(), logits.dtype(), "labels");
  } else {
    throw py::type_error("labels must be integer class indices or an array of probabilities, got dtype " +
                         dtype_name(given.dtype()));
  }
  const Array dlogits = output(out, logits, "out", "logits");
  if (targets) require_disjoint(dlogits, "out", targets, "labels");

  std::vector<double> losses(static_cast<std::size_t>(rows));
  CrossEntropy loss{};
  loss.logits = matrix(logits, 0, 1);
  loss.dlogits = matrix(dlogits, 0, 1);
  if (labels) loss.labels = labels.as<const std::int64_t>();
  if (targets) loss.targets = matrix(targets, 0, 1);
  loss.classes = classes;
  loss.gradient_scale = 1 / static_cast<double>(rows);
  loss.losses = losses.data();
  const LossKernels& kernel = *kernels().losses;
  const CrossEntropyFn fn = logits.is_float64() ? kernel.softmax_cross_entropy_f64 : kernel.softmax_cross_entropy_f32;
  double total = 0;
  {
    py::gil_scoped_release release;
    parallel_for(rows, 60 + 0.8 * static_cast<double>(classes),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(loss, begin, end); });
    for (const double row : losses) total += row;
  }
  return py::make_tuple(total / static_cast<double>(rows), dlogits.object());
}

}  // namespace

void bind_losses(py::module_& module) {
  module.def("softmax_cross_entropy", &softmax_cross_entropy, py::arg("logits"), py::arg("labels"), py::arg("out"));
}

}  // namespace nnfast
