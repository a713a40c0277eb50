// The family of random numbers: streams of Philox words, and numbers computed from them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nnfast {

// Element i of an array is element offset + i of the stream's elements of that kind; an element of 32 bits is one word
// of the stream (philox.hpp), one of 64 bits two, the first being the lower half. Kinds of number:
//
//   bits         the words themselves
//   uniform      low + (high - low) u, u = 0, 1, ... 2^24 - 1 of 2^24, or of 2^53: the upper bits of the element
//   normal       mean + std z, by Box and Muller: an element of a block's first half gives the radius, one of its
//                second half the angle, and the two products replace both
//   exponential  -scale log u, 0 < u <= 1
//   truncated    normal numbers whose z is in [low, high]
//   narrow       the same where few z are, in double alone (Robert, "Simulation of truncated normal variables", 1995)
//   integers     lowest + floor(range u / 2^64) for an element u of 64 bits, whatever the width of the number (Lemire,
//                "Fast random integer generation in an interval", 2019)
//
// An element that the last three reject is replaced by that of the same place in another stream, kRetries + the number
// of rejections, so that it depends on nothing but its seed and place. kRetries + an attempt a is kSecond + a for the
// second element that an attempt of `narrow` takes.
struct RandomStream {
  std::uint64_t seed;
  std::uint32_t stream;
  std::uint64_t offset;
  double first = 0, second = 0;  // low and high - low; mean and std; scale
  double low = 0, high = 0;      // truncated
  double rate = 0, fall = 0;     // narrow: of the exponential distribution that the proposals have, 0 for uniform ones,
                                 // and its exp(-rate (high - low)) - 1
  std::uint64_t lowest = 0, range = 0;  // integers; a range of 0 is 2^64
};
constexpr std::uint32_t kRetries = 0x40000000, kSecond = 0x80000000;

// Elements [begin, end) of an array, to `to` and on at a byte stride.
using RandomFn = void (*)(const RandomStream& stream, std::ptrdiff_t begin, std::ptrdiff_t end, char* to,
                          std::ptrdiff_t stride);

// Elements of 32 bits in a block of the stream; ranges that begin at its multiples waste no work.
constexpr std::ptrdiff_t kRandomBlock = 64;

struct RandomKernels {
  RandomFn bits_32, bits_64, uniform_f32, uniform_f64, normal_f32, normal_f64, exponential_f32, exponential_f64;
  RandomFn truncated_f32, truncated_f64, narrow_f64, integers_32, integers_64;
  // The four words of each of the counters first, first + 1, ...
  void (*philox)(std::uint64_t seed, std::uint64_t first, std::uint32_t stream, std::uint32_t* words,
                 std::ptrdiff_t counters);
};

}  // namespace nnfast
