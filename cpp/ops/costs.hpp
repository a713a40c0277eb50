// What kernels cost. From it parallel_for decides how many threads pay off, and so only its order of magnitude matters:
// `python -m bench costs` measures each and fails where one is off by more than the factor it allows.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

#include "kernels/per_dtype.hpp"

namespace nnfast {

struct Cost {
  const char* name;
  // Nanoseconds an element of float32, on one core of x86-64-v4, arrays in the second-level cache.
  double ns;
  // Waits for memory where arrays are larger than the caches: then results are stored past them.
  bool memory_bound = false;
};

constexpr bool kMemoryBound = true;

constexpr Cost kCosts[] = {
    // Activations, and their gradients.
    {"bfloat16", 0.3},  // to or from float32
    {"relu", 0.09, kMemoryBound},
    {"relu_backward", 0.14, kMemoryBound},
    {"relu6", 0.09, kMemoryBound},
    {"relu6_backward", 0.14, kMemoryBound},
    {"hardtanh", 0.09, kMemoryBound},
    {"hardtanh_backward", 0.14, kMemoryBound},
    {"leaky_relu", 0.09, kMemoryBound},
    {"leaky_relu_backward", 0.14, kMemoryBound},
    {"prelu", 0.09, kMemoryBound},
    {"prelu_backward", 0.14, kMemoryBound},
    {"threshold", 0.09, kMemoryBound},
    {"threshold_backward", 0.14, kMemoryBound},
    {"hardshrink", 0.09, kMemoryBound},
    {"hardshrink_backward", 0.14, kMemoryBound},
    {"softshrink", 0.09, kMemoryBound},
    {"softshrink_backward", 0.14, kMemoryBound},
    {"relu_squared", 0.09, kMemoryBound},
    {"relu_squared_backward", 0.14, kMemoryBound},
    {"hardsigmoid", 0.09, kMemoryBound},
    {"hardsigmoid_backward", 0.14, kMemoryBound},
    {"hardswish", 0.22, kMemoryBound},
    {"hardswish_backward", 0.14, kMemoryBound},
    {"elu", 0.4},
    {"elu_backward", 0.1, kMemoryBound},
    {"celu", 0.4},
    {"celu_backward", 0.1, kMemoryBound},
    {"selu", 0.4},
    {"selu_backward", 0.1, kMemoryBound},
    {"sigmoid", 0.4},
    {"sigmoid_backward", 0.1, kMemoryBound},
    {"logsigmoid", 0.7},
    {"logsigmoid_backward", 0.35},
    {"softplus", 0.7},
    {"softplus_backward", 0.35},
    {"tanh", 0.3},
    {"tanh_backward", 0.1, kMemoryBound},
    {"tanhshrink", 0.45},
    {"tanhshrink_backward", 0.3},
    {"silu", 0.3},
    {"silu_backward", 0.35},
    {"mish", 0.7},
    {"mish_backward", 0.45},
    {"softsign", 0.25, kMemoryBound},
    {"softsign_backward", 0.25, kMemoryBound},
    {"squareplus", 0.35, kMemoryBound},
    {"squareplus_backward", 0.25, kMemoryBound},
    {"gelu", 0.3},
    {"gelu_backward", 0.35},
    {"gelu_tanh", 0.7},
    {"gelu_tanh_backward", 0.35},
    {"prelu_channels", 0.12, kMemoryBound},  // one weight a channel
    {"prelu_weight_rows", 0.3},              // the gradient with respect to the weights, of rows of them
    {"prelu_weight_strided", 1.5},           // of weights in any other layout
    {"maxout", 0.15},                        // an element of x

    // Gated linear units, an element of y; and the gradient with respect to the gates alone.
    {"glu", 0.35},
    {"glu_gate_backward", 0.35},
    {"geglu", 0.35},
    {"geglu_gate_backward", 0.45},
    {"swiglu", 0.35},
    {"swiglu_gate_backward", 0.45},

    // Activations of x + bias.
    {"bias_relu", 0.12, kMemoryBound},
    {"bias_relu_backward", 0.2, kMemoryBound},
    {"bias_gelu", 0.35},
    {"bias_gelu_backward", 0.5},
    {"bias_gelu_tanh", 0.7},
    {"bias_gelu_tanh_backward", 0.6},
    {"bias_silu", 0.4},
    {"bias_silu_backward", 0.6},
    {"bias_tanh", 0.5},
    {"bias_tanh_backward", 0.2, kMemoryBound},
    {"column_sums", 0.1},

    // The family of softmax, and what each row adds.
    {"softmax", 0.5},
    {"softmax_backward", 0.3},
    {"softmax_row", 3},
    {"sparsemax", 2},
    {"signed_logsumexp", 1.5},
    {"signed_logsumexp_row", 40},

    // Rows of a table, an element of y and of dy.
    {"embedding", 0.1, kMemoryBound},
    {"embedding_backward", 0.2},

    // Losses, an element of the predictions or scores, and what each row of scores adds.
    {"mse_loss", 0.25},
    {"l1_loss", 0.25},
    {"huber_loss", 0.3},
    {"log_cosh_loss", 1.5},
    {"poisson_nll_loss", 0.5},
    {"poisson_nll_loss_of_rates", 0.7},
    {"kl_div", 0.7},
    {"gaussian_nll_loss", 0.7},
    {"hinge_loss", 0.3},
    {"squared_hinge_loss", 0.3},
    {"sigmoid_focal_loss", 6.5},
    {"binary_cross_entropy_with_logits", 1.5},
    {"binary_cross_entropy", 2},
    {"cross_entropy", 0.55},
    {"cross_entropy_row", 38},
    {"probabilities_at_labels", 0.1},
    {"probabilities_at_labels_row", 12},
    {"svm_loss", 0.4},
    {"svm_loss_row", 30},
    {"nll_loss", 0.1},
    {"nll_loss_row", 5},
    {"row_pairs", 0.3},
    {"row_pairs_row", 9},
    {"score_tiles", 1},      // strided rows, copied to and from a tile
    {"probabilities", 0.2},  // their check

    {"convolution", 0.01},  // a product

    // Normalisation: passes over sets of values, and over rows.
    {"norm_moments", 0.12},
    {"norm_set", 8},  // what is computed of the sums of a set
    {"norm_map", 0.12, kMemoryBound},
    {"norm_gradient_sums", 0.2},
    {"norm_input_gradient", 0.15, kMemoryBound},
    {"layer_norm", 0.25},
    {"layer_norm_backward", 0.6},

    // Dropout.
    {"dropout_mask", 0.14},
    {"dropout_mask_channels", 0.25},  // one probability a channel
    {"apply_mask", 0.08, kMemoryBound},
    {"apply_mask_channels", 0.16, kMemoryBound},
    {"bias_relu_dropout", 0.3},
    {"bias_relu_dropout_backward", 0.2},
    {"keep_scaled", 0.1, kMemoryBound},

    // Pooling, an element of a window; backward of the maxima an element of dx; of whole planes an element of x; of
    // columns an element of them.
    {"max_pool", 0.22},
    {"avg_pool", 0.25},
    {"max_pool_backward", 0.3},
    {"avg_pool_backward", 0.3},
    {"global_avg_pool", 0.15},
    {"global_avg_pool_backward", 0.1, kMemoryBound},
    {"im2col", 0.13, kMemoryBound},
    {"col2im", 0.15},

    // Random numbers.
    {"bits_32", 0.25},
    {"bits_64", 0.5},
    {"uniform_f32", 0.3},
    {"uniform_f64", 0.6},
    {"normal_f32", 0.8},
    {"normal_f64", 3.0},
    {"exponential_f32", 0.5},
    {"exponential_f64", 1.5},
    {"truncated_f32", 4},
    {"truncated_f64", 8},
    {"narrow_f64", 20},
    {"integers", 0.8},
    {"permutation", 4},

    // Rules of optimizers, an element of a parameter.
    {"sgd", 0.1},
    {"sgd_momentum", 0.2},
    {"adagrad", 0.45},
    {"adadelta", 0.5},
    {"rmsprop", 0.45},
    {"rmsprop_momentum", 0.45},
    {"rmsprop_centered", 0.45},
    {"rmsprop_centered_momentum", 0.5},
    {"adam", 0.47},
    {"amsgrad", 0.5},
    {"adamax", 0.3},
    {"nadam", 0.47},
    {"radam", 0.47},
    {"lion", 0.15},
    {"adabelief", 0.4},
    {"yogi", 0.4},
    {"adan", 0.6},
    {"rprop", 0.35},
    {"asgd", 0.2},
    {"ftrl", 0.5},
    {"lamb", 0.5},  // either pass
    {"lars", 0.2},
    {"schedule_free_sgd", 0.2},
    {"schedule_free_adam", 0.4},
    {"gradient_norms", 0.1},  // before a step that clips
    {"step_sums", 0.2},       // what statistics of a step add to its rule
    {"packing", 0.15},        // what states of 8 bits add to its rule

    {"elastic_net", 0.25},
};

// The entry of a name, without the underscore of names that only Python sees, or null.
consteval const Cost* find_cost(std::string_view name) {
  if (name.starts_with("_")) name.remove_prefix(1);
  for (const Cost& cost : kCosts)
    if (name == cost.name) return &cost;
  return nullptr;
}

consteval Cost cost_of(std::string_view name) {
  if (const Cost* cost = find_cost(name)) return *cost;
  throw "costs.hpp has no entry of this name";
}

// For the formulas in a family's list: one that has not been measured yet costs what most do.
consteval Cost listed_cost(std::string_view name) {
  const Cost* cost = find_cost(name);
  return cost ? *cost : Cost{"", 0.5};
}

// Float64 has half as many lanes, and twice as many bytes.
constexpr double scaled(double ns, Dtype dtype) { return dtype == Dtype::f64 ? 2 * ns : ns; }
constexpr Cost scaled(Cost cost, Dtype dtype) {
  cost.ns = scaled(cost.ns, dtype);
  return cost;
}

// Whether results of so many bytes go past the caches, of which they would be more than fit.
constexpr bool streams(std::ptrdiff_t bytes, const Cost& cost) {
  return cost.memory_bound && bytes >= std::ptrdiff_t{16} << 20;
}

}  // namespace nnfast
