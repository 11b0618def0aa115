// What tasks cost and where they run in semantic time.
#pragma once

#include <cstdint>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/clock.hpp"

namespace pto_wsp {

/// Costs by task and valid shape; each distinct shape is evaluated once, as long as there are few.
class CostTable {
 public:
  void prepare(const BoundPlan& plan);

  /// `args` has the valid shapes of this task. False: the cost has no value; `failure` says why.
  bool cost(std::uint32_t task, const Arg* args, std::uint64_t& out, ErrorKind& failure);

 private:
  struct Entry {
    std::vector<std::int32_t> shape;
    std::uint64_t cost;
  };
  const BoundPlan* plan_ = nullptr;
  std::vector<std::vector<Entry>> entries_;
  std::vector<std::int32_t> shape_;
};

/// Home lanes: round robin by position in the dispatch scope, or in program order.
class LanePicker {
 public:
  void prepare(const Plan& plan);

  std::uint32_t next(std::uint32_t dispatch) {
    std::uint32_t& at = next_[dispatch == none ? next_.size() - 1 : dispatch];
    const std::uint32_t n = lanes_[dispatch == none ? lanes_.size() - 1 : dispatch];
    // Without a scope the position counts every task.
    if (dispatch != none && ++next_.back() == lanes_.back()) next_.back() = 0;
    const std::uint32_t lane = at;
    if (++at == n) at = 0;
    return lane;
  }

 private:
  std::vector<std::uint32_t> next_, lanes_;  // one per scope, the last for no scope
};

ClockOptions clock_options(const Plan& plan);

}  // namespace pto_wsp
