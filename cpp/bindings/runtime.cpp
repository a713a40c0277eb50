// The instruction set, the threads, and how the module was built.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "bindings/families.hpp"
#include "ops/costs.hpp"
#include "runtime/blas.hpp"
#include "runtime/cpu.hpp"
#include "runtime/helpers.hpp"
#include "runtime/kernel_table.hpp"
#include "runtime/parallel.hpp"

namespace nnfast {
namespace py = pybind11;
namespace {

std::string built_names() {
  std::string names;
  for (const KernelTable& table : built_kernels()) names += (names.empty() ? "" : ", ") + std::string(table.isa);
  return names;
}

void choose(const char* cap, const char* source) {
  if (!cpu_supports(built_kernels().front().isa))
    throw py::import_error("nnfast needs a processor with " + std::string(built_kernels().front().isa));
  if (!choose_kernels(cap))
    throw py::value_error(std::string(source) + " must be one of " + built_names() + ", got '" + cap + "'");
}

py::dict cpu_info() {
  py::list built, supported;
  for (const KernelTable& table : built_kernels()) {
    built.append(table.isa);
    if (cpu_supports(table.isa)) supported.append(table.isa);
  }
  py::dict info;
  info["built"] = py::tuple(built);
  info["supported"] = py::tuple(supported);
  info["chosen"] = kernels().isa;
  return info;
}

void choose_threads(const char* name, const char* source) {
  if (choose_threading(name)) return;
  if (std::strcmp(name, "openmp") == 0)
    throw py::import_error(std::string(source) +
                           " must be helpers, got 'openmp': this build of nnfast (" NNFAST_COMPILER
                           ") is without OpenMP (NNFAST_OPENMP=OFF)");
  throw py::value_error(std::string(source) + " must be helpers or openmp, got '" + name + "'");
}

py::dict build_info() {
  py::dict info;
  info["threading"] = threading_built();
  info["compiler"] = NNFAST_COMPILER;
  info["flags"] = NNFAST_FLAGS;
  info["numpy"] = NNFAST_NUMPY;
  info["pybind11"] = std::to_string(PYBIND11_VERSION_MAJOR) + "." + std::to_string(PYBIND11_VERSION_MINOR);
  return info;
}

py::tuple blas_libraries() {
  py::list libraries;
  for (const blas::Library& library : blas::libraries()) {
    py::dict info;
    info["path"] = library.path;
    info["version"] = library.config;
    info["kernels"] = library.kernels;
    info["threads"] = library.threads;
    info["shares_threads"] = library.shared;
    libraries.append(info);
  }
  return py::tuple(libraries);
}

// ns and whether it is memory-bound, by name.
py::dict costs() {
  py::dict costs;
  for (const Cost& cost : kCosts) costs[cost.name] = py::make_tuple(cost.ns, cost.memory_bound);
  return costs;
}

}  // namespace

void bind_runtime(py::module_& module) {
  choose(std::getenv("NNFAST_ISA"), "NNFAST_ISA");
  const char* threading = std::getenv("NNFAST_THREADING");
  choose_threads(threading ? threading : "helpers", "NNFAST_THREADING");
  module.def("threading", &threading_name);
  module.def("cpu_info", &cpu_info);
  module.def("blas_libraries", &blas_libraries);
  module.def("share_blas", &blas::share);
  module.def("unshare_blas", &blas::unshare);
  module.def(
      "blas_reason", [](const std::string& object) { return blas::reason_against(object.c_str()); }, py::arg("object"));
  module.def("build_info", &build_info);
  module.def("_costs", &costs);
  module.def("set_num_threads", [](int n) { set_thread_limit(n); }, py::arg("n"));
  module.def("get_num_threads", &thread_limit);
  module.def("_set_thread_override", [](int n) { return set_thread_override(n); }, py::arg("n"));
  module.def("_force_isa", [](const std::string& isa) { choose(isa.c_str(), "isa"); }, py::arg("isa"));
  module.def(
      "_force_threading", [](const std::string& name) { choose_threads(name.c_str(), "threading"); }, py::arg("name"));
  module.def("_force_processors", [](int count) { return set_processors(count); }, py::arg("count"));
  module.def("_helpers_woken", &helpers::woken);
  module.def(
      "_force_grain",
      [](std::ptrdiff_t items) {
        const std::ptrdiff_t before = forced_grain();
        force_grain(items);
        return before;
      },
      py::arg("items"));
}

}  // namespace nnfast
