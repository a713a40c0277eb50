// Sums by columns over rows, taken by blocks of rows that threads share.
#pragma once

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"

namespace nnfast {

// How many rows a block has is decided by the shape alone, so that the sums do not depend on the number of threads.
class BlockSums {
 public:
  BlockSums(std::ptrdiff_t rows, std::ptrdiff_t n)
      : n_(n),
        rows_(rows),
        block_(std::max({std::ptrdiff_t{1}, kBlockElements / std::max<std::ptrdiff_t>(n, 1),
                         (rows + kMostBlocks - 1) / kMostBlocks})),
        sums_(static_cast<std::size_t>(blocks() * n)) {}

  std::ptrdiff_t blocks() const { return (rows_ + block_ - 1) / block_; }
  std::ptrdiff_t elements() const { return block_ * n_; }  // of a block
  std::ptrdiff_t begin(std::ptrdiff_t block) const { return block * block_; }
  std::ptrdiff_t end(std::ptrdiff_t block) const { return std::min(rows_, (block + 1) * block_); }
  double* of(std::ptrdiff_t block) { return sums_.data() + block * n_; }

  // The sums of the blocks, in their order, as an array of a dtype.
  Array total(int dtype) const {
    const Array total = new_array({n_}, NPY_FLOAT64);
    double* to = total.as<double>();
    std::fill(to, to + n_, 0.0);
    for (std::size_t i = 0; i < sums_.size(); ++i) to[static_cast<std::ptrdiff_t>(i) % n_] += sums_[i];
    if (dtype == NPY_FLOAT64) return total;
    PyObject* made = PyArray_Cast(total.get(), dtype);  // may warn of overflow
    if (!made) throw py::error_already_set();
    return Array(py::reinterpret_steal<py::object>(made));
  }

 private:
  static constexpr std::ptrdiff_t kBlockElements = 16384, kMostBlocks = 16;
  std::ptrdiff_t n_, rows_, block_;
  std::vector<double> sums_;
};

}  // namespace nnfast
