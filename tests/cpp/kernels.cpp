// Runs every kernel of every instruction set that this machine has, without Python, over the same inputs, and prints a
// line each: instruction set, kernel, dtype, a hash of what it wrote. Instruction sets with FMA have to agree, those of
// other processors too.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kernels/activations.hpp"
#include "kernels/bias.hpp"
#include "kernels/dropout.hpp"
#include "kernels/embedding.hpp"
#include "kernels/gating.hpp"
#include "kernels/layer_norm.hpp"
#include "kernels/losses.hpp"
#include "kernels/normalization.hpp"
#include "kernels/optim.hpp"
#include "kernels/packing.hpp"
#include "kernels/penalties.hpp"
#include "kernels/pooling.hpp"
#include "kernels/random.hpp"
#include "kernels/softmax.hpp"
#include "kernels/sums.hpp"
#include "ops/convolution.hpp"
#include "ops/normalization.hpp"
#include "runtime/cpu.hpp"
#include "runtime/kernel_table.hpp"
#include "simd/float16.hpp"

using namespace nnfast;

namespace {

// Rows of a length that no vector divides.
constexpr std::ptrdiff_t kRows = 7, kColumns = 1043, kElements = kRows * kColumns;

struct Half {
  std::uint16_t bits;
};

template <class T>
constexpr const char* kName = sizeof(T) == 2 ? "f16" : (sizeof(T) == 4 ? "f32" : "f64");
// What is computed with, of which parameters are.
template <class T>
using Computed = std::conditional_t<sizeof(T) == 2, float, T>;

// The kernel of a dtype.
template <class T, class Fns>
auto of_dtype(const Fns& fns) {
  if constexpr (sizeof(T) == 2) {
    return fns.f16;
  } else if constexpr (sizeof(T) == 4) {
    return fns.f32;
  } else {
    return fns.f64;
  }
}

// ---- inputs ----

// Numbers of many sizes and both signs, now and then a special one.
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed * 2 + 1) {}
  double next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    const double unit = static_cast<double>(state_ >> 11) * 0x1p-53;
    const int kind = static_cast<int>(state_ >> 5 & 63);
    if (kind == 0) return kSpecial[state_ >> 40 & 7];
    return std::ldexp(2 * unit - 1, kind < 8 ? kind - 12 : kind % 5);
  }

 private:
  static constexpr double kSpecial[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 88.8, -104.0, 1e-40};
  std::uint64_t state_;
};

void put(double value, double& to) { to = value; }
void put(double value, float& to) { to = static_cast<float>(value); }
void put(double value, Half& to) { to.bits = narrow_float16(static_cast<float>(value)).bits; }

template <class T>
std::vector<T> numbers(std::uint64_t seed, std::ptrdiff_t n = kElements) {
  Numbers from(seed);
  std::vector<T> made(static_cast<std::size_t>(n));
  for (T& value : made) put(from.next(), value);
  return made;
}

// Finite ones, away from 0.
template <class T>
std::vector<T> tame(std::uint64_t seed, std::ptrdiff_t n = kElements) {
  Numbers from(seed);
  std::vector<T> made(static_cast<std::size_t>(n));
  for (T& value : made) {
    const double x = from.next();
    put(std::isfinite(x) && std::fabs(x) < 16 ? x + 0.125 : 0.5, value);
  }
  return made;
}

template <class T>
char* bytes(std::vector<T>& values) {
  return reinterpret_cast<char*>(values.data());
}

// ---- what comes out ----

// A quiet NaN for every NaN: processors differ in its sign and payload.
double same_nan(double x) { return x == x ? x : NAN; }
float same_nan(float x) { return x == x ? x : NAN; }
Half same_nan(Half x) { return (x.bits & 0x7fff) > 0x7c00 ? Half{0x7e00} : x; }
template <class T>
  requires std::is_integral_v<T>
T same_nan(T x) {
  return x;
}

// FNV-1a.
class Hash {
 public:
  template <class T>
  Hash& operator()(const std::vector<T>& values) {
    for (const T& value : values) add(same_nan(value));
    return *this;
  }
  template <class T>
  Hash& add(T value) {
    unsigned char raw[sizeof value];
    std::memcpy(raw, &value, sizeof value);
    for (const unsigned char byte : raw) hash_ = (hash_ ^ byte) * 1099511628211u;
    return *this;
  }
  void print(const std::string& kernel, const char* dtype) const {
    std::printf("%s %s %s %016llx\n", kernels().isa, kernel.c_str(), dtype, static_cast<unsigned long long>(hash_));
  }

 private:
  std::uint64_t hash_ = 14695981039346656037u;
};

// ---- families ----

