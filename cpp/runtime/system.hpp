// What systems do differently about threads and processes. Where one has nothing of the kind, nothing happens.
#pragma once

#include <string>
#include <thread>
#include <utility>
#include <vector>

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
// Calls these around every fork from now on, in the thread that forks: `before` before what was registered earlier.
void around_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

// A shared object of this process, which stays loaded as long as this lives.
class LoadedObject {
 public:
  // Of one that is loaded already; else there is none.
  explicit LoadedObject(const char* path);
  ~LoadedObject();
  LoadedObject(LoadedObject&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  LoadedObject& operator=(LoadedObject&&) = delete;
  explicit operator bool() const { return handle_; }
  bool operator==(const LoadedObject& other) const { return handle_ == other.handle_; }
  // What `name` is in the object and those it depends on, or nullptr.
  void* symbol(const char* name) const;
  void keep_for_ever() { handle_ = nullptr; }

 private:
  void* handle_;
};
// How many have been loaded since the process began, the paths of those that are, and of the one that defines a symbol.
unsigned long long objects_ever_loaded();
std::vector<std::string> loaded_objects();
std::string path_of(const void* symbol);

// Asks for a short slice for the calling thread, so that it runs soon after it is woken also where somebody else's
// worker spins on the processor, as a BLAS's does for milliseconds after a product; in return it is taken off as soon.
// Without it a thread waits for the end of the other's slice, 4 ms. Linux 6.12 and later.
void ask_for_short_slice();

// How many processors the caller may run on.
int processors();

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
