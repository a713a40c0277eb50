// Functions of the module that take their arguments by position, as CPython's vectorcall protocol hands them over.
// pybind11's dispatcher, which also knows overloads, keywords and conversions, takes as long as the rest of a call on a
// small array: 0.15 microseconds, and 15 ns for each argument.
#pragma once

#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace nnfast {

namespace py = pybind11;

// An argument as the C++ type of a parameter. What a user passes has been checked before, in Python.
template <class T>
struct Argument {
  static T of(py::handle value) {
    if constexpr (std::is_same_v<T, bool>) {
      const int truth = PyObject_IsTrue(value.ptr());
      if (truth < 0) throw py::error_already_set();
      return truth != 0;
    } else if constexpr (std::is_same_v<T, double>) {
      const double number = PyFloat_AsDouble(value.ptr());
      if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
      return number;
    } else if constexpr (std::is_same_v<T, std::uint64_t>) {
      const std::uint64_t number = PyLong_AsUnsignedLongLong(value.ptr());
      if (PyErr_Occurred()) throw py::error_already_set();
      return number;
    } else if constexpr (std::is_integral_v<T>) {
      const Py_ssize_t number = PyNumber_AsSsize_t(value.ptr(), nullptr);  // saturates
      if (number == -1 && PyErr_Occurred()) throw py::error_already_set();
      return static_cast<T>(
          std::clamp<Py_ssize_t>(number, std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    } else if constexpr (std::is_same_v<T, py::handle>) {
      return value;
    } else {
      static_assert(std::is_base_of_v<py::object, T>);
      if (!py::isinstance<T>(value)) throw py::type_error(std::string("got ") + Py_TYPE(value.ptr())->tp_name);
      return py::reinterpret_borrow<T>(value);
    }
  }
};

template <>
struct Argument<const char*> {
  static const char* of(py::handle value) {
    const char* text = PyUnicode_AsUTF8(value.ptr());
    if (!text) throw py::error_already_set();
    return text;
  }
};

template <class T>
struct Argument<std::vector<T>> {
  static std::vector<T> of(py::handle value) {
    const auto items = py::reinterpret_steal<py::object>(PySequence_Fast(value.ptr(), "must be a sequence"));
    if (!items) throw py::error_already_set();
    std::vector<T> values;
    values.reserve(static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items.ptr())));
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(items.ptr()); ++i)
      values.push_back(Argument<T>::of(PySequence_Fast_GET_ITEM(items.ptr(), i)));
    return values;
  }
};

// A trailing argument that may be left out.
template <class T>
struct Argument<std::optional<T>> {
  static std::optional<T> of(py::handle value) {
    return value ? std::optional<T>(Argument<T>::of(value)) : std::nullopt;
  }
};

namespace detail {

template <class T>
constexpr bool kOptional = false;
template <class T>
constexpr bool kOptional<std::optional<T>> = true;

inline void require_argument_count(Py_ssize_t given, std::size_t least, std::size_t most) {
  const auto count = static_cast<std::size_t>(given);
  if (count < least || count > most)
    throw py::type_error("must have " + (least < most ? std::to_string(least) + " to " : std::string()) +
                         std::to_string(most) + " arguments, got " + std::to_string(count));
}

inline py::object as_object(py::object value) { return value; }
inline py::object as_object(double value) { return py::float_(value); }
inline py::object as_object(bool value) { return py::bool_(value); }

// Calls f with the arguments as `Arguments`, and returns its result as a Python object, or null with Python's error
// set.
template <class... Arguments, class F>
PyObject* call(PyObject* const* given, Py_ssize_t count, F f) {
  try {
    require_argument_count(count, (std::size_t{!kOptional<std::decay_t<Arguments>>} + ... + 0), sizeof...(Arguments));
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
      const auto argument = [&](std::size_t i) {
        return py::handle(i < static_cast<std::size_t>(count) ? given[i] : nullptr);
      };
      using Result = decltype(f(Argument<std::decay_t<Arguments>>::of(argument(I))...));
      if constexpr (std::is_void_v<Result>) {
        f(Argument<std::decay_t<Arguments>>::of(argument(I))...);
        return Py_NewRef(Py_None);
      } else {
        return as_object(f(Argument<std::decay_t<Arguments>>::of(argument(I))...)).release().ptr();
      }
    }(std::index_sequence_for<Arguments...>());
#ifdef __GLIBCXX__
  } catch (abi::__forced_unwind&) {  // the thread ends
    throw;
#endif
  } catch (...) {
    py::detail::try_translate_exceptions();
    return nullptr;
  }
}

