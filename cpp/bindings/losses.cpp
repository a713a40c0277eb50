#include "ops/losses.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {
namespace {

Reduction reduction_of(py::handle value) {
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "mean") == 0) return Reduction::mean;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "sum") == 0) return Reduction::sum;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "none") == 0) return Reduction::none;
  }
  throw py::value_error("reduction must be 'mean', 'sum' or 'none', got " + std::string(py::repr(value)));
}

// Finite, not negative, contiguous doubles; with their sum.
Array read_weights(py::handle value, const char* name, double* sum = nullptr) {
  const Array weights = contiguous(read_as(value, NPY_FLOAT64, name));
  const double* weight = weights.as<double>();
  double total;
  if (kernels().losses->weights_sum(weight, weights.size(), sum ? sum : &total)) return weights;
  std::ptrdiff_t i = 0;
  while (weight[i] >= 0 && !std::isinf(weight[i])) ++i;
  throw py::value_error(std::string(name) + " must " + (weight[i] < 0 ? "not be negative" : "be finite") + ", got " +
                        std::string(py::str(py::float_(weight[i]))) + " at position " + std::to_string(i));
}

// sample_weight, of the losses' shape or of their first axis; nothing for None. sum: of the array.
Array sample_weights(py::handle value, const Shape& shape, double* sum = nullptr) {
  if (value.is_none()) return {};
  const Array weights = read_weights(value, "sample_weight", sum);
  if (!has_shape(weights, shape) && (shape.empty() || !has_shape(weights, {shape[0]})))
    throw py::value_error("sample_weight must have shape " +
                          (shape.size() > 1 ? shape_text({shape[0]}) + " or " : std::string()) + shape_text(shape) +
                          ", got " + shape_text(weights));
  return weights;
}

// Weights that repeat over `count` losses.
LossWeights repeated(const Array& weights, std::ptrdiff_t count) {
  if (!weights) return {};
  return {weights.as<double>(), weights.size(), count / weights.size()};
}

// Calls op(LossResult) without the GIL. Returns its loss, or the array of losses for reduction="none"; and gradients.
template <class Op>
py::tuple call(Reduction reduction, const Shape& shape, const Array& gradients, Op op) {
  const Array each = reduction == Reduction::none ? new_array(shape, NPY_FLOAT64) : Array();
  double loss;
  {
    const ReleasedGil released(gradients.size());
    loss = op(LossResult{reduction, each ? each.as<double>() : nullptr});
  }
  return py::make_tuple(each ? each.object() : py::float_(loss), gradients.object());
}

void require_probabilities(const Array& array, const char* name) {
  const StridedArrays<1> walk = strided({array});
  std::ptrdiff_t first;
  {
    const ReleasedGil released(array.size());
    first = first_outside_unit_interval(array.floating(), walk);
  }
  if (first == array.size()) return;
  const py::object value = array.object().attr("item")(first);
  throw py::value_error(std::string(name) + " must be probabilities in [0, 1], got " + std::string(py::str(value)) +
                        " at position " + std::to_string(first));
}

// ---- losses of rows ----

// An axis of the array, not negative.
int axis_of(const Array& array, py::handle value, const char* name) {
  if (!PyIndex_Check(value.ptr()))
    throw py::type_error("axis must be an int, got " + std::string(Py_TYPE(value.ptr())->tp_name));
  const Py_ssize_t axis = PyNumber_AsSsize_t(value.ptr(), nullptr);  // saturates
  if (axis == -1 && PyErr_Occurred()) throw py::error_already_set();
  const int ndim = array.ndim();
  if (axis < -ndim || axis >= ndim)
    throw py::value_error("axis must be an axis of " + std::string(name) + " with shape " + shape_text(array) +
                          ", got " + std::string(py::str(value)));
  return static_cast<int>(axis < 0 ? axis + ndim : axis);
}

