#include "kernels/penalties.hpp"

#include "bindings/array_lists.hpp"
#include "bindings/families.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

constexpr double kNsPerElement = 0.25;

// A block of an item's elements.
struct Block {
  std::size_t item;
  std::ptrdiff_t first, last;
};

template <int Arrays>
std::vector<Block> blocks_of(const std::vector<Item<Arrays>>& items) {
  std::vector<Block> blocks;
  for (std::size_t i = 0; i < items.size(); ++i)
    for (std::ptrdiff_t first = 0, n = items[i].walk.size(); first < n; first += kPenaltyBlock)
      blocks.push_back({i, first, std::min(first + kPenaltyBlock, n)});
  return blocks;
}

// The penalty's value; its slopes are added to the second array of each item, where there is one.
template <int Arrays>
double run(const std::vector<Item<Arrays>>& items, const Penalty& penalty) {
  const std::vector<Block> blocks = blocks_of(items);
  std::vector<double> sums(2 * blocks.size());
  const PenaltyKernels& kernel = *kernels().penalties;
  {
    py::gil_scoped_release release;
    parallel_for(static_cast<std::ptrdiff_t>(blocks.size()), kNsPerElement * kPenaltyBlock,
                 [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                   for (std::ptrdiff_t b = begin; b < end; ++b) {
                     const Item<Arrays>& item = items[blocks[b].item];
                     const PenaltyFn fn = item.f64 ? kernel.f64 : kernel.f32;
                     item.walk.for_runs(blocks[b].first, blocks[b].last,
                                        [&](char* const* at, std::ptrdiff_t count, std::ptrdiff_t) {
                                          double part[2];
                                          fn(penalty, at[0], item.strides[0], Arrays > 1 ? at[Arrays - 1] : nullptr,
                                             item.strides[Arrays - 1], count, part);
                                          sums[2 * b] += part[0];
                                          sums[2 * b + 1] += part[1];
                                        });
                   }
                 });
  }
  double magnitudes = 0, squares = 0;
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    magnitudes += sums[2 * b];
    squares += sums[2 * b + 1];
  }
  return (penalty.l1 != 0 ? penalty.l1 * magnitudes : 0) + (penalty.l2 != 0 ? penalty.l2 / 2 * squares : 0);
}

// grads: a list of arrays like params, or None.
double elastic_net(const py::list& params, double l1, double l2, py::handle grads) {
  if (grads.is_none()) return run(checked_items<1>({{{"params", params, false}}}), {l1, l2});
  const auto list = py::reinterpret_borrow<py::list>(grads);
  return run(checked_items<2>({{{"params", params, false}, {"grads", list, true}}}), {l1, l2});
}

}  // namespace

void bind_penalties(py::module_& module) { module.def("elastic_net", &elastic_net); }

}  // namespace nnfast
