// Arrays of random numbers.
#pragma once

#include "kernels/random.hpp"
#include "runtime/strided.hpp"

namespace nnfast {

enum class RandomKind : int { bits, uniform, normal, exponential, truncated, narrow, integers };

// Fills an array, in C order, with the elements offset, offset + 1, ... of a stream; of 64 bits (`wide`) or 32.
void fill_random(RandomKind kind, bool wide, const RandomStream& stream, const StridedArrays<1>& out);

// The numbers from 0 to n - 1 in a random order that the seed decides, every order equally likely (Rao 1961, Sandelius
// 1962): each goes to a bucket by the upper bits of its word of stream 1, each bucket is shuffled by words of stream 2.
void permutation(std::uint64_t seed, std::int64_t* out, std::ptrdiff_t n);

}  // namespace nnfast
