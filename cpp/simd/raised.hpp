// Floating-point exceptions that a kernel reports to its caller.
#pragma once

namespace nnfast {

// A bit set.
enum Raised : unsigned { kRaisedNothing = 0, kRaisedInvalid = 1, kRaisedOverflow = 2 };

}  // namespace nnfast
