// The time that goes on steadily.
#pragma once

#include <chrono>
#include <cstdint>

namespace nnfast {

inline std::int64_t now_ns() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace nnfast
