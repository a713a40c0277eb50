#include "kernels/losses.hpp"

#include <limits>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

// Class indices as contiguous int64, each in [0, classes), or `ignored`, which becomes kNoLabel.
Array class_indices(py::handle labels, std::ptrdiff_t rows, std::ptrdiff_t classes, py::handle ignored) {
  Array array(py::reinterpret_steal<py::object>(
      PyArray_FromAny(labels.ptr(), PyArray_DescrFromType(NPY_INT64), 0, 0,
                      NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST, nullptr)));
  if (!array) throw py::error_already_set();
  require_shape(array, {rows}, "labels");
  const auto* index = array.as<const std::int64_t>();
  const bool ignores = !ignored.is_none();
  const std::int64_t ignore = ignores ? ignored.cast<std::int64_t>() : 0;
  bool any = false;
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    if (ignores && index[i] == ignore) {
      any = true;
    } else if (index[i] < 0 || index[i] >= classes) {
      throw py::value_error("labels must be class indices in [0, " + std::to_string(classes) + "), got " +
                            std::to_string(index[i]) + " at position " + std::to_string(i));
    }
  }
  if (!any) return array;
  const Array own = new_array({rows}, NPY_INT64);
  for (std::ptrdiff_t i = 0; i < rows; ++i) own.as<std::int64_t>()[i] = index[i] == ignore ? kNoLabel : index[i];
  return own;
}

void require_scores(const Array& scores, const char* name) {
  if (scores.ndim() != 2 || scores.size() == 0)
    throw py::value_error(std::string(name) + " must have shape (N, C) with N, C at least 1, got " +
                          shape_text(scores));
}

// One weight a class, contiguous.
Array class_weights_of(py::handle value, std::ptrdiff_t classes) {
  if (value.is_none()) return {};
  const Array weights = read_as(value, NPY_FLOAT64, "class_weights");
  require_shape(weights, {classes}, "class_weights");
  const Array own = new_array({classes}, NPY_FLOAT64);
  if (PyArray_CopyInto(own.get(), weights.get()) != 0) throw py::error_already_set();
  for (std::ptrdiff_t c = 0; c < classes; ++c)
    if (!(own.as<double>()[c] >= 0))
      throw py::value_error("class_weights must not be negative, got " + std::to_string(own.as<double>()[c]) +
                            " at position " + std::to_string(c));
  return own;
}

// What class indices want of every row, and the sum of the weights of their classes, by which the mean is taken.
struct Wanted {
  std::vector<double> at_label;
  Array spread;
  double spread_sum = 0, weight = 0;
};
Wanted wanted_of(const Array& labels, const Array& weights, double smoothing, std::ptrdiff_t classes, int dtype) {
  Wanted wanted;
  const auto* index = labels.as<const std::int64_t>();
  const double* weight = weights ? weights.as<double>() : nullptr;
  for (std::ptrdiff_t i = 0; i < labels.size(); ++i)
    if (index[i] != kNoLabel) wanted.weight += weight ? weight[index[i]] : 1;
  if (!weight && smoothing == 0) return wanted;
  for (std::ptrdiff_t c = 0; c < classes; ++c) wanted.at_label.push_back((1 - smoothing) * (weight ? weight[c] : 1));
  if (smoothing == 0) return wanted;
  wanted.spread = new_array({classes}, dtype);
  for (std::ptrdiff_t c = 0; c < classes; ++c) {
    const double share = smoothing / static_cast<double>(classes) * (weight ? weight[c] : 1);
    if (dtype == NPY_FLOAT64) {
      wanted.spread.as<double>()[c] = share;
    } else {
      wanted.spread.as<float>()[c] = static_cast<float>(share);
    }
    wanted.spread_sum += share;
  }
  return wanted;
}

double added(const std::vector<double>& losses) {
  double total = 0;
  for (const double row : losses) total += row;
  return total;
}

py::tuple softmax_cross_entropy(py::handle logits_in, py::handle labels_in, double smoothing, py::handle weights_in,
                                py::handle ignored, py::handle out) {
  const Array logits = read_floats(logits_in, "logits");
  require_scores(logits, "logits");
  const std::ptrdiff_t rows = logits.shape(0), classes = logits.shape(1);
  const Array weights = class_weights_of(weights_in, classes);

  const Array given = any_array(labels_in, "labels");
  Array labels, targets;
  if (PyTypeNum_ISINTEGER(given.dtype()) && given.ndim() != 2) {
    labels = class_indices(given.object(), rows, classes, ignored);
  } else if (PyTypeNum_ISFLOAT(given.dtype()) || PyTypeNum_ISINTEGER(given.dtype())) {
    require_shape(given, logits, "labels", "logits");
    targets = read_as(given.object(), logits.dtype(), "labels");
    if (smoothing != 0 || weights || !ignored.is_none())
      throw py::value_error("labels must be class indices for label_smoothing, class_weights and ignore_index");
  } else {
    throw py::type_error("labels must be integer class indices or an array of probabilities, got dtype " +
                         dtype_name(given.dtype()));
  }
  const Array dlogits = output(out, logits, "out", "logits");
  require_disjoint(dlogits, "out", labels ? labels : targets, "labels");
  Wanted wanted;
  wanted.weight = static_cast<double>(rows);
  if (labels) wanted = wanted_of(labels, weights, smoothing, classes, logits.dtype());

  std::vector<double> losses(static_cast<std::size_t>(rows));
  CrossEntropy loss{};
  loss.logits = matrix(logits, 0, 1);
  loss.dlogits = matrix(dlogits, 0, 1);
  if (labels) loss.labels = labels.as<const std::int64_t>();
  if (targets) loss.targets = matrix(targets, 0, 1);
  loss.classes = classes;
  loss.gradient_scale = wanted.weight == 0 ? 0 : 1 / wanted.weight;
  loss.losses = losses.data();
  loss.at_label = wanted.at_label.empty() ? nullptr : wanted.at_label.data();
  loss.spread = wanted.spread ? wanted.spread.data() : nullptr;
  loss.spread_sum = wanted.spread_sum;
  const LossKernels& kernel = *kernels().losses;
  const CrossEntropyFn fn = logits.is_float64() ? kernel.softmax_cross_entropy_f64 : kernel.softmax_cross_entropy_f32;
  {
    py::gil_scoped_release release;
    parallel_for(rows, 38 + 0.55 * static_cast<double>(classes),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(loss, begin, end); });
  }
  // Where no row counts there is no loss.
  return py::make_tuple(wanted.weight == 0 ? 0 : added(losses) / wanted.weight, dlogits.object());
}

