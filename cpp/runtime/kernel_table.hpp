// The kernels of every instruction set this build has, and the ones in use.
#pragma once

#include <span>

namespace nnfast {

struct ActivationKernels;
struct SoftmaxKernels;
struct LossKernels;
struct NormalizationKernels;
struct LayerNormKernels;
struct DropoutKernels;
struct RandomKernels;
struct OptimKernels;
struct PenaltyKernels;
struct GatingKernels;
struct BiasKernels;
struct ConversionKernels;
struct SumKernels;

struct KernelTable {
  const char* isa;
  const ActivationKernels* activations;
  const SoftmaxKernels* softmax;
  const LossKernels* losses;
  const NormalizationKernels* normalization;
  const LayerNormKernels* layer_norm;
  const DropoutKernels* dropout;
  const RandomKernels* random;
  const OptimKernels* optim;
  const PenaltyKernels* penalties;
  const GatingKernels* gating;
  const BiasKernels* bias;
  const ConversionKernels* conversion;
  const SumKernels* sums;
};

// What this build has, the narrowest first.
std::span<const KernelTable> built_kernels();

// The table in use: after choose_kernels(), the widest that the machine supports, up to the cap.
const KernelTable& kernels();

// cap: the name of an instruction set, or null. False if no table of that name was built.
bool choose_kernels(const char* cap);

}  // namespace nnfast
