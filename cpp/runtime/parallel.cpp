// parallel_for over OpenMP.
//
// The runtime waits passively (python/nnfast/_openmp.py sees to it when the module is loaded): libgomp's default keeps
// its workers spinning after a region, and between two matrix products of NumPy's BLAS, whose workers spin too, the two
// pools then take each other's cores. Passive workers sleep, and waking one costs tens of microseconds. So work is
// shared only when a thread's part is worth several wake-ups, and it is shared in chunks taken from a counter: the
// caller goes on with the work while the others wake, and who comes late takes less.
#include "runtime/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

namespace nnfast {
namespace {

// Serial time that pays for a thread.
constexpr double kNsPerThread = 150e3;
// Chunks a thread takes when all are awake.
constexpr std::ptrdiff_t kChunksPerThread = 8;

std::atomic<int> limit{1};
thread_local int override_limit = 0;
std::atomic<std::ptrdiff_t> grain{0};
// One region at a time: a second Python thread that comes along computes by itself on the core it has.
std::atomic_flag region_busy = ATOMIC_FLAG_INIT;
// libgomp's workers do not exist in a forked child, and a region there would wait for them for ever.
std::atomic<bool> forked{false};

[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

int thread_limit() { return override_limit > 0 ? override_limit : limit.load(std::memory_order_relaxed); }

void set_thread_limit(int threads) { limit.store(threads, std::memory_order_relaxed); }

int set_thread_override(int threads) {
  const int before = override_limit;
  override_limit = threads;
  return before;
}

void force_grain(std::ptrdiff_t items) { grain.store(items, std::memory_order_relaxed); }
std::ptrdiff_t forced_grain() { return grain.load(std::memory_order_relaxed); }

int threads_for(std::ptrdiff_t items, double ns_per_item) {
  const std::ptrdiff_t forced = forced_grain();
  const double worth = forced > 0 ? static_cast<double>(items) / static_cast<double>(forced)
                                  : static_cast<double>(items) * ns_per_item / kNsPerThread;
  if (worth < 2) return 1;
  if (forked.load(std::memory_order_relaxed) || omp_in_parallel()) return 1;
  const int most = thread_limit();
  return worth < most ? static_cast<int>(worth) : most;
}

const char* threading_runtime() { return "OpenMP"; }

namespace detail {

void run_parallel(std::ptrdiff_t items, int threads, std::ptrdiff_t multiple, RangeFn call, void* body) {
  if (region_busy.test_and_set(std::memory_order_acquire)) {
    call(body, 0, items);
    return;
  }
  const std::ptrdiff_t units = (items + multiple - 1) / multiple;
  const std::ptrdiff_t chunks = std::min<std::ptrdiff_t>(units, threads * kChunksPerThread);
  std::atomic<std::ptrdiff_t> next{0};
#pragma omp parallel num_threads(threads) default(shared)
  {
    for (std::ptrdiff_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) {
      const std::ptrdiff_t begin = units * chunk / chunks * multiple;
      const std::ptrdiff_t end = std::min(items, units * (chunk + 1) / chunks * multiple);
      if (begin < end) call(body, begin, end);
    }
  }
  region_busy.clear(std::memory_order_release);
}

}  // namespace detail
}  // namespace nnfast
