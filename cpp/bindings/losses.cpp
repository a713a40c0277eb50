#include "kernels/losses.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "kernels/channels.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using Shape = std::vector<std::ptrdiff_t>;

enum class Reduction { mean, sum, none };

Reduction reduction_of(py::handle value) {
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "mean") == 0) return Reduction::mean;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "sum") == 0) return Reduction::sum;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "none") == 0) return Reduction::none;
  }
  throw py::value_error("reduction must be 'mean', 'sum' or 'none', got " + std::string(py::repr(value)));
}

// Finite and not negative, in double, C order and contiguous; with their sum.
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

// ---- losses of rows: of the scores of the classes ----

// The axis of the classes, counted from the front.
int class_axis(const Array& scores, py::handle value, const char* name) {
  if (!PyIndex_Check(value.ptr()))
    throw py::type_error("axis must be an int, got " + std::string(Py_TYPE(value.ptr())->tp_name));
  const Py_ssize_t axis = PyNumber_AsSsize_t(value.ptr(), nullptr);  // cut to what a Py_ssize_t holds
  if (axis == -1 && PyErr_Occurred()) throw py::error_already_set();
  const int ndim = scores.ndim();
  if (ndim < 2 || scores.size() == 0)
    throw py::value_error(std::string(name) + " must have shape (N, C), or more axes, of which none is empty, got " +
                          shape_text(scores));
  if (axis < -ndim || axis >= ndim)
    throw py::value_error("axis must be an axis of " + std::string(name) + " with shape " + shape_text(scores) +
                          ", got " + std::string(py::str(value)));
  return static_cast<int>(axis < 0 ? axis + ndim : axis);
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
  const Array own = new_array(shape, NPY_INT64);
  for (std::ptrdiff_t i = 0; i < rows; ++i) own.as<std::int64_t>()[i] = index[i] == ignore ? kNoLabel : index[i];
  return own;
}

[[noreturn]] void refuse_labels(const Array& given, const Shape& rows, const Array* scores) {
  throw py::type_error("labels must be integers (class indices) of shape " + shape_text(rows) +
                       (scores ? " or probabilities of shape " + shape_text(*scores) : "") + ", got dtype " +
                       dtype_name(given) + " of shape " + shape_text(given));
}

// One weight for each row, contiguous: sample_weight of the shape of the loss, or of its first axis. Empty for None.
std::vector<double> row_weights(py::handle value, const Shape& rows, std::ptrdiff_t count) {
  if (value.is_none()) return {};
  const Array weights = read_weights(value, "sample_weight");
  if (!has_shape(weights, rows) && !has_shape(weights, {rows[0]}))
    throw py::value_error("sample_weight must have shape " + shape_text({rows[0]}) +
                          (rows.size() > 1 ? " or " + shape_text(rows) : "") + ", got " + shape_text(weights));
  std::vector<double> all(static_cast<std::size_t>(count) + ByChannel<double>::kRoom);
  ByChannel<double>{weights.as<double>(), weights.size(), count / weights.size()}.fill(all.data(), 0, count);
  return all;
}

Array class_weights_of(py::handle value, std::ptrdiff_t classes) {
  if (value.is_none()) return {};
  const Array weights = read_weights(value, "class_weights");
  require_shape(weights, {classes}, "class_weights");
  return weights;
}

// One number a class, of the scores' type.
template <class Value>
Array by_class(std::ptrdiff_t classes, int dtype, Value value) {
  const Array made = new_array({classes}, dtype);
  for (std::ptrdiff_t c = 0; c < classes; ++c) {
    if (dtype == NPY_FLOAT64) {
      made.as<double>()[c] = value(c);
    } else {
      made.as<float>()[c] = static_cast<float>(value(c));
    }
  }
  return made;
}

// What label smoothing and class weights make of targets: see CrossEntropy.
struct TargetDistribution {
  Array scale, spread;
  std::vector<double> at_label;
  double spread_sum = 0;

