// NumPy's OpenBLAS on our helpers, so that products and kernels, which alternate, have one pool of threads.
//
// OpenBLAS has a callback for those who want to run its jobs. All jobs of a call wait for each other, so all must run
// at once; and the number that each is given picks a buffer of the process, which no other job may have at that time.
// Sharing is a setting of the process: nothing here happens unasked.
#pragma once

#include <string>
#include <vector>

namespace nnfast::blas {

struct Library {
  std::string path;
  std::string config;  // its own words: version, kernels, limits
  std::string kernels;
  int threads;
  bool shared;
};

// Every OpenBLAS that is loaded.
std::vector<Library> libraries();

// Each call of share() is to be followed by one of unshare(); the last one gives the libraries back. A library that is
// loaded later takes part from the next share() on.
void share();
void unshare();

// Why the BLAS that the object at this path calls does not run on our helpers; empty if it does.
std::string reason_against(const char* object);

}  // namespace nnfast::blas
