#include "pto_wsp/pipe_trace.hpp"

#include <algorithm>

#include "pto_wsp/ordered.hpp"

namespace pto_wsp {

std::uint32_t PipeTrace::begin(std::uint32_t origin, std::uint32_t around, std::uint32_t process, std::uint64_t cycles, std::uint64_t first) {
  const bool kept = pipelines_.size() < limit_;
  const auto number = kept ? static_cast<std::uint32_t>(pipelines_.size()) : none;
  if (process == none) tasks_.push_back({.first = first, .pipeline = number});
  if (!kept) {
    ++dropped_;
    ++dropped_pipelines_;
    return none;
  }
  const std::uint32_t outermost = around == none ? number : pipelines_[around].outermost;
  pipelines_.push_back({.origin = origin, .around = around, .process = process, .outermost = outermost, .begin = cycles});
  return number;
}

void PipeTrace::end(std::uint32_t pipeline, std::uint64_t cycles) {
  if (pipeline != none) pipelines_[pipeline].end = cycles;
}

void PipeTrace::add(const TracedOperation& operation) {
  if (operation.pipeline != none && operations_.size() < limit_ * operations_per_task)
    operations_.push_back(operation);
  else
    ++dropped_;
}

void PipeTrace::issuing(std::uint32_t pipeline, const Placement& placement) {
  issuing_ = pipeline;
  if (pipeline == none) return;
  pipelines_[pipeline].window = placement.window;
  pipelines_[pipeline].batch = placement.batch;
}

void PipeTrace::issued(std::uint32_t pipeline, ClockRef task, std::uint64_t last) {
  Tasks& tasks = tasks_.back();
  tasks.last = last;
  tasks.pipeline = pipeline;
  tasks.issued = task;
}

bool PipeTrace::issued(const ClockLog::Issue& issue) {
  if (!issuing_) return false;
  if (*issuing_ != none) {
    pipelines_[*issuing_].issue = issue;
    in_flight_[issue.order] = *issuing_;
  }
  issuing_.reset();
  return true;
}

void PipeTrace::completed(const ClockLog::Task& task) {
  const auto at = in_flight_.find(task.order);
  if (at == in_flight_.end()) return;
  pipelines_[at->second].task = task;
  in_flight_.erase(at);
}

// One without tasks has the serial of the task behind it, and is known by its place in the clock as long as it is there.
std::optional<std::uint32_t> PipeTrace::find(ClockRef ref) const {
  if (ref.serial >= ClockRef::first_join) return std::nullopt;
  auto at = std::ranges::upper_bound(tasks_, ref.serial, {}, &Tasks::first);
  while (at != tasks_.begin()) {
    const Tasks& t = *--at;
    if (t.last >= t.first) return ref.serial <= t.last ? std::optional(t.pipeline) : std::nullopt;
    const bool over = t.pipeline != none && pipelines_[t.pipeline].task.end != never;
    if (t.first == ref.serial && t.issued.index == ref.index && !over) return t.pipeline;
  }
  return std::nullopt;
}

std::uint64_t PipeTrace::enough() const {
  const std::uint64_t operations = operations_.size() + dropped_ - dropped_pipelines_;
  return std::max<std::uint64_t>(pipelines_.size() + dropped_pipelines_, (operations + operations_per_task - 1) / operations_per_task);
}

// How the orchestrator tells of the pipelines that it elaborates.

void Front::watch_pipe(Pipe& pipe) {
  PipeTrace& trace = tracer_->pipes();
  Pipe* const outer = pipes_.size() > 1 ? pipes_[pipes_.size() - 2].get() : nullptr;
  Pipe::Watched& w = pipe.watched();
  w.came.assign(pipe.network().processes(), 0);
  if (outer == nullptr) {
    trace.set_channels(channels_);
    w.pipeline = trace.begin(pipe.node().origin, none, none, 0, composite_.first);
    return;
  }
  const std::uint32_t process = *outer->network().next();
  w.begin = outer->watched().begin + outer->network().comes(process);
  w.pipeline = trace.begin(pipe.node().origin, outer->watched().pipeline, process, w.begin, 0);
}

void Front::watch_task(const BoundTask& t) const {
  Pipe& pipe = *pipes_.back();
  const std::uint32_t process = *pipe.network().next();
  const Pipe::Process& p = pipe.process(process);
  const std::uint64_t came = pipe.watched().begin + pipe.network().comes(process), start = came + p.cycles;
  tracer_->issued(*t.spec, regs(), placement_, {pipe.watched().pipeline, process, came, start, start + p.cost});
}

// What a process has just done.
void Front::watch(Pipe& pipe, std::uint32_t process, const ActionOutcome& outcome) {
  using Kind = TracedOperation::Kind;
  const Network& n = pipe.network();
  Pipe::Watched& w = pipe.watched();
  const std::uint64_t came = std::exchange(w.came[process], n.comes(process));
  const Pipe::Process& p = pipe.process(process);
  TracedOperation o{.pipeline = w.pipeline, .process = process, .channel = outcome.channel, .token = outcome.token};
  o.came = w.begin + came;
  o.went = w.begin + n.clock(process);
  switch (outcome.kind) {
    case ActionOutcome::Kind::started: return;
    case ActionOutcome::Kind::done:
      if (p.head == Walker::Event::close) {
        o.kind = Kind::close;
        break;
      }
      if (p.head != Walker::Event::read || came == n.clock(process)) return;
      o.kind = Kind::read;
      o.channel = none;
      break;
    case ActionOutcome::Kind::sent: o.kind = p.head == Walker::Event::try_send ? Kind::try_send : Kind::send; break;
    case ActionOutcome::Kind::received: o.kind = p.head == Walker::Event::consume ? Kind::consume : Kind::receive; break;
    case ActionOutcome::Kind::ended:
      o.kind = Kind::ended;
      o.went = w.begin + n.comes(process);
      break;
    case ActionOutcome::Kind::refused: o.kind = Kind::refused; break;
    case ActionOutcome::Kind::yes: o.kind = Kind::yes; break;
    case ActionOutcome::Kind::no: o.kind = Kind::no; break;
  }
  o.origin = o.kind == Kind::read ? p.walker.read().origin : p.walker.at().origin;
  tracer_->pipes().add(o);
}

void Front::watch_end(Pipe& pipe, std::uint32_t process) {
  const Pipe::Watched& w = pipe.watched();
  const std::uint64_t at = w.begin + pipe.network().clock(process);
  tracer_->pipes().add({.pipeline = w.pipeline, .process = process, .came = at, .went = at});
}

// Processes that wait for ever.
void Front::watch_blocked(const Pipe& pipe) {
  using Kind = TracedOperation::Kind;
  const Network& n = pipe.network();
  const Pipe::Watched& w = pipe.watched();
  for (std::uint32_t i = 0; i < n.processes(); ++i) {
    if (n.ended(i)) continue;
    const Action& action = n.action(i);
    TracedOperation o{.pipeline = w.pipeline, .process = i, .channel = action.channel, .origin = pipe.walker(i).at().origin};
    o.came = w.begin + w.came[i];
    o.kind = action.kind == Action::Kind::send ? Kind::send : action.kind == Action::Kind::consume ? Kind::consume : Kind::receive;
    o.token = o.kind == Kind::send ? n.sent(o.channel) : n.received(o.channel);
    tracer_->pipes().add(o);
  }
}

}  // namespace pto_wsp
