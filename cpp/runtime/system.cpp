#include "runtime/system.hpp"

#include <algorithm>
#include <cstdint>
#include <new>

#if !defined(_WIN32)
#include <pthread.h>
#include <signal.h>
#endif
#if defined(__linux__)
#include <dlfcn.h>
#include <link.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace nnfast::system {

#if defined(_WIN32)
SignalsHeld::SignalsHeld() = default;
SignalsHeld::~SignalsHeld() = default;
void in_forked_child(void (*)()) {}
void around_fork(void (*)(), void (*)(), void (*)()) {}
#else
SignalsHeld::SignalsHeld() {
  static_assert(sizeof(sigset_t) <= sizeof before_);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, new (before_) sigset_t);
}
SignalsHeld::~SignalsHeld() { pthread_sigmask(SIG_SETMASK, reinterpret_cast<const sigset_t*>(before_), nullptr); }

void in_forked_child(void (*then)()) { pthread_atfork(nullptr, nullptr, then); }
void around_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  pthread_atfork(before, in_parent, in_child);
}
#endif

void ask_for_short_slice() {
#if defined(__linux__) && defined(SYS_sched_setattr)
  constexpr std::uint64_t slice_ns = 100'000;
  struct {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
  } attributes{};
  if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 || attributes.policy != SCHED_OTHER) return;
  attributes.size = sizeof attributes;
  attributes.flags = 0;
  attributes.runtime = slice_ns;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
#endif
}

#if defined(__linux__)
unsigned long long objects_ever_loaded() {
  unsigned long long count = 0;
  const auto read = [](dl_phdr_info* info, std::size_t, void* to) {
    *static_cast<unsigned long long*>(to) = info->dlpi_adds;
    return 1;  // the first one knows
  };
  dl_iterate_phdr(read, &count);
  return count;
}

std::vector<std::string> loaded_objects() {
  std::vector<std::string> paths;
  const auto add = [](dl_phdr_info* info, std::size_t, void* to) {
    if (*info->dlpi_name) static_cast<std::vector<std::string>*>(to)->emplace_back(info->dlpi_name);
    return 0;
  };
  dl_iterate_phdr(add, &paths);
  return paths;
}

LoadedObject::LoadedObject(const char* path) : handle_(dlopen(path, RTLD_LAZY | RTLD_NOLOAD)) {}
LoadedObject::~LoadedObject() {
  if (handle_) dlclose(handle_);
}
void* LoadedObject::symbol(const char* name) const { return dlsym(handle_, name); }

std::string path_of(const void* symbol) {
  Dl_info info;
  return dladdr(symbol, &info) ? info.dli_fname : "";
}

int processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int this_processor() { return sched_getcpu(); }

ProcessorsBut::ProcessorsBut(int processor) {
  static_assert(sizeof(cpu_set_t) <= sizeof mask_);
  auto* others = new (mask_) cpu_set_t;
  if (processor < 0 || processor >= CPU_SETSIZE || sched_getaffinity(0, sizeof *others, others) != 0) return;
  CPU_CLR(processor, others);
  any_ = CPU_COUNT(others) > 0;
}
bool ProcessorsBut::keep(std::thread::native_handle_type thread) const {
  return any_ && pthread_setaffinity_np(thread, sizeof(cpu_set_t), reinterpret_cast<const cpu_set_t*>(mask_)) == 0;
}
#else
unsigned long long objects_ever_loaded() { return 0; }
std::vector<std::string> loaded_objects() { return {}; }
LoadedObject::LoadedObject(const char*) : handle_(nullptr) {}
LoadedObject::~LoadedObject() = default;
void* LoadedObject::symbol(const char*) const { return nullptr; }
std::string path_of(const void*) { return ""; }
int processors() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }
int this_processor() { return -1; }
ProcessorsBut::ProcessorsBut(int) {}
bool ProcessorsBut::keep(std::thread::native_handle_type) const { return false; }
#endif

}  // namespace nnfast::system
