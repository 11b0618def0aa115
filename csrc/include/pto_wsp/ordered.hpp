// Runs a plan whose tasks may depend on each other: an orchestrator walks it in program order and tells the
// dependence map, the clock and the ring.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "pto_wsp/control.hpp"
#include "pto_wsp/cost.hpp"
#include "pto_wsp/depmap.hpp"
#include "pto_wsp/ring.hpp"
#include "pto_wsp/walker.hpp"

namespace pto_wsp {

/// The orchestrator's half: one task after the other, with its arguments and what it must wait for.
class Front : private Liveness {
 public:
  /// `ring`: where joins are kept for the real run as well, or null when tasks run in program order.
  void prepare(const BoundPlan& plan, Ring* ring);

  enum class Step : std::uint8_t { task, pause, end, failed };
  /// On to the next task. It must be committed before the one after.
  Step next();
  void commit(Ring::Ref self);

  const BoundTask& task() const { return plan_->task(walker_.task()); }
  const Arg* args() const { return args_.data(); }
  const std::int64_t* regs() const { return walker_.regs(); }
  /// Earlier tasks that conflict with this one, and what precedes it by structure.
  std::span<const ClockRef> conflicts() const { return {deps_.data(), n_conflicts_}; }
  Ring::Ref before() const { return scopes_.empty() ? Ring::Ref{} : scopes_.back().before.real; }
  Failure& failure() { return failure_; }

  void finish_time() { clock_->finish(); }
  void trim();
  void stats(RunStats& stats) const;

 private:
  struct Ref {
    ClockRef time;
    Ring::Ref real;
    explicit operator bool() const { return time.serial != 0; }
  };
  // Something sequential. `before`: all of the last part that had tasks, or what preceded the scope.
  struct Scope {
    Ref before, current;
    bool joined = false;  // `current` is an open join
    bool own = false;     // `before` is of this scope
  };

  bool finished(const ClockRef& task) const override {
    return clock_->complete(task) && (ring_ == nullptr || ring_->finished(task.serial));
  }
  Step task_step();
  void add_member(Ref member);
  void end_part();
  void leave();

  const BoundPlan* plan_ = nullptr;
  Ring* ring_ = nullptr;
  Walker walker_;
  CostTable costs_;
  LanePicker lanes_;
  DepMap map_;
  std::optional<Clock> clock_;
  std::vector<Scope> scopes_;
  std::vector<ClockRef> deps_;
  std::size_t n_conflicts_ = 0;
  std::vector<Arg> args_;
  std::vector<std::int64_t> indices_;
  ClockRef issued_;
  Failure failure_;
  std::vector<std::uint64_t> kernel_counts_;
};

/// One run. Threads call `work` as long as there is some.
class Ordered {
 public:
  void prepare(const BoundPlan& plan, Control& control);

  /// Until the deadline, or until there has been nothing to do for a while. `wake` asks for another thread.
  void work(std::byte* scratch, Deadline& deadline, const std::atomic<std::uint32_t>& working, void (*wake)(void*), void* context);
  /// Between runs: gives back what few runs need.
  void trim();
  bool has_work() const;
  bool over() const { return over_.load(std::memory_order_acquire); }

  /// When over.
  std::optional<Failure> failure();
  void stats(RunStats& stats) const;

 private:
  void work_alone(std::byte* scratch, Deadline& deadline);
  bool orchestrate();
  void execute(Ring::Node* node, std::byte* scratch, Deadline& deadline);
  Front::Step next_step();
  void end_of_tasks();
  void check_over();
  bool stop_issuing();

  const BoundPlan* plan_ = nullptr;
  Control* control_ = nullptr;
  bool alone_ = true;
  Front front_;
  Ring ring_;
  bool held_ = false;  // a task has come out of the front that the ring had no room for
  std::atomic<bool> orchestrating_{false}, all_issued_{false}, blocked_{false}, over_{false};
  std::atomic<bool> cut_short_{false};
  std::atomic<std::uint64_t> n_issued_{0};
  std::optional<Failure> failure_;
};

}  // namespace pto_wsp
