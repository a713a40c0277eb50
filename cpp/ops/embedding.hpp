// Rows of a table by their indices, and the gradient with respect to the table.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/embedding.hpp"
#include "ops/row_arrays.hpp"

namespace nnfast {

// Row k of y is row indices[k] of the table.
void embedding(Dtype dtype, const Matrix& table, const std::int64_t* indices, const RowArrays<1>& y);

// Row k of y is row indices[k] of x, whatever its elements are: `bytes` contiguous bytes each, in x every `stride`.
void take_rows(const char* x, std::ptrdiff_t stride, std::ptrdiff_t bytes, const std::int64_t* indices,
               std::ptrdiff_t count, char* y);

// Row indices[k] of y becomes row k of x, as take_rows has them; no index comes twice.
void put_rows(char* y, std::ptrdiff_t stride, std::ptrdiff_t bytes, const std::int64_t* indices, std::ptrdiff_t count,
              const char* x);

// Rows of dy in groups, by the row of a table that each is added to: groups in ascending order, the rows of each in
// that of dy. `rows`: of the table.
class RowGroups {
 public:
  RowGroups(const RowArrays<1>& dy, const std::int64_t* indices, std::ptrdiff_t rows);

  const std::vector<IndexedRow>& found() const { return found_; }
  const std::vector<std::ptrdiff_t>& begins() const { return begins_; }
  std::ptrdiff_t count() const { return static_cast<std::ptrdiff_t>(begins_.size()) - 1; }
  // Writes the index of each group, and gives them new ones: 0, 1, ...
  void number(std::int64_t* indices);
  // Writes the sum of each group to the row of its index. Returns what was raised.
  unsigned sum(Dtype dtype, const RowArrays<1>& dy, const Matrix& to) const;
  // Writes the sums of some groups, numbered before, to contiguous rows, one after the other.
  unsigned sum_range(Dtype dtype, const RowArrays<1>& dy, std::ptrdiff_t first, std::ptrdiff_t last, char* to) const;
  // Whether one group has much of the work.
  bool uneven() const;

 private:
  std::vector<IndexedRow> found_;
  std::vector<std::ptrdiff_t> begins_;  // of the groups, and the end of the last
};

// Row i of dtable becomes the sum of the rows of dy whose index is i, 0 where there is none. `rows`: of dtable.
// is_zero: dtable is 0, and memory that no index names is not touched. Returns what was raised.
unsigned embedding_backward(Dtype dtype, const RowArrays<1>& dy, const std::int64_t* indices, const Matrix& dtable,
                            std::ptrdiff_t rows, bool is_zero);

}  // namespace nnfast
