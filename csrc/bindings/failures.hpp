// What went wrong, for Python.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "pto_wsp/control.hpp"

namespace pto_wsp {

pybind11::object record(const std::optional<Failure>& failure);

/// A thread without the GIL takes it. An interpreter that is ending does not give it: the thread stays here until the process is gone.
PyGILState_STATE take_gil();

}  // namespace pto_wsp