// Inputs of numbers, then parameters that are repeated.
template <class T>
void elementwise(const Elementwise& kernel, const std::string& name, int inputs, int parameters) {
  std::vector<std::vector<T>> from;
  std::vector<Computed<T>> parameter(static_cast<std::size_t>(parameters), Computed<T>(0.75));
  std::vector<T> to(kElements);
  char* arrays[5];
  std::ptrdiff_t strides[5];
  for (int k = 0; k < inputs; ++k) from.push_back(numbers<T>(static_cast<std::uint64_t>(k + 1)));
  for (int k = 0; k < inputs + parameters; ++k) {
    arrays[k] = k < inputs ? bytes(from[static_cast<std::size_t>(k)])
                           : reinterpret_cast<char*>(&parameter[static_cast<std::size_t>(k - inputs)]);
    strides[k] = k < inputs ? static_cast<std::ptrdiff_t>(sizeof(T)) : 0;
  }
  arrays[inputs + parameters] = bytes(to);
  strides[inputs + parameters] = sizeof(T);
  std::feclearexcept(FE_ALL_EXCEPT);  // what was raised before does not count
  const unsigned raised = of_dtype<T>(kernel)(arrays, strides, kElements, false);
  Hash()(to).add(raised).print(name, kName<T>);
}

template <class T>
void activations() {
  const KernelTable& table = kernels();
#define NNFAST_RUN(formula, name, params)                                                             \
  elementwise<T>(table.activations->forward[static_cast<int>(Activation::formula)], name, 1, params); \
  elementwise<T>(table.activations->backward[static_cast<int>(Activation::formula)], name "_backward", 2, params);
  NNFAST_ACTIVATIONS(NNFAST_RUN)
#undef NNFAST_RUN
  elementwise<T>(table.activations->prelu_weight_grad, "prelu_weight_grad", 2, 0);
}

template <class T>
void gating() {
  const KernelTable& table = kernels();
#define NNFAST_RUN(formula, name)                                                     \
  elementwise<T>(table.gating->forward[static_cast<int>(Gate::formula)], name, 2, 0); \
  elementwise<T>(table.gating->gate_backward[static_cast<int>(Gate::formula)], name "_gate_backward", 3, 0);
  NNFAST_GATES(NNFAST_RUN)
#undef NNFAST_RUN
}

template <class T>
void biased(int index, const char* name, bool takes_y) {
  constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
  std::vector<T> x = numbers<T>(1), dy = tame<T>(2), bias = tame<T>(3, kColumns), y(kElements), dx(kElements);
  const BiasKernels& kernel = *kernels().bias;
  for (std::ptrdiff_t row = 0; row < kRows; ++row) {
    char* arrays[] = {bytes(x) + row * kColumns * size, bytes(bias), bytes(y) + row * kColumns * size};
    const std::ptrdiff_t strides[] = {size, size, size};
    of_dtype<T>(kernel.forward[index])(arrays, strides, kColumns, false);
  }
  std::vector<double> sums(kColumns);
  const BiasBackward backward{bytes(dy),
                              bytes(takes_y ? y : x),
                              takes_y ? nullptr : bytes(bias),
                              bytes(dx),
                              kColumns * size,
                              size,
                              kColumns * size,
                              size,
                              kColumns * size,
                              size,
                              sums.data(),
                              false};
  of_dtype<T>(kernel.backward[index])(backward, kRows, kColumns);
  Hash()(y)(dx)(sums).print(name, kName<T>);
}

template <class T>
void all_biased() {
#define NNFAST_RUN(formula, name, takes_y) biased<T>(static_cast<int>(Biased::formula), name, takes_y);
  NNFAST_BIASED(NNFAST_RUN)
#undef NNFAST_RUN
}

template <class T>
Matrix matrix(std::vector<T>& values, std::ptrdiff_t columns = kColumns) {
  return {bytes(values), columns * static_cast<std::ptrdiff_t>(sizeof(T)), sizeof(T)};
}

