#include "ops/optim.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/blocked_sums.hpp"
#include "ops/costs.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr Cost kRuleCosts[] = {
#define NNFAST_COST(rule, name, states, ...) listed_cost(name),
    NNFAST_OPTIM_RULES(NNFAST_COST)
#undef NNFAST_COST
};

// Calls fn on elements of a parameter's arrays, with the sums of what was accumulated and the gradients.
void call(const OptimParameter& parameter, OptimFn fn, char* const* arrays, const std::ptrdiff_t* strides,
          std::ptrdiff_t n, double* sums) {
  if (arrays[kAccumulated])
    return kernels().optim->with_accumulated[parameter.dtype](fn, parameter.hyperparameters, parameter.grad_scale,
                                                              arrays, strides, n, sums);
  fn(parameter.hyperparameters, parameter.grad_scale, arrays, strides, n, sums);
}

// Of contiguous arrays.
void element_strides(const OptimParameter& parameter, std::ptrdiff_t (&strides)[kOptimArrays]) {
  for (int k = 0; k < kOptimArrays; ++k)
    strides[k] = size_of(k == kParam || k == kGrad ? parameter.dtype : parameter_dtype(parameter.dtype));
}

// Calls fn on the elements [first, last) of a parameter.
void run_range(const OptimParameter& parameter, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last, double* sums) {
  char* arrays[kOptimArrays];
  std::ptrdiff_t strides[kOptimArrays];
  if (parameter.in_memory_order) {
    parameter.in_memory_order->inner_strides(strides);
    parameter.in_memory_order->for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
      for (int k = 0; k < kOptimArrays; ++k) arrays[k] = parameter.data[k] ? at[k] : nullptr;
      call(parameter, fn, arrays, strides, count, sums);
    });
    return;
  }
  element_strides(parameter, strides);
  for (int k = 0; k < kOptimArrays; ++k)
    arrays[k] = parameter.data[k] ? parameter.data[k] + first * strides[k] : nullptr;
  call(parameter, fn, arrays, strides, last - first, sums);
}

// Calls copy(element of array k, its contiguous copy in blocks[k], its size) for the elements [first, last), in C order
// whatever the layout, of arrays that have a block.
template <class Copy>
void for_elements(const OptimParameter& parameter, std::ptrdiff_t first, std::ptrdiff_t last, char* const* blocks,
                  const std::ptrdiff_t* sizes, Copy copy) {
  std::ptrdiff_t steps[kOptimArrays];
  parameter.in_c_order->inner_strides(steps);
  parameter.in_c_order->for_runs(first, last, [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t position) {
    for (int k = 0; k < kOptimArrays; ++k)
      for (std::ptrdiff_t i = 0; blocks[k] && i < count; ++i)
        copy(at[k] + i * steps[k], blocks[k] + (position - first + i) * sizes[k], static_cast<std::size_t>(sizes[k]));
  });
}
void copy_to_blocks(const OptimParameter& parameter, std::ptrdiff_t first, std::ptrdiff_t last, char* const* blocks,
                    const std::ptrdiff_t* sizes) {
  for_elements(parameter, first, last, blocks, sizes,
               [](const char* element, char* copy, std::size_t size) { std::memcpy(copy, element, size); });
}
void copy_from_blocks(const OptimParameter& parameter, std::ptrdiff_t first, std::ptrdiff_t last, char* const* blocks,
                      const std::ptrdiff_t* sizes) {
  for_elements(parameter, first, last, blocks, sizes,
               [](char* element, const char* copy, std::size_t size) { std::memcpy(element, copy, size); });
}

// The sums of a block of gradients, in C order whatever their layout: clipping multiplies by what comes of them.
void sum_gradients(const OptimParameter& parameter, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last,
                   double* sums) {
  if (!parameter.in_c_order) return run_range(parameter, fn, first, last, sums);
  alignas(double) char blocks[2][kOptimBlock * sizeof(double)];
  char* arrays[kOptimArrays] = {};
  std::ptrdiff_t strides[kOptimArrays];
  element_strides(parameter, strides);
  for (const int k : {kGrad, kAccumulated})
    if (parameter.data[k]) arrays[k] = blocks[k == kAccumulated];
  copy_to_blocks(parameter, first, last, arrays, strides);
  call(parameter, fn, arrays, strides, last - first, sums);
}

