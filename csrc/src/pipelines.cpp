// How the orchestrator elaborates pipelines: process after process as their network says, their kernels tasks like others.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "pto_wsp/network_remedy.hpp"
#include "pto_wsp/ordered.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t actions_between_pauses = 4096;
constexpr std::size_t few_deps = 64;

}  // namespace

void Front::begin_pipe() {
  if (pipes_.empty()) {
    const std::uint64_t first = clock_->clock().positions() + 1;
    composite_ = {first, first - 1, clock_->stand_for_all_from(first), {}, few_deps};
    if (!scopes_.empty() && scopes_.back().before) composite_.deps.push_back(scopes_.back().before.time);
  }
  const std::uint32_t id = walker_->at().id;
  const PipelineInfo& info = plan_->plan().pipelines()[id];
  if (pipes_.empty()) looks_for_races_ = races_.checks(id);
  if (looks_for_races_)
    races_.enter(id, std::span(channels_).subspan(info.first_channel, info.n_channels), pipes_.empty() ? 0 : *pipes_.back()->network().next());
  pipes_.push_back(std::make_unique<Pipe>(*plan_, *walker_, std::span(channels_).subspan(info.first_channel, info.n_channels), limits_));
  if (tracer_ != nullptr) watch_pipe(*pipes_.back());
  act(*pipes_.back(), 0);  // each process comes to what it does first
}

// So many actions of its processes.
Network::Status Front::act(Pipe& pipe, std::uint64_t actions) {
  try {
    if (tracer_ != nullptr) [[unlikely]] {
      WatchedActs acts{*this, pipe};
      return pipe.network().run(acts, actions);
    }
    Acts acts{*this, pipe};
    return pipe.network().run(acts, actions);
  } catch (const std::length_error&) {
    throw std::bad_alloc();
  }
}

// Nothing: the outermost pipeline is over.
std::optional<Front::Step> Front::go_on_with_pipes() {
  pending_ = Pending::nothing;
  while (true) {
    Pipe& pipe = *pipes_.back();
    const Network::Status status = act(pipe, actions_between_pauses);
    if (stopped_) return Step::failed;
    std::optional<Step> step;
    switch (status) {
      case Network::Status::running: return Step::pause;
      case Network::Status::asks: step = turn(pipe, *pipe.network().next()); break;
      case Network::Status::done: step = end_pipe(); break;
      default: return fail_network(pipe, status);
    }
    if (step) return step;
    if (pipes_.empty()) return std::nullopt;
  }
}

// What a process does that is the orchestrator's, and the time it takes. Nothing: there is no more to it, or a pipeline inside.
std::optional<Front::Step> Front::turn(Pipe& pipe, std::uint32_t process) {
  Pipe::Process& p = pipe.process(process);
  walker_ = &p.walker;
  switch (p.head) {
    case Walker::Event::task:
      if (!may_use_memory(p)) return wait_for(Pending::memory);
      if (!std::exchange(p.waits, true) && task().n_gathers != 0) gather_boundary(task());
      if (!may_go_on()) return wait_for(Pending::task);
      return process_task(pipe, p, process);
    case Walker::Event::read:
      if (!may_use_memory(p)) return wait_for(Pending::memory);
      if (!std::exchange(p.waits, true)) boundary(walker_->read_view());
      if (!may_go_on()) return wait_for(Pending::read);
      if (!complete_read()) return Step::failed;
      if (looks_for_races_ && !races_.read(process, walker_->read(), walker_->read_view(), regs()))
        return fail_race(failure_at(plan_->plan(), walker_->read(), ErrorKind::race, regs()));
      pipe.network().work(p.cycles);
      return std::nullopt;
    case Walker::Event::pipeline: begin_pipe(); return std::nullopt;
    default: break;
  }
  pipe.network().work(0);  // it has walked for long: the clock is looked at
  return Step::pause;
}

// Once what used the memory before is over.
bool Front::may_use_memory(Pipe::Process& p) {
  if (ring_ != nullptr && p.retirement != 0) {
    awaited_retirement_ = p.retirement;
    if (!may_go_on()) return false;
  }
  p.retirement = 0;
  for (const std::uint32_t tensor : p.unclear)
    if (arena_ != nullptr) arena_->clear(tensor);
  p.unclear.clear();
  return true;
}

