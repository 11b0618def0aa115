// Tasks as lines of text on stderr, as they are issued: task 17 attend[b=1, h=3] q=Q[1, 0:16] scale=0.5
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {

/// What a log calls the parts of a task, for each site of a plan.
struct TaskNames {
  std::string kernel;
  std::vector<std::string> coords;     // "b=", or empty
  std::vector<std::string> arguments;  // "q=Q", or "scale=" of a scalar
};

/// Written by one thread at a time.
class TaskLog {
 public:
  explicit TaskLog(std::vector<TaskNames> sites) : sites_(std::move(sites)) {}

  /// One line. Throws bad_alloc.
  void issued(std::uint64_t position, const BoundPlan& plan, const BoundTask& task, const Arg* args, const std::int64_t* regs,
              const std::int64_t* indices) const;

 private:
  std::vector<TaskNames> sites_;
};

}  // namespace pto_wsp
