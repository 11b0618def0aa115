#include "pto_wsp/ordered.hpp"

#include <algorithm>
#include <utility>

namespace pto_wsp {
namespace {

constexpr std::size_t first_sweep_of_streams = 1024;

}  // namespace

void Front::prepare(const BoundPlan& plan, Ring* ring, Arena* arena) {
  plan_ = &plan;
  ring_ = ring;
  arena_ = arena;
  main_.reset(plan, plan.root(), plan.initial_regs());
  walker_ = &main_;
  pipes_.clear();
  composite_ = {};
  channels_ = channel_specs(plan.plan());
  channel_cycles_.assign(channels_.size(), {});
  limits_ = {};
  stopped_ = looks_for_races_ = false;
  costs_.prepare(plan);
  placer_.prepare(plan);
  placement_ = {};
  streams_.assign(plan.plan().streams().size(), {});
  n_streams_ = 0;
  sweep_streams_at_ = first_sweep_of_streams;
  map_.prepare(plan);
  by_ranges_ = plan.plan().deps_mode() == DepsMode::bytes;
  if (by_ranges_) ranges_.prepare(plan);
  count_entries();
  clock_.emplace(clock_options(plan.plan()), plan.plan().turns(), look_ahead(plan.plan()));
  scopes_.clear();
  handles_.assign(plan.plan().n_handles(), {});
  deps_.clear();
  after_.clear();
  awaited_.clear();
  awaited_retirement_ = 0;
  settled_ = 0;
  pretence_ = {};
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

void Front::observe(const Control& control) {
  tracer_ = control.tracer;
  log_ = control.log;
  casualties_ = control.casualties;
  tape_ = control.tape;
  set_pipelines(control.pipelines);
  unknown_ = 0;
  if (tracer_ != nullptr) clock_->record(*tracer_);
}

void Front::set_pipelines(const PipelineOptions& options) {
  limits_ = options.limits;
  races_.prepare(*plan_, options.checked);
  if (!options.channels.empty()) channels_ = options.channels;
}

Front::Step Front::next() {
  if (!pipes_.empty()) {
    if (const std::optional<Step> step = go_on_with_pipes()) return *step;
  } else if (pending_ != Pending::nothing) [[unlikely]] {
    const Pending pending = std::exchange(pending_, Pending::nothing);
    if (pending == Pending::task) return task_step();
    if (pending == Pending::memory) arena_->clear(walker_->id());
    if (pending == Pending::read && !complete_read()) return Step::failed;
  }
  while (true) {
    switch (walker_->next()) {
      case Walker::Event::task:
        if (task().n_gathers != 0 && !gather_boundary(task())) return wait_for(Pending::task);
        return task_step();
      case Walker::Event::read:
        if (!boundary(walker_->read_view())) return wait_for(Pending::read);
        if (!complete_read()) return Step::failed;
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
        if (!reuse(walker_->id())) return wait_for(walker_->zeroed() ? Pending::memory : Pending::nothing);
        if (walker_->zeroed() && arena_ != nullptr) arena_->clear(walker_->id());
        break;
      case Walker::Event::release:
        if (ring_ != nullptr) arena_->release(walker_->id(), ring_->issued());
        break;
      case Walker::Event::reset:
        reset(handles_[walker_->id()]);
        break;
      case Walker::Event::pause:
        return Step::pause;
      case Walker::Event::pipeline:
        begin_pipe();
        if (const std::optional<Step> step = go_on_with_pipes()) return *step;
        break;
      case Walker::Event::send:
      case Walker::Event::receive:
      case Walker::Event::consume:
      case Walker::Event::close:
      case Walker::Event::try_send:
      case Walker::Event::query:  // in processes only
      case Walker::Event::end:
        return clock_->end() ? Step::end : deadlocked();
      case Walker::Event::failed:
        return fail();
    }
  }
}

Front::Step Front::fail() {
  failure_ = std::move(walker_->failure());
  return Step::failed;
}

Front::Step Front::wait_for(Pending then) {
  pending_ = then;
  return Step::wait;
}

// What is read before the next task. True: it is there.
bool Front::boundary(const TrackedView& view) {
  const std::size_t first = awaited_.size();
  if (!map_.collect_read(view, walker_->regs(), awaited_)) return true;
  const std::span<const ClockRef> writers = std::span(awaited_).subspan(first);
  if (!pipes_.empty()) {
    add_outside(writers);
    pipes_.back()->process_in_turn().cycles = plan_->plan().read_cost();
  } else {
    if (tracer_ != nullptr) tracer_->awaits(writers, clock_->clock());
    clock_->add_wait(writers);
  }
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
  for (; !awaited_.empty() && ring_->finished(awaited_.back().serial); awaited_.pop_back())
    if (const std::uint64_t serial = awaited_.back().serial; lost(serial)) unknown_ = unknown_ == 0 ? serial : std::min(unknown_, serial);
  return awaited_.empty() && (awaited_retirement_ == 0 || ring_->retired(awaited_retirement_));
}

// What has been waited for is there, or will never be.
bool Front::complete_read() {
  if (unknown_ != 0) [[unlikely]] {
    failure_ = failure_at(plan_->plan(), walker_->read(), ErrorKind::unknown, regs());
    failure_.values = {static_cast<std::int64_t>(unknown_ - 1)};
    return false;
  }
  if (pretence_.tape != nullptr) [[unlikely]] return pretend_read();
  if (walker_->complete_read()) {
    if (tape_ != nullptr) tape_->keep(walker_->value());
    return true;
  }
  failure_ = std::move(walker_->failure());
  return false;
}

void Front::pretend(const Pretence& pretence) {
  pretence_ = pretence;
  std::vector<std::uint64_t> ahead = look_ahead(plan_->plan());
  for (std::size_t i = 0; i < ahead.size(); ++i)
    if (pretence.time.windows[i] != no_limit) ahead[i] = pretence.time.windows[i];
  clock_.emplace(pretence.time, plan_->plan().turns(), std::move(ahead));
  tracer_ = pretence.tracer;
  if (tracer_ != nullptr) clock_->record(*tracer_);
}

bool Front::pretend_read() {
  const Node& read = walker_->read();
  const std::span<const std::int64_t> number = pretence_.tape->take(1);
  if (!number.empty() || (*pretence_.idle)[read.id]) {
    walker_->give(number.empty() ? 0 : number.front());
    return true;
  }
  failure_ = failure_at(plan_->plan(), read, ErrorKind::not_given, regs());
  return false;
}

void Front::keep_indices(const BoundTask& t) {
  for (const BoundGather& g : plan_->gathers(t))
    if (g.spec->wait) tape_->keep({indices_.data() + g.first, static_cast<std::size_t>(plan_->length(g.length, regs()))});
}

Failure Front::failure_of(const BoundTask& t, ErrorKind kind) const {
  Failure failure{.kind = kind};
  failure.site = t.spec->site;
  failure.coords = plan_->coords(*t.spec, regs());
  return failure;
}

bool Front::prepare_task(const BoundTask& t) {
  cycles_ = 0;
  if (!plan_->prepare(t, regs(), args_.data(), failure_, indices_.data(), pretence_.tape)) return false;
  if (tape_ != nullptr && t.n_gathers != 0) keep_indices(t);
  ErrorKind why = ErrorKind::cost;
  if (costs_.cost(walker_->task(), args_.data(), cycles_, why)) return true;
  failure_ = failure_of(t, why);
  cycles_ = 0;
  return false;
}

// The task cannot run, but where the run goes on after failures, others may. False: it is not known which depend on this one.
bool Front::lose(const BoundTask& t) {
  const ErrorKind why = failure_.kind;
  const bool views_are_known = t.n_views == 0 || why == ErrorKind::valid_shape || why == ErrorKind::scalar_range ||
                               why == ErrorKind::cost || why == ErrorKind::trips;
  if (casualties_ == nullptr || !views_are_known) return false;
  casualties_->fail({clock_->task_count(), t.spec->site, plan_->coords(*t.spec, regs())}, std::move(failure_));
  return true;
}

void Front::tell(const BoundTask& t) const {
  if (tracer_ != nullptr && pipes_.empty())
    tracer_->issued(*t.spec, regs(), placement_, placer_.stream(), deps_, clock_->clock());
  else if (tracer_ != nullptr)
    watch_task(t);
  if (log_ != nullptr) log_->issued(position(), *plan_, t, args(), regs(), indices());
}

Front::Step Front::task_step() {
  const BoundTask& t = task();
  const std::int64_t* regs = walker_->regs();
  if (unknown_ != 0) [[unlikely]] {
    failure_ = failure_of(t, ErrorKind::unknown);
    failure_.values = {static_cast<std::int64_t>(unknown_ - 1)};
    return Step::failed;
  }
  if (!prepare_task(t) && !lose(t)) return Step::failed;
  collect_needs(t);
  if (!placer_.place(t, regs, args_.data(), cycles_, placement_, failure_)) return Step::failed;
  if (placer_.stream().scope != none) follow_stream();
  if (!clock_->interleaves()) [[likely]]
    issued_ = clock_->issue(cycles_, placement_, deps_);
  else
    issued_ = clock_->issue_interleaved(cycles_, placement_, deps_, placer_.stream(), {t.spec->site, plan_->coords(*t.spec, regs)});
  if (clock_->clock().deadlocked()) [[unlikely]] return deadlocked();
  make_known(t);
  return Step::task;
}

// What comes before the task.
void Front::collect_needs(const BoundTask& t) {
  deps_.clear();
  if (t.n_views != 0) collect(t);
  n_conflicts_ = deps_.size();
  after_.clear();
  stream_before_ = 0;
  if (!scopes_.empty()) follow(scopes_.back().before);
  for (const std::uint32_t handle : t.spec->after) {
    seal(handles_[handle]);
    follow(handles_[handle].all);
  }
}

// It is issued.
void Front::make_known(const BoundTask& t) {
  if (t.n_views != 0) {
    settle();
    map_.record(t, regs(), indices_.data(), issued_, *this);
    if (by_ranges_) ranges_.record(t, args_.data(), issued_, *this);
  }
  if (tracer_ != nullptr || log_ != nullptr) [[unlikely]] tell(t);
  ++kernel_counts_[t.spec->kernel];
}

// The earlier tasks that it conflicts with.
void Front::collect(const BoundTask& t) {
  map_.collect(t, walker_->regs(), indices_.data(), deps_);
  if (by_ranges_) ranges_.collect(t, args_.data(), deps_);
  if (deps_.size() <= Ring::few_conflicts) return;
  // A view over many cells meets the same task often.
  std::ranges::sort(deps_, {}, &ClockRef::serial);
  const auto rest = std::ranges::unique(deps_, {}, &ClockRef::serial);
  deps_.erase(rest.begin(), rest.end());
}

void Front::settle() { settled_ = ring_ == nullptr ? clock_->settled() : std::min(clock_->settled(), ring_->retired()); }

void Front::follow_stream() {
  const Placer::Stream& s = placer_.stream();
  const auto last = streams_[s.scope].find(s.number);
  if (last == streams_[s.scope].end()) return;
  if (!clock_->interleaves()) deps_.push_back(last->second.time);  // else the order of issue counts in semantic time
  stream_before_ = last->second.real.serial;
}

// Streams whose last task is complete need not be known any more.
void Front::join_stream(const Ref& self) {
  const Placer::Stream& s = placer_.stream();
  const auto [at, is_new] = streams_[s.scope].insert_or_assign(s.number, self);
  if (!is_new || ++n_streams_ < sweep_streams_at_) return;
  n_streams_ = 0;
  settle();
  for (auto& scope : streams_) {
    std::erase_if(scope, [&](const auto& entry) { return finished(entry.second.time); });
    n_streams_ += scope.size();
  }
  sweep_streams_at_ = std::max(first_sweep_of_streams, 2 * n_streams_);
}

Front::Step Front::deadlocked() {
  failure_ = {.kind = ErrorKind::deadlock};
  const WhichTask* const which = clock_->blocked_task();
  failure_.site = which != nullptr ? which->site : task().spec->site;
  failure_.coords = which != nullptr ? which->coords : plan_->coords(*task().spec, regs());
  failure_.values = numbers_of(*clock_->clock().blocked());
  return Step::failed;
}

void Front::commit(Ring::Ref self) {
  if (pipes_.empty() && placer_.stream().scope != none) join_stream({issued_, self});
  if (!scopes_.empty()) join(scopes_.back().current, {issued_, self}, Ring::Membership::scope);
  if (const std::uint32_t handle = task().spec->handle; handle != none)
    join(handles_[handle], {issued_, self}, Ring::Membership::handle);
}

void Front::join(Group& group, Ref member, Ring::Membership kind) {
  if (!group.all) {
    group = {.all = member, .composite = pipes_.empty() ? 0 : composite_.first};
    return;
  }
  // In semantic time the tasks of a composite one are one member.
  if (pipes_.empty() || group.composite != composite_.first) join_time(group, member.time);
  if (!pipes_.empty()) group.composite = composite_.first;
  if (ring_ != nullptr) join_real(group, member.real, kind);
}

void Front::join_time(Group& group, ClockRef member) {
  const auto add = [&](ClockRef m) {
    if (tracer_ != nullptr) tracer_->joined(group.all.time, m, clock_->clock());
    clock_->add_member(group.all.time, m);
  };
  if (!group.open) {
    const ClockRef first = std::exchange(group.all.time, clock_->open_join());
    group.open = true;
    add(first);
  }
  add(member);
}

void Front::join_real(Group& group, Ring::Ref member, Ring::Membership kind) {
  const auto add = [&](Ring::Ref m) {
    ring_->add_member(group.all.real.join, m, kind);
    if (m.join != nullptr) ring_->release(m.join);
  };
  if (!group.really_open) {
    const Ring::Ref first = std::exchange(group.all.real, {0, ring_->open_join()});
    group.really_open = true;
    add(first);
  }
  add(member);
}

// From here on it is complete once its members are. What joins later makes another one, of which this is a member.
void Front::seal(Group& group) {
  if (group.open) clock_->seal(group.all.time);
  if (group.really_open) ring_->seal(group.all.real.join);
  group.open = group.really_open = false;
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
  pipes_.clear();
  free_memory(composite_.deps);
  map_.trim();
  ranges_.trim();
  races_.trim();
  if (handles_.size() > 4096) free_memory(handles_);
  if (deps_.capacity() > 4096) free_memory(deps_);
}

void Front::stats(RunStats& stats) const {
  stats.grid_cells = map_.cells();
  stats.boxed_tensors = map_.boxed();
  stats.task_count = clock_->interleaves() ? clock_->task_count() : std::max(clock_->clock().positions(), composite_.last);
  stats.channels = channel_cycles_;
  stats.total_cycles = clock_->clock().total_cycles();
  stats.windows = clock_->clock().windows();
  stats.scalar_waits = clock_->clock().scalar_waits();
  stats.scalar_wait_cycles = clock_->clock().scalar_wait_cycles();
  stats.time_overflowed = clock_->clock().overflowed();
  stats.kernel_counts = kernel_counts_;
}

}  // namespace pto_wsp
