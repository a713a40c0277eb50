// Sums over blocks that threads share, added in the order of the blocks. How many blocks there are depends on the shape
// alone, so that sums have the same bits on any number of threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "runtime/parallel.hpp"

namespace nnfast {

class BlockedSums {
 public:
  // `items` in blocks of `block`, `width` sums of each block.
  BlockedSums(std::ptrdiff_t items, std::ptrdiff_t block, std::ptrdiff_t width)
      : items_(items), block_(block), width_(width), sums_(static_cast<std::size_t>(blocks() * width)) {}

  std::ptrdiff_t blocks() const { return (items_ + block_ - 1) / block_; }

  // Calls body(begin, end, sums) for the items [begin, end) of each block, on as many threads as pay off. body adds to
  // sums, which begin with zeros.
  template <class Body>
  void run(double ns_per_item, Body body) {
    parallel_for(blocks(), ns_per_item * static_cast<double>(block_), [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
      for (std::ptrdiff_t b = begin; b < end; ++b)
        body(b * block_, std::min(items_, (b + 1) * block_), sums_.data() + b * width_);
    });
  }

  // Adds those of block b to `width` doubles.
  void add_block(std::ptrdiff_t b, double* to) const;
  // Adds those of all blocks.
  void add_to(double* to) const {
    for (std::ptrdiff_t b = 0; b < blocks(); ++b) add_block(b, to);
  }

 private:
  std::ptrdiff_t items_, block_, width_;
  std::vector<double> sums_;
};

// Rows of a block for sums of columns: large enough to be worth a thread's while, few enough blocks for their sums to
// stay small.
constexpr std::ptrdiff_t rows_in_block(std::ptrdiff_t rows, std::ptrdiff_t n) {
  constexpr std::ptrdiff_t kElements = 16384, kMostBlocks = 16;
  return std::max(
      {std::ptrdiff_t{1}, kElements / std::max<std::ptrdiff_t>(n, 1), (rows + kMostBlocks - 1) / kMostBlocks});
}

// A block of an array in a list.
struct ListBlock {
  std::size_t array;
  std::ptrdiff_t first, last;  // elements
};

// The blocks of all arrays of a list, where size_of(array) is how many elements each has.
template <class List, class Size>
std::vector<ListBlock> blocks_of(const List& list, std::ptrdiff_t block, Size size_of) {
  std::vector<ListBlock> blocks;
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::ptrdiff_t first = 0, n = size_of(list[i]); first < n; first += block)
      blocks.push_back({i, first, std::min(first + block, n)});
  return blocks;
}

}  // namespace nnfast
