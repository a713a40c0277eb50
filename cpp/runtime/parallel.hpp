// parallel_for: the one way from a kernel to more than one thread. No other file knows OpenMP.
#pragma once

#include <cstddef>
#include <type_traits>

namespace nnfast {

// What the calling thread may use: set_thread_override() of this thread, else set_thread_limit().
int thread_limit();
void set_thread_limit(int threads);
// For the calling thread alone; 0 takes it back. Returns what it was.
int set_thread_override(int threads);

// For tests: items a thread must at least get, whatever they cost; 0 returns to the cost model.
void force_grain(std::ptrdiff_t grain);
std::ptrdiff_t forced_grain();

// The threads that `items` of this cost are worth, at most thread_limit().
int threads_for(std::ptrdiff_t items, double ns_per_item);

const char* threading_runtime();

namespace detail {
using RangeFn = void (*)(void* body, std::ptrdiff_t begin, std::ptrdiff_t end);
void run_parallel(std::ptrdiff_t items, int threads, std::ptrdiff_t multiple, RangeFn call, void* body);
}  // namespace detail

// Calls body(begin, end) for ranges that cover [0, items), on as many threads as pay off: see parallel.cpp for the cost
// model. Ranges begin at multiples of `multiple`. body must not throw, and which thread runs a range must not matter.
template <class Body>
void parallel_for(std::ptrdiff_t items, double ns_per_item, Body&& body, std::ptrdiff_t multiple = 1) {
  if (items <= 0) return;
  const int threads = threads_for(items, ns_per_item);
  if (threads <= 1) {
    body(std::ptrdiff_t{0}, items);
    return;
  }
  using B = std::remove_reference_t<Body>;
  detail::run_parallel(
      items, threads, multiple,
      [](void* b, std::ptrdiff_t begin, std::ptrdiff_t end) { (*static_cast<B*>(b))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace nnfast
