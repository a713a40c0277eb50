// What systems do differently about threads and processes. Where one has nothing of the kind, nothing happens.
#pragma once

#include <thread>

namespace nnfast::system {

// Keeps signals from the threads that are started while it lives: handlers belong to the caller's thread.
class SignalsHeld {
 public:
  SignalsHeld();
  ~SignalsHeld();
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  alignas(16) char before_[256];
};

// Calls `then` in every child that this process forks from now on.
void in_forked_child(void (*then)());

// Asks for a short slice for the calling thread, so that it runs soon after it is woken also where somebody else's
// worker spins on the processor, as a BLAS's does for milliseconds after a product; in return it is taken off as soon.
// Without it a thread waits for the end of the other's slice, 4 ms. Linux 6.12 and later.
void ask_for_short_slice();

// The processor the caller runs on, or -1.
int this_processor();

// Processors a thread may run on: the caller's own without one of them.
class ProcessorsBut {
 public:
  explicit ProcessorsBut(int processor);
  // Whether the thread now keeps to them.
  bool keep(std::thread::native_handle_type thread) const;

 private:
  bool any_ = false;
  alignas(16) char mask_[128] = {};
};

}  // namespace nnfast::system
