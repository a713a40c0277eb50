// The family of gated linear units: one half of an array times the activation of the other.
#pragma once

#include "kernels/elementwise.hpp"

// X(the gate's formula in formulas.hpp, name)
#define NNFAST_GATES(X) \
  X(Sigmoid, "glu")     \
  X(Gelu, "geglu")      \
  X(Silu, "swiglu")

namespace nnfast {

enum class Gate : int {
#define NNFAST_ENUM(formula, name) formula,
  NNFAST_GATES(NNFAST_ENUM)
#undef NNFAST_ENUM
      Count
};

struct GatingKernels {
  Elementwise forward[static_cast<int>(Gate::Count)];        // a, b -> a act(b)
  Elementwise gate_backward[static_cast<int>(Gate::Count)];  // dy, a, b -> dy a act'(b)
};

}  // namespace nnfast