Front::Step Front::process_task(Pipe& pipe, Pipe::Process& p, std::uint32_t process) {
  const BoundTask& t = task();
  if (!prepare_task(t)) return Step::failed;
  if (looks_for_races_ && !races_.task(process, t, regs(), indices())) return fail_race(failure_of(t, ErrorKind::race));
  collect_needs(t);
  add_outside(deps_);
  placement_ = {};
  placement_.window = t.spec->window;
  issued_ = {++composite_.last, composite_.stand_in.index};
  p.cost = cycles_;
  make_known(t);
  pipe.network().work(cycles_ + p.cycles);
  return Step::task;
}

// On to what the process does next.
Action Front::next_action(Pipe& pipe, std::uint32_t process, const ActionOutcome& outcome) {
  Pipe::Process& p = pipe.process(process);
  const auto stop = [&]() -> Action {
    if (!std::exchange(stopped_, true)) failure_ = std::move(p.walker.failure());
    return {};
  };
  if (stopped_) return {};
  if (!pipe.tell(p, outcome)) return stop();
  if (looks_for_races_) follow(process, p.head, outcome);
  p.waits = false;
  p.cycles = 0;
  while (true) {
    p.head = p.walker.next();
    switch (p.head) {
      case Walker::Event::task:
      case Walker::Event::read:
      case Walker::Event::pipeline:
      case Walker::Event::pause: return {Action::Kind::ask, 0, 0};  // who pauses lets others have their turn
      case Walker::Event::seq_enter:  // whatever may conflict in a pipeline is tracked
      case Walker::Event::seq_next:
      case Walker::Event::seq_leave: break;
      case Walker::Event::acquire:
        if (ring_ != nullptr) p.retirement = std::max(p.retirement, arena_->acquire(p.walker.id()));
        if (p.walker.zeroed()) p.unclear.push_back(p.walker.id());
        break;
      case Walker::Event::release:
        if (ring_ != nullptr) arena_->release(p.walker.id(), ring_->issued());
        break;
      case Walker::Event::reset: reset(handles_[p.walker.id()]); break;
      case Walker::Event::failed: return stop();
      case Walker::Event::end:
        if (looks_for_races_) races_.steps().ended(process);
        return {};
      default: return {*Pipe::action(p.head), p.walker.port().channel, 0};
    }
  }
}

std::optional<Front::Step> Front::end_pipe() {
  const std::unique_ptr<Pipe> pipe = std::move(pipes_.back());
  pipes_.pop_back();
  count_cycles(*pipe);
  if (looks_for_races_) races_.leave();
  if (tracer_ != nullptr) tracer_->pipes().end(pipe->watched().pipeline, pipe->watched().begin + pipe->network().latest());
  walker_ = &pipe->outer();
  if (pipes_.empty()) return end_composite(*pipe);
  pipes_.back()->network().work(pipe->network().latest());
  return std::nullopt;
}

// All that is known of it now. What waits for it may wait for its tasks.
std::optional<Front::Step> Front::end_composite(const Pipe& pipe) {
  placement_ = {};
  placement_.lane = no_lane;
  placement_.window = pipe.info().window;
  if (pipe.info().batch != none) placement_.batch = pipe.info().batch;
  placer_.count_one();
  const std::uint64_t count = composite_.last + 1 - composite_.first;
  if (tracer_ != nullptr) tracer_->pipes().issuing(pipe.watched().pipeline, placement_);
  const ClockRef issued = clock_->issue_composite(pipe.network().latest(), placement_, composite_.deps, composite_.stand_in, count);
  if (clock_->clock().deadlocked()) {
    failure_ = failure_at(plan_->plan(), pipe.node(), ErrorKind::deadlock, regs());
    failure_.values = numbers_of(*clock_->clock().blocked());
    return Step::failed;
  }
  if (tracer_ != nullptr) tracer_->issued(pipe.watched().pipeline, issued, composite_.last, composite_.deps, clock_->clock());
  if (count == 0 && !scopes_.empty()) join(scopes_.back().current, {issued, {}}, Ring::Membership::scope);
  return std::nullopt;
}

void Front::count_cycles(const Pipe& pipe) {
  for (std::uint32_t c = 0; c < pipe.network().channels(); ++c) {
    ChannelCycles& cycles = channel_cycles_[pipe.info().first_channel + c];
    cycles.empty += pipe.network().empty_cycles(c);
    cycles.full += pipe.network().full_cycles(c);
    cycles.undelivered += pipe.network().sent(c) - pipe.network().received(c);
  }
}

// What a process has handed on or taken, with what it was at.
void Front::follow(std::uint32_t process, Walker::Event head, const ActionOutcome& outcome) {
  Steps& steps = races_.steps();
  switch (outcome.kind) {
    case ActionOutcome::Kind::sent: return steps.sent(process, outcome);
    case ActionOutcome::Kind::received: return steps.received(process, outcome);
    case ActionOutcome::Kind::ended: return steps.drained(process, outcome.channel);
    case ActionOutcome::Kind::done:
      if (head == Walker::Event::close) steps.closed(process, outcome.channel);
      break;
    default: break;
  }
}