int class_axis(const Array& scores, py::handle value, const char* name) {
  if (scores.ndim() < 2 || scores.size() == 0)
    throw py::value_error(std::string(name) + " must have shape (N, C), or more axes, of which none is empty, got " +
                          shape_text(scores));
  return axis_of(scores, value, name);
}

Shape shape_without(const Array& array, int axis) {
  Shape shape;
  for (int d = 0; d < array.ndim(); ++d)
    if (d != axis) shape.push_back(array.shape(d));
  return shape;
}

// Class indices as contiguous int64, each in [0, classes), or `ignored`, which becomes kNoLabel.
Array class_indices(py::handle labels, const Shape& shape, std::ptrdiff_t classes, py::handle ignored) {
  Array array(py::reinterpret_steal<py::object>(
      PyArray_FromAny(labels.ptr(), PyArray_DescrFromType(NPY_INT64), 0, 0,
                      NPY_ARRAY_CARRAY_RO | NPY_ARRAY_NOTSWAPPED | NPY_ARRAY_FORCECAST, nullptr)));
  if (!array) throw py::error_already_set();
  require_shape(array, shape, "labels");
  const auto* index = array.as<const std::int64_t>();
  const std::ptrdiff_t rows = array.size();
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
  const Array replaced = new_array(shape, NPY_INT64);
  for (std::ptrdiff_t i = 0; i < rows; ++i) replaced.as<std::int64_t>()[i] = index[i] == ignore ? kNoLabel : index[i];
  return replaced;
}

[[noreturn]] void refuse_labels(const Array& given, const Shape& rows, const Array* scores) {
  throw py::type_error("labels must be integers (class indices) of shape " + shape_text(rows) +
                       (scores ? " or probabilities of shape " + shape_text(*scores) : "") + ", got dtype " +
                       dtype_name(given) + " of shape " + shape_text(given));
}

// Scores of classes along one axis, logits or probabilities, and the shape of their losses.
struct Scores {
  const char* name;
  Array array;
  int axis;
  Shape losses;

  Scores(py::handle value, py::handle axis_in, const char* name)
      : name(name), array(read_floats(value, name)), axis(class_axis(array, axis_in, name)) {
    for (int d = 0; d < array.ndim(); ++d)
      if (d != axis) losses.push_back(array.shape(d));
  }
  std::ptrdiff_t classes() const { return array.shape(axis); }
};

// Of each class, or nothing for None.
Array read_class_weights(py::handle value, const Scores& scores) {
  if (value.is_none()) return {};
  const Array weights = read_weights(value, "class_weight");
  require_shape(weights, {scores.classes()}, "class_weight");
  return weights;
}

// Calls op(RowLossArguments) with labels, or else with targets of the scores' shape.
template <class Op>
py::tuple loss_of_rows(const Scores& scores, const Array& labels, const Array& targets, const Array& class_weights,
                       py::handle sample_weight, py::handle reduction, py::handle out, Op op) {
  const Array weights = sample_weights(sample_weight, scores.losses);
  const Array dscores = output(out, scores.array, "out", scores.name);
  require_disjoint(dscores, "out", labels ? labels : targets, "labels");
  const auto arrays =
      row_arrays({scores.array, dscores, labels ? scores.array : targets}, scores.classes(), scores.axis);
  return call(reduction_of(reduction), scores.losses, dscores, [&](LossResult result) {
    return op({scores.array.floating(), arrays, labels ? labels.as<std::int64_t>() : nullptr,
               repeated(weights, arrays.rows()), class_weights ? class_weights.as<double>() : nullptr, result});
  });
}

