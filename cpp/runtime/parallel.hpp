// parallel_for: the one way from a kernel to more than one thread.
#pragma once

#include <cstddef>
#include <type_traits>

namespace nnfast {

// What the calling thread may use: set_thread_override() of this thread, else set_thread_limit().
int thread_limit();
// Also counts the processors of this process, of which a call uses no more threads.
void set_thread_limit(int threads);
// For tests: as if there were so many. Returns what it was.
int set_processors(int count);
// For the calling thread alone; 0 takes it back. Returns what it was.
int set_thread_override(int threads);

// For tests: every thread gets about this many items whatever they cost, and takes part in every call; 0 returns to the
// cost model.
void force_grain(std::ptrdiff_t grain);
std::ptrdiff_t forced_grain();

// "helpers" (helpers.hpp, the default) or "openmp" (openmp.hpp). False if this build has no runtime of that name.
bool choose_threading(const char* name);
const char* threading_name();
// Those that this build has.
const char* threading_built();

namespace detail {
using RangeFn = void (*)(void* body, std::ptrdiff_t begin, std::ptrdiff_t end);
// Less work than this in total runs on the calling thread alone.
constexpr double kSerialNs = 4.5e3;
bool serial(std::ptrdiff_t items, double ns_per_item);
void run(std::ptrdiff_t items, double ns_per_item, std::ptrdiff_t multiple, RangeFn call, void* body);
}  // namespace detail

// Calls body(begin, end) for ranges that cover [0, items), on as many threads as pay off. Ranges begin at multiples of
// `multiple`. body must not throw, and which thread runs a range must not matter; on every thread it finds the caller's
// floating-point mode.
template <class Body>
void parallel_for(std::ptrdiff_t items, double ns_per_item, Body&& body, std::ptrdiff_t multiple = 1) {
  if (items <= 0) return;
  if (detail::serial(items, ns_per_item)) {
    body(std::ptrdiff_t{0}, items);
    return;
  }
  using B = std::remove_reference_t<Body>;
  detail::run(
      items, ns_per_item, multiple,
      [](void* b, std::ptrdiff_t begin, std::ptrdiff_t end) { (*static_cast<B*>(b))(begin, end); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace nnfast
