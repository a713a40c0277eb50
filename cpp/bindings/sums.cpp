#include "ops/sums.hpp"

#include "bindings/arrays.hpp"
#include "bindings/families.hpp"
#include "bindings/functions.hpp"

namespace nnfast {
namespace {

// The sums of x over all axes but the last, taken in double.
py::object sums_of_columns(py::handle x_in, py::handle out) {
  const Array x = read_floats_or_float16(x_in, "x");
  require_rows(x, "x");
  const std::ptrdiff_t n = x.shape(x.ndim() - 1);
  const Array result = output(out, {n}, x, "out", {{&x, "x"}});
  const auto rows = row_arrays({x}, n);
  std::vector<double> sums(static_cast<std::size_t>(n));
  {
    const ReleasedGil released(x.size());
    column_sums(x.floating(), rows, sums.data());
  }
  store_doubles(result, sums);
  return result.result();
}

}  // namespace

void bind_sums(py::module_& module) { def<&sums_of_columns>(module, "column_sums"); }

}  // namespace nnfast