// Of logits, or of probabilities.
py::tuple cross_entropy_of(bool of_logits, py::handle scores_in, py::handle labels_in, double smoothing,
                           py::handle weights_in, py::handle ignored, py::handle sample_weight, py::handle reduction,
                           py::handle axis, py::handle out) {
  const Scores scores(scores_in, axis, of_logits ? "logits" : "predictions");
  const Array class_weights = read_class_weights(weights_in, scores);
  Array labels, targets;
  const Array given = any_array(labels_in, "labels");
  const bool integers = PyTypeNum_ISINTEGER(given.dtype()), all_axes = given.ndim() == scores.array.ndim();
  if (integers && !all_axes) {
    labels = class_indices(given.object(), scores.losses, scores.classes(), ignored);
  } else if ((integers || PyTypeNum_ISFLOAT(given.dtype())) && all_axes) {
    require_shape(given, scores.array, "labels", scores.name);
    targets = read_as(given.object(), scores.array.dtype(), "labels");
    if (!ignored.is_none()) throw py::value_error("labels must be class indices for ignore_index");
  } else {
    refuse_labels(given, scores.losses, &scores.array);
  }
  if (!of_logits) require_probabilities(scores.array, scores.name);
  return loss_of_rows(scores, labels, targets, class_weights, sample_weight, reduction, out,
                      [&](const RowLossArguments& rows) { return cross_entropy(rows, of_logits, smoothing); });
}

// Of labels that are class indices.
template <class Op>
py::tuple loss_of_indices(const Scores& scores, py::handle labels_in, py::handle weights_in, py::handle ignored,
                          py::handle sample_weight, py::handle reduction, py::handle out, Op op) {
  const Array class_weights = read_class_weights(weights_in, scores), given = any_array(labels_in, "labels");
  if (!PyTypeNum_ISINTEGER(given.dtype())) refuse_labels(given, scores.losses, nullptr);
  const Array labels = class_indices(given.object(), scores.losses, scores.classes(), ignored);
  return loss_of_rows(scores, labels, {}, class_weights, sample_weight, reduction, out, op);
}

py::tuple svm_loss_of(py::handle scores, py::handle labels, double margin, bool squared, py::handle class_weights,
                      py::handle sample_weight, py::handle reduction, py::handle axis, py::handle out) {
  return loss_of_indices(Scores(scores, axis, "scores"), labels, class_weights, py::none(), sample_weight, reduction,
                         out, [&](const RowLossArguments& rows) { return svm_loss(rows, margin, squared); });
}

py::tuple nll_loss_of(py::handle predictions, py::handle labels, py::handle class_weights, py::handle ignored,
                      py::handle sample_weight, py::handle reduction, py::handle axis, py::handle out) {
  return loss_of_indices(Scores(predictions, axis, "predictions"), labels, class_weights, ignored, sample_weight,
                         reduction, out, nll_loss);
}

// ---- pairs of rows ----

Shape shape_and(Shape shape, std::ptrdiff_t last) {
  shape.push_back(last);
  return shape;
}

// The sums of x y, x x and y y of arrays of one dtype and shape along an axis, as a new last axis.
py::object pair_sums_of(py::handle x_in, py::handle y_in, int axis) {
  const Array x = any_array(x_in, "x"), y = any_array(y_in, "y");
  const Array sums = new_array(shape_and(shape_without(x, axis), 3), NPY_FLOAT64);
  const auto rows = row_arrays({x, y}, x.shape(axis), axis);
  {
    const ReleasedGil released(x.size());
    pair_sums(x.floating(), rows, sums.as<double>());
  }
  return sums.object();
}

// factors[..., 0] x + factors[..., 1] y, of arrays as those of pair_sums, with factors as its sums; `out` takes it.
py::object mix_pairs_of(py::handle x_in, py::handle y_in, py::handle factors_in, int axis, py::handle out) {
  const Array x = any_array(x_in, "x"), y = any_array(y_in, "y");
  const Array factors = contiguous(read_as(factors_in, NPY_FLOAT64, "factors"));
  const Array result = output(out, x, "out", "x");
  const auto rows = row_arrays({x, y, result}, x.shape(axis), axis);
  {
    const ReleasedGil released(x.size());
    mix_pairs(x.floating(), rows, factors.as<double>());
  }
  return result.object();
}

// ---- losses of elements ----

