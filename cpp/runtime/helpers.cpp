#include "runtime/helpers.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <thread>

#include "runtime/system.hpp"

namespace nnfast::helpers {
namespace {

// How long a helper looks out for the next job before it sleeps.
constexpr std::int64_t kLookoutNs = 50'000;
// Work that outlasts waking a helper, which takes 10 to 100 microseconds.
constexpr double kWakeNs = 50e3;
// Calls that end less than this before the next begins are a burst; after so many of them helpers are woken for the
// rest.
constexpr std::int64_t kBurstGapNs = 10'000;
constexpr int kBurstCalls = 6;
// For so long after a helper was displaced by another thread it does not look out, but sleeps at once: of two that
// yield to each other one waits for a slice of the other's, and would miss its next job, which waking does not.
constexpr std::int64_t kCrowdedNs = 100'000'000;
constexpr int kMaxHelpers = 255;

std::int64_t now_ns() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A thread's part of the job in one word, so that taking a chunk and checking that the job is still the same is one
// step: 32 bits of generation, 16 of the next chunk, 16 of where the part ends.
struct Part {
  std::uint64_t word;
  static Part of(std::uint32_t generation, std::ptrdiff_t next, std::ptrdiff_t end) {
    return {std::uint64_t{generation} << 32 | static_cast<std::uint64_t>(next) << 16 | static_cast<std::uint64_t>(end)};
  }
  std::uint32_t generation() const { return static_cast<std::uint32_t>(word >> 32); }
  std::uint32_t next() const { return (word >> 16) & 0xffff; }
  std::uint32_t end() const { return word & 0xffff; }
  bool open(std::uint32_t of_generation) const { return generation() == of_generation && next() < end(); }
  Part taken() const { return {word + (1u << 16)}; }
};
constexpr std::ptrdiff_t kMaxChunks = 0xffff;

// Each thread begins with a part of its own, the same chunks in every call, whose data its cache may still hold; then
// it takes from the others' parts.
struct alignas(64) Segment {
  std::atomic<std::uint64_t> word{0};
};

struct alignas(64) Helper {
  std::atomic<std::uint32_t> asleep{0};
  std::thread::native_handle_type thread{};
  int kept_off = -1;  // the processor it may not run on, or -1
};

class Pool {
 public:
  void run(const Job& job, int threads, bool certain) {
    if (busy_.test_and_set(std::memory_order_acquire)) {
      // Another thread's job is under way: this one has the core it runs on, and computes by itself.
      for (std::ptrdiff_t chunk = 0; chunk < job.chunks; ++chunk) job.run_chunk(chunk);
      return;
    }
    const int wanted = threads - 1 < kMaxHelpers ? threads - 1 : kMaxHelpers;
    start(wanted);
    keep_off_this_processor(wanted);
    publish(job, wanted);
    wake(wanted);
    if (certain) await_first_taker();
    take_chunks(generation_.load(std::memory_order_relaxed), 0, [&] { return job; });
    for (int spins = 0; finished_.load(std::memory_order_acquire) != job.chunks; ++spins)
      spins < 1000 ? pause() : std::this_thread::yield();
    last_end_.store(now_ns(), std::memory_order_relaxed);
    busy_.clear(std::memory_order_release);
  }

  bool worthwhile(int threads, double ns) {
    if (ns >= kWakeNs) return true;
    if (now_ns() - last_end_.load(std::memory_order_relaxed) > kBurstGapNs) {
      burst_.store(0, std::memory_order_relaxed);
    } else if (burst_.load(std::memory_order_relaxed) >= kBurstCalls) {
      return true;
    } else {
      burst_.fetch_add(1, std::memory_order_relaxed);
    }
    for (int i = 0; i < threads - 1 && i < started_.load(std::memory_order_acquire); ++i)
      if (!helpers_[i].asleep.load(std::memory_order_relaxed)) return true;
    return false;
  }

  void note_serial_end() { last_end_.store(now_ns(), std::memory_order_relaxed); }

 private:
  void start(int wanted) {
    int count = started_.load(std::memory_order_relaxed);
    if (count >= wanted) return;
    const system::SignalsHeld signals_are_the_callers;
    for (; count < wanted; ++count) {
      try {
        std::thread thread([this, count] { work(count); });
        helpers_[count].thread = thread.native_handle();
        thread.detach();
      } catch (const std::exception&) {
        break;  // no more threads, or no memory for one: fewer will do
      }
    }
    started_.store(count, std::memory_order_release);
  }

  // Linux may leave a helper on the processor of the thread that wakes it, for hundreds of calls, where it gets its
  // turn when the job is over. So it may run wherever the caller may, except there. Costs a system call when the caller
  // moves.
  void keep_off_this_processor(int wanted) {
    const int processor = system::this_processor();
    const int count = std::min(wanted, started_.load(std::memory_order_relaxed));
    const auto moved = [&](const Helper& helper) { return helper.kept_off != processor; };
    if (processor < 0 || std::none_of(helpers_, helpers_ + count, moved)) return;
    const system::ProcessorsBut others(processor);
    for (int i = 0; i < count; ++i)
      if (moved(helpers_[i]) && others.keep(helpers_[i].thread)) helpers_[i].kept_off = processor;
  }

