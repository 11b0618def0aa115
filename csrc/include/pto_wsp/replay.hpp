// The schedule of an earlier run, which another is to follow: who runs each task, and in which order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/placement.hpp"

namespace pto_wsp {

/// Immutable.
class Replay {
 public:
  static constexpr std::uint32_t most_workers = 1024;

  /// `workers`: of each task, by place in program order. `order`: all tasks, those of a worker in the order in which it runs them.
  /// Workers have numbers from 0, and each has a task. Throws invalid_argument.
  Replay(std::span<const std::uint32_t> workers, std::span<const std::uint64_t> order);

  std::uint64_t size() const { return tasks_.size(); }
  std::uint32_t workers() const { return n_workers_; }

  /// What is said of the task at `position`, for a ring that is sequenced.
  Placement place(std::uint64_t position, Placement placement) const {
    const Task& task = tasks_[position];
    placement.pinned = true;
    placement.lane = task.worker;
    placement.priority = -static_cast<std::int64_t>(task.turn);
    return placement;
  }

 private:
  struct Task {
    std::uint32_t worker = 0;
    std::uint64_t turn = 0;  // among those of its worker
  };
  std::vector<Task> tasks_;
  std::uint32_t n_workers_ = 0;
};

/// Why a run does not follow its schedule, as failures say it.
///   more_tasks, fewer_tasks: values = how many there are, and in the schedule
///   threads: the system gives fewer; values = how many there are, and in the schedule
///   order: it cannot go on; values = a worker, and which of its tasks would be next
enum class ReplayError : std::uint8_t { more_tasks, fewer_tasks, threads, order };

inline Failure replay_failure(ReplayError why, std::uint64_t a, std::uint64_t b) {
  Failure failure{.kind = ErrorKind::replay};
  failure.values = {static_cast<std::int64_t>(why), static_cast<std::int64_t>(a), static_cast<std::int64_t>(b)};
  return failure;
}

}  // namespace pto_wsp
