#include "runtime/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "runtime/helpers.hpp"
#include "runtime/job.hpp"
#include "runtime/openmp.hpp"
#include "runtime/system.hpp"

namespace nnfast {
namespace {

// OpenMP's workers sleep (see python/nnfast/_load.py) and a region waits for all of them: a thread has to be worth
// several wake-ups.
constexpr double kOpenMpNsPerThread = 150e3;
// Work in a chunk: much more than taking it from its part costs, little enough to share it evenly.
constexpr double kChunkNs = 3e3;
constexpr std::ptrdiff_t kChunksPerThread = 16;

std::atomic<int> limit{1};
// More threads than processors would only wait for each other's turns.
std::atomic<int> processors{1};
thread_local int override_limit = 0;
// In a body of parallel_for, on whichever thread: what it calls stays serial.
thread_local bool inside = false;
std::atomic<std::ptrdiff_t> grain{0};
std::atomic<bool> use_openmp{false};
std::atomic_flag openmp_busy = ATOMIC_FLAG_INIT;

struct Marked {
  detail::RangeFn call;
  void* body;
};

// Runs a range with `inside` set.
void call_marked(void* marked, std::ptrdiff_t begin, std::ptrdiff_t end) {
  const auto* job = static_cast<const Marked*>(marked);
  inside = true;
  job->call(job->body, begin, end);
  inside = false;
}

// How many chunks `threads` threads are given of a job that takes `ns`.
std::ptrdiff_t chunks(const Job& job, int threads, double ns) {
  const std::ptrdiff_t most = std::min<std::ptrdiff_t>(job.units(), threads * kChunksPerThread);
  const std::ptrdiff_t forced = forced_grain();
  const double wanted = forced > 0 ? static_cast<double>(job.items) / static_cast<double>(forced) : ns / kChunkNs;
  if (wanted >= static_cast<double>(most)) return most;
  return std::max(threads, static_cast<int>(wanted) / threads * threads);
}

bool run_openmp(Job job, int threads, double ns, bool forced) {
  if (!forced) threads = std::min(threads, static_cast<int>(std::min(ns / kOpenMpNsPerThread, 1e6)));
  if (threads < 2 || !openmp::available() || openmp_busy.test_and_set(std::memory_order_acquire)) return false;
  job.chunks = chunks(job, threads, ns);
  openmp::run(job, threads);
  openmp_busy.clear(std::memory_order_release);
  return true;
}

bool run_helpers(Job job, int threads, double ns, bool forced) {
  const int at_once = std::min(threads, processors.load(std::memory_order_relaxed));
  const helpers::Team team = forced ? helpers::Team{threads - 1, threads - 1} : helpers::worthwhile(at_once, ns);
  if (team.helpers < 1) return false;
  job.chunks = chunks(job, team.helpers + 1, ns);
  helpers::run(job, team, forced);
  return true;
}

}  // namespace

int thread_limit() {
  if (override_limit > 0) return override_limit;
  return std::min(limit.load(std::memory_order_relaxed), openmp::lowered_limit());
}

void set_thread_limit(int threads) {
  limit.store(threads, std::memory_order_relaxed);
  set_processors(system::processors());
}

int set_processors(int count) { return processors.exchange(count, std::memory_order_relaxed); }

int set_thread_override(int threads) {
  const int before = override_limit;
  override_limit = threads;
  return before;
}

void force_grain(std::ptrdiff_t items) { grain.store(items, std::memory_order_relaxed); }
std::ptrdiff_t forced_grain() { return grain.load(std::memory_order_relaxed); }

bool choose_threading(const char* name) {
  [[maybe_unused]] static const bool initialized = (helpers::initialize(), openmp::initialize(), true);
  const bool openmp = std::strcmp(name, "openmp") == 0;
  if (openmp ? !openmp::built() : std::strcmp(name, "helpers") != 0) return false;
  use_openmp = openmp;
  return true;
}

const char* threading_name() { return use_openmp ? "openmp" : "helpers"; }
const char* threading_built() { return openmp::built() ? "helpers, openmp" : "helpers"; }

namespace detail {

bool serial(std::ptrdiff_t items, double ns_per_item) {
  return inside || thread_limit() == 1 ||
         (forced_grain() > 0 ? items < 2 : static_cast<double>(items) * ns_per_item < kSerialNs);
}

void run(std::ptrdiff_t items, double ns_per_item, std::ptrdiff_t multiple, RangeFn call, void* body) {
  Marked marked{call, body};
  const Job job{call_marked, &marked, items, multiple, 1, FloatMode::current()};
  const double ns = static_cast<double>(items) * ns_per_item;
  const auto threads = static_cast<int>(std::min<std::ptrdiff_t>(thread_limit(), job.units()));
  if (threads > 1 && (use_openmp ? run_openmp : run_helpers)(job, threads, ns, forced_grain() > 0)) return;
  call(body, 0, items);
  if (!use_openmp) helpers::note_serial_end();
}

}  // namespace detail
}  // namespace nnfast