  TargetDistribution(const Array& weights, double smoothing, std::ptrdiff_t classes, int dtype, bool of_labels) {
    const double* weight = weights ? weights.as<double>() : nullptr;
    if (!weight && smoothing == 0) return;
    const auto hard = [&](std::ptrdiff_t c) { return (1 - smoothing) * (weight ? weight[c] : 1); };
    if (of_labels) {
      for (std::ptrdiff_t c = 0; c < classes; ++c) at_label.push_back(hard(c));
    } else {
      scale = by_class(classes, dtype, hard);
    }
    if (smoothing == 0) return;
    const auto share = [&](std::ptrdiff_t c) {
      return smoothing / static_cast<double>(classes) * (weight ? weight[c] : 1);
    };
    spread = by_class(classes, dtype, share);
    for (std::ptrdiff_t c = 0; c < classes; ++c) spread_sum += share(c);
  }
  void put(CrossEntropy& loss) const {
    loss.target_scale = scale ? scale.data() : nullptr;
    loss.spread = spread ? spread.data() : nullptr;
    loss.at_label = at_label.empty() ? nullptr : at_label.data();
    loss.spread_sum = spread_sum;
  }
};

// What rows count in the mean.
double total_weight(std::ptrdiff_t rows, const std::vector<double>& row_weights, const Array& labels,
                    const Array& class_weights) {
  if (row_weights.empty() && !labels) return static_cast<double>(rows);
  const auto* index = labels ? labels.as<const std::int64_t>() : nullptr;
  const double* of_class = class_weights && index ? class_weights.as<double>() : nullptr;
  double total = 0;
  for (std::ptrdiff_t i = 0; i < rows; ++i) {
    if (index && index[i] == kNoLabel) continue;
    total += (row_weights.empty() ? 1 : row_weights[static_cast<std::size_t>(i)]) * (of_class ? of_class[index[i]] : 1);
  }
  return total;
}

double sum_of(const double* losses, std::ptrdiff_t n) {
  double total = 0;
  for (std::ptrdiff_t i = 0; i < n; ++i) total += losses[i];
  return total;
}

// Where the losses of rows or elements go, and what becomes of them.
class Losses {
 public:
  Losses(Reduction reduction, const Shape& shape, std::ptrdiff_t count, double weight)
      : reduction_(reduction), weight_(weight) {
    if (reduction == Reduction::none) {
      each_ = new_array(shape, NPY_FLOAT64);
    } else {
      own_.resize(static_cast<std::size_t>(count));
    }
  }
  double* data() { return each_ ? each_.as<double>() : own_.data(); }
  // Where nothing counts the mean is 0.
  double gradient_scale() const { return reduction_ != Reduction::mean ? 1 : (weight_ == 0 ? 0 : 1 / weight_); }
  py::object result() const {
    if (each_) return each_.object();
    const double sum = sum_of(own_.data(), static_cast<std::ptrdiff_t>(own_.size()));
    return py::float_(reduction_ == Reduction::sum ? sum : (weight_ == 0 ? 0 : sum / weight_));
  }

 private:
  Reduction reduction_;
  double weight_;
  Array each_;
  std::vector<double> own_;
};

// Scores, their gradients and targets, which may be none, as rows along the axis of the classes.
struct ScoreRows {
  StridedArrays<3> rows;
  std::ptrdiff_t row_strides[3], strides[3], classes, itemsize;

  ScoreRows(const Array& scores, const Array& dscores, const Array& targets, int axis)
      : classes(scores.shape(axis)), itemsize(PyArray_ITEMSIZE(scores.get())) {
    const Array* arrays[3] = {&scores, &dscores, &targets};
    rows.ndim = 0;
    for (int d = 0; d < scores.ndim(); ++d) {
      if (d == axis) continue;
      rows.shape[rows.ndim] = scores.shape(d);
      for (int a = 0; a < 3; ++a) rows.strides[a][rows.ndim] = *arrays[a] ? arrays[a]->stride(d) : 0;
      ++rows.ndim;
    }
    for (int a = 0; a < 3; ++a) {
      rows.data[a] = *arrays[a] ? arrays[a]->data() : nullptr;
      strides[a] = *arrays[a] ? arrays[a]->stride(axis) : itemsize;
    }
    rows.coalesce();
    rows.inner_strides(row_strides);
  }
  bool contiguous() const {
    return std::all_of(strides, strides + 3, [&](auto s) { return s == itemsize; });
  }
};

void put_targets(CrossEntropy& loss, Matrix targets) { loss.targets = targets; }
void put_targets(Hinge&, Matrix) {}

// Rows that are not contiguous are copied, some at a time, to where they are: a kernel would load them an element at a
// time, in each of its passes.
constexpr std::ptrdiff_t kTileBytes = 16384, kLeastTile = 4;

