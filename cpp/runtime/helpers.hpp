// Helpers nobody waits for: threads of ours that take chunks of a job while its caller works on it too.
//
// The caller publishes a job and starts on it at once; helpers that are awake begin with other parts of it and then
// take what is left of anybody's. At the end the caller waits only for chunks somebody is in the middle of, never for a
// thread to wake up. After a job a helper looks out for the next one for some tens of microseconds, giving way to any
// other thread that wants its core, and then sleeps. So a second core costs nothing where it is busy, as it is between
// two matrix products. Only where helpers run the jobs of those products too, which wait for each other, are they
// waited for, and look out for longer.
#pragma once

#include <cstdint>

#include "runtime/job.hpp"

namespace nnfast::helpers {

void initialize();

// Who takes part in a job besides its caller: up to `helpers`, of which up to `wake` are woken where they sleep.
struct Team {
  int helpers, wake;
};

// The helpers that pay off for a job that takes `ns` on one thread: those that are awake, and as many more as have
// enough to do to be worth waking; in a burst of calls that follow each other closely all that find something to do.
Team worthwhile(int threads, double ns);
// To be called when a job was not shared, at its end.
void note_serial_end();
// `certain`: waits for a helper to take part (for tests).
void run(const Job& job, Team team, bool certain);

// For jobs of a BLAS, whose chunks wait for each other: all run at the same time, each on a thread of its own. Waits
// for another thread's job. False, with nothing done, where there are not enough threads.
bool run_together(const Job& job);
// Whether helpers run a BLAS's jobs too, and so should look out for longer.
void share_with_blas(bool shared);
// No job is under way between them, and none begins: for a fork.
void hold();
void let_go();

// How many helpers have been woken since the process began.
std::int64_t woken();

}  // namespace nnfast::helpers