// A function, or a member function of a class of pybind11's, as CPython calls it.
template <auto function>
struct Called;

template <class R, class... Arguments, R (*function)(Arguments...)>
struct Called<function> {
  static PyObject* entry(PyObject*, PyObject* const* given, Py_ssize_t count) {
    return call<Arguments...>(given, count, function);
  }
};

// The object of an instance of a class of pybind11's, as CPython has checked it to be: pybind11's own cast looks the
// class up by its name, 0.04 microseconds.
template <class Class>
Class& object_of(PyObject* self) {
  auto* of = reinterpret_cast<py::detail::instance*>(self);
  void* object = of->simple_layout ? of->simple_value_holder[0] : nullptr;
  return object ? *static_cast<Class*>(object) : py::cast<Class&>(py::handle(self));  // throws where none was made
}

template <class R, class Class, class... Arguments, R (Class::*method)(Arguments...)>
struct Called<method> {
  static PyObject* entry(PyObject* self, PyObject* const* given, Py_ssize_t count) {
    return call<Arguments...>(given, count, [self](auto&&... arguments) {
      return (object_of<Class>(self).*method)(std::forward<decltype(arguments)>(arguments)...);
    });
  }
};

// CPython keeps a pointer to it, so it lives as long as the process.
template <auto function>
PyMethodDef* definition(const char* name) {
  return new PyMethodDef{name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Called<function>::entry)),
                         METH_FASTCALL, nullptr};
}

}  // namespace detail

// Adds the function to the module.
template <auto function>
void def(py::module_& module, const char* name) {
  const py::object in = module.attr("__name__");
  const auto made =
      py::reinterpret_steal<py::object>(PyCFunction_NewEx(detail::definition<function>(name), nullptr, in.ptr()));
  if (!made) throw py::error_already_set();
  module.attr(name) = made;
}

// Adds the member function to the class.
template <auto method, class Class>
void def(py::class_<Class>& in, const char* name) {
  const auto made = py::reinterpret_steal<py::object>(
      PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(in.ptr()), detail::definition<method>(name)));
  if (!made) throw py::error_already_set();
  in.attr(name) = made;
}

// An instance of a subclass of tuple, as typing.NamedTuple makes them: its own constructor takes 0.4 microseconds.
inline py::object named_tuple(py::handle type, std::initializer_list<py::object> values) {
  auto* of = reinterpret_cast<PyTypeObject*>(type.ptr());
  const auto made = py::reinterpret_steal<py::object>(of->tp_alloc(of, static_cast<Py_ssize_t>(values.size())));
  if (!made) throw py::error_already_set();
  Py_ssize_t i = 0;
  for (const py::object& value : values) PyTuple_SET_ITEM(made.ptr(), i++, value.inc_ref().ptr());
  return made;
}

// Lets other threads run Python while it lives, where the work is longer than that takes: NumPy's limit.
class ReleasedGil {
 public:
  explicit ReleasedGil(std::ptrdiff_t elements) : state_(elements > 500 ? PyEval_SaveThread() : nullptr) {}
  ReleasedGil(const ReleasedGil&) = delete;
  ReleasedGil& operator=(const ReleasedGil&) = delete;
  ~ReleasedGil() {
    if (state_) PyEval_RestoreThread(state_);
  }

 private:
  PyThreadState* state_;
};

}  // namespace nnfast