// pos_weight, which broadcasts to the shape of predictions. `held` keeps what the result points to.
LossWeights positive_weights(py::handle value, const Array& predicted, Array& held) {
  if (value.is_none()) return {};
  held = read_weights(value, "pos_weight");
  const int ndim = predicted.ndim(), missing = ndim - held.ndim();
  // The first and the last axis along which it varies; it is copied where it does not along one between them.
  int first = ndim, last = -1;
  bool broadcasts = missing >= 0, between = false;
  for (int d = std::max(missing, 0); broadcasts && d < ndim; ++d) {
    const std::ptrdiff_t length = held.shape(d - missing);
    broadcasts = length == predicted.shape(d) || length == 1;
    if (length == 1) continue;
    first = std::min(first, d);
    last = d;
  }
  if (!broadcasts)
    throw py::value_error("pos_weight must broadcast to the shape of predictions, " + shape_text(predicted) + ", got " +
                          shape_text(held));
  for (int d = first; d <= last; ++d) between |= held.shape(d - missing) != predicted.shape(d);
  std::ptrdiff_t inner = 1;
  if (between) {
    const py::object numpy = py::module_::import("numpy");
    held = Array(
        numpy.attr("ascontiguousarray")(numpy.attr("broadcast_to")(held.object(), predicted.object().attr("shape"))));
  } else {
    for (int d = last + 1; d < ndim; ++d) inner *= predicted.shape(d);
  }
  return {held.as<double>(), held.size(), last < 0 ? predicted.size() : inner};
}

py::tuple elementwise_loss_of(ElementwiseLoss index, py::handle predicted_in, py::handle targets_in,
                              const double (&parameters)[kLossParameters], py::handle pos_weight,
                              py::handle sample_weight, py::handle reduction_in, py::handle out) {
  const Reduction reduction = reduction_of(reduction_in);
  const Array predicted = read_floats(predicted_in, "predictions");
  const Array targets = read_as(targets_in, predicted.dtype(), "targets");
  require_shape(targets, predicted, "targets", "predictions");
  const std::ptrdiff_t n = predicted.size();
  if (n == 0) throw py::value_error("predictions must not be empty, got " + shape_text(predicted));
  Shape shape;  // of losses and their weights, if there are any
  if (reduction == Reduction::none || !sample_weight.is_none())
    shape.assign(PyArray_DIMS(predicted.get()), PyArray_DIMS(predicted.get()) + predicted.ndim());
  double weights_sum = 0;
  const Array weights = sample_weights(sample_weight, shape, &weights_sum);
  Array held;
  const LossWeights positive = positive_weights(pos_weight, predicted, held);
  const Array slopes = output(out, predicted, "out", "predictions");
  require_no_partial_overlap(slopes, "out", targets, "targets");
  if (weights) require_disjoint(slopes, "out", weights, "sample_weight");
  if (held) require_disjoint(slopes, "out", held, "pos_weight");
  if (index == ElementwiseLoss::BinaryCrossEntropy) require_probabilities(predicted, "predictions");
  const auto arrays = strided({predicted, targets, slopes});
  return call(reduction, shape, slopes, [&](LossResult result) {
    return elementwise_loss(index, {predicted.floating(),
                                    arrays,
                                    {parameters[0], parameters[1], parameters[2]},
                                    repeated(weights, n),
                                    positive,
                                    weights_sum,
                                    result});
  });
}

template <ElementwiseLoss index>
py::tuple loss_of_one_parameter(py::handle predicted, py::handle targets, double parameter, py::handle pos_weight,
                                py::handle sample_weight, py::handle reduction, py::handle out) {
  return elementwise_loss_of(index, predicted, targets, {parameter}, pos_weight, sample_weight, reduction, out);
}

