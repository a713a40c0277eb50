#include "runtime/blas.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "runtime/clock.hpp"
#include "runtime/helpers.hpp"
#include "runtime/job.hpp"
#include "runtime/parallel.hpp"
#include "runtime/system.hpp"

namespace nnfast::blas {
namespace {

using Object = system::LoadedObject;
using RunJob = void (*)(int number, void* job, int extra);
using Callback = void (*)(int sync, RunJob run, int jobs, std::size_t size, void* first_job, int extra);

// What we use of a library. Never changed and never unloaded once it is in use.
struct OpenBlas {
  std::string path;
  Callback* callback;      // its variable
  const int* own_threads;  // its own pool's, callers included
  void (*start_on_own)(long position, void* first_job);
  void (*await_own)(long jobs, void* first_job);
  int numbers;  // that its jobs can have
};

struct Call {
  RunJob run;
  std::size_t size;
  char* first_job;
  int extra;
  int first_number;

  void* job(std::ptrdiff_t i) const { return first_job + static_cast<std::size_t>(i) * size; }
};

constexpr int kMostLibraries = 8;
std::array<OpenBlas, kMostLibraries> taken;
int number_taken = 0;
int users = 0;

thread_local bool in_job = false;
// This thread ends the process.
thread_local bool ending = false;

// ---- forks ----

// Before a fork OpenBLAS ends its threads and frees the buffers of all numbers; where it next finds that out, in each
// of the threads that call it then, it frees those of the numbers above its threads' once more: ours. Jobs of that time
// run on its own threads.
constexpr std::int64_t kSettlingNs = 300'000'000;
constexpr std::int64_t kForked = -1;
std::atomic<std::int64_t> settled_ns{0};
// Handlers are registered again with each library, so that one of them comes before those of all.
thread_local int handlers_begun = 0;

void before_fork() {
  if (handlers_begun++ == 0 && !ending) helpers::hold();
}
void in_parent() {
  if (--handlers_begun > 0) return;
  settled_ns = kForked;
  if (!ending) helpers::let_go();
}
void in_child() {  // where the pool is a new one
  if (--handlers_begun == 0) settled_ns = kForked;
}

// OpenBLAS frees its memory when the process ends: no job of other threads may be under way then, nor begin. Handlers
// of others that come later in this thread have its own threads.
void at_exit() {
  helpers::hold();
  ending = true;
}

bool settled() {
  std::int64_t until = settled_ns.load(std::memory_order_relaxed);
  if (until == 0) return true;
  const std::int64_t now = now_ns();
  if (until == kForked) settled_ns.compare_exchange_strong(until, now + kSettlingNs);
  if (until == kForked || now < until) return false;
  settled_ns.compare_exchange_strong(until, 0);
  return true;
}

// ---- jobs ----

void run_job(const Call& call, std::ptrdiff_t i) {
  const bool outer = std::exchange(in_job, true);
  call.run(call.first_number + static_cast<int>(i), call.job(i), call.extra);
  in_job = outer;
}

void run_jobs(void* call, std::ptrdiff_t begin, std::ptrdiff_t end) {
  for (std::ptrdiff_t i = begin; i < end; ++i) run_job(*static_cast<const Call*>(call), i);
}

// As the library itself does it, but for the number of the first job.
void run_on_own_threads(const OpenBlas& library, const Call& call, int jobs) {
  if (jobs > 1) library.start_on_own(1, call.job(1));
  run_job(call, 0);
  if (jobs > 1) library.await_own(jobs - 1, call.job(1));
}

// The helpers are taken for good: in a job that calls its BLAS again, which no version does that we know of, and where
// the process ends. So may be all numbers but the last.
void run_without_helpers(const OpenBlas& library, Call call, int jobs) {
  static std::mutex one;
  const std::lock_guard lock(one);
  call.first_number = library.numbers - 1;
  run_on_own_threads(library, call, jobs);
}

// Numbers begin after those of the library's own threads, which some factorizations go on using. Who calls has the
// helpers to itself meanwhile, which also keeps the numbers of calls apart.
void run(const OpenBlas& library, Call call, int jobs) {
  if (in_job || ending) return run_without_helpers(library, call, jobs);
  call.first_number = __atomic_load_n(library.own_threads, __ATOMIC_RELAXED) - 1;
  const bool room = call.first_number + jobs < library.numbers;
  // With the default floating-point mode, as on the library's own threads.
  if (room && settled() && helpers::run_together({run_jobs, &call, jobs, 1, jobs, FloatMode()})) return;
  helpers::hold();
  run_on_own_threads(library, call, jobs);
  helpers::let_go();
}

template <int index>
void run_on_helpers(int, RunJob run_one, int jobs, std::size_t size, void* first_job, int extra) {
  if (jobs > 0) run(taken[index], Call{run_one, size, static_cast<char*>(first_job), extra, 0}, jobs);
}

template <int... indices>
constexpr std::array<Callback, kMostLibraries> callbacks_of(std::integer_sequence<int, indices...>) {
  return {run_on_helpers<indices>...};
}
constexpr std::array<Callback, kMostLibraries> callbacks =
    callbacks_of(std::make_integer_sequence<int, kMostLibraries>());

// ---- libraries ----

// Distributors put a prefix and a suffix around public names.
template <class Function>
Function* named(const Object& object, const std::string& name) {
  for (const char* prefix : {"", "scipy_"})
    for (const char* suffix : {"", "64_", "_64"})
      if (void* found = object.symbol((prefix + name + suffix).c_str())) return reinterpret_cast<Function*>(found);
  return nullptr;
}

template <class Value>
Value* variable(const Object& object, const char* name) {
  return static_cast<Value*>(object.symbol(name));
}

std::string text_of(const Object& object, const char* name) {
  auto* text = named<const char*()>(object, name);
  return text ? text() : "";
}

Callback callback_in(const Callback* variable) { return __atomic_load_n(variable, __ATOMIC_ACQUIRE); }

bool is_ours(Callback callback) { return std::find(callbacks.begin(), callbacks.end(), callback) != callbacks.end(); }

// The greatest number of threads that the library was built for, which it names among its settings.
int numbers_of(const std::string& config) {
  const std::string key = "MAX_THREADS=";
  const std::size_t at = config.find(key);
  return at == std::string::npos ? 0 : std::atoi(config.c_str() + at + key.size());
}

// Of the OpenBLAS that the object is or calls; empty if there is none.
std::string path_from(const Object& object) {
  return system::path_of(reinterpret_cast<void*>(named<const char*()>(object, "openblas_get_config")));
}

OpenBlas library_from(const Object& object, const std::string& path) {
  return {path,
          variable<Callback>(object, "openblas_threads_callback_"),
          variable<int>(object, "blas_num_threads"),
          named<void(long, void*)>(object, "exec_blas_async"),
          named<void(long, void*)>(object, "exec_blas_async_wait"),
          numbers_of(text_of(object, "openblas_get_config"))};
}

int threads_of(const Object& object) {
  auto* threads = named<int()>(object, "openblas_get_num_threads");
  return threads ? threads() : 1;
}

std::string reason_against(const Object& object, const OpenBlas& library) {
  const auto because = [&](const std::string& what) { return library.path + " " + what; };
  if (std::string(threading_name()) != "helpers")
    return "nnfast's own threads are those of OpenMP: NNFAST_THREADING is set";
  if (!library.callback) return because("takes no threads from others, as OpenBLAS does from version 0.3.28 on");
  auto* parallel = named<int()>(object, "openblas_get_parallel");
  if (parallel && parallel() == 0) return because("is built without threads");
  if (parallel && parallel() == 2) return because("is built over OpenMP, whose threads it uses");
  if (!library.own_threads || !library.start_on_own || !library.await_own || library.numbers < 1)
    return because("does not say what has to be known of its threads");
  if (const Callback now = callback_in(library.callback); now && !is_ours(now))
    return because("has its threads from somebody else");
  const int threads = threads_of(object), own_threads = *library.own_threads;
  if (own_threads - 1 + threads >= library.numbers)
    return because("has started " + std::to_string(own_threads) + " threads and uses " + std::to_string(threads) +
                   ", which is too many of " + std::to_string(library.numbers) + ": set OPENBLAS_NUM_THREADS to " +
                   std::to_string(library.numbers / 2) + " or less");
  return "";
}

void take(const OpenBlas& library) {
  const auto* known =
      std::find_if(taken.begin(), taken.begin() + number_taken, [&](auto& each) { return each.path == library.path; });
  const auto index = static_cast<std::size_t>(known - taken.begin());
  if (index == kMostLibraries) return;
  [[maybe_unused]] static const int registered = std::atexit(at_exit);
  if (index == static_cast<std::size_t>(number_taken)) {
    taken[index] = library;
    ++number_taken;
    Object(library.path.c_str()).keep_for_ever();
    system::around_fork(before_fork, in_parent, in_child);
  }
  Callback nobodys = nullptr;
  __atomic_compare_exchange_n(library.callback, &nobodys, callbacks[index], false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

// Where each OpenBLAS lies. Asking every object of the process takes milliseconds, so only when there are new ones.
const std::vector<std::string>& paths() {
  static std::vector<std::string> found;
  static unsigned long long searched = 0;
  if (const auto now = system::objects_ever_loaded(); std::exchange(searched, now) == now) return found;
  found.clear();
  for (const std::string& path : system::loaded_objects()) {
    const Object object(path.c_str());
    const std::string its_own = object ? path_from(object) : "";
    // Objects that call one are none.
    if (!its_own.empty() && Object(its_own.c_str()) == object) found.push_back(path);
  }
  return found;
}

// Calls visit(object, library) for every OpenBLAS that is loaded.
template <class Visit>
void for_each_library(Visit visit) {
  for (const std::string& path : paths())
    if (const Object object(path.c_str()); object) visit(object, library_from(object, path));
}

}  // namespace

std::vector<Library> libraries() {
  std::vector<Library> all;
  for_each_library([&](const Object& object, const OpenBlas& library) {
    all.push_back({library.path, text_of(object, "openblas_get_config"), text_of(object, "openblas_get_corename"),
                   threads_of(object), library.callback && is_ours(callback_in(library.callback))});
  });
  return all;
}

void share() {
  ++users;
  for_each_library([](const Object& object, const OpenBlas& library) {
    if (reason_against(object, library).empty()) take(library);
  });
  if (number_taken > 0) helpers::share_with_blas(true);
}

void unshare() {
  if (users == 0 || --users > 0) return;
  for (int i = 0; i < number_taken; ++i) {
    Callback ours = callbacks[static_cast<std::size_t>(i)];
    __atomic_compare_exchange_n(taken[static_cast<std::size_t>(i)].callback, &ours, nullptr, false, __ATOMIC_ACQ_REL,
                                __ATOMIC_RELAXED);
  }
  helpers::share_with_blas(false);
}

std::string reason_against(const char* path) {
  const Object object(path);
  const std::string its_own = object ? path_from(object) : "";
  if (its_own.empty()) return "it is no OpenBLAS whose threads can be supplied";
  const OpenBlas library = library_from(object, its_own);
  if (library.callback && is_ours(callback_in(library.callback))) return "";
  const std::string reason = reason_against(object, library);
  return reason.empty() ? its_own + " is not shared now" : reason;
}

}  // namespace nnfast::blas