template <class T>
void copy_rows(Matrix from, Matrix to, std::ptrdiff_t rows, std::ptrdiff_t classes) {
  for (std::ptrdiff_t c = 0; c < classes; ++c) {
    const char* source = from.data + c * from.stride;
    char* goal = to.data + c * to.stride;
    for (std::ptrdiff_t r = 0; r < rows; ++r)
      std::memcpy(goal + r * to.row_stride, source + r * from.row_stride, sizeof(T));
  }
}

// The loss of some rows, whose labels, weights and losses begin at `position` of those of all.
template <class Loss>
Loss at_rows(const Loss& all, Matrix scores, Matrix dscores, Matrix targets, std::ptrdiff_t position) {
  Loss loss = all;
  loss.scores = scores;
  loss.dscores = dscores;
  put_targets(loss, targets);
  if (loss.labels) loss.labels += position;
  if (loss.row_weights) loss.row_weights += position;
  loss.losses += position;
  return loss;
}

template <class T, class Loss, class Fn>
void run_tiles(const Loss& loss, Fn fn, const ScoreRows& walk, const Matrix (&at)[3], std::ptrdiff_t count,
               std::ptrdiff_t position) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  alignas(64) char scores[kTileBytes], targets[kTileBytes];
  const Matrix score_tile{scores, walk.classes * size, size}, target_tile{targets, walk.classes * size, size};
  const std::ptrdiff_t tile = kTileBytes / (walk.classes * size);
  for (std::ptrdiff_t first = 0; first < count; first += tile) {
    const std::ptrdiff_t rows = std::min(tile, count - first);
    const auto from = [&](int a) {
      return Matrix{at[a].data + first * at[a].row_stride, at[a].row_stride, at[a].stride};
    };
    copy_rows<T>(from(0), score_tile, rows, walk.classes);
    if (at[2].data) copy_rows<T>(from(2), target_tile, rows, walk.classes);
    fn(at_rows(loss, score_tile, score_tile, target_tile, position + first), 0, rows);
    copy_rows<T>(score_tile, from(1), rows, walk.classes);
  }
}

template <class Loss, class Fn>
void run_rows(const Loss& loss, Fn fn, const ScoreRows& walk, double ns_per_row) {
  const bool tiled = !walk.contiguous() && walk.classes * walk.itemsize * kLeastTile <= kTileBytes;
  py::gil_scoped_release release;
  parallel_for(walk.rows.size(), ns_per_row + (tiled ? static_cast<double>(walk.classes) : 0),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 walk.rows.for_runs(begin, end, [&](char* const* data, std::ptrdiff_t count, std::ptrdiff_t position) {
                   Matrix at[3];
                   for (int a = 0; a < 3; ++a) at[a] = {data[a], walk.row_strides[a], walk.strides[a]};
                   if (!tiled) return fn(at_rows(loss, at[0], at[1], at[2], position), 0, count);
                   if (walk.itemsize == 8) return run_tiles<double>(loss, fn, walk, at, count, position);
                   run_tiles<float>(loss, fn, walk, at, count, position);
                 });
               });
}

void require_probabilities(const Array& array, const char* name);

// Of logits, or of probabilities.
py::tuple cross_entropy(bool of_logits, py::handle scores_in, py::handle labels_in, double smoothing,
                        py::handle weights_in, py::handle ignored, py::handle sample_weight, py::handle reduction,
                        py::handle axis_in, py::handle out) {
  const char* name = of_logits ? "logits" : "predictions";
  const Array scores = read_floats(scores_in, name);
  const int axis = class_axis(scores, axis_in, name);
  const std::ptrdiff_t classes = scores.shape(axis), rows = scores.size() / classes;
  const Shape shape = shape_without(scores, axis);
  const Array class_weights = class_weights_of(weights_in, classes);

  const Array given = any_array(labels_in, "labels");
  const bool integers = PyTypeNum_ISINTEGER(given.dtype());
  Array labels, targets;
  if (integers && given.ndim() != scores.ndim()) {
    labels = class_indices(given.object(), shape, classes, ignored);
  } else if ((integers || PyTypeNum_ISFLOAT(given.dtype())) && given.ndim() == scores.ndim()) {
    require_shape(given, scores, "labels", name);
    targets = read_as(given.object(), scores.dtype(), "labels");
    if (!ignored.is_none()) throw py::value_error("labels must be class indices for ignore_index");
  } else {
    refuse_labels(given, shape, &scores);
  }
  const std::vector<double> weights = row_weights(sample_weight, shape, rows);
  const Array dscores = output(out, scores, "out", name);
  require_disjoint(dscores, "out", labels ? labels : targets, "labels");
  if (!of_logits) require_probabilities(scores, name);

  const TargetDistribution distribution(class_weights, smoothing, classes, scores.dtype(), static_cast<bool>(labels));
  Losses losses(reduction_of(reduction), shape, rows, total_weight(rows, weights, labels, class_weights));
  CrossEntropy loss{};
  distribution.put(loss);
  if (labels) loss.labels = labels.as<const std::int64_t>();
  loss.classes = classes;
  loss.gradient_scale = losses.gradient_scale();
  loss.row_weights = weights.empty() ? nullptr : weights.data();
  loss.losses = losses.data();
  const LossKernels& kernel = *kernels().losses;
  const CrossEntropyFn of_f32 = of_logits ? kernel.softmax_cross_entropy_f32 : kernel.cross_entropy_f32;
  const CrossEntropyFn of_f64 = of_logits ? kernel.softmax_cross_entropy_f64 : kernel.cross_entropy_f64;
  run_rows(loss, scores.is_float64() ? of_f64 : of_f32, ScoreRows(scores, dscores, targets, axis),
           38 + 0.55 * static_cast<double>(classes));
  return py::make_tuple(losses.result(), dscores.object());
}

