#include "runtime/helpers.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>

#include "runtime/clock.hpp"
#include "runtime/system.hpp"

namespace nnfast::helpers {
namespace {

// How long a helper looks out for the next job before it sleeps. Where it also runs a BLAS's products it bridges what
// Python does between two calls of a training step; no thread of the BLAS then wants its core.
constexpr std::int64_t kLookoutNs = 50'000;
constexpr std::int64_t kSharedLookoutNs = 500'000;
// Work of its own for which a sleeping helper is woken, which takes 10 to 100 microseconds.
constexpr double kWakeNs = 25e3;
// Work of its own for which one that is awake is given a part.
constexpr double kPartNs = detail::kSerialNs / 2;
// A thread that wakes others goes on with its own work after so many; those wake others in turn.
constexpr int kWokenByOne = 3;
// Calls that end less than this before the next begins are a burst; after so many of them helpers are woken for the
// rest.
constexpr std::int64_t kBurstGapNs = 10'000;
constexpr int kBurstCalls = 6;
// A helper that another thread displaces twice within a short time does not look out for a while, but sleeps at once:
// of two that yield to each other one waits for a slice of the other's, and would miss its next job, which waking does
// not. Once is nothing: a virtual machine takes a processor away for so long every now and then.
constexpr std::int64_t kDisplacedNs = 200'000;
constexpr std::int64_t kTwiceWithinNs = 20'000'000;
constexpr std::int64_t kCrowdedNs = 100'000'000;
constexpr int kMaxHelpers = 255;

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
  Part without_first() const { return {word + (1u << 16)}; }
  Part without_last() const { return {word - 1}; }
};
constexpr std::ptrdiff_t kMaxChunks = 0xffff;

// Each thread begins with a part of its own, the same chunks in every call, whose data its cache may still hold; then
// it takes from the others' parts, their last chunks first: those that change hands are few, and mostly the same.
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
  // Runs the job on the caller and some helpers, of which it wakes up to `wake`.
  void run(const Job& job, Team team, bool certain) {
    if (busy_.test_and_set(std::memory_order_acquire)) {
      // Another thread's job is under way: this one has the core it runs on, and computes by itself.
      for (std::ptrdiff_t chunk = 0; chunk < job.chunks; ++chunk) job.run_chunk(chunk);
      return;
    }
    team.helpers = std::min(team.helpers, kMaxHelpers);
    start(team.helpers);
    share(job, team, certain);
    release();
  }

  // A thread takes a second chunk only when it is done with its own, so no chunk that others wait for lacks a thread.
  bool run_together(const Job& job) {
    const int helpers = static_cast<int>(job.chunks) - 1;
    if (helpers > kMaxHelpers) return false;
    acquire();
    start(helpers);
    const bool enough = started_.load(std::memory_order_relaxed) >= helpers;
    if (enough) share(job, {helpers, helpers}, false);
    release();
    return enough;
  }

  Team worthwhile(int threads, double ns) {
    const auto at_most = [&](double part) { return static_cast<int>(std::min(ns / part, double{kMaxHelpers})) - 1; };
    const int most = std::min(threads - 1, at_most(kPartNs));
    const int woken = std::min(most, at_most(kWakeNs));
    if (now_ns() - last_end_.load(std::memory_order_relaxed) > kBurstGapNs) {
      burst_.store(0, std::memory_order_relaxed);
    } else if (burst_.load(std::memory_order_relaxed) >= kBurstCalls) {
      return {most, most};
    } else {
      burst_.fetch_add(1, std::memory_order_relaxed);
    }
    int awake = 0, last_awake = -1;
    for (int i = 0; i < std::min(most, started_.load(std::memory_order_acquire)); ++i) {
      if (helpers_[i].asleep.load(std::memory_order_relaxed)) continue;
      ++awake;
      last_awake = i;
    }
    return {std::max({woken, last_awake + 1, 0}), std::max(woken - awake, 0)};
  }