// All elements of all parameters are one range, so that threads share the list evenly whatever its arrays' sizes.
void run_plain(const std::vector<OptimParameter>& parameters, const PerDtype<OptimFn>& kernel, double ns) {
  if (parameters.empty()) return;
  parallel_for(
      parameters.back().begin + parameters.back().n, ns,
      [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
        auto p = std::upper_bound(parameters.begin(), parameters.end(), begin,
                                  [](std::ptrdiff_t at, const OptimParameter& other) { return at < other.begin; });
        for (--p; p != parameters.end() && p->begin < end; ++p) {
          const std::ptrdiff_t first = std::max<std::ptrdiff_t>(begin - p->begin, 0);
          const std::ptrdiff_t last = std::min(end - p->begin, p->n);
          if (first < last) run_range(*p, kernel[p->dtype], first, last, nullptr);
        }
      },
      16);
}

// By blocks. The sums of a parameter depend neither on threads nor on the other parameters.
// run(parameter, fn, first, last, sums) does a block.
template <class RunBlock>
OptimSumsList run_blocks(const std::vector<OptimParameter>& parameters, const PerDtype<OptimFn>& kernel, double ns,
                         bool sums, RunBlock run) {
  const std::vector<ListBlock> blocks =
      blocks_of(parameters, kOptimBlock, [](const OptimParameter& parameter) { return parameter.n; });
  BlockedSums of_blocks(static_cast<std::ptrdiff_t>(blocks.size()), 1, sums ? kOptimSums : 0);
  OptimSumsList totals(sums ? parameters.size() : 0);
  of_blocks.run(ns * kOptimBlock, [&](std::ptrdiff_t b, std::ptrdiff_t, double* of_block) {
    const ListBlock& block = blocks[static_cast<std::size_t>(b)];
    const OptimParameter& parameter = parameters[block.array];
    run(parameter, kernel[parameter.dtype], block.first, block.last, sums ? of_block : nullptr);
  });
  for (std::size_t b = 0; sums && b < blocks.size(); ++b)
    of_blocks.add_block(static_cast<std::ptrdiff_t>(b), totals[blocks[b].array].data());
  return totals;
}

// The sums of a block of a layerwise rule, in C order whatever the layout: the step is scaled by what comes of them.
void sum_norms(const OptimParameter& parameter, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last, double* sums) {
  alignas(double) char blocks[kOptimArrays][kNormsBlock * sizeof(double)];
  char* arrays[kOptimArrays];
  std::ptrdiff_t strides[kOptimArrays];
  element_strides(parameter, strides);
  for (int k = 0; k < kOptimArrays; ++k) arrays[k] = parameter.data[k] ? blocks[k] : nullptr;
  for (std::ptrdiff_t begin = first; begin < last; begin += kNormsBlock) {
    const std::ptrdiff_t end = std::min(begin + kNormsBlock, last);
    if (!parameter.in_c_order) {
      run_range(parameter, fn, begin, end, sums);
      continue;
    }
    copy_to_blocks(parameter, begin, end, arrays, strides);
    call(parameter, fn, arrays, strides, end - begin, sums);
  }
}

// ---- packed states ----

bool packed(const OptimParameter& parameter) {
  return std::any_of(std::begin(parameter.packings), std::end(parameter.packings),
                     [](Packing packing) { return packing != Packing::none; });
}

// The states of a chunk, unpacked.
class UnpackedStates {
 public:
  UnpackedStates(const OptimParameter& parameter, std::ptrdiff_t begin, std::ptrdiff_t n)
      : parameter_(parameter), begin_(begin), n_(n) {
    for_packed([&](int k, Packing packing, char* at) { unpack_chunk(packing, at, values_[k], n_); });
  }
  void put_into(char** arrays) {
    for_packed([&](int k, Packing, char*) { arrays[kState0 + k] = reinterpret_cast<char*>(values_[k]); });
  }
  void pack(const RoundingKeys& keys) {
    for_packed(
        [&](int k, Packing packing, char* at) { pack_chunk(packing, values_[k], at, n_, parameter_.words, keys, k); });
  }

 private:
  template <class Body>
  void for_packed(Body body) const {
    for (int k = 0; k < kMostStates; ++k)
      if (const Packing packing = parameter_.packings[k]; packing != Packing::none)
        body(k, packing, parameter_.data[kState0 + k] + packed_offset(packing, begin_));
  }

