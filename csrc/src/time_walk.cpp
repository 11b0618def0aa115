#include <algorithm>

#include "pto_wsp/independent.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t tasks_at_once = 16384;

}  // namespace

void EarliestFailure::reset() {
  flat_.store(~std::uint64_t{0});
  at_ = {};
  failure_.reset();
}

void EarliestFailure::tell(Position at, Failure failure, bool stronger) {
  const std::lock_guard lock(mutex_);
  if (failure_ && (at_ < at || (at_ == at && !stronger))) return;
  at_ = at;
  failure_ = std::move(failure);
  flat_.store(at.flat, std::memory_order_relaxed);
}

Position EarliestFailure::position() {
  const std::lock_guard lock(mutex_);
  return failure_ ? at_ : Position{};
}

std::optional<Failure> EarliestFailure::take() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void TimeWalk::prepare(const BoundPlan& plan, const std::vector<Nest>& nests) {
  plan_ = &plan;
  nests_ = &nests;
  shapes_.resize(plan.max_args());
  costs_.prepare(plan);
  abandoned_ = false;
  placer_.prepare(plan);
  restart(!placer_.plain());
}

void TimeWalk::restart(bool general) {
  quick_.reset();
  exact_.reset();
  if (general)
    exact_ = std::make_unique<Timekeeper>(clock_options(plan_->plan()), plan_->plan().turns(), look_ahead(plan_->plan()));
  else
    quick_ = std::make_unique<LaneClock>(clock_options(plan_->plan()));
  zero_cost_ = false;
  finished_ = false;
  nest_ = 0;
  in_nest_ = 0;
  in_body_ = false;
  ordinal_ = 0;
  count_ = 0;
  placer_.prepare(*plan_);
  kernel_counts_.assign(plan_->plan().kernels().size(), 0);
}

void TimeWalk::abandon() {
  abandoned_ = true;
  quick_.reset();
  exact_.reset();
  count_ = 0;
  std::ranges::fill(kernel_counts_, 0);
}

void TimeWalk::trim() {
  quick_.reset();
  exact_.reset();
}

void TimeWalk::finish() {
  if (exact_ && !finished_ && exact_->end()) exact_->finish();
  finished_ = true;
}

// Of the next task, or beyond the last one.
Position TimeWalk::at() const {
  if (nest_ == nests_->size()) return {};
  return {(*nests_)[nest_].first + in_nest_, in_body_ ? ordinal_ : 0};
}

bool TimeWalk::advance(EarliestFailure& failure) {
  if (abandoned_) return true;
  const Position end = failure.position();
  if (at() > end) restart(exact_ != nullptr);
  if (nest_ == nests_->size() || at() >= end || finished_) {
    finish();
    return true;
  }
  const bool go_on = walk(failure, end);
  if (zero_cost_) {  // the recurrence holds for costs above zero only
    restart(true);
    return false;
  }
  if (!go_on) finish();
  return !go_on;
}

// False: a failure is reached.
bool TimeWalk::walk(EarliestFailure& failure, Position end) {
  const Nest& nest = (*nests_)[nest_];
  if (in_nest_ == nest.size) {
    ++nest_;
    in_nest_ = 0;
    return true;
  }
  return nest.task != none ? nest_tasks(nest, failure, end) : walk_body(nest, failure, end);
}

bool TimeWalk::nest_tasks(const Nest& nest, EarliestFailure& failure, Position end) {
  const BoundTask& t = plan_->task(nest.task);
  const std::uint64_t count = std::min({nest.size - in_nest_, tasks_at_once, end.flat - (nest.first + in_nest_)});
  if (!t.shaped && t.cost.value_or(0) > 0 && quick_) {
    const auto cost = static_cast<std::uint64_t>(*t.cost);
    for (std::uint64_t i = 0; i < count; ++i) quick_->issue(cost, placer_.next(t.spec->dispatch), t.spec->window);
    count_ += count;
    kernel_counts_[t.spec->kernel] += count;
    in_nest_ += count;
    return true;
  }
  regs_ = nest.regs;
  nest.seek(in_nest_, regs_.data());
  for (std::uint64_t i = 0; i < count; ++i) {
    if (!task(nest.task, regs_.data(), {nest.first + in_nest_, 0}, failure)) return false;
    nest.step(regs_.data());
    ++in_nest_;
  }
  return true;
}

bool TimeWalk::walk_body(const Nest& nest, EarliestFailure& failure, Position end) {
  for (std::uint64_t tasks = 0; tasks < tasks_at_once;) {
    if (at() >= end) return true;
    if (!in_body_) {
      if (in_nest_ == nest.size) return true;
      regs_ = nest.regs;
      nest.seek(in_nest_, regs_.data());
      walker_.reset(*plan_, nest.body, regs_);
      in_body_ = true;
      ordinal_ = 0;
    }
    switch (walker_.next()) {
      case Walker::Event::task:
        if (!task(walker_.task(), walker_.regs(), {nest.first + in_nest_, ordinal_}, failure)) return false;
        ++ordinal_;
        ++tasks;
        break;
      case Walker::Event::end:
        in_body_ = false;
        ++in_nest_;
        ++tasks;
        break;
      case Walker::Event::failed:
        return false;  // told by whoever runs the tasks
      case Walker::Event::pause:
        return true;
      default:
        break;
    }
  }
  return true;
}

bool TimeWalk::task(std::uint32_t id, const std::int64_t* regs, Position at, EarliestFailure& failure) {
  const BoundTask& t = plan_->task(id);
  if (t.shaped) plan_->shapes(t, regs, shapes_.data());
  std::uint64_t cost = 0;
  ErrorKind why = ErrorKind::cost;
  if (!costs_.cost(id, shapes_.data(), cost, why)) {
    Failure f{.kind = why};
    f.site = t.spec->site;
    f.coords = plan_->coords(*t.spec, regs);
    failure.tell(at, std::move(f), false);
    return false;
  }
  if (cost == 0 && quick_) {
    zero_cost_ = true;
    return false;
  }
  Failure f;
  if (!issue(t, regs, cost, f)) {
    failure.tell(at, std::move(f), false);
    return false;
  }
  return true;
}

// False: `failure`, of a rule. What could deadlock is a start policy, under which nothing runs here.
bool TimeWalk::issue(const BoundTask& t, const std::int64_t* regs, std::uint64_t cost, Failure& failure) {
  Placement placement;
  if (!placer_.place(t, regs, shapes_.data(), cost, placement, failure)) return false;
  if (quick_) {
    quick_->issue(cost, placement.lane, placement.window);
  } else {
    if (!exact_->interleaves())
      exact_->issue(cost, placement, {});
    else
      exact_->issue_interleaved(cost, placement, {}, placer_.stream(), {t.spec->site, plan_->coords(*t.spec, regs)});
  }
  ++count_;
  ++kernel_counts_[t.spec->kernel];
  return true;
}

void TimeWalk::result(RunStats& stats) const {
  stats.task_count = count_;
  stats.kernel_counts = kernel_counts_;
  if (!quick_ && !exact_) return;
  stats.total_cycles = quick_ ? quick_->total_cycles() : exact_->clock().total_cycles();
  stats.windows = quick_ ? quick_->windows() : exact_->clock().windows();
  stats.time_overflowed = quick_ ? quick_->overflowed() : exact_->clock().overflowed();
}

}  // namespace pto_wsp
