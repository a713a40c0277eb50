// Sums by columns over rows, taken by blocks of rows that threads share.
#pragma once

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"
#include "kernels/sums.hpp"
#include "runtime/kernel_table.hpp"

namespace nnfast {

// How many rows a block has is decided by the shape alone, so that the sums do not depend on the number of threads.
class BlockSums {
 public:
  BlockSums(std::ptrdiff_t rows, std::ptrdiff_t n)
      : n_(n),
        rows_(rows),
        block_(std::max({std::ptrdiff_t{1}, kBlockElements / std::max<std::ptrdiff_t>(n, 1),
                         (rows + kMostBlocks - 1) / kMostBlocks})),
        sums_(static_cast<std::size_t>(blocks() * n)),
        total_(static_cast<std::size_t>(n)) {}

  std::ptrdiff_t blocks() const { return (rows_ + block_ - 1) / block_; }
  std::ptrdiff_t elements() const { return block_ * n_; }  // of a block
  std::ptrdiff_t begin(std::ptrdiff_t block) const { return block * block_; }
  std::ptrdiff_t end(std::ptrdiff_t block) const { return std::min(rows_, (block + 1) * block_); }
  double* of(std::ptrdiff_t block) { return sums_.data() + block * n_; }

  // The sums of the blocks, in their order, into an array of n floats.
  void total(const Array& out) {
    for (std::ptrdiff_t b = 0; b < blocks(); ++b)
      kernels().sums->add_rows.f64(reinterpret_cast<const char*>(of(b)), 0, sizeof(double), 1, n_, total_.data());
    npy_intp length = n_;
    PyObject* from = PyArray_SimpleNewFromData(1, &length, NPY_FLOAT64, total_.data());
    if (!from) throw py::error_already_set();
    const Array kept(py::reinterpret_steal<py::object>(from));
    if (PyArray_CopyInto(out.get(), kept.get()) != 0) throw py::error_already_set();  // may warn of overflow
  }

 private:
  static constexpr std::ptrdiff_t kBlockElements = 16384, kMostBlocks = 16;
  std::ptrdiff_t n_, rows_, block_;
  std::vector<double> sums_, total_;
};

}  // namespace nnfast
