#include "pto_wsp/ordered.hpp"

#include <algorithm>
#include <utility>

namespace pto_wsp {

void Front::prepare(const BoundPlan& plan, Ring* ring, Arena* arena) {
  plan_ = &plan;
  ring_ = ring;
  arena_ = arena;
  walker_.reset(plan, plan.root(), plan.initial_regs());
  costs_.prepare(plan);
  lanes_.prepare(plan.plan());
  map_.prepare(plan);
  by_ranges_ = plan.plan().deps_mode() == DepsMode::bytes;
  if (by_ranges_) ranges_.prepare(plan);
  count_entries();
  clock_.emplace(clock_options(plan.plan()));
  scopes_.clear();
  handles_.assign(plan.plan().n_handles(), {});
  deps_.clear();
  after_.clear();
  awaited_.clear();
  awaited_retirement_ = 0;
  pending_ = Pending::nothing;
  args_.resize(plan.max_args());
  indices_.resize(plan.plan().max_gather());
  kernel_counts_.assign(plan.plan().kernels().size(), 0);
}

void Front::count_entries() {
  entries_.assign(plan_->n_tasks(), 0);
  for (std::uint32_t i = 0; i < plan_->n_tasks(); ++i)
    if (plan_->task(i).reachable) entries_[i] = map_.entries(i) + (by_ranges_ ? plan_->task(i).n_views : 0);
}

std::uint64_t Front::most_entries() const {
  std::uint64_t most = 0;
  for (const std::uint64_t n : entries_) most = std::max(most, n);
  return most;
}

Front::Step Front::next() {
  if (pending_ != Pending::nothing) [[unlikely]] {
    const Pending pending = std::exchange(pending_, Pending::nothing);
    if (pending == Pending::task) return task_step();
    if (pending == Pending::memory) arena_->clear(walker_.id());
    if (pending == Pending::read && !walker_.complete_read()) return fail();
  }
  while (true) {
    switch (walker_.next()) {
      case Walker::Event::task:
        if (task().n_gathers != 0 && !gather_boundary(task())) return wait_for(Pending::task);
        return task_step();
      case Walker::Event::read:
        if (!boundary(walker_.read_view())) return wait_for(Pending::read);
        if (!walker_.complete_read()) return fail();
        break;
      case Walker::Event::seq_enter:
        scopes_.push_back({scopes_.empty() ? Ref{} : scopes_.back().before, {}, false});
        break;
      case Walker::Event::seq_next:
        end_part();
        break;
      case Walker::Event::seq_leave:
        leave();
        break;
      case Walker::Event::acquire:
        if (!reuse(walker_.id())) return wait_for(walker_.zeroed() ? Pending::memory : Pending::nothing);
        if (walker_.zeroed()) arena_->clear(walker_.id());
        break;
      case Walker::Event::release:
        if (ring_ != nullptr) arena_->release(walker_.id(), ring_->issued());
        break;
      case Walker::Event::reset:
        reset(handles_[walker_.id()]);
        break;
      case Walker::Event::pause:
        return Step::pause;
      case Walker::Event::end:
        return Step::end;
      case Walker::Event::failed:
        return fail();
    }
  }
}

Front::Step Front::fail() {
  failure_ = std::move(walker_.failure());
  return Step::failed;
}

Front::Step Front::wait_for(Pending then) {
  pending_ = then;
  return Step::wait;
}

// What is read before the next task. True: it is there.
bool Front::boundary(const TrackedView& view) {
  const std::size_t first = awaited_.size();
  if (!map_.collect_read(view, walker_.regs(), awaited_)) return true;
  clock_->add_wait(std::span(awaited_).subspan(first));
  if (ring_ == nullptr) awaited_.clear();
  return may_go_on();
}

bool Front::gather_boundary(const BoundTask& t) {
  for (const BoundGather& g : plan_->gathers(t))
    if (g.spec->wait) boundary(g.from.view);
  return may_go_on();
}

// Memory that tasks still use is not used again.
bool Front::reuse(std::uint32_t tensor) {
  if (ring_ == nullptr) return true;
  awaited_retirement_ = arena_->acquire(tensor);
  return may_go_on();
}

bool Front::may_go_on() {
  while (!awaited_.empty() && ring_->finished(awaited_.back().serial)) awaited_.pop_back();
  return awaited_.empty() && (awaited_retirement_ == 0 || ring_->retired(awaited_retirement_));
}

Front::Step Front::task_step() {
  const BoundTask& t = task();
  const std::int64_t* regs = walker_.regs();
  if (!plan_->prepare(t, regs, args_.data(), failure_, indices_.data())) return Step::failed;
  std::uint64_t cost = 0;
  ErrorKind why = ErrorKind::cost;
  if (!costs_.cost(walker_.task(), args_.data(), cost, why)) {
    failure_ = {.kind = why};
    failure_.site = t.spec->site;
    failure_.coords = plan_->coords(*t.spec, regs);
    return Step::failed;
  }
  deps_.clear();
  if (t.n_views != 0) collect(t);
  n_conflicts_ = deps_.size();
  after_.clear();
  if (!scopes_.empty()) follow(scopes_.back().before);
  for (const std::uint32_t handle : t.spec->after) {
    seal(handles_[handle]);
    follow(handles_[handle].all);
  }
  issued_ = clock_->issue(cost, {.lane = lanes_.next(t.spec->dispatch), .window = t.spec->window}, deps_);
  if (t.n_views != 0) {
    map_.record(t, regs, indices_.data(), issued_, *this);
    if (by_ranges_) ranges_.record(t, args_.data(), issued_, *this);
  }
  ++kernel_counts_[t.spec->kernel];
  return Step::task;
}

// The earlier tasks that it conflicts with.
void Front::collect(const BoundTask& t) {
  map_.collect(t, walker_.regs(), indices_.data(), deps_);
  if (by_ranges_) ranges_.collect(t, args_.data(), deps_);
  if (deps_.size() <= Ring::few_conflicts) return;
  // A view over many cells meets the same task often.
  std::ranges::sort(deps_, {}, &ClockRef::serial);
  const auto rest = std::ranges::unique(deps_, {}, &ClockRef::serial);
  deps_.erase(rest.begin(), rest.end());
}

void Front::commit(Ring::Ref self) {
  if (!scopes_.empty()) join(scopes_.back().current, {issued_, self}, Ring::Membership::scope);
  if (const std::uint32_t handle = task().spec->handle; handle != none)
    join(handles_[handle], {issued_, self}, Ring::Membership::handle);
}

void Front::join(Group& group, Ref member, Ring::Membership kind) {
  if (!group.all) {
    group.all = member;
    return;
  }
  const auto add = [&](const Ref& m) {
    clock_->add_member(group.all.time, m.time);
    if (ring_ == nullptr) return;
    ring_->add_member(group.all.real.join, m.real, kind);
    forget(m);
  };
  if (!group.open) {
    const Ref first = group.all;
    group = {{clock_->open_join(), {0, ring_ == nullptr ? nullptr : ring_->open_join()}}, true};
    add(first);
  }
  add(member);
}

// From here on it is complete once its members are. What joins later makes another one, of which this is a member.
void Front::seal(Group& group) {
  if (!group.open) return;
  clock_->seal(group.all.time);
  if (ring_ != nullptr) ring_->seal(group.all.real.join);
  group.open = false;
}

void Front::reset(Group& handle) {
  seal(handle);
  forget(handle.all);
  handle = {};
}

void Front::end_part() {
  Scope& s = scopes_.back();
  if (!s.current.all) return;
  seal(s.current);
  if (s.own) forget(s.before);
  s.before = s.current.all;
  s.own = true;
  s.current = {};
}

void Front::leave() {
  const Scope s = scopes_.back();
  scopes_.pop_back();
  if (!s.own) return;
  if (scopes_.empty())
    forget(s.before);
  else
    join(scopes_.back().current, s.before, Ring::Membership::scope);
}

void Front::trim() {
  clock_.reset();
  map_.trim();
  ranges_.trim();
  if (handles_.size() > 4096) free_memory(handles_);
  if (deps_.capacity() > 4096) free_memory(deps_);
}

void Front::stats(RunStats& stats) const {
  stats.grid_cells = map_.cells();
  stats.boxed_tensors = map_.boxed();
  stats.task_count = clock_->task_count();
  stats.total_cycles = clock_->total_cycles();
  stats.windows = clock_->windows();
  stats.scalar_waits = clock_->scalar_waits();
  stats.scalar_wait_cycles = clock_->scalar_wait_cycles();
  stats.time_overflowed = clock_->overflowed();
  stats.kernel_counts = kernel_counts_;
}

}  // namespace pto_wsp