py::tuple svm_loss(py::handle scores_in, py::handle labels_in, double margin, py::handle sample_weight,
                   py::handle reduction, py::handle axis_in, py::handle out) {
  const Array scores = read_floats(scores_in, "scores");
  const int axis = class_axis(scores, axis_in, "scores");
  const std::ptrdiff_t classes = scores.shape(axis), rows = scores.size() / classes;
  const Shape shape = shape_without(scores, axis);
  const Array given = any_array(labels_in, "labels");
  if (!PyTypeNum_ISINTEGER(given.dtype())) refuse_labels(given, shape, nullptr);
  const Array labels = class_indices(given.object(), shape, classes, py::none());
  const std::vector<double> weights = row_weights(sample_weight, shape, rows);
  const Array dscores = output(out, scores, "out", "scores");
  require_disjoint(dscores, "out", labels, "labels");
  Losses losses(reduction_of(reduction), shape, rows, total_weight(rows, weights, labels, {}));
  Hinge loss{};
  loss.labels = labels.as<const std::int64_t>();
  loss.classes = classes;
  loss.margin = margin;
  loss.gradient_scale = losses.gradient_scale();
  loss.row_weights = weights.empty() ? nullptr : weights.data();
  loss.losses = losses.data();
  const LossKernels& kernel = *kernels().losses;
  run_rows(loss, scores.is_float64() ? kernel.hinge_f64 : kernel.hinge_f32, ScoreRows(scores, dscores, {}, axis),
           30 + 0.4 * static_cast<double>(classes));
  return py::make_tuple(losses.result(), dscores.object());
}

// ---- losses of single elements ----

constexpr double kElementwiseNs[] = {
#define NNFAST_COST(formula, name, cost) cost,
    NNFAST_ELEMENTWISE_LOSSES(NNFAST_COST)
#undef NNFAST_COST
};

// The first element that is no probability, or the end; NaN goes through.
template <class T>
std::ptrdiff_t first_outside(const char* at, std::ptrdiff_t stride, std::ptrdiff_t count) {
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, at + i * stride, sizeof value);
    if (value < 0 || value > 1) return i;
  }
  return count;
}

void require_probabilities(const Array& array, const char* name) {
  const Array arrays[1] = {array};
  const StridedArrays<1> walk = strided(arrays);
  std::ptrdiff_t strides[1];
  walk.inner_strides(strides);
  std::atomic<std::ptrdiff_t> first{array.size()};
  {
    py::gil_scoped_release release;
    parallel_for(array.size(), 0.4, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      walk.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
        const std::ptrdiff_t found = array.is_float64() ? first_outside<double>(at[0], strides[0], count)
                                                        : first_outside<float>(at[0], strides[0], count);
        if (found == count) return;
        std::ptrdiff_t before = first.load();
        while (position + found < before && !first.compare_exchange_weak(before, position + found)) {
        }
      });
    });
  }
  if (first == array.size()) return;
  const py::object value = array.object().attr("item")(first.load());
  throw py::value_error(std::string(name) + " must be probabilities in [0, 1], got " + std::string(py::str(value)) +
                        " at position " + std::to_string(first.load()));
}