  const OptimParameter& parameter_;
  const std::ptrdiff_t begin_, n_;
  alignas(64) float values_[kMostStates][kPackedChunk];
};

// The kernel of packed states for such a parameter, or null: of a plain step of contiguous float32 whose states are all
// packed alike.
PackedOptimFn packed_kernel(const OptimParameter& parameter, OptimFn fn, OptimRule rule) {
  const auto index = static_cast<std::size_t>(rule);
  const OptimKernels& kernel = *kernels().optim;
  if (fn != kernel.plain[index].f32 || parameter.dtype != Dtype::f32 || parameter.in_c_order) return nullptr;
  if (parameter.data[kEma] || parameter.data[kAccumulated]) return nullptr;
  const bool bfloat16 = parameter.packings[0] == Packing::bfloat16;
  const bool alike = std::all_of(parameter.packings, parameter.packings + kOptimRules[index].states, [=](Packing one) {
    return one != Packing::none && (one == Packing::bfloat16) == bfloat16;
  });
  return alike ? (bfloat16 ? kernel.bfloat16 : kernel.blocks)[index] : nullptr;
}

// Makes the step of n elements by such a kernel, unless they are none of its.
bool run_packed_kernel(const OptimParameter& parameter, PackedOptimFn fn, std::ptrdiff_t begin, std::ptrdiff_t n,
                       const RoundingKeys& keys) {
  if (!fn || n % packed_step(parameter.packings[0] == Packing::bfloat16) != 0) return false;
  char* arrays[kOptimArrays] = {};
  for (const int k : {kParam, kGrad}) arrays[k] = parameter.data[k] + begin * static_cast<int>(sizeof(float));
  for (int k = 0; k < kMostStates; ++k) {
    const Packing packing = parameter.packings[k];
    if (packing == Packing::none) break;
    arrays[kState0 + k] = parameter.data[kState0 + k] + packed_offset(packing, begin);
    if (packing != Packing::bfloat16 && has_flagged_block(arrays[kState0 + k], n)) return false;
  }
  fn(parameter.hyperparameters, parameter.grad_scale, arrays, n, *kernels().packing, parameter.words, keys);
  return true;
}

// A step of a chunk by the rule's own kernel, of float32.
void run_unpacked(const OptimParameter& parameter, OptimFn fn, std::ptrdiff_t begin, std::ptrdiff_t end,
                  const RoundingKeys& keys, double* sums) {
  alignas(double) char blocks[kOptimArrays][kPackedChunk * sizeof(float)];
  char *arrays[kOptimArrays], *copies[kOptimArrays];
  std::ptrdiff_t strides[kOptimArrays];
  element_strides(parameter, strides);
  for (int k = 0; k < kOptimArrays; ++k) {
    const bool is_packed = k >= kState0 && k < kEma && parameter.packings[k - kState0] != Packing::none;
    const bool there = parameter.data[k] && !is_packed;
    copies[k] = there && parameter.in_c_order ? blocks[k] : nullptr;
    arrays[k] = copies[k] ? copies[k] : (there ? parameter.data[k] + begin * strides[k] : nullptr);
  }
  if (parameter.in_c_order) copy_to_blocks(parameter, begin, end, copies, strides);
  UnpackedStates states(parameter, begin, end - begin);
  states.put_into(arrays);
  call(parameter, fn, arrays, strides, end - begin, sums);
  states.pack(keys);
  copies[kGrad] = copies[kAccumulated] = nullptr;
  if (parameter.in_c_order) copy_from_blocks(parameter, begin, end, copies, strides);
}

// A step of the elements [first, last), whole chunks but for the end of the parameter. In C order whatever the layout,
// as the position of an element decides how its states are rounded.
void run_packed(const OptimParameter& parameter, OptimFn fn, OptimRule rule, std::ptrdiff_t first, std::ptrdiff_t last,
                double* sums) {
  const PackedOptimFn of_packed = packed_kernel(parameter, fn, rule);
  for (std::ptrdiff_t begin = first; begin < last; begin += kPackedChunk) {
    const std::ptrdiff_t end = std::min(begin + kPackedChunk, last);
    const RoundingKeys keys = chunk_keys(parameter.rounding_key, begin / kPackedChunk);
    if (!run_packed_kernel(parameter, of_packed, begin, end - begin, keys))
      run_unpacked(parameter, fn, begin, end, keys, sums);
  }
}

