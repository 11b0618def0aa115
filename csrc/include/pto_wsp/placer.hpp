// What the schedule of a plan says of each task, as it is issued in program order.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/clock.hpp"
#include "pto_wsp/placement.hpp"
#include "pto_wsp/rule.hpp"

namespace pto_wsp {

/// Why a rule has no value, beside what RuleStatus says: a pool that does not exist, a negative distance.
enum class PlacingStatus : std::uint8_t { pool_range = 16, negative_distance };

class Placer {
 public:
  void prepare(const BoundPlan& plan);

  /// The next task, whose arguments and cost are known. False: `failure` says which rule has no value.
  bool place(const BoundTask& t, const std::int64_t* regs, const Arg* args, std::uint64_t cost, Placement& out, Failure& failure) {
    out.window = t.spec->window;
    if (plain_) [[likely]] {
      out.lane = next(t.spec->dispatch);
      return true;
    }
    return place_by_rules(t, regs, args, cost, out, failure);
  }

  /// A task that takes no lane is one of the positions too.
  void count_one() {
    if (!plain_)
      ++id_;
    else if (++next_.back() == lanes_.back())
      next_.back() = 0;
  }

  /// Nothing is said but round robins and windows in tasks.
  bool plain() const { return plain_; }

  /// The next lane of a round robin, of a plain plan.
  std::uint32_t next(std::uint32_t dispatch) {
    std::uint32_t& at = next_[dispatch == none ? next_.size() - 1 : dispatch];
    const std::uint32_t n = lanes_[dispatch == none ? lanes_.size() - 1 : dispatch];
    // Without a scope the position counts every task.
    if (dispatch != none && ++next_.back() == lanes_.back()) next_.back() = 0;
    const std::uint32_t lane = at;
    if (++at == n) at = 0;
    return lane;
  }

  /// The stream of the task placed last; the scope is `none` where it has none.
  struct Stream {
    std::uint32_t scope = none;
    std::int64_t number = 0;
  };
  const Stream& stream() const { return stream_; }

 private:
  bool place_by_rules(const BoundTask& t, const std::int64_t* regs, const Arg* args, std::uint64_t cost, Placement& out, Failure& failure);
  bool value(const Rule& rule, std::uint32_t which, const BoundTask& t, RuleInputs in, std::int64_t& out, Failure& failure);
  bool failed(const BoundTask& t, const std::int64_t* regs, std::uint32_t which, std::uint8_t status, std::int64_t value, Failure& failure) const;
  bool place_lane(const ScheduleSpec& s, const BoundTask& t, const std::int64_t* regs, std::uint64_t cost, Placement& out, Failure& failure);

  const BoundPlan* plan_ = nullptr;
  bool plain_ = true;
  std::uint64_t id_ = 0;
  std::vector<std::uint32_t> next_, lanes_;  // one per scope, the last for no scope
  std::vector<std::uint32_t> first_lane_;    // of pools
  std::vector<RuleMemory> memories_;
  RuleRunner runner_;
  Stream stream_;
};

/// Valid bytes of the views that a task writes.
std::uint64_t written_bytes(const BoundPlan& plan, const BoundTask& t, const Arg* args);

ClockOptions clock_options(const Plan& plan);
/// How many tasks interleaved issue looks at, by the ring of the first of them.
std::vector<std::uint64_t> look_ahead(const Plan& plan);

/// Of a window with which the run is to fail: it held more than it may.
std::optional<Failure> window_exceeded(const Plan& plan, std::span<const WindowStats> stats);

/// As a Failure has them.
std::vector<std::int64_t> numbers_of(const Clock::Blocked& blocked);

}  // namespace pto_wsp
