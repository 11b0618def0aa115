#include "failures.hpp"

#include <chrono>
#include <cstdint>
#include <thread>

namespace py = pybind11;

namespace pto_wsp {
namespace {

py::object absent_if_negative(std::int64_t v) { return v < 0 ? py::object(py::none()) : py::object(py::int_(v)); }

}  // namespace

py::object record(const std::optional<Failure>& f) {
  if (!f) return py::none();
  py::dict d;
  d["kind"] = name_of(f->kind);
  d["site"] = absent_if_negative(f->site);
  d["arg"] = absent_if_negative(f->arg);
  d["dim"] = absent_if_negative(f->dim);
  d["check"] = absent_if_negative(f->check);
  d["origin"] = absent_if_negative(f->origin);
  d["coords"] = f->coords;
  d["values"] = f->values;
  d["text"] = f->text;
  return d;
}

PyGILState_STATE take_gil() {
  try {
    return PyGILState_Ensure();
  } catch (...) {
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

}  // namespace pto_wsp
