// The kernels of every instruction set this build has, and the ones in use.
#pragma once

#include <span>

#include "kernels/families.def"

namespace nnfast {

#define NNFAST_DECLARE(name, Kernels, _) struct Kernels;
NNFAST_FAMILIES(NNFAST_DECLARE, )
#undef NNFAST_DECLARE

struct KernelTable {
  const char* isa;
#define NNFAST_MEMBER(name, Kernels, _) const Kernels* name;
  NNFAST_FAMILIES(NNFAST_MEMBER, )
#undef NNFAST_MEMBER
};

// The instruction sets of this build, the narrowest first.
std::span<const KernelTable> built_kernels();

// The table in use: after choose_kernels(), the widest that the machine supports, up to the cap.
const KernelTable& kernels();

// cap: the name of an instruction set, or null. False if no table of that name was built.
bool choose_kernels(const char* cap);

}  // namespace nnfast
