// What each file of bindings adds to the module.
#pragma once

#include <pybind11/pybind11.h>

namespace nnfast {

void bind_runtime(pybind11::module_& module);
void bind_activations(pybind11::module_& module);
void bind_softmax(pybind11::module_& module);
void bind_losses(pybind11::module_& module);
void bind_normalization(pybind11::module_& module);
void bind_layer_norm(pybind11::module_& module);
void bind_dropout(pybind11::module_& module);
void bind_random(pybind11::module_& module);
void bind_optim(pybind11::module_& module);
void bind_penalties(pybind11::module_& module);
void bind_gating(pybind11::module_& module);
void bind_bias(pybind11::module_& module);

}  // namespace nnfast