template <class T>
void softmax_family() {
  const SoftmaxKernels& kernel = *kernels().softmax;
  std::vector<T> x = numbers<T>(1), dy = tame<T>(2);
  for (int row = 1; row < kRows; ++row)  // the first row has all specials, the others none
    for (int i = 0; i < kColumns; ++i)
      x[static_cast<std::size_t>(row * kColumns + i)] = dy[static_cast<std::size_t>(i)];
  std::vector<char> mask(kElements);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 5 != 0;
  const Masking masking{0.75, {mask.data(), kColumns, 1}, kColumns - kRows + 1, 1};
  const auto run = [&](const char* name, Softmax forward, Softmax backward, bool saves_y, std::ptrdiff_t columns) {
    std::vector<T> y(static_cast<std::size_t>(kRows * columns)), dx(kElements);
    const auto of_result = [&](std::vector<T>& values) {
      return Matrix{bytes(values), columns * static_cast<std::ptrdiff_t>(sizeof(T)),
                    columns > 1 ? static_cast<std::ptrdiff_t>(sizeof(T)) : 0};
    };
    const Matrix x_y[] = {matrix(x), of_result(y)};
    const Matrix dy_saved_dx[] = {of_result(dy), saves_y ? of_result(y) : matrix(x), matrix(dx)};
    of_dtype<T>(kernel.of[static_cast<int>(forward)])(x_y, kRows, kColumns, masking);
    of_dtype<T>(kernel.of[static_cast<int>(backward)])(dy_saved_dx, kRows, kColumns, masking);
    Hash()(y)(dx).print(name, kName<T>);
  };
  run("softmax", Softmax::softmax, Softmax::softmax_backward, true, kColumns);
  run("log_softmax", Softmax::log_softmax, Softmax::log_softmax_backward, true, kColumns);
  run("logsumexp", Softmax::logsumexp, Softmax::logsumexp_backward, false, 1);
  run("sparsemax", Softmax::sparsemax, Softmax::sparsemax_backward, true, kColumns);
  run("masked_softmax", Softmax::masked_softmax, Softmax::masked_softmax_backward, true, kColumns);

  if (const auto signed_logsumexp = kernel.signed_logsumexp[dtype_of<T>]) {
    std::vector<double> logs(kRows), signs(kRows);
    signed_logsumexp(matrix(x), matrix(dy), kRows, kColumns, logs.data(), signs.data());
    Hash()(logs)(signs).print("signed_logsumexp", kName<T>);
  }

  // Of the columns, and of rows of 10.
  const auto run_rows = [&](const char* name, Softmax forward, Softmax backward, std::ptrdiff_t rows,
                            std::ptrdiff_t row_stride, std::ptrdiff_t n, std::ptrdiff_t stride) {
    std::vector<T> y(kElements), dx(kElements);
    const auto laid = [&](std::vector<T>& values) {
      constexpr auto size = static_cast<std::ptrdiff_t>(sizeof(T));
      return Matrix{bytes(values), row_stride * size, stride * size};
    };
    const Matrix x_y[] = {laid(x), laid(y)}, dy_y_dx[] = {laid(dy), laid(y), laid(dx)};
    of_dtype<T>(kernel.of[static_cast<int>(forward)])(x_y, rows, n, masking);
    of_dtype<T>(kernel.of[static_cast<int>(backward)])(dy_y_dx, rows, n, masking);
    Hash()(y)(dx).print(name, kName<T>);
  };
  run_rows("softmax of columns", Softmax::softmax, Softmax::softmax_backward, kColumns, 1, kRows, kColumns);
  run_rows("log_softmax of columns", Softmax::log_softmax, Softmax::log_softmax_backward, kColumns, 1, kRows, kColumns);
  run_rows("softmax of short rows", Softmax::softmax, Softmax::softmax_backward, kElements / 10, 10, 10, 1);
  run_rows("log_softmax of short rows", Softmax::log_softmax, Softmax::log_softmax_backward, kElements / 10, 10, 10, 1);
}

template <class T>
void embedding() {
  constexpr std::ptrdiff_t size = sizeof(T);
  std::vector<T> dy = numbers<T>(1), dtable(3 * kColumns);
  std::vector<IndexedRow> rows;
  for (std::ptrdiff_t r = 0; r < kRows; ++r) rows.push_back({r / 3, bytes(dy) + r * kColumns * size});
  const std::vector<std::ptrdiff_t> begins = {0, 3, 6, kRows};
  const unsigned raised =
      of_dtype<T>(kernels().embedding->sum_rows)({rows.data(), begins.data(), 0, size, kColumns, matrix(dtable)}, 0, 3);
  Hash()(dtable).add(raised).print("embedding", kName<T>);
}

// Images of 6 channels, in two groups of outputs, over a stride and a dilation: all three gradients and y.
template <class T>
void convolutions(bool last, std::ptrdiff_t outputs) {
  constexpr std::ptrdiff_t size = sizeof(T), kImages = 3, kIn = 6, kHeight = 21, kWidth = 23;
  const ConvolutionShape shape{
      dtype_of<T>, kImages, 2, kIn / 2, outputs, {kHeight, 11, 3, 2, 1, 1}, {kWidth, 21, 3, 1, 1, 2}};
  const std::ptrdiff_t pixels = kHeight * kWidth, positions = shape.rows.output * shape.columns.output;
  const auto images = [&](std::vector<T>& values, std::ptrdiff_t channels, std::ptrdiff_t width, std::ptrdiff_t count) {
    const std::ptrdiff_t column = last ? channels * size : size;
    return Images{{bytes(values), last ? size : count * size, width * column, column}, channels * count * size};
  };
  std::vector<T> x = tame<T>(1, kImages * kIn * pixels), dy = tame<T>(2, kImages * 2 * outputs * positions);
  std::vector<T> w = tame<T>(3, 2 * outputs * kIn / 2 * 9), y(dy.size()), dx(x.size()), dw(w.size());
  std::vector<Computed<T>> bias = tame<Computed<T>>(4, 2 * outputs);
  std::vector<double> db(2 * outputs);
  const auto weights = [](std::vector<T>& values) {
    return ConvolutionWeights{bytes(values), {kIn / 2 * 9 * size, 9 * size, 3 * size, size}, dtype_of<T>};
  };
  const std::ptrdiff_t out_width = shape.columns.output;
  const Images to_dx = images(dx, kIn, kWidth, pixels);
  const ConvolutionWeights to_dw = weights(dw);
  convolution(shape, images(x, kIn, kWidth, pixels), weights(w), bias.data(),
              images(y, 2 * outputs, out_width, positions));
  convolution_backward(shape, images(dy, 2 * outputs, out_width, positions), images(x, kIn, kWidth, pixels), weights(w),
                       {&to_dx, &to_dw, db.data()});
  const std::string name = "convolution to " + std::to_string(outputs) + (last ? ", channels last" : "");
  Hash()(y)(dx)(dw)(db).print(name, kName<T>);
}