// Weights of elements, kept alive: of which shape they are is what differs.
struct ElementWeights {
  Array array;
  double sum = 0;  // of the array
  ByChannel<double> of{nullptr, 1, 1};
  explicit operator bool() const { return of.values != nullptr; }
  // The weights of elements [first, first + count), in `room` where they do not lie in memory as they are.
  const double* at(std::ptrdiff_t first, std::ptrdiff_t count, std::ptrdiff_t n, double* room) const {
    if (!of.values) return nullptr;
    if (of.inner == 1 && of.channels == n) return of.values + first;
    of.fill(room, first, count);
    return room;
  }
};

// sample_weight: of the predictions' shape or of their first axis.
ElementWeights sample_weights(py::handle value, const Array& predicted) {
  if (value.is_none()) return {};
  ElementWeights weights;
  weights.array = read_weights(value, "sample_weight", &weights.sum);
  const bool each = PyArray_SAMESHAPE(weights.array.get(), predicted.get());
  if (!each && (predicted.ndim() == 0 || !has_shape(weights.array, {predicted.shape(0)})))
    throw py::value_error("sample_weight must have shape " +
                          (predicted.ndim() > 1 ? shape_text(Shape{predicted.shape(0)}) + " or " : std::string()) +
                          shape_text(predicted) + ", got " + shape_text(weights.array));
  weights.of = {weights.array.as<double>(), weights.array.size(), predicted.size() / weights.array.size()};
  return weights;
}

// pos_weight: broadcasts to the predictions' shape.
ElementWeights positive_weights(py::handle value, const Array& predicted) {
  if (value.is_none()) return {};
  ElementWeights weights;
  weights.array = read_weights(value, "pos_weight");
  const int ndim = predicted.ndim(), missing = ndim - weights.array.ndim();
  // Axes that are its own, from the first to the last; where one between them is not, it is copied.
  int first = ndim, last = -1;
  bool broadcasts = missing >= 0, between = false;
  for (int d = std::max(missing, 0); broadcasts && d < ndim; ++d) {
    const std::ptrdiff_t length = weights.array.shape(d - missing);
    broadcasts = length == predicted.shape(d) || length == 1;
    if (length == 1) continue;
    first = std::min(first, d);
    last = d;
  }
  if (!broadcasts)
    throw py::value_error("pos_weight must broadcast to the shape of predictions, " + shape_text(predicted) + ", got " +
                          shape_text(weights.array));
  for (int d = first; d <= last; ++d) between |= weights.array.shape(d - missing) != predicted.shape(d);
  std::ptrdiff_t inner = 1;
  if (between) {
    const py::object numpy = py::module_::import("numpy");
    weights.array = Array(numpy.attr("ascontiguousarray")(
        numpy.attr("broadcast_to")(weights.array.object(), predicted.object().attr("shape"))));
  } else {
    for (int d = last + 1; d < ndim; ++d) inner *= predicted.shape(d);
  }
  weights.of = {weights.array.as<double>(), weights.array.size(), last < 0 ? predicted.size() : inner};
  return weights;
}

// Blocks of elements whose arrays are walked together.
struct ElementLoss {
  StridedArrays<3> walk;
  const ElementWeights &weights, &positive;
  LossRunFn fn;
  double gradient_scale, parameter;
  double* each;  // or null
  std::ptrdiff_t n, strides[3];

  ElementLoss(const Array (&arrays)[3], const ElementWeights& of_samples, const ElementWeights& of_positive)
      : walk(strided(arrays)), weights(of_samples), positive(of_positive), n(arrays[0].size()) {
    walk.inner_strides(strides);
  }

  // One run whose result overwrites no input.
  bool direct() const { return walk.ndim <= 1 && walk.data[2] != walk.data[0] && walk.data[2] != walk.data[1]; }

  template <class T>
  double block(std::ptrdiff_t first, std::ptrdiff_t count) const {
    double of_weights[kLossBlock + ByChannel<double>::kRoom], of_positive[kLossBlock + ByChannel<double>::kRoom];
    LossRun run{walk.data[0] + first * strides[0],
                walk.data[1] + first * strides[1],
                walk.data[2] + first * strides[2],
                strides[0],
                strides[1],
                strides[2],
                count,
                gradient_scale,
                parameter,
                weights.at(first, count, n, of_weights),
                positive.at(first, count, n, of_positive),
                each ? each + first : nullptr,
                weights && !(weights.sum > 1e-30 && weights.sum < 1e30)};
    if (direct()) return fn(run);
    T predicted[kLossBlock], targets[kLossBlock], slopes[kLossBlock];
    run.slopes = reinterpret_cast<char*>(slopes);
    run.slope_stride = sizeof(T);
    if (walk.ndim > 1) {
      // In one piece, so that the order of the sum does not depend on the layout.
      copy_block<T>(0, first, count, predicted, std::true_type{});
      copy_block<T>(1, first, count, targets, std::true_type{});
      run.predicted = reinterpret_cast<char*>(predicted);
      run.targets = reinterpret_cast<char*>(targets);
      run.predicted_stride = run.target_stride = sizeof(T);
    }
    const double sum = fn(run);
    copy_block<T>(2, first, count, slopes, std::false_type{});
    return sum;
  }

