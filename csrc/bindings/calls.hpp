// Programs that are called by others than Python.
#pragma once

#include <pybind11/pybind11.h>

void add_calls(pybind11::module_& m);