  void publish(const Job& job, int wanted) {
    call_.store(job.call, std::memory_order_relaxed);
    body_.store(job.body, std::memory_order_relaxed);
    items_.store(job.items, std::memory_order_relaxed);
    multiple_.store(job.multiple, std::memory_order_relaxed);
    mode_.store(job.mode, std::memory_order_relaxed);
    wanted_.store(wanted, std::memory_order_relaxed);
    chunks_.store(job.chunks, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
    const int parts = wanted + 1;
    for (int i = 0; i < parts; ++i)
      segments_[i].word.store(Part::of(generation, job.chunks * i / parts, job.chunks * (i + 1) / parts).word,
                              std::memory_order_release);
    // Ordered before the look at who sleeps: a helper that goes to sleep looks at the generation after saying so.
    generation_.store(generation, std::memory_order_seq_cst);
  }

  void wake(int wanted) {
    for (int i = 0; i < wanted && i < started_.load(std::memory_order_relaxed); ++i) {
      if (!helpers_[i].asleep.load(std::memory_order_seq_cst)) continue;
      helpers_[i].asleep.store(0, std::memory_order_seq_cst);
      helpers_[i].asleep.notify_one();
    }
  }

  void await_first_taker() {
    const std::int64_t until = now_ns() + 2'000'000;
    while (finished_.load(std::memory_order_relaxed) == 0 && now_ns() < until) std::this_thread::yield();
  }

  // Runs what chunks of this generation are left, those of part `own` first. read_job() is called before each is taken.
  template <class ReadJob>
  bool take_chunks(std::uint32_t generation, int own, ReadJob read_job) {
    bool took = false;
    const int parts = wanted_.load(std::memory_order_relaxed) + 1;
    for (int i = 0; i < parts; ++i) {
      auto& word = segments_[(own + i) % parts].word;
      Part part{word.load(std::memory_order_acquire)};
      while (part.open(generation)) {
        // What is read here belongs to this generation if the exchange finds the part unchanged: the next job is not
        // published before every chunk of this one is finished.
        const Job job = read_job();
        if (!word.compare_exchange_weak(part.word, part.taken().word, std::memory_order_acq_rel,
                                        std::memory_order_acquire))
          continue;
        job.run_chunk(part.next());
        finished_.fetch_add(1, std::memory_order_release);
        took = true;
        part.word = word.load(std::memory_order_acquire);
      }
    }
    return took;
  }

  void work(int index) {
    system::ask_for_short_slice();
    // When this thread has last been taken off its processor while it looked out.
    std::int64_t displaced = now_ns() - kCrowdedNs;
    std::int64_t lookout_end = now_ns() + kLookoutNs;
    for (;;) {
      const std::int64_t now = now_ns();
      if (help(index)) {
        lookout_end = now_ns() + kLookoutNs;
      } else if (now < lookout_end && now - displaced > kCrowdedNs) {
        for (int i = 0; i < 16; ++i) pause();
        std::this_thread::yield();
        if (now_ns() - now > kLookoutNs) displaced = now;
      } else {
        sleep(index);
        lookout_end = now_ns() + kLookoutNs;
      }
    }
  }

  // Takes chunks of the open job, if there is one and it is for this helper.
  bool help(int index) {
    const std::uint32_t generation = generation_.load(std::memory_order_acquire);
    if (index >= wanted_.load(std::memory_order_relaxed)) return false;
    return take_chunks(generation, index + 1, [this] {
      const Job job{call_.load(std::memory_order_relaxed),   body_.load(std::memory_order_relaxed),
                    items_.load(std::memory_order_relaxed),  multiple_.load(std::memory_order_relaxed),
                    chunks_.load(std::memory_order_relaxed), mode_.load(std::memory_order_relaxed)};
      job.mode.apply();
      return job;
    });
  }

  void sleep(int index) {
    auto& asleep = helpers_[index].asleep;
    const std::uint32_t before = generation_.load(std::memory_order_relaxed);
    if (help(index)) return;
    asleep.store(1, std::memory_order_seq_cst);
    if (generation_.load(std::memory_order_seq_cst) != before) {
      asleep.store(0, std::memory_order_seq_cst);
      return;
    }
    asleep.wait(1, std::memory_order_seq_cst);
  }

  alignas(64) std::atomic<std::uint32_t> generation_{0};
  alignas(64) std::atomic<std::ptrdiff_t> finished_{0};
  alignas(64) std::atomic<detail::RangeFn> call_{nullptr};
  std::atomic<void*> body_{nullptr};
  std::atomic<std::ptrdiff_t> items_{0}, multiple_{1}, chunks_{0};
  std::atomic<FloatMode> mode_{};
  std::atomic<int> wanted_{0};
  std::atomic<int> started_{0};
  std::atomic<std::int64_t> last_end_{0};
  std::atomic<int> burst_{0};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  Helper helpers_[kMaxHelpers];
  Segment segments_[kMaxHelpers + 1];
};

// Never destroyed: helpers may be asleep in it when the process ends.
std::atomic<Pool*> pool{nullptr};

}  // namespace

void initialize() {
  pool = new Pool;
  // A forked child has none of the helpers; it gets a pool of its own and starts others when it needs them.
  system::in_forked_child([] { pool = new Pool; });
}

bool worthwhile(int threads, double ns) { return pool.load()->worthwhile(threads, ns); }

void note_serial_end() { pool.load()->note_serial_end(); }

void run(const Job& job, int threads, bool certain) {
  Job bounded = job;
  bounded.chunks = std::min(job.chunks, kMaxChunks);
  pool.load()->run(bounded, threads, certain);
}

}  // namespace nnfast::helpers