  void note_serial_end() { last_end_.store(now_ns(), std::memory_order_relaxed); }

  // Waits until no job is under way, and lets none begin.
  void acquire() {
    if (!busy_.test_and_set(std::memory_order_acquire)) return;
    waiting_.fetch_add(1, std::memory_order_seq_cst);
    while (busy_.test_and_set(std::memory_order_seq_cst)) busy_.wait(true, std::memory_order_relaxed);
    waiting_.fetch_sub(1, std::memory_order_relaxed);
  }

  void release() {
    busy_.clear(std::memory_order_seq_cst);
    if (waiting_.load(std::memory_order_seq_cst) > 0) busy_.notify_one();
  }

  void set_lookout(std::int64_t ns) { lookout_ns_.store(ns, std::memory_order_relaxed); }
  std::int64_t lookout() const { return lookout_ns_.load(std::memory_order_relaxed); }
  std::int64_t woken() const { return woken_.load(std::memory_order_relaxed); }

 private:
  void share(const Job& job, Team team, bool certain) {
    keep_off_this_processor(team.helpers);
    publish(job, team);
    wake_some();
    if (certain) await_first_taker(job, team.helpers + 1);
    take_chunks(generation_.load(std::memory_order_relaxed), 0, [&] { return job; });
    for (int spins = 0; finished_.load(std::memory_order_acquire) != job.chunks; ++spins)
      spins < 1000 ? pause() : std::this_thread::yield();
    last_end_.store(now_ns(), std::memory_order_relaxed);
  }

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

