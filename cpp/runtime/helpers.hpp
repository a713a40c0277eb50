// Helpers nobody waits for: threads of ours that take chunks of a job while its caller works on it too.
//
// The caller publishes a job and starts on it at once; helpers that are awake begin with other parts of it and then
// take what is left of anybody's. At the end the caller waits only for chunks somebody is in the middle of, never for a
// thread to wake up. After a job a helper looks out for the next one for some tens of microseconds, giving way to any
// other thread that wants its core, and then sleeps. So a second core costs nothing where it is busy, as it is between
// two matrix products.
#pragma once

#include "runtime/job.hpp"

namespace nnfast::helpers {

void initialize();
// Whether sharing a job that takes `ns` on one thread pays off now: always when a helper is awake; else when the work
// outlasts waking one, or calls have been following each other so closely that the next will profit.
bool worthwhile(int threads, double ns);
// To be called when a job was not shared, at its end.
void note_serial_end();
// `certain`: waits for a helper to take part (for tests).
void run(const Job& job, int threads, bool certain);

}  // namespace nnfast::helpers
