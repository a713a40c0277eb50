// Preloaded into a process: counts what C++ asks for, and can refuse it.
#include <atomic>
#include <cstdlib>
#include <new>

namespace {

// The allocations to grant before one is refused, and not one after it; negative: grant all.
std::atomic<long> granted{-1};
std::atomic<long> held{0}, most{0};

struct Header {
  std::size_t size, room;
};

void* take(std::size_t size, std::size_t alignment) {
  if (granted >= 0 && granted-- == 0) throw std::bad_alloc();
  const std::size_t room = alignment > sizeof(Header) ? alignment : sizeof(Header);
  auto* start = static_cast<char*>(std::aligned_alloc(room, (room + size + room - 1) / room * room));
  if (!start) throw std::bad_alloc();
  new (start + room - sizeof(Header)) Header{size, room};
  const long now = held += static_cast<long>(size);
  for (long before = most; now > before && !most.compare_exchange_weak(before, now);) {
  }
  return start + room;
}

void give_back(void* memory) {
  if (!memory) return;
  const Header header = *(reinterpret_cast<const Header*>(memory) - 1);
  held -= static_cast<long>(header.size);
  std::free(static_cast<char*>(memory) - header.room);
}

}  // namespace

// Refuses the allocation after the next n, and grants what comes then.
extern "C" void refuse_after(long n) { granted = n; }
// Whether it has been refused.
extern "C" int refused() { return granted < 0; }
extern "C" void grant_all() { granted = -1; }
// The most bytes held at once since the last call, beyond what was held then.
extern "C" long most_held() {
  static long before = 0;
  const long found = most - before;
  before = held;
  most = before;
  return found;
}

void* operator new(std::size_t size) { return take(size, 16); }
void* operator new[](std::size_t size) { return take(size, 16); }
void* operator new(std::size_t size, std::align_val_t align) { return take(size, static_cast<std::size_t>(align)); }
void* operator new[](std::size_t size, std::align_val_t align) { return take(size, static_cast<std::size_t>(align)); }
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
