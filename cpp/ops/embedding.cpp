#include "ops/embedding.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/costs.hpp"
#include "ops/raised.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace {

using IndexedRows = std::vector<IndexedRow>;

// Rows by index: `count` of them, whose places no processor foresees.
template <class Byte>
struct RowsByIndex {
  Byte* data;
  std::ptrdiff_t stride;
  const std::int64_t* indices;
  std::ptrdiff_t count;

  Byte* operator[](std::ptrdiff_t k) const { return data + indices[k] * stride; }
};

// Copies a row of contiguous bytes line by line, and fetches as many lines of one of `rows` that comes after row k.
template <class Byte>
void copy_row(const RowsByIndex<Byte>& rows, std::ptrdiff_t k, const char* from, char* to, std::ptrdiff_t bytes) {
  constexpr std::ptrdiff_t kLine = 64, kAheadBytes = 12288, kMostAhead = 16;
  const std::ptrdiff_t ahead = std::clamp(kAheadBytes / std::max(bytes, kLine), std::ptrdiff_t{2}, kMostAhead);
  const char* next = rows[std::min(k + ahead, rows.count - 1)];
  for (; bytes >= kLine; bytes -= kLine, from += kLine, next += kLine, to += kLine) {
    __builtin_prefetch(next);
    std::memcpy(to, from, kLine);
  }
  if (bytes > 0) __builtin_prefetch(next);
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

template <class T>
void copy_strided(const char* from, std::ptrdiff_t from_stride, char* to, std::ptrdiff_t to_stride, std::ptrdiff_t n) {
  for (std::ptrdiff_t i = 0; i < n; ++i) std::memcpy(to + i * to_stride, from + i * from_stride, sizeof(T));
}

// Sorts by the index, all below `rows`, and keeps the order of equal ones: by a byte of the index after the other.
void sort_by_index(IndexedRows& found, std::ptrdiff_t rows) {
  constexpr int kBits = 8, kDigits = 1 << kBits;
  if (found.size() < 2) return;
  IndexedRows sorted(found.size());
  for (int shift = 0; shift < 63 && (rows - 1) >> shift > 0; shift += kBits) {
    const auto digit = [&](const IndexedRow& row) { return row.index >> shift & (kDigits - 1); };
    std::size_t places[kDigits + 1] = {};
    for (const IndexedRow& row : found) ++places[digit(row) + 1];
    for (int d = 0; d < kDigits; ++d) places[d + 1] += places[d];
    for (const IndexedRow& row : found) sorted[places[digit(row)]++] = row;
    found.swap(sorted);
  }
}

// Where runs of equal indices begin, and the end of the last.
std::vector<std::ptrdiff_t> begins_of(const IndexedRows& found) {
  std::vector<std::ptrdiff_t> begins;
  begins.reserve(found.size() + 1);
  for (std::size_t k = 0; k < found.size(); ++k)
    if (k == 0 || found[k].index != found[k - 1].index) begins.push_back(static_cast<std::ptrdiff_t>(k));
  begins.push_back(static_cast<std::ptrdiff_t>(found.size()));
  return begins;
}

void clear(char* from, std::ptrdiff_t bytes) { std::memset(from, 0, static_cast<std::size_t>(bytes)); }

// Writes zeros, whose bits are 0, to the rows [first, last).
void clear_rows(const Matrix& dtable, std::ptrdiff_t first, std::ptrdiff_t last, std::ptrdiff_t n, std::ptrdiff_t size,
                ClearFn clear) {
  const bool contiguous = dtable.stride == size;
  if (contiguous && dtable.row_stride == n * size)
    return clear(dtable.data + first * dtable.row_stride, (last - first) * n * size);
  for (std::ptrdiff_t i = first; i < last; ++i) {
    char* row = dtable.data + i * dtable.row_stride;
    if (contiguous) clear(row, n * size);
    for (std::ptrdiff_t c = 0; !contiguous && c < n; ++c) clear(row + c * dtable.stride, size);
  }
}

// Writes zeros to the rows without an index.
void clear_others(const IndexedRows& found, const std::vector<std::ptrdiff_t>& begins, const Matrix& dtable,
                  std::ptrdiff_t rows, std::ptrdiff_t n, std::ptrdiff_t size) {
  constexpr Cost kCost = cost_of("embedding");
  const ClearFn fn = streams(rows * n * size, kCost) ? kernels().embedding->clear : clear;
  parallel_for(rows, kCost.ns * static_cast<double>(n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    auto next = std::lower_bound(begins.begin(), begins.end() - 1, begin, [&](std::ptrdiff_t at, std::ptrdiff_t index) {
      return found[static_cast<std::size_t>(at)].index < index;
    });
    for (std::ptrdiff_t i = begin; i < end;) {
      const bool any = next != begins.end() - 1;
      const std::ptrdiff_t stop = any ? std::min(end, found[static_cast<std::size_t>(*next++)].index) : end;
      clear_rows(dtable, i, stop, n, size, fn);
      i = stop + 1;
    }
  });
}

}  // namespace

void take_rows(const char* x, std::ptrdiff_t stride, std::ptrdiff_t bytes, const std::int64_t* indices,
               std::ptrdiff_t count, char* y) {
  constexpr Cost kCost = cost_of("embedding");  // of a float
  const RowsByIndex<const char> rows{x, stride, indices, count};
  parallel_for(count, kCost.ns * static_cast<double>(bytes) / sizeof(float),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t k = begin; k < end; ++k) copy_row(rows, k, rows[k], y + k * bytes, bytes);
               });
}