  void publish(const Job& job, Team team) {
    call_.store(job.call, std::memory_order_relaxed);
    body_.store(job.body, std::memory_order_relaxed);
    items_.store(job.items, std::memory_order_relaxed);
    multiple_.store(job.multiple, std::memory_order_relaxed);
    mode_.store(job.mode, std::memory_order_relaxed);
    wanted_.store(team.helpers, std::memory_order_relaxed);
    chunks_.store(job.chunks, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    const std::uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
    const int parts = team.helpers + 1;
    for (int i = 0; i < parts; ++i)
      segments_[i].word.store(Part::of(generation, job.chunks * i / parts, job.chunks * (i + 1) / parts).word,
                              std::memory_order_release);
    // Ordered before the look at who sleeps: a helper that goes to sleep looks at the generation after saying so.
    generation_.store(generation, std::memory_order_seq_cst);
    to_wake_.store(team.wake, std::memory_order_relaxed);
    next_to_wake_.store(0, std::memory_order_release);
  }

  // Wakes helpers of the open job, as long as it wants more of them. Called by its caller and by everyone that was
  // woken: by then the job may be over and the next one open, which is as well.
  void wake_some() {
    for (int woken = 0; woken < kWokenByOne; ++woken)
      if (to_wake_.fetch_sub(1, std::memory_order_relaxed) <= 0 || !wake_next()) return;
  }

  // False if there is none that sleeps.
  bool wake_next() {
    for (;;) {
      const int i = next_to_wake_.fetch_add(1, std::memory_order_acq_rel);
      if (i >= wanted_.load(std::memory_order_relaxed) || i >= started_.load(std::memory_order_relaxed)) return false;
      if (!helpers_[i].asleep.exchange(0, std::memory_order_seq_cst)) continue;
      helpers_[i].asleep.notify_one();
      woken_.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
  }

  void await_first_taker(const Job& job, int parts) {
    const auto begun = [&](int i) {
      return Part{segments_[i].word.load(std::memory_order_relaxed)}.next() != job.chunks * i / parts;
    };
    for (const std::int64_t until = now_ns() + 2'000'000; now_ns() < until; std::this_thread::yield())
      for (int i = 0; i < parts; ++i)
        if (begun(i)) return;
  }

  // Runs what chunks of this generation are left, those of part `own` first. read_job() is called before each is taken.
  template <class ReadJob>
  bool take_chunks(std::uint32_t generation, int own, ReadJob read_job) {
    // Counted in one go: all threads write to that line.
    std::ptrdiff_t finished = 0;
    const int parts = wanted_.load(std::memory_order_relaxed) + 1;
    for (int i = 0; i < parts; ++i) {
      auto& word = segments_[(own + i) % parts].word;
      Part part{word.load(std::memory_order_acquire)};
      while (part.open(generation)) {
        // What is read here belongs to this generation if the exchange finds the part unchanged: the next job is not
        // published before every chunk of this one is finished.
        const Job job = read_job();
        const bool is_own = i == 0;
        const Part rest = is_own ? part.without_first() : part.without_last();
        const std::uint32_t chunk = is_own ? part.next() : rest.end();
        if (!word.compare_exchange_weak(part.word, rest.word, std::memory_order_acq_rel, std::memory_order_acquire))
          continue;
        job.run_chunk(chunk);
        ++finished;
        part.word = word.load(std::memory_order_acquire);
      }
    }
    if (finished > 0) finished_.fetch_add(finished, std::memory_order_release);
    return finished > 0;
  }

  void work(int index) {
    system::ask_for_short_slice();
    // When this thread was last taken off its processor while it looked out, and until when that keeps it from it.
    std::int64_t displaced = now_ns() - kTwiceWithinNs, crowded_end = now_ns();
    const auto lookout = [this] { return now_ns() + lookout_ns_.load(std::memory_order_relaxed); };
    std::int64_t lookout_end = lookout();
    for (;;) {
      const std::int64_t now = now_ns();
      const std::uint32_t seen = generation_.load(std::memory_order_relaxed);
      const auto published = [&] { return generation_.load(std::memory_order_relaxed) != seen; };
      if (help(index)) {
        lookout_end = lookout();
      } else if (now < lookout_end && now >= crowded_end) {
        for (int i = 0; i < 16 && !published(); ++i) pause();
        if (published()) continue;
        std::this_thread::yield();
        if (now_ns() - now > kDisplacedNs) {
          if (now - displaced < kTwiceWithinNs) crowded_end = now + kCrowdedNs;
          displaced = now;
        }
      } else {
        sleep(index);
        lookout_end = lookout();
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
    wake_some();
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
  std::atomic<int> to_wake_{0}, next_to_wake_{0};
  std::atomic<std::int64_t> woken_{0};
  std::atomic<std::int64_t> lookout_ns_{kLookoutNs};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  std::atomic<int> waiting_{0};  // in acquire()
  Helper helpers_[kMaxHelpers];
  Segment segments_[kMaxHelpers + 1];
};

// Never destroyed: helpers may be asleep in it when the process ends.
std::atomic<Pool*> pool{nullptr};

}  // namespace

void initialize() {
  pool = new Pool;
  // A forked child has none of the helpers; it gets a pool of its own and starts others when it needs them.
  system::in_forked_child([] {
    Pool* fresh = new Pool;
    fresh->set_lookout(pool.load()->lookout());
    pool = fresh;
  });
}

Team worthwhile(int threads, double ns) { return pool.load()->worthwhile(threads, ns); }

void note_serial_end() { pool.load()->note_serial_end(); }

void run(const Job& job, Team team, bool certain) {
  Job bounded = job;
  bounded.chunks = std::min(job.chunks, kMaxChunks);
  pool.load()->run(bounded, team, certain);
}

bool run_together(const Job& job) { return pool.load()->run_together(job); }

void share_with_blas(bool shared) { pool.load()->set_lookout(shared ? kSharedLookoutNs : kLookoutNs); }

void hold() { pool.load()->acquire(); }
void let_go() { pool.load()->release(); }

std::int64_t woken() { return pool.load()->woken(); }

}  // namespace nnfast::helpers
