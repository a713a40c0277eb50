// Running a job's chunks on OpenMP's threads, in a build with OpenMP (NNFAST_OPENMP in CMakeLists.txt).
#pragma once

#include "runtime/job.hpp"

namespace nnfast::openmp {

bool built();
// Whether a parallel region may be opened here: not inside another one, and not in a forked child, where libgomp's
// workers do not exist and would be waited for for ever.
bool available();
// Makes the runtime read its settings.
void initialize();
// How many threads the caller may use, if somebody has lowered that since: threadpoolctl does, for all runtimes it
// finds. A build without OpenMP does not hear of it.
int lowered_limit();
void run(const Job& job, int threads);

}  // namespace nnfast::openmp
