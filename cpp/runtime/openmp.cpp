#include "runtime/openmp.hpp"

#include <limits>

#ifdef _OPENMP
#include <omp.h>

#include <atomic>

#include "runtime/system.hpp"
#endif

namespace nnfast::openmp {

#ifdef _OPENMP
namespace {

std::atomic<bool> forked{false};
int threads_at_start = 0;

}  // namespace

bool built() { return true; }

void initialize() {
  threads_at_start = omp_get_max_threads();
  system::in_forked_child([] { forked = true; });
}

bool available() { return !forked.load(std::memory_order_relaxed) && !omp_in_parallel(); }

int lowered_limit() {
  const int now = omp_get_max_threads();
  return now < threads_at_start ? now : std::numeric_limits<int>::max();
}

void run(const Job& job, int threads) {
  std::atomic<std::ptrdiff_t> next{0};
#pragma omp parallel num_threads(threads) default(shared)
  {
    if (omp_get_thread_num() != 0) job.mode.apply();
    for (std::ptrdiff_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < job.chunks;)
      job.run_chunk(chunk);
  }
}
#else
bool built() { return false; }
void initialize() {}
bool available() { return false; }
int lowered_limit() { return std::numeric_limits<int>::max(); }
void run(const Job&, int) {}
#endif

}  // namespace nnfast::openmp
