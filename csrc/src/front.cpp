#include <algorithm>

#include "pto_wsp/ordered.hpp"

namespace pto_wsp {

void Front::prepare(const BoundPlan& plan, Ring* ring) {
  plan_ = &plan;
  ring_ = ring;
  walker_.reset(plan, plan.root(), plan.initial_regs());
  costs_.prepare(plan);
  lanes_.prepare(plan.plan());
  map_.prepare(plan);
  clock_.emplace(clock_options(plan.plan()));
  scopes_.clear();
  deps_.clear();
  args_.resize(plan.max_args());
  indices_.resize(plan.plan().max_gather());
  kernel_counts_.assign(plan.plan().kernels().size(), 0);
}

Front::Step Front::next() {
  while (true) {
    switch (walker_.next()) {
      case Walker::Event::task:
        return task_step();
      case Walker::Event::seq_enter:
        scopes_.push_back({scopes_.empty() ? Ref{} : scopes_.back().before, {}, false, false});
        break;
      case Walker::Event::seq_next:
        end_part();
        break;
      case Walker::Event::seq_leave:
        leave();
        break;
      case Walker::Event::read:
        if (walker_.complete_read()) break;
        failure_ = std::move(walker_.failure());
        return Step::failed;
      case Walker::Event::acquire:
      case Walker::Event::release:
      case Walker::Event::reset:
        break;
      case Walker::Event::pause:
        return Step::pause;
      case Walker::Event::end:
        return Step::end;
      case Walker::Event::failed:
        failure_ = std::move(walker_.failure());
        return Step::failed;
    }
  }
}

Front::Step Front::task_step() {
  const BoundTask& t = task();
  const std::int64_t* regs = walker_.regs();
  if (!plan_->prepare(t, regs, args_.data(), failure_, indices_.data())) return Step::failed;
  std::uint64_t cost = 0;
  if (!costs_.cost(walker_.task(), args_.data(), cost)) {
    failure_ = {.kind = ErrorKind::cost};
    failure_.site = t.spec->site;
    failure_.coords = plan_->coords(*t.spec, regs);
    return Step::failed;
  }
  deps_.clear();
  if (t.n_views != 0) map_.collect(t, regs, deps_);
  if (deps_.size() > 4) {  // a view over many cells meets the same task often
    std::ranges::sort(deps_, {}, &ClockRef::serial);
    const auto rest = std::ranges::unique(deps_, {}, &ClockRef::serial);
    deps_.erase(rest.begin(), rest.end());
  }
  n_conflicts_ = deps_.size();
  if (!scopes_.empty() && scopes_.back().before) deps_.push_back(scopes_.back().before.time);
  issued_ = clock_->issue(cost, lanes_.next(t.spec->dispatch), t.spec->window, deps_);
  if (t.n_views != 0) map_.record(t, regs, issued_, *this);
  ++kernel_counts_[t.spec->kernel];
  return Step::task;
}

void Front::commit(Ring::Ref self) {
  if (!scopes_.empty()) add_member({issued_, self});
}

// A part with one member needs no join.
void Front::add_member(Ref member) {
  Scope& s = scopes_.back();
  if (!s.current) {
    s.current = member;
    return;
  }
  const auto join_in = [&](const Ref& m) {
    clock_->add_member(s.current.time, m.time);
    if (ring_ == nullptr) return;
    ring_->add_member(s.current.real.join, m.real);
    if (m.real.join != nullptr) ring_->release(m.real.join);
  };
  if (!s.joined) {
    const Ref first = s.current;
    s.joined = true;
    s.current = {clock_->open_join(), {0, ring_ == nullptr ? nullptr : ring_->open_join()}};
    join_in(first);
  }
  join_in(member);
}

void Front::end_part() {
  Scope& s = scopes_.back();
  if (!s.current) return;
  if (s.joined) {
    clock_->seal(s.current.time);
    if (ring_ != nullptr) ring_->seal(s.current.real.join);
  }
  if (s.own && s.before.real.join != nullptr) ring_->release(s.before.real.join);
  s.before = s.current;
  s.own = true;
  s.current = {};
  s.joined = false;
}

void Front::leave() {
  const Scope s = scopes_.back();
  scopes_.pop_back();
  if (!s.own) return;
  if (!scopes_.empty())
    add_member(s.before);
  else if (s.before.real.join != nullptr)
    ring_->release(s.before.real.join);
}

void Front::trim() {
  clock_.reset();
  map_.trim();
  if (deps_.capacity() > 4096) free_memory(deps_);
}

void Front::stats(RunStats& stats) const {
  stats.task_count = clock_->task_count();
  stats.total_cycles = clock_->total_cycles();
  stats.windows = clock_->windows();
  stats.time_overflowed = clock_->overflowed();
  stats.kernel_counts = kernel_counts_;
}

}  // namespace pto_wsp