template <class T>
void maxout() {
  constexpr std::ptrdiff_t kPieces = 3, kGroups = 347, size = sizeof(T);
  std::vector<T> x = numbers<T>(1, kGroups * kPieces), y(kGroups), dx(kGroups * kPieces), dy = tame<T>(2, kGroups);
  std::vector<std::uint8_t> which(kGroups);
  const ActivationKernels& kernel = *kernels().activations;
  of_dtype<T>(kernel.maxout)({bytes(x), bytes(y), bytes(which), size, size, 1, kPieces * size}, kGroups, kPieces);
  of_dtype<T>(kernel.maxout_backward)({bytes(dx), bytes(dy), bytes(which), size, size, 1, kPieces * size}, kGroups,
                                      kPieces);
  Hash()(y)(which)(dx).print("maxout", kName<T>);
}

template <class T>
void losses() {
  const LossKernels& kernel = *kernels().losses;
  std::vector<T> z = tame<T>(1), dz(kElements), targets = tame<T>(2);
  for (T& target : targets) target = std::fabs(target);
  std::vector<double> of_rows(kRows);
  const std::vector<std::int64_t> labels = {0, 5, kNoLabel, 1042, 17, 517, 1};
  const LossRows rows{matrix(z), matrix(dz), labels.data(), kColumns, 0.125, nullptr, of_rows.data()};
  CrossEntropy loss{rows, {}, nullptr, nullptr, nullptr, 0};
  const auto cross_entropy = kernel.softmax_cross_entropy[dtype_of<T>];
  cross_entropy(loss, 0, kRows);
  Hash()(dz)(of_rows).print("softmax_cross_entropy of labels", kName<T>);
  loss.labels = nullptr;
  loss.targets = matrix(targets);
  cross_entropy(loss, 0, kRows);
  Hash()(dz)(of_rows).print("softmax_cross_entropy of targets", kName<T>);
  std::vector<T> probabilities = numbers<T>(3);
  for (T& p : probabilities) p = std::isfinite(p) ? std::fabs(p) / (1 + std::fabs(p)) : T{0};
  loss.scores = matrix(probabilities);
  const auto of_probabilities = kernel.cross_entropy[dtype_of<T>];
  of_probabilities(loss, 0, kRows);
  Hash()(dz)(of_rows).print("cross_entropy of targets", kName<T>);
  loss.labels = labels.data();
  of_probabilities(loss, 0, kRows);
  Hash()(dz)(of_rows).print("cross_entropy of labels", kName<T>);
  const std::vector<std::int64_t> classes = {0, 5, 3, 1042, 17, 517, 1};
  Hinge hinge{rows, 1, false};
  hinge.labels = classes.data();
  kernel.hinge[dtype_of<T>](hinge, 0, kRows);
  Hash()(dz)(of_rows).print("svm_loss", kName<T>);
  hinge.squared = true;
  kernel.hinge[dtype_of<T>](hinge, 0, kRows);
  Hash()(dz)(of_rows).print("svm_loss squared", kName<T>);
  const std::vector<double> some = {1, 2, 0, 1, 0.5, 3, 1};
  LossRows likelihood = rows;
  likelihood.row_weights = some.data();
  kernel.negative_log_likelihood[dtype_of<T>](likelihood, 0, kRows);
  Hash()(dz)(of_rows).print("nll_loss", kName<T>);
  std::vector<double> sums(3 * kRows);
  const RowPairs pairs{matrix(z), matrix(targets), matrix(dz), kColumns, sums.data(), sums.data(), 0.25};
  kernel.pair_sums[dtype_of<T>](pairs, 0, kRows);
  kernel.mix_pairs[dtype_of<T>](pairs, 0, kRows);
  Hash()(dz)(sums).print("row_pairs", kName<T>);
  kernel.differences[dtype_of<T>](pairs, 0, kRows);
  Hash()(dz)(sums).print("differences", kName<T>);
  std::vector<double> weights(kLossBlock);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = static_cast<double>(i % 5);
  const auto elementwise_loss = [&](ElementwiseLoss which, const char* name) {
    const bool of_logits = which != ElementwiseLoss::BinaryCrossEntropy && which != ElementwiseLoss::PoissonOfRate &&
                           which != ElementwiseLoss::GaussianOfVariance;
    const auto& predictions = of_logits ? z : probabilities;
    LossRun run{predictions.data(), targets.data(), dz.data(), kLossBlock, 0.125,
                {1.5, 0.25, 0.75},  nullptr,        nullptr,   nullptr,    false};
    const LossRunFn fn = kernel.elementwise[static_cast<int>(which)][dtype_of<T>];
    const double sum = fn(run);
    Hash()(dz).add(sum).print(name, kName<T>);
    run.weights = weights.data();
    double weighted = fn(run);
    Hash hash;
    hash(dz);
    run.positive_weights = weights.data();
    weighted += fn(run);
    hash(dz).add(weighted).print(std::string(name) + " weighted", kName<T>);
  };
#define NNFAST_RUN(formula, name) elementwise_loss(ElementwiseLoss::formula, name);
  NNFAST_ELEMENTWISE_LOSSES(NNFAST_RUN)
#undef NNFAST_RUN
}