// Makes the words that round the states of each parameter.
void make_words(std::vector<OptimParameter>& parameters, std::vector<std::array<std::uint32_t, kPackedChunk>>& words) {
  words.reserve(parameters.size());
  for (OptimParameter& parameter : parameters) {
    if (!packed(parameter)) continue;
    kernels().packing->random(parameter.rounding_key, words.emplace_back().data());
    parameter.words = words.back().data();
  }
}

// Gives each parameter hyperparameters of its own, in `rows`, with its trust.
void trust(std::vector<OptimParameter>& parameters, const PerDtype<OptimFn>& norms, double ns,
           std::vector<std::array<double, kMaxHyperparameters>>& rows, std::ptrdiff_t row_length) {
  const OptimSumsList sums = run_blocks(parameters, norms, ns, true, sum_norms);
  rows.resize(parameters.size());
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double* of_group = parameters[i].hyperparameters;
    std::copy(of_group, of_group + row_length, rows[i].begin());
    const double param = std::sqrt(sums[i][kParamSquares]), direction = std::sqrt(sums[i][kUpdateSquares]);
    rows[i][kTrust] =
        param == 0 || direction == 0 ? 1 : of_group[kTrustCoefficient] * param / (direction + of_group[kTrustEps]);
    parameters[i].hyperparameters = rows[i].data();
  }
}

std::ptrdiff_t row_length_of(OptimRule rule) {
  std::ptrdiff_t length = kSharedHyperparameters;
  for (const char* name : kOptimRules[static_cast<int>(rule)].hyperparameters) length += name != nullptr;
  return length;
}

bool all_finite(const OptimSumsList& sums) {
  return std::all_of(sums.begin(), sums.end(),
                     [](const auto& of_parameter) { return of_parameter[kNaNs] + of_parameter[kInfinities] == 0; });
}

double grad_squares(const OptimSumsList& sums) {
  double all = 0;
  for (const auto& of_parameter : sums) all += of_parameter[kGradSquares];
  return all;
}

// Squares of gradients of float64 may overflow where their norm does not: they are summed once more, scaled by a power
// of two, which is returned.
double downscale_squares(const std::vector<OptimParameter>& parameters, const PerDtype<OptimFn>& gradients, double ns,
                         OptimSumsList& sums) {
  if (!std::isinf(grad_squares(sums)) || !all_finite(sums)) return 1;
  constexpr double scale = 0x1p-600;
  std::vector<OptimParameter> scaled = parameters;
  for (OptimParameter& parameter : scaled) parameter.grad_scale = scale;
  const OptimSumsList squares = run_blocks(scaled, gradients, ns, true, sum_gradients);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i][kGradSquares] = squares[i][kGradSquares];
  return scale;
}

// At most 1, NaN where the norm is. PyTorch's is a little less than would be exact; Keras' of all gradients is NaN
// where the norm is infinite, where the others leave zeros of what is finite.
double clip_factor(ClipNorm kind, double norm, double max_norm) {
  if (kind == ClipNorm::global_keras && std::isinf(norm)) return std::numeric_limits<double>::quiet_NaN();
  if (kind == ClipNorm::each_torch || kind == ClipNorm::global_torch) norm += 1e-6;
  const double factor = max_norm / norm;
  return factor < 1 ? factor : (factor == factor ? 1 : factor);
}

bool clips(const OptimOptions& options) {
  return options.clip_norm != ClipNorm::none && options.clip_norm != ClipNorm::adaptive;
}

// Of gradients whose squares were summed scaled by `scale`.
void clip(std::vector<OptimParameter>& parameters, const OptimSumsList& sums, double scale,
          const OptimOptions& options) {
  const double all = grad_squares(sums);
  const ClipNorm kind = options.clip_norm;
  const bool global = kind == ClipNorm::global || kind == ClipNorm::global_torch || kind == ClipNorm::global_keras;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    double norm = std::sqrt(global ? all : sums[i][kGradSquares]) / scale * options.grad_scale;
    if (kind == ClipNorm::block) norm /= std::sqrt(static_cast<double>(parameters[i].n));
    parameters[i].grad_scale = options.grad_scale * clip_factor(kind, norm, options.max_norm);
  }
}