  // Between the elements [first, first + count) of an array and contiguous memory.
  template <class T, class In>
  void copy_block(int array, std::ptrdiff_t first, std::ptrdiff_t count, T* values, In) const {
    walk.for_runs(first, first + count, [&](char* const* at, std::ptrdiff_t length, std::ptrdiff_t position) {
      char* element = at[array];
      T* value = values + (position - first);
      if (strides[array] == sizeof(T)) {
        const auto bytes = static_cast<std::size_t>(length) * sizeof(T);
        In::value ? std::memcpy(value, element, bytes) : std::memcpy(element, value, bytes);
        return;
      }
      for (std::ptrdiff_t i = 0; i < length; ++i, element += strides[array])
        In::value ? std::memcpy(value + i, element, sizeof(T)) : std::memcpy(element, value + i, sizeof(T));
    });
  }
};

// Blocks are added in their order.
py::tuple elementwise_loss(int which, py::handle predicted_in, py::handle targets_in, double parameter,
                           py::handle pos_weight, py::handle sample_weight, py::handle reduction_in, py::handle out) {
  const auto reduction = reduction_of(reduction_in);
  const Array predicted = read_floats(predicted_in, "predictions");
  const Array targets = read_as(targets_in, predicted.dtype(), "targets");
  require_shape(targets, predicted, "targets", "predictions");
  const std::ptrdiff_t n = predicted.size();
  if (n == 0) throw py::value_error("predictions must not be empty, got " + shape_text(predicted));
  const ElementWeights weights = sample_weights(sample_weight, predicted);
  const ElementWeights positive = positive_weights(pos_weight, predicted);
  const Array slopes = output(out, predicted, "out", "predictions");
  require_no_partial_overlap(slopes, "out", targets, "targets");
  if (weights) require_disjoint(slopes, "out", weights.array, "sample_weight");
  if (positive) require_disjoint(slopes, "out", positive.array, "pos_weight");
  if (which == static_cast<int>(ElementwiseLoss::BinaryCrossEntropy)) require_probabilities(predicted, "predictions");

  const std::ptrdiff_t blocks = (n + kLossBlock - 1) / kLossBlock;
  const double weight = weights ? weights.sum * static_cast<double>(weights.of.inner) : static_cast<double>(n);
  const bool none = reduction == Reduction::none;
  Losses losses(reduction, none ? shape_without(predicted, -1) : Shape(), blocks, weight);
  ElementLoss loss({predicted, targets, slopes}, weights, positive);
  loss.fn = (predicted.is_float64() ? kernels().losses->elementwise_f64 : kernels().losses->elementwise_f32)[which];
  loss.gradient_scale = losses.gradient_scale();
  loss.parameter = parameter;
  loss.each = none ? losses.data() : nullptr;
  double* sums = losses.data();
  {
    py::gil_scoped_release release;
    parallel_for(blocks, kElementwiseNs[which] * kLossBlock, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b) {
        const std::ptrdiff_t first = b * kLossBlock, count = std::min(kLossBlock, n - first);
        const double sum = predicted.is_float64() ? loss.block<double>(first, count) : loss.block<float>(first, count);
        if (!none) sums[b] = sum;
      }
    });
  }
  return py::make_tuple(losses.result(), slopes.object());
}

}  // namespace

void bind_losses(py::module_& module) {
  module.def("cross_entropy", &cross_entropy);
  module.def("svm_loss", &svm_loss);
#define NNFAST_DEF(formula, name, cost)                                                                            \
  module.def(name, [](py::handle predicted, py::handle targets, double parameter, py::handle pos_weight,           \
                      py::handle sample_weight, py::handle reduction, py::handle out) {                            \
    return elementwise_loss(static_cast<int>(ElementwiseLoss::formula), predicted, targets, parameter, pos_weight, \
                            sample_weight, reduction, out);                                                        \
  });
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_DEF)
#undef NNFAST_DEF
}

}  // namespace nnfast