Axes axis(std::ptrdiff_t shape, std::ptrdiff_t stride) {
  Axes axes{};
  axes.count = 1;
  axes.shape[0] = shape;
  for (auto& strides : axes.strides) strides[0] = stride;
  return axes;
}

// Sets of 7 values whose lanes are sets, or of 1043 whose lanes are members.
template <class T>
void normalization(bool across) {
  constexpr std::ptrdiff_t size = sizeof(T);
  const std::ptrdiff_t sets = across ? kColumns : kRows, members = across ? kRows : kColumns;
  const auto count = static_cast<std::size_t>(sets);
  std::vector<T> x = tame<T>(1), dy = tame<T>(2), y(kElements), dx(kElements);
  std::vector<double> gamma = tame<double>(3, sets), beta = tame<double>(4, sets), mean(count), var(count), inv(count);
  std::vector<std::uint8_t> bits(static_cast<std::size_t>((across ? members : sets) * 136));
  Normalization norm{};
  norm.sets = axis(sets, across ? size : kColumns * size);
  norm.members = axis(members, across ? kColumns * size : size);
  norm.set_count = norm.groups = sets;
  norm.member_count = norm.segment = members;
  norm.segments = 1;
  norm.gamma = gamma.data();
  norm.beta = beta.data();
  norm.eps = 1e-5;
  norm.bits = bits.data();
  norm.bits_stride = 136;
  norm.across = across;
  norm.data[0] = bytes(x);
  norm.data[1] = bytes(y);
  normalise_by_own(dtype_of<T>, norm, {mean.data(), var.data(), inv.data()});
  norm.mean = mean.data();
  norm.inv_std = inv.data();
  norm.data[0] = bytes(dy);
  norm.data[1] = bytes(x);
  norm.data[2] = bytes(dx);
  normalise_backward(dtype_of<T>, norm, true);
  const std::vector<double> ones(count, 1);
  norm.inv_std = ones.data();
  const ParameterGradients sums = parameter_gradients(dtype_of<T>, norm);
  Hash()(y)(mean)(var)(inv)(bits)(dx)(sums.dbeta)(sums.dgamma)
      .print(across ? "batch_norm" : "batch_norm of rows", kName<T>);
}

template <class T>
void layer_norm(bool centred) {
  constexpr std::ptrdiff_t size = sizeof(T);
  std::vector<T> x = tame<T>(1), dy = tame<T>(2), y(kElements), dx(kElements);
  std::vector<Computed<T>> gamma = tame<Computed<T>>(3, kColumns), beta = tame<Computed<T>>(4, kColumns);
  std::vector<double> mean(kRows), inv(kRows), dgamma(kColumns), dbeta(kColumns);
  LayerNorm layer{};
  layer.norm.sets = axis(kRows, kColumns * size);
  layer.norm.members = axis(kColumns, size);
  layer.norm.set_count = kRows;
  layer.norm.member_count = kColumns;
  layer.norm.eps = 1e-5;
  layer.gamma = gamma.data();
  layer.beta = centred ? beta.data() : nullptr;
  layer.mean = centred ? mean.data() : nullptr;
  layer.inv_std = inv.data();
  layer.norm.data[0] = bytes(x);
  layer.norm.data[1] = bytes(y);
  const LayerNormKernels& kernel = *kernels().layer_norm;
  (centred ? kernel.layer_norm : kernel.rms_norm)[dtype_of<T>](layer, 0, kRows);
  layer.dgamma = dgamma.data();
  layer.dbeta = centred ? dbeta.data() : nullptr;
  layer.norm.data[0] = bytes(dy);
  layer.norm.data[1] = bytes(x);
  layer.norm.data[2] = bytes(dx);
  (centred ? kernel.layer_norm_backward : kernel.rms_norm_backward)[dtype_of<T>](layer, 0, kRows);
  Hash()(y)(mean)(inv)(dx)(dgamma)(dbeta).print(centred ? "layer_norm" : "rms_norm", kName<T>);
}

