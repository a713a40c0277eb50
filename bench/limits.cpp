// What the memory of this machine gives: bytes a second at every size of working set, for 1 and for all threads.
//
//   limits THREADS MILLISECONDS  ->  lines "kind threads bytes bytes_per_second"
//
// Every thread works on a share of its own, again and again, and never waits for another: no kernel can do better.

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
typedef float Vector __attribute__((vector_size(64)));

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// A pass over vectors; each kind says how many arrays it works on and how often it moves each.
struct Read {
  static constexpr const char* name = "read";
  static constexpr int arrays = 1, moves = 1;
  static void pass(Vector* a, Vector*, Vector*, size_t n) {
    Vector s0{}, s1{}, s2{}, s3{};
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
      s0 += a[i];
      s1 += a[i + 1];
      s2 += a[i + 2];
      s3 += a[i + 3];
    }
    for (; i < n; ++i) s0 += a[i];
    s0 += s1 + s2 + s3;
    asm volatile("" ::"m"(s0));  // the sum is wanted
  }
};

struct Update {
  static constexpr const char* name = "update";
  static constexpr int arrays = 1, moves = 2;
  static void pass(Vector* a, Vector*, Vector*, size_t n) {
#pragma GCC unroll 4
    for (size_t i = 0; i < n; ++i) a[i] = 1 - a[i];
    asm volatile("" ::"r"(a) : "memory");
  }
};

struct Copy {
  static constexpr const char* name = "copy";
  static constexpr int arrays = 2, moves = 1;
  static void pass(Vector* a, Vector* b, Vector*, size_t n) {
#pragma GCC unroll 4
    for (size_t i = 0; i < n; ++i) {
      b[i] = a[i];
      asm volatile("" ::: "memory");  // stays a loop, is no memcpy
    }
  }
};

#ifdef __SSE2__
struct Stream {
  static constexpr const char* name = "streaming copy";
  static constexpr int arrays = 2, moves = 1;
  static void pass(Vector* a, Vector* b, Vector*, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      const auto* from = reinterpret_cast<const float*>(a + i);
      auto* to = reinterpret_cast<float*>(b + i);
      for (int part = 0; part < 16; part += 4) _mm_stream_ps(to + part, _mm_load_ps(from + part));
    }
    _mm_sfence();
  }
};
#endif

struct Triad {
  static constexpr const char* name = "triad";
  static constexpr int arrays = 3, moves = 1;
  static void pass(Vector* a, Vector* b, Vector* c, size_t n) {
#pragma GCC unroll 4
    for (size_t i = 0; i < n; ++i) c[i] = a[i] + 3 * b[i];
    asm volatile("" ::"r"(c) : "memory");
  }
};

template <class Kind>
double bytes_per_second(Vector* memory, size_t bytes, unsigned threads, double limit) {
  const size_t vectors = bytes / sizeof(Vector) / Kind::arrays / threads;
  if (vectors == 0) return 0;
  std::atomic<unsigned> ready{0};
  std::vector<double> rates(threads);
  auto work = [&](unsigned thread) {
    Vector* a = memory + thread * vectors * Kind::arrays;
    Vector *b = a + vectors, *c = b + vectors;
    if (Kind::arrays < 2) b = a;
    if (Kind::arrays < 3) c = b;
    Kind::pass(a, b, c, vectors);
    ready += 1;
    while (ready < threads) {
    }
    // Passes until the time is up, asked of the clock every 256 KiB or more.
    const size_t burst = 1 + (size_t(1) << 12) / vectors;
    size_t passes = 0;
    const auto begin = Clock::now();
    do {
      for (size_t i = 0; i < burst; ++i) Kind::pass(a, b, c, vectors);
      passes += burst;
    } while (seconds_since(begin) < limit);
    const double bytes_a_pass = double(vectors) * sizeof(Vector) * Kind::arrays * Kind::moves;
    rates[thread] = double(passes) * bytes_a_pass / seconds_since(begin);
  };
  std::vector<std::thread> others;
  for (unsigned thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
  work(0);
  for (auto& other : others) other.join();
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

template <class Kind>
void measure(Vector* memory, size_t bytes, unsigned threads, double limit) {
  double best = 0;
  for (int attempt = 0; attempt < 3; ++attempt) {
    const double rate = bytes_per_second<Kind>(memory, bytes, threads, limit / 3);
    best = rate > best ? rate : best;
  }
  std::printf("%s;%u;%zu;%.0f\n", Kind::name, threads, bytes, best);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned all = unsigned(std::atoi(argv[1]));
  const double limit = std::atof(argv[2]) / 1e3;
  const size_t most = size_t(1) << 28;
  auto* memory = static_cast<Vector*>(std::aligned_alloc(size_t(2) << 20, most));
  for (size_t i = 0; i < most / sizeof(Vector); ++i) memory[i] = Vector{};
  for (unsigned threads = 1; threads <= all; threads = threads < all ? all : all + 1) {
    for (size_t bytes = size_t(1) << 12; bytes <= most; bytes *= 2) {
      measure<Read>(memory, bytes, threads, limit);
      measure<Update>(memory, bytes, threads, limit);
      measure<Copy>(memory, bytes, threads, limit);
#ifdef __SSE2__
      measure<Stream>(memory, bytes, threads, limit);
#endif
      measure<Triad>(memory, bytes, threads, limit);
    }
  }
}
