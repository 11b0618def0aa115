// What tasks cost.
#pragma once

#include <cstdint>
#include <vector>

#include "pto_wsp/bound.hpp"

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

}  // namespace pto_wsp