// Embeddings that are read, by their names: arrays of one shape that is not empty, in the dtype that has room for all.
std::vector<Array> read_embeddings(std::initializer_list<std::pair<py::handle, const char*>> given) {
  std::vector<Array> arrays;
  arrays.reserve(given.size());
  bool wide = false, narrow = false;
  for (const auto& [value, name] : given) {
    const Array& array = arrays.emplace_back(read_floats(value, name));
    (array.is_float64() ? wide : narrow) = true;
  }
  const char* const first = given.begin()->second;
  if (arrays[0].ndim() == 0 || arrays[0].size() == 0)
    throw py::value_error(std::string(first) + " must have an axis, and none may be empty, got shape " +
                          shape_text(arrays[0]));
  for (std::size_t i = 1; i < arrays.size(); ++i) require_shape(arrays[i], arrays[0], given.begin()[i].second, first);
  if (wide && narrow)
    for (Array& array : arrays) array = read_as(array.object(), NPY_FLOAT64, first);
  return arrays;
}

// Losses that are not negative, reduced; and the slope of the whole with respect to each: 0 where there is no loss.
struct Reduced {
  py::object loss;
  std::vector<double> slopes;
  Reduced(std::vector<double>& each, const Shape& shape, py::handle sample_weight, py::handle reduction_in)
      : slopes(each.size()) {
    const Reduction reduction = reduction_of(reduction_in);
    double weights_sum = 0;
    const Array weights = sample_weights(sample_weight, shape, &weights_sum);
    const Array kept = reduction == Reduction::none ? new_array(shape, NPY_FLOAT64) : Array();
    std::vector<double> zeros(each.size());
    StridedArrays<3> arrays;
    arrays.ndim = 1;
    arrays.shape[0] = std::ssize(each);
    double* const data[3] = {each.data(), zeros.data(), slopes.data()};
    for (int k = 0; k < 3; ++k) {
      arrays.data[k] = reinterpret_cast<char*>(data[k]);
      arrays.strides[k][0] = sizeof(double);
    }
    double sum;
    {
      const ReleasedGil released(arrays.shape[0]);
      sum = elementwise_loss(ElementwiseLoss::AbsoluteError, {Dtype::f64,
                                                              arrays,
                                                              {},
                                                              repeated(weights, arrays.shape[0]),
                                                              {},
                                                              weights_sum,
                                                              {reduction, kept ? kept.as<double>() : nullptr}});
    }
    loss = kept ? kept.object() : py::float_(sum);
  }
};

// factors[2 i] x + factors[2 i + 1] y.
void mix_into(const Array& to, const Array& x, const Array& y, const std::vector<double>& factors, int axis) {
  const auto rows = row_arrays({x, y, to}, x.shape(axis), axis);
  const ReleasedGil released(x.size());
  mix_pairs(x.floating(), rows, factors.data());
}

// Of embeddings along an axis, of which each pair is alike, 1, or not, -1.
py::tuple cosine_embedding_loss_of(py::handle x_in, py::handle y_in, py::handle targets, double margin,
                                   py::handle sample_weight, py::handle reduction, py::handle axis_in) {
  const std::vector<Array> embeddings = read_embeddings({{x_in, "x1"}, {y_in, "x2"}});
  const Array &x = embeddings[0], &y = embeddings[1];
  const int axis = axis_of(x, axis_in, "x1");
  const Shape shape = shape_without(x, axis);
  const Array alike = contiguous(read_as(targets, NPY_FLOAT64, "targets"));
  require_shape(alike, shape, "targets");
  const std::ptrdiff_t pairs = alike.size();
  const auto* of_pair = alike.as<const double>();
  const double* const wrong =
      std::find_if(of_pair, of_pair + pairs, [](double value) { return value != 1 && value != -1; });
  if (wrong != of_pair + pairs)
    throw py::value_error("targets must be 1 or -1, got " + std::string(py::str(py::float_(*wrong))));
  std::vector<double> each(static_cast<std::size_t>(pairs)), sums(3 * each.size()), factors(2 * each.size());
  {
    const ReleasedGil released(x.size());
    pair_sums(x.floating(), row_arrays({x, y}, x.shape(axis), axis), sums.data());
    cosine_losses(sums.data(), of_pair, pairs, margin, each.data());
  }
  const Reduced reduced(each, shape, sample_weight, reduction);
  const Array dx = output(py::none(), x, "out", "x1"), dy = output(py::none(), y, "out", "x2");
  cosine_factors(sums.data(), of_pair, reduced.slopes.data(), pairs, 0, factors.data());
  mix_into(dx, x, y, factors, axis);
  cosine_factors(sums.data(), of_pair, reduced.slopes.data(), pairs, 1, factors.data());
  mix_into(dy, y, x, factors, axis);
  return py::make_tuple(reduced.loss, dx.object(), dy.object());
}