Front::Step Front::fail_race(Failure at) {
  failure_ = std::move(at);
  failure_.values = races_.race().values();
  return Step::failed;
}

Front::Step Front::fail_network(const Pipe& pipe, Network::Status status) {
  const Network& n = pipe.network();
  const std::int64_t* const around = pipe.outer_regs();
  switch (status) {
    case Network::Status::blocked:
      failure_ = failure_at(plan_->plan(), pipe.node(), ErrorKind::processes, around);
      failure_.values = pipe.blocked();
      if (tracer_ != nullptr) watch_blocked(pipe);
      break;
    case Network::Status::closed: {
      const std::uint32_t p = n.offender();
      failure_ = failure_at(plan_->plan(), pipe.walker(p).at(), ErrorKind::closed, pipe.walker(p).regs());
      failure_.values = {p, n.action(p).channel, static_cast<std::int64_t>(n.clock(p))};
      break;
    }
    case Network::Status::limit: {
      failure_ = failure_at(plan_->plan(), pipe.node(), ErrorKind::limit, around);
      const bool cycles = n.latest() > limits_.cycles;
      failure_.values = {cycles ? 0 : 1, static_cast<std::int64_t>(cycles ? limits_.cycles : limits_.idle_actions)};
      break;
    }
    default: failure_ = Failure{.kind = ErrorKind::overflow}; break;
  }
  count_cycles(pipe);
  return Step::failed;
}

bool Front::raise_a_channel(std::span<const std::uint32_t> buffers) {
  Pipe& pipe = *pipes_.back();
  const PipelineInfo& info = pipe.info();
  Network& network = pipe.network();
  const std::span<ChannelSpec> specs = std::span(channels_).subspan(info.first_channel, info.n_channels);
  std::vector<std::uint32_t> own;
  if (!buffers.empty())
    for (const std::uint32_t b : buffers.subspan(info.first_channel, info.n_channels)) own.push_back(b == none ? none : b - info.first_channel);
  const std::optional<std::uint32_t> found = channel_to_raise(network, info.produces, info.consumers, own);
  if (!found) return false;
  const std::uint32_t channel = *found, numbers = own.empty() ? none : own[channel];
  deepen(pipe, channel, numbers);
  specs[channel].capacity = network.capacity(channel);
  if (numbers == none) return true;
  specs[numbers].initial += network.capacity(numbers) - specs[numbers].capacity;
  specs[numbers].capacity = network.capacity(numbers);
  return true;
}

// One place more, and with it a buffer. There is one at least: the first place of a rendezvous brings none.
void Front::deepen(Pipe& pipe, std::uint32_t channel, std::uint32_t numbers) {
  Network& network = pipe.network();
  Acts acts{*this, pipe};
  try {
    if (!network.senders_wait(channel) && network.capacity(channel) == 0) network.raise(acts, channel);
    network.raise(acts, channel);
    if (numbers == none || network.capacity(channel) <= network.capacity(numbers)) return;
    pipe.number_buffer(numbers);
    network.raise_with_token(acts, numbers);
  } catch (const std::length_error&) {
    throw std::bad_alloc();
  }
}

// What a composite task waits for: all that one of its tasks waits for, but for those of its own.
void Front::add_outside(std::span<const ClockRef> tasks) {
  for (const ClockRef& task : tasks)
    if (task.index != composite_.stand_in.index || task.serial < composite_.first || task.serial >= ClockRef::first_join)
      if (!clock_->clock().complete(task)) composite_.deps.push_back(task);
  if (composite_.deps.size() < composite_.tidy_at) return;
  const auto key = [](const ClockRef& r) { return std::pair(r.serial, r.index); };
  std::ranges::sort(composite_.deps, {}, key);
  const auto rest = std::ranges::unique(composite_.deps, {}, key);
  composite_.deps.erase(rest.begin(), rest.end());
  composite_.tidy_at = std::max(few_deps, 2 * composite_.deps.size());
}

// In semantic time whoever waits for the later one waits for the whole composite; really it must be over.
bool Front::superseded(const ClockRef& task, const ClockRef& by) const {
  if (pipes_.empty() || by.index != composite_.stand_in.index || task.index != by.index || task.serial < composite_.first) return false;
  return task.serial < ClockRef::first_join && (ring_ == nullptr || task.serial <= ring_->retired());
}

}  // namespace pto_wsp
