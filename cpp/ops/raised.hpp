// Floating-point exceptions that the threads of an operation report, together.
#pragma once

#include <atomic>

#include "simd/raised.hpp"

namespace nnfast {

class SharedRaised {
 public:
  void add(unsigned raised) {
    if (raised) all_.fetch_or(raised, std::memory_order_relaxed);
  }
  unsigned all() const { return all_.load(std::memory_order_relaxed); }

 private:
  std::atomic<unsigned> all_{kRaisedNothing};
};

}  // namespace nnfast