void put_rows(char* y, std::ptrdiff_t stride, std::ptrdiff_t bytes, const std::int64_t* indices, std::ptrdiff_t count,
              const char* x) {
  constexpr Cost kCost = cost_of("embedding");
  const RowsByIndex<char> rows{y, stride, indices, count};
  parallel_for(count, kCost.ns * static_cast<double>(bytes) / sizeof(float),
               [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
                 for (std::ptrdiff_t k = begin; k < end; ++k) copy_row(rows, k, x + k * bytes, rows[k], bytes);
               });
}

void embedding(Dtype dtype, const Matrix& table, const std::int64_t* indices, const RowArrays<1>& y) {
  constexpr Cost kCost = cost_of("embedding");
  const auto copy = PerDtype<decltype(&copy_strided<std::uint16_t>)>{
      copy_strided<std::uint16_t>, copy_strided<std::uint32_t>, copy_strided<std::uint64_t>}[dtype];
  const std::ptrdiff_t size = size_of(dtype);
  const bool contiguous = table.stride == size && y.strides[0] == size;
  const RowsByIndex<const char> rows{table.data, table.row_stride, indices, y.rows()};
  std::ptrdiff_t steps[1];
  y.outer.inner_strides(steps);
  parallel_for(y.rows(), kCost.ns * static_cast<double>(y.n), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    y.outer.for_runs(begin, end, [&](char* const* at, std::ptrdiff_t in_run, std::ptrdiff_t position) {
      for (std::ptrdiff_t k = 0; k < in_run; ++k) {
        char* const to = at[0] + k * steps[0];
        if (contiguous)
          copy_row(rows, position + k, rows[position + k], to, y.n * size);
        else
          copy(rows[position + k], table.stride, to, y.strides[0], y.n);
      }
    });
  });
}

RowGroups::RowGroups(const RowArrays<1>& dy, const std::int64_t* indices, std::ptrdiff_t rows) {
  if (dy.rows() == 0) {
    begins_ = {0};
    return;
  }
  found_.reserve(static_cast<std::size_t>(dy.rows()));
  std::ptrdiff_t steps[1];
  dy.outer.inner_strides(steps);
  dy.outer.for_runs(0, dy.rows(), [&](char* const* at, std::ptrdiff_t in_run, std::ptrdiff_t position) {
    for (std::ptrdiff_t k = 0; k < in_run; ++k) found_.push_back({indices[position + k], at[0] + k * steps[0]});
  });
  sort_by_index(found_, rows);
  begins_ = begins_of(found_);
}

void RowGroups::number(std::int64_t* indices) {
  IndexedRow* row = found_.data();
  for (std::ptrdiff_t k = 0; k < count(); ++k) {
    indices[k] = row->index;
    for (const IndexedRow* end = found_.data() + begins_[k + 1]; row < end; ++row) row->index = k;
  }
}

bool RowGroups::uneven() const {
  constexpr std::ptrdiff_t kMuch = 8;
  std::ptrdiff_t longest = 0;
  for (std::ptrdiff_t k = 0; k < count(); ++k) longest = std::max(longest, begins_[k + 1] - begins_[k]);
  return longest * kMuch > begins_.back();
}

unsigned RowGroups::sum_range(Dtype dtype, const RowArrays<1>& dy, std::ptrdiff_t first, std::ptrdiff_t last,
                              char* to) const {
  const std::ptrdiff_t size = size_of(dtype), bytes = dy.n * size;
  const Matrix rows{to - first * bytes, bytes, size};
  return kernels().embedding->sum_rows[dtype]({found_.data(), begins_.data(), 0, dy.strides[0], dy.n, rows}, first,
                                              last);
}

unsigned RowGroups::sum(Dtype dtype, const RowArrays<1>& dy, const Matrix& to) const {
  constexpr Cost kCost = cost_of("embedding_backward");
  const std::ptrdiff_t n = dy.n, sums = count();
  if (n == 0) return 0;

  // Where one index has much of the work, its sum is shared too: by columns.
  constexpr std::ptrdiff_t kColumns = 64;
  const std::ptrdiff_t width = uneven() ? std::min(n, kColumns) : n;
  const std::ptrdiff_t parts = (n + width - 1) / width;
  const SumRowsFn fn = kernels().embedding->sum_rows[dtype];
  const double ns =
      kCost.ns * static_cast<double>(dy.rows() * width) / static_cast<double>(std::max<std::ptrdiff_t>(sums, 1));
  SharedRaised raised;
  parallel_for(parts * sums, ns, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t item = begin; item < end;) {
      const std::ptrdiff_t part = item / sums, first = item % sums, last = std::min(sums, first + end - item);
      const std::ptrdiff_t column = part * width;
      const Matrix columns{to.data + column * to.stride, to.row_stride, to.stride};
      raised.add(fn(
          {found_.data(), begins_.data(), column * dy.strides[0], dy.strides[0], std::min(width, n - column), columns},
          first, last));
      item += last - first;
    }
  });
  return raised.all();
}

unsigned embedding_backward(Dtype dtype, const RowArrays<1>& dy, const std::int64_t* indices, const Matrix& dtable,
                            std::ptrdiff_t rows, bool is_zero) {
  if (dy.n == 0) return 0;
  const RowGroups groups(dy, indices, rows);
  if (!is_zero) clear_others(groups.found(), groups.begins(), dtable, rows, dy.n, size_of(dtype));
  return groups.sum(dtype, dy, dtable);
}

}  // namespace nnfast