py::tuple svm_loss(py::handle scores_in, py::handle labels_in, double margin, py::handle out) {
  const Array scores = read_floats(scores_in, "scores");
  require_scores(scores, "scores");
  const std::ptrdiff_t rows = scores.shape(0), classes = scores.shape(1);
  const Array given = any_array(labels_in, "labels");
  if (!PyTypeNum_ISINTEGER(given.dtype()))
    throw py::type_error("labels must be integer class indices, got dtype " + dtype_name(given.dtype()));
  const Array labels = class_indices(given.object(), rows, classes, py::none());
  const Array dscores = output(out, scores, "out", "scores");
  require_disjoint(dscores, "out", labels, "labels");
  std::vector<double> losses(static_cast<std::size_t>(rows));
  const Hinge loss{
      matrix(scores, 0, 1),          matrix(dscores, 0, 1), labels.as<const std::int64_t>(), classes, margin,
      1 / static_cast<double>(rows), losses.data()};
  const LossKernels& kernel = *kernels().losses;
  const HingeFn fn = scores.is_float64() ? kernel.hinge_f64 : kernel.hinge_f32;
  {
    py::gil_scoped_release release;
    parallel_for(rows, 30 + 0.4 * static_cast<double>(classes),
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) { fn(loss, begin, end); });
  }
  return py::make_tuple(added(losses) / static_cast<double>(rows), dscores.object());
}

// ---- losses of single numbers ----

constexpr double kElementwiseNs[] = {
#define NNFAST_COST(formula, name, cost) cost,
    NNFAST_ELEMENTWISE_LOSSES(NNFAST_COST)
#undef NNFAST_COST
};

// The mean over all elements; blocks are added in their order.
py::tuple elementwise_loss(int which, py::handle predicted_in, py::handle wanted_in, double parameter, py::handle out) {
  const Array predicted = read_floats(predicted_in, "predictions");
  const Array wanted = read_as(wanted_in, predicted.dtype(), "targets");
  require_shape(wanted, predicted, "targets", "predictions");
  if (predicted.size() == 0) throw py::value_error("predictions must not be empty, got " + shape_text(predicted));
  const Array slopes = output(out, predicted, "out", "predictions");
  require_no_partial_overlap(slopes, "out", wanted, "targets");
  const Array arrays[3] = {predicted, wanted, slopes};
  const StridedArrays<3> walk = strided(arrays);
  std::ptrdiff_t strides[3];
  walk.inner_strides(strides);
  const LossKernels& kernel = *kernels().losses;
  const LossRunFn fn = (predicted.is_float64() ? kernel.elementwise_f64 : kernel.elementwise_f32)[which];
  const std::ptrdiff_t n = predicted.size(), blocks = (n + kLossBlock - 1) / kLossBlock;
  const double share = 1 / static_cast<double>(n);
  std::vector<double> sums(static_cast<std::size_t>(blocks));
  {
    py::gil_scoped_release release;
    parallel_for(blocks, kElementwiseNs[which] * kLossBlock, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b)
        walk.for_runs(b * kLossBlock, std::min((b + 1) * kLossBlock, n),
                      [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
                        sums[static_cast<std::size_t>(b)] +=
                            fn({at[0], at[1], at[2], strides[0], strides[1], strides[2], count, share, parameter});
                      });
    });
  }
  return py::make_tuple(added(sums) / static_cast<double>(n), slopes.object());
}

}  // namespace

void bind_losses(py::module_& module) {
  module.def("softmax_cross_entropy", &softmax_cross_entropy);
  module.def("svm_loss", &svm_loss);
#define NNFAST_DEF(formula, name, cost)                                                                     \
  module.def(name, [](py::handle predicted, py::handle wanted, double parameter, py::handle out) {          \
    return elementwise_loss(static_cast<int>(ElementwiseLoss::formula), predicted, wanted, parameter, out); \
  });
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_DEF)
#undef NNFAST_DEF
}

}  // namespace nnfast
