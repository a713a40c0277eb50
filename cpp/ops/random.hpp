// Arrays of random numbers.
#pragma once

#include "kernels/random.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

enum class RandomKind : int { bits, uniform, normal };

// Fills an array, in C order, with the elements offset, offset + 1, ... of a stream; of 64 bits (`wide`) or 32.
void fill_random(RandomKind kind, bool wide, const RandomStream& stream, const StridedArrays<1>& out);

}  // namespace nnfast