// Of embeddings along an axis.
py::tuple triplet_margin_loss_of(py::handle anchors, py::handle positives, py::handle negatives, double margin,
                                 double eps, py::handle sample_weight, py::handle reduction, py::handle axis_in) {
  const std::vector<Array> embeddings =
      read_embeddings({{anchors, "anchors"}, {positives, "positives"}, {negatives, "negatives"}});
  const Array &a = embeddings[0], &p = embeddings[1], &n = embeddings[2];
  const int axis = axis_of(a, axis_in, "anchors");
  const Shape shape = shape_without(a, axis);
  const std::ptrdiff_t triplets = a.size() / a.shape(axis);
  std::vector<double> each(static_cast<std::size_t>(triplets)), near(each.size()), far(each.size()),
      factors(2 * each.size());
  // The gradients of positives and negatives are multiples of the differences, which wait in them.
  const Array da = output(py::none(), a, "out", "anchors"), dp = output(py::none(), a, "out", "anchors"),
              dn = output(py::none(), a, "out", "anchors");
  {
    const ReleasedGil released(a.size());
    differences(a.floating(), row_arrays({a, p, dp}, a.shape(axis), axis), eps, near.data());
    differences(a.floating(), row_arrays({a, n, dn}, a.shape(axis), axis), eps, far.data());
    triplet_losses(near.data(), far.data(), triplets, margin, each.data());
  }
  const Reduced reduced(each, shape, sample_weight, reduction);
  triplet_factors(near.data(), far.data(), reduced.slopes.data(), triplets, factors.data());
  mix_into(da, dp, dn, factors, axis);
  // Only the first of the arrays that are mixed.
  const auto scale = [&](const Array& array, int of) {
    std::vector<double> alone(factors.size());
    for (std::size_t i = 0; i < alone.size(); i += 2) alone[i] = -factors[i + static_cast<std::size_t>(of)];
    mix_into(array, array, array, alone, axis);
  };
  scale(dp, 0);
  scale(dn, 1);
  return py::make_tuple(reduced.loss, da.object(), dp.object(), dn.object());
}

// gamma, and the weights of targets of 1 and of 0.
py::tuple focal_loss_of(py::handle predicted, py::handle targets, double gamma, double alpha, double beta,
                        py::handle sample_weight, py::handle reduction, py::handle out) {
  return elementwise_loss_of(ElementwiseLoss::SigmoidFocal, predicted, targets, {gamma, alpha, beta}, py::none(),
                             sample_weight, reduction, out);
}

}  // namespace

void bind_losses(py::module_& module) {
  def<&cross_entropy_of>(module, "cross_entropy");
  def<&svm_loss_of>(module, "svm_loss");
  def<&nll_loss_of>(module, "nll_loss");
  def<&pair_sums_of>(module, "pair_sums");
  def<&mix_pairs_of>(module, "mix_pairs");
  def<&cosine_embedding_loss_of>(module, "cosine_embedding_loss");
  def<&triplet_margin_loss_of>(module, "triplet_margin_loss");
#define NNFAST_DEF(formula, name)                                          \
  if constexpr (ElementwiseLoss::formula != ElementwiseLoss::SigmoidFocal) \
    def<&loss_of_one_parameter<ElementwiseLoss::formula>>(module, name);
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_DEF)
#undef NNFAST_DEF
  def<&focal_loss_of>(module, "sigmoid_focal_loss");
}

}  // namespace nnfast
