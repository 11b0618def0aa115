// Which earlier tasks a task conflicts with where bytes decide: overlap of the ranges from the lowest to the highest byte
// of views. That may add order to exact overlap, never lose any.
#pragma once

#include <cstdint>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/boxes.hpp"

namespace pto_wsp {

class RangeMap {
 public:
  /// For a new run.
  void prepare(const BoundPlan& plan);

  /// Appends what the task with these arguments must wait for. Tasks come in program order; finished ones may be among the result.
  void collect(const BoundTask& task, const Arg* args, std::vector<ClockRef>& deps) const;

  /// Makes the task known to later ones.
  void record(const BoundTask& task, const Arg* args, ClockRef self, const Liveness& live);

  /// Between runs: gives all memory back.
  void trim() { free_memory(tensors_); }

 private:
  template <class F>
  static void each_range(const BoundTask& task, const Arg* args, F&& f);

  std::vector<BoxList> tensors_;
};

}  // namespace pto_wsp