template <class T>
void dropout() {
  constexpr std::ptrdiff_t size = sizeof(T);
  const DropoutKernels& kernel = *kernels().dropout;
  std::vector<T> x = numbers<T>(1), y(kElements), bias = tame<T>(3, kColumns);
  std::vector<std::uint8_t> bits((kElements + 7) / 8 + 4);
  DropoutMask mask{};
  mask.seed = 12345;
  mask.offset = 99;
  mask.threshold = std::uint64_t{1} << 30;
  kernel.mask(mask, bits.data(), 0, kElements);
  std::fill(bits.begin() + (kElements + 7) / 8, bits.end(), std::uint8_t{0});  // it may write a little past the last
  kernel.apply[dtype_of<T>]({1.5, 0.25, -1},
                            {bits.data(), 0, bytes(x), bytes(y), size, size, kElements, false, nullptr});
  std::vector<double> sums(kColumns);
  for (std::ptrdiff_t row = 0; row < kRows; ++row) {
    const std::ptrdiff_t first = row * kColumns;
    const DropoutRun run{bits.data(), first,  bytes(x) + first * size, bytes(x) + first * size, size, size, kColumns,
                         false,       nullptr};
    kernel.bias_relu[dtype_of<T>]({1.5, -0.0, 0}, run, bytes(bias), bits.data());
    kernel.apply_sums[dtype_of<T>]({1.5, -0.0, 0}, run, sums.data());
  }
  Hash()(bits)(y)(x)(sums).print("dropout", kName<T>);
  elementwise<T>(kernel.keep_scaled, "keep_scaled", 1, 1);

  const std::vector<std::uint64_t> thresholds = {std::uint64_t{1} << 30, 0, std::uint64_t{1} << 32, 0x12345678};
  const std::vector<std::uint16_t> high = {1 << 14, 0, 0xffff, 0x1234};
  mask.thresholds = thresholds.data();
  mask.high_thresholds = high.data();
  mask.channels = 4;
  mask.inner = 3;
  kernel.mask(mask, bits.data(), 0, kElements);
  std::fill(bits.begin() + (kElements + 7) / 8, bits.end(), std::uint8_t{0});
  const std::vector<Computed<T>> scales = tame<Computed<T>>(4);
  kernel.apply[dtype_of<T>]({1, -0.0, 0},
                            {bits.data(), 0, bytes(x), bytes(y), size, size, kElements, false, scales.data()});
  Hash()(bits)(y).print("dropout by channel", kName<T>);
}

void random_numbers() {
  const RandomKernels& kernel = *kernels().random;
  const RandomStream stream{7, 3, 17, 1, 2, -1, 2, 0, 0, 5, 3'000'000'000'000'000'000u};
  const auto run = [&](RandomFn fn, const char* name, auto value) {
    std::vector<decltype(value)> to(kElements);
    fn(stream, 0, kElements, bytes(to), sizeof value);
    Hash()(to).print(name, sizeof value == 4 ? "f32" : "f64");
  };
  run(kernel.bits_32, "bits", std::uint32_t{});
  run(kernel.bits_64, "bits", std::uint64_t{});
  run(kernel.uniform_f32, "uniform", float{});
  run(kernel.uniform_f64, "uniform", double{});
  run(kernel.normal_f32, "normal", float{});
  run(kernel.normal_f64, "normal", double{});
  run(kernel.exponential_f32, "exponential", float{});
  run(kernel.exponential_f64, "exponential", double{});
  run(kernel.truncated_f32, "truncated", float{});
  run(kernel.truncated_f64, "truncated", double{});
  run(kernel.narrow_f64, "narrow", double{});
  run(kernel.integers_32, "integers", std::uint32_t{});
  run(kernel.integers_64, "integers", std::uint64_t{});
}

// Three steps of a rule; every hyperparameter of its own is 0.5.
template <class T>
void optimizer(const PerDtype<OptimFn>& fns, const std::string& name, int states, bool full) {
  double of_step[kMaxHyperparameters];
  for (double& number : of_step) number = 0.5;
  of_step[kSign] = full ? -1 : 1;
  of_step[kClip] = full ? 3 : INFINITY;
  of_step[kShrink] = 0.875;
  std::vector<T> param = tame<T>(1), grad = tame<T>(2);
  std::vector<Computed<T>> kept[6];
  for (int k = 0; k < 6; ++k) {
    kept[k] = tame<Computed<T>>(static_cast<std::uint64_t>(3 + k));
    for (auto& value : kept[k]) value = std::fabs(value);
  }
  constexpr bool half = sizeof(T) == 2;
  char* arrays[kOptimArrays] = {bytes(param),
                                bytes(grad),
                                bytes(kept[0]),
                                bytes(kept[1]),
                                bytes(kept[2]),
                                bytes(kept[5]),
                                full ? bytes(kept[3]) : nullptr,
                                half ? bytes(kept[4]) : nullptr};
  std::ptrdiff_t strides[kOptimArrays];
  for (int k = 0; k < kOptimArrays; ++k) strides[k] = k < kState0 ? sizeof(T) : sizeof(Computed<T>);
  std::vector<double> sums(2 * kOptimSums);
  for (int step = 0; step < 3; ++step)
    of_dtype<T>(fns)(of_step, 0.75, arrays, strides, kOptimBlock, full ? sums.data() : nullptr);
  Hash hash = Hash()(param)(kept[0])(kept[1])(kept[2])(kept[3])(kept[4])(sums);
  if (states > 3) hash(kept[5]);
  hash.print(name, kName<T>);
}

