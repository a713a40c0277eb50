// What the machine can run.
#pragma once

namespace nnfast {

// Whether processor and operating system run code built for this instruction set ("x86-64-v3", "neon", ...).
bool cpu_supports(const char* isa);

}  // namespace nnfast
