#include "ops/optim_rows.hpp"

#include <algorithm>

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr Cost kRuleCosts[] = {
#define NNFAST_COST(rule, name, states, ...) listed_cost(name),
    NNFAST_OPTIM_RULES(NNFAST_COST)
#undef NNFAST_COST
};

// The rows of a table that are named, and their steps.
class NamedRows {
 public:
  NamedRows(OptimRule rule, const OptimTable& table, std::vector<std::int64_t> named)
      : fn_(kernels().optim->plain[static_cast<int>(rule)][table.row.dtype]),
        row_(table.row),
        bytes_(table.row.n * size_of(table.row.dtype)),
        named_(std::move(named)) {}

  std::ptrdiff_t bytes() const { return bytes_; }

  // Rows come in an order that no processor foresees.
  void prefetch(std::ptrdiff_t first, std::ptrdiff_t last) const {
    constexpr std::ptrdiff_t kLine = 64, kMost = 512;
    for (std::ptrdiff_t k = first; k < last; ++k)
      for (int a = 0; a < kOptimArrays; ++a)
        for (std::ptrdiff_t at = 0; row_.data[a] && at < std::min(bytes_, kMost); at += kLine)
          __builtin_prefetch(row_.data[a] + named_[static_cast<std::size_t>(k)] * bytes_ + at);
  }

  // By the gradients of the rows [first, last), one after the other. Neighbours are one run of elements.
  void step(std::ptrdiff_t first, std::ptrdiff_t last, char* grads) const {
    std::ptrdiff_t strides[kOptimArrays];
    std::fill(std::begin(strides), std::end(strides), size_of(row_.dtype));
    for (std::ptrdiff_t k = first; k < last;) {
      const std::int64_t* const named = named_.data() + k;
      std::ptrdiff_t run = 1;
      while (k + run < last && named[run] == named[0] + run) ++run;
      char* arrays[kOptimArrays];
      for (int a = 0; a < kOptimArrays; ++a) arrays[a] = row_.data[a] ? row_.data[a] + named[0] * bytes_ : nullptr;
      arrays[kGrad] = grads + (k - first) * bytes_;
      fn_(row_.hyperparameters, row_.grad_scale, arrays, strides, run * row_.n, nullptr);
      k += run;
    }
  }

 private:
  OptimFn fn_;
  const OptimParameter& row_;
  std::ptrdiff_t bytes_;
  std::vector<std::int64_t> named_;
};

}  // namespace

unsigned optim_step_rows(OptimRule rule, const OptimTable& table) {
  constexpr Cost kSums = cost_of("embedding_backward");
  constexpr std::ptrdiff_t kTogetherBytes = 8192;  // stay in the first-level cache, beside the rows themselves
  const Dtype dtype = table.row.dtype;
  RowGroups groups(table.values, table.indices, table.rows);
  const std::ptrdiff_t count = groups.count();
  if (count == 0) return kRaisedNothing;
  std::vector<std::int64_t> indices(static_cast<std::size_t>(count));
  groups.number(indices.data());
  const NamedRows named(rule, table, std::move(indices));
  const double ns = kRuleCosts[static_cast<int>(rule)].ns * static_cast<double>(table.row.n);
  const double sums_ns = kSums.ns * static_cast<double>(table.values.rows() * table.row.n) / static_cast<double>(count);
  if (groups.uneven()) {  // threads share the sum of the row that has much of the work
    std::vector<char> sums(static_cast<std::size_t>(count * named.bytes()));
    const unsigned raised = groups.sum(dtype, table.values, {sums.data(), named.bytes(), size_of(dtype)});
    parallel_for(count, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      named.step(begin, end, sums.data() + begin * named.bytes());
    });
    return raised;
  }
  SharedRaised raised;
  const std::ptrdiff_t together = std::max<std::ptrdiff_t>(1, kTogetherBytes / named.bytes());
  parallel_for(count, ns + sums_ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    alignas(64) char sums[kMostRowBytes];
    for (std::ptrdiff_t first = begin; first < end; first += together) {
      const std::ptrdiff_t last = std::min(first + together, end);
      named.prefetch(first, last);
      raised.add(groups.sum_range(dtype, table.values, first, last, sums));
      named.step(first, last, sums);
    }
  });
  return raised.all();
}

}  // namespace nnfast