// A step by the sum of what was accumulated and a gradient.
template <class T>
void accumulated() {
  const OptimKernels& kernel = *kernels().optim;
  double of_step[kMaxHyperparameters] = {};
  of_step[kSign] = of_step[kShrink] = 1;
  of_step[kClip] = INFINITY;
  of_step[kSharedHyperparameters] = 0.5;  // the rate
  std::vector<T> param = tame<T>(1), grad = tame<T>(2);
  std::vector<Computed<T>> sum = tame<Computed<T>>(3), master = tame<Computed<T>>(4);
  char* arrays[kOptimArrays] = {};
  std::ptrdiff_t strides[kOptimArrays];
  for (int k = 0; k < kOptimArrays; ++k) strides[k] = k < kState0 ? sizeof(T) : sizeof(Computed<T>);
  arrays[kParam] = bytes(param);
  arrays[kGrad] = bytes(grad);
  arrays[kMaster] = bytes(master);
  arrays[kAccumulated] = bytes(sum);
  of_dtype<T>(kernel.with_accumulated)(of_dtype<T>(kernel.plain[static_cast<int>(OptimRule::Sgd)]), of_step, 0.75,
                                       arrays, strides, kOptimBlock, nullptr);
  Hash()(param)(master).print("accumulated", kName<T>);
}

template <class T>
void optimizers() {
  const OptimKernels& kernel = *kernels().optim;
#define NNFAST_RUN(rule, name, states, ...)                                           \
  optimizer<T>(kernel.plain[static_cast<int>(OptimRule::rule)], name, states, false); \
  optimizer<T>(kernel.full[static_cast<int>(OptimRule::rule)], name " with sums", states, true);
  NNFAST_OPTIM_RULES(NNFAST_RUN)
#undef NNFAST_RUN
  accumulated<T>();
}

// Numbers of all magnitudes, one block without what is not finite, packed and unpacked.
void packed() {
  const PackingKernels& kernel = *kernels().packing;
  std::vector<std::uint32_t> words(kPackedChunk);
  kernel.random(0x123456789abcdefu, words.data());
  Hash()(words).print("random words of packing", "u32");
  std::vector<float> x = numbers<float>(1), y(kPackedChunk);
  x.resize(kPackedChunk);
  std::copy_n(tame<float>(2).begin(), kPackedBlock, x.begin());
  std::vector<std::uint16_t> halves(kPackedChunk);
  kernel.pack_bfloat16(x.data(), bytes(halves), kPackedChunk, words.data(), 99, true);
  kernel.unpack_bfloat16(bytes(halves), y.data(), kPackedChunk - 3);
  Hash()(halves)(y).print("packed as bfloat16", "f32");
  const std::pair<Packing, const char*> packings[] = {
      {Packing::average8, "packed in 8 bits"},
      {Packing::momentum8, "packed momentum in 8 bits"},
      {Packing::squares8, "packed squares in 8 bits"},
  };
  for (const auto& [packing, name] : packings) {
    std::vector<std::uint8_t> codes(2 * kPackedChunk);
    if (packing == Packing::squares8)
      for (float& each : x) each = std::fabs(each);
    kernel.pack_blocks(packing, x.data(), bytes(codes), kPackedChunk, words.data(), 77, packing == Packing::squares8);
    kernel.unpack_blocks(packing, bytes(codes), y.data(), kPackedChunk);
    Hash()(codes)(y).print(name, "f32");
  }
}

template <class T>
void penalties() {
  std::vector<T> weights = tame<T>(1), gradients = tame<T>(2);
  double sums[2] = {};
  of_dtype<T> (*kernels().penalties)({0.25, 0.5}, bytes(weights), sizeof(T), bytes(gradients), sizeof(T), kPenaltyBlock,
                                     sums);
  Hash()(gradients).add(sums[0]).add(sums[1]).print("elastic_net", kName<T>);
}

void widen_float16() {
  std::vector<Half> halves = numbers<Half>(1);
  std::vector<float> wide(kElements);
  kernels().sums->widen(bytes(halves), 2, wide.data(), kElements);
  Hash()(halves)(wide).print("widen", "f16");
}

template <class T>
void sums() {
  const std::vector<T> values = numbers<T>(1);
  std::vector<double> to(kElements, 0.5);
  of_dtype<T>(kernels().sums->add_rows)(reinterpret_cast<const char*>(values.data()), 0, sizeof(T), 1, kElements - 1,
                                        to.data());
  Hash()(to).print("sums", kName<T>);
}

// Windows of 3 x 3 with padding. Across: the columns are channels of planes with rows of one.
void pool(PoolFn fn, const char* name, std::ptrdiff_t stride, bool across) {
  constexpr std::ptrdiff_t size = sizeof(float);
  const auto axis = [=](std::ptrdiff_t n) { return PoolAxis{n, (n - 1) / stride + 1, 3, stride, 1, 1}; };
  Pooling pooling{axis(kRows), axis(across ? 1 : kColumns), kColumns, true, {}, {}, {}, 0, 0};
  std::vector<float> x = numbers<float>(1), y(kElements);
  std::vector<std::int32_t> which(kElements);
  const std::ptrdiff_t row = (across ? kColumns : pooling.columns.count) * size;
  pooling.x = {bytes(x), kColumns * size, size, size};
  pooling.y = {bytes(y), row, size, size};
  pooling.which = {bytes(which), row, size, size};
  fn(pooling, 0, pooling.rows.count);
  Hash()(y)(which).print(name, "f32");
}

