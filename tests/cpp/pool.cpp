// Jobs of kernels and of a BLAS from many threads on one pool, for ThreadSanitizer, and forks between them.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "runtime/helpers.hpp"
#include "runtime/parallel.hpp"

namespace {

using namespace nnfast;

void require(bool fact, const char* what) {
  if (fact) return;
  std::printf("not so: %s\n", what);
  std::abort();
}

void square_all() {
  std::vector<double> numbers(20'000, 3);
  parallel_for(static_cast<std::ptrdiff_t>(numbers.size()), 5, [&](std::ptrdiff_t begin, std::ptrdiff_t end) {
    for (std::ptrdiff_t i = begin; i < end; ++i) numbers[i] *= numbers[i];
  });
  for (const double number : numbers) require(number == 9, "every number is squared once");
}

// Jobs that wait for each other, as a product's do.
struct Together {
  std::atomic<int> begun{0};
  std::vector<int> sums;  // a place for each: no two may write to one
};

void meet(void* context, std::ptrdiff_t begin, std::ptrdiff_t end) {
  auto& together = *static_cast<Together*>(context);
  for (std::ptrdiff_t i = begin; i < end; ++i) {
    ++together.begun;
    while (together.begun < static_cast<int>(together.sums.size())) std::this_thread::yield();
    together.sums[i] += static_cast<int>(i);
  }
}

void run_together(int jobs) {
  Together together;
  together.sums.resize(jobs);
  const bool all = helpers::run_together({meet, &together, jobs, 1, jobs, FloatMode()});
  require(all, "there are enough threads");
  for (int i = 0; i < jobs; ++i) require(together.sums[i] == i, "every job is run once");
}

}  // namespace

int main() {
  choose_threading("helpers");
  set_thread_limit(3);
  set_processors(3);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([caller] {
      for (int i = 0; i < 200; ++i) {
        square_all();
        run_together(1 + (i + caller) % 4);
      }
    });
  for (int i = 0; i < 20; ++i) {
    helpers::hold();
    std::this_thread::yield();
    helpers::let_go();
  }
  for (std::thread& caller : callers) caller.join();
  require(!helpers::run_together({meet, nullptr, 1000, 1, 1000, FloatMode()}), "more jobs than helpers are refused");

  const pid_t child = fork();
  if (child == 0) {
    run_together(3);
    square_all();
    _exit(0);
  }
  int end = 1;
  waitpid(child, &end, 0);
  require(end == 0, "a child has a pool of its own");
  std::puts("all is well");
}