// Norms in place of sums of squares.
void take_roots(OptimSumsList& sums, double scale) {
  for (auto& of_parameter : sums) {
    for (const int k : {kGradSquares, kUpdateSquares, kParamSquares}) of_parameter[k] = std::sqrt(of_parameter[k]);
    of_parameter[kGradSquares] /= scale;
  }
}

template <class T>
void copy_gradients(const double*, double, char* const* arrays, const std::ptrdiff_t*, std::ptrdiff_t n, double*) {
  std::memcpy(arrays[kParam], arrays[kGrad], static_cast<std::size_t>(n) * sizeof(T));
}

}  // namespace

std::optional<OptimRule> optim_rule(std::string_view name) {
  for (int rule = 0; rule < static_cast<int>(OptimRule::Count); ++rule)
    if (name == kOptimRules[rule].name) return static_cast<OptimRule>(rule);
  return {};
}

bool optim_step(OptimRule rule, std::vector<OptimParameter>& parameters, const OptimOptions& options,
                OptimSumsList& sums) {
  constexpr Cost kGradientNorms = cost_of("gradient_norms"), kStepSums = cost_of("step_sums"),
                 kPacking = cost_of("packing");
  const OptimKernels& kernel = *kernels().optim;
  const int index = static_cast<int>(rule);
  const bool any_packed = std::any_of(parameters.begin(), parameters.end(), packed);
  // Those of float64 would wake the threads twice for the two passes of a layerwise rule.
  const bool dearer =
      !layerwise(rule) && std::any_of(parameters.begin(), parameters.end(),
                                      [](const OptimParameter& parameter) { return parameter.dtype == Dtype::f64; });
  const double ns = scaled(kRuleCosts[index].ns, dearer ? Dtype::f64 : Dtype::f32) + (any_packed ? kPacking.ns : 0);
  const auto downscale = [&] { return downscale_squares(parameters, kernel.gradients, kGradientNorms.ns, sums); };
  bool done = true;
  double scale = 1;
  if (clips(options) || options.skip_nonfinite) {
    sums = run_blocks(parameters, kernel.gradients, kGradientNorms.ns, true, sum_gradients);
    done = !options.skip_nonfinite || all_finite(sums);
    scale = downscale();
  }
  if (done && clips(options)) {
    clip(parameters, sums, scale, options);
  } else if (options.grad_scale != 1) {
    for (OptimParameter& parameter : parameters) parameter.grad_scale = options.grad_scale;
  }
  const auto run_block = [rule](const OptimParameter& parameter, OptimFn fn, std::ptrdiff_t first, std::ptrdiff_t last,
                                double* of_block) {
    if (packed(parameter))
      run_packed(parameter, fn, rule, first, last, of_block);
    else
      run_range(parameter, fn, first, last, of_block);
  };
  std::vector<std::array<std::uint32_t, kPackedChunk>> words;
  if (done && any_packed) make_words(parameters, words);
  std::vector<std::array<double, kMaxHyperparameters>> rows;
  if (done && layerwise(rule)) trust(parameters, kernel.norms[index], ns, rows, row_length_of(rule));
  if (done && (options.ema || options.sums)) {
    OptimSumsList found =
        run_blocks(parameters, kernel.full[index], ns + (options.sums ? kStepSums.ns : 0), options.sums, run_block);
    if (options.sums) {
      sums = std::move(found);
      scale = downscale();
    }
  } else if (done && any_packed) {
    run_blocks(parameters, kernel.plain[index], ns, false, run_block);
  } else if (done) {
    run_plain(parameters, kernel.plain[index], ns);
  }
  if (options.sums) take_roots(sums, scale / options.grad_scale);
  return done;
}

void optim_accumulate(const std::vector<OptimParameter>& begun, std::vector<OptimParameter>& added) {
  constexpr Cost kSgd = cost_of("sgd");
  // Of gradient ascent at a rate of 1, p += g: sign, clip_value, weight_decay, shrink, ema_decay, lr.
  constexpr double kAscent[] = {-1, std::numeric_limits<double>::infinity(), 0, 1, 0, 1};
  for (OptimParameter& parameter : added) parameter.hyperparameters = kAscent;
  run_plain(begun, {copy_gradients<std::uint16_t>, copy_gradients<float>, copy_gradients<double>}, kSgd.ns);
  run_plain(added, kernels().optim->plain[static_cast<int>(OptimRule::Sgd)], kSgd.ns);
}

}  // namespace nnfast