// The gradient of means of 3 x 3 by two, along rows or across channels, and columns of 3 x 3 by one.
template <class T>
void pool_backward() {
  constexpr std::ptrdiff_t size = sizeof(T), kTaps = 9;
  const auto axis = [](std::ptrdiff_t n, std::ptrdiff_t stride) {
    return PoolAxis{n, (n - 1) / stride + 1, 3, stride, 1, 1};
  };
  const PoolingKernels& kernel = *kernels().pooling;
  std::vector<T> x(kElements);
  const auto run = [&](const PerDtype<PoolFn>& fn, const char* name, std::vector<T> y, std::ptrdiff_t stride,
                       bool across) {
    Pooling pooling{
        axis(kRows, stride), axis(across ? 1 : kColumns, stride), across ? kColumns : 1, true, {}, {}, {}, 0, 0};
    const std::ptrdiff_t row = (across ? kColumns : pooling.columns.count) * size;
    pooling.x = {bytes(x), kColumns * size, size, size};
    pooling.y = {bytes(y), row, size, size};
    pooling.tap_column = kElements * size;
    pooling.tap_row = 3 * pooling.tap_column;
    const unsigned raised = of_dtype<T>(fn)(pooling, 0, kRows);
    Hash()(x).add(raised).print(name, kName<T>);
  };
  for (const std::ptrdiff_t stride : {1, 2, 3, 11}) {
    run(kernel.mean_backward_along, "avg_pool_backward", tame<T>(1), stride, false);
    run(kernel.mean_backward_across, "avg_pool_backward across", tame<T>(1), stride, true);
    run(kernel.fold, "col2im", tame<T>(2, kTaps * kElements), stride, false);
  }
}

// Calls body with a value of each dtype.
template <class Body>
void for_floats(Body body) {
  body(float{});
  body(double{});
}
template <class Body>
void for_all(Body body) {
  body(Half{});
  for_floats(body);
}

// A function for each family of families.def: a family without one does not link.
void run_activations() {
  for_all([](auto type) { activations<decltype(type)>(); });
  for_floats([](auto type) { maxout<decltype(type)>(); });
}
void run_gating() {
  for_all([](auto type) { gating<decltype(type)>(); });
}
void run_bias() {
  for_all([](auto type) { all_biased<decltype(type)>(); });
}
void run_softmax() {
  for_all([](auto type) { softmax_family<decltype(type)>(); });
}
void run_embedding() {
  for_all([](auto type) { embedding<decltype(type)>(); });
}
void run_convolution() {
  for (const std::ptrdiff_t outputs : {2, 5})
    for (const bool last : {false, true}) for_all([=](auto type) { convolutions<decltype(type)>(last, outputs); });
}
void run_losses() {
  for_floats([](auto type) { losses<decltype(type)>(); });
}
void run_normalization() {
  for (const bool across : {false, true}) for_all([=](auto type) { normalization<decltype(type)>(across); });
}
void run_layer_norm() {
  for (const bool centred : {false, true}) for_all([=](auto type) { layer_norm<decltype(type)>(centred); });
}
void run_dropout() {
  for_all([](auto type) { dropout<decltype(type)>(); });
}
void run_random() { random_numbers(); }
void run_optim() {
  for_all([](auto type) { optimizers<decltype(type)>(); });
}
void run_packing() { packed(); }
void run_penalties() {
  for_floats([](auto type) { penalties<decltype(type)>(); });
}
void run_pooling() {
  const PoolingKernels& kernel = *kernels().pooling;
  pool(kernel.max_along, "max_pool", 1, false);
  pool(kernel.max_along, "max_pool by two", 2, false);
  pool(kernel.max_across, "max_pool across", 2, true);
  pool(kernel.mean_along, "avg_pool", 1, false);
  pool(kernel.mean_along, "avg_pool by two", 2, false);
  pool(kernel.mean_across, "avg_pool across", 2, true);
  pool(kernel.max_along, "max_pool by three", 3, false);
  pool(kernel.mean_along, "avg_pool by three", 3, false);
  for_all([](auto type) { pool_backward<decltype(type)>(); });
  const std::vector<float> x = tame<float>(1);
  Hash()(std::vector<double>{kernel.plane_mean(x.data(), kElements)}).print("plane_mean", "f32");
}
void run_sums() {
  for_floats([](auto type) { sums<decltype(type)>(); });
  widen_float16();
}

}  // namespace

int main() {
  for (const KernelTable& table : built_kernels()) {
    if (!cpu_supports(table.isa)) continue;
    choose_kernels(table.isa);
#define NNFAST_RUN(name, Kernels, _) run_##name();
    NNFAST_FAMILIES(NNFAST_RUN, )
#undef NNFAST_RUN
  }
}
