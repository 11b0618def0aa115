#include "pto_wsp/tracer.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace pto_wsp {

std::int64_t Tracer::number_of(ClockRef ref) const {
  if (const std::optional<std::uint32_t> pipeline = pipes_.find(ref)) return first_pipeline - static_cast<std::int64_t>(*pipeline);
  const auto serial = static_cast<std::int64_t>(ref.serial);
  return ref.serial >= ClockRef::first_join ? static_cast<std::int64_t>(ClockRef::first_join) - serial : serial - 1;
}

Tracer::Tracer(const BoundPlan& plan, TraceLevel level, std::uint64_t limit, SteadyClock::time_point began)
    : plan_(&plan), level_(level), limit_(limit), began_(began), chunks_((limit + chunk_size - 1) / chunk_size), pipes_(limit) {
  for (const TaskSpec& t : plan.plan().tasks()) n_coords_ = std::max(n_coords_, t.coords.size());
}

void Tracer::issued(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement, const Placer::Stream& stream,
                    std::span<const ClockRef> deps, const Clock& clock) {
  add_all(deps, static_cast<std::int64_t>(size_ + dropped_), clock);
  TracedTask* const t = keep(spec, regs, placement);
  if (t == nullptr) return;
  t->stream_scope = stream.scope;
  if (stream.scope != none) t->stream = stream.number;
}

void Tracer::issued(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement, const InProcess& in) {
  TracedTask* const t = keep(spec, regs, placement);
  if (t == nullptr) return;
  t->issue = in.came;
  t->ready = t->start = in.start;
  t->end = in.end;
  t->lane = no_lane;
  t->pipeline = in.pipeline;
  t->process = in.process;
}

// The next task in program order. Null: there is no room.
TracedTask* Tracer::keep(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement) {
  const std::uint64_t position = size_ + dropped_;
  if (position >= limit_) {
    ++dropped_;
    return nullptr;
  }
  Chunk& chunk = chunk_of(position);
  ++size_;
  TracedTask& t = chunk.tasks[position % chunk_size];
  t.site = spec.site;
  t.window = placement.window;
  t.batch = placement.batch;
  t.issued_ns = now();
  const std::vector<std::int64_t> coords = plan_->coords(spec, regs);
  std::ranges::copy(coords, chunk.coords.begin() + static_cast<std::ptrdiff_t>(position % chunk_size * n_coords_));
  return &t;
}

Tracer::Chunk& Tracer::chunk_of(std::uint64_t position) {
  std::unique_ptr<Chunk>& chunk = chunks_[position / chunk_size];
  if (chunk == nullptr) {
    chunk = std::make_unique<Chunk>();
    chunk->coords.resize(chunk_size * n_coords_);
  }
  return *chunk;
}

void Tracer::awaits(std::span<const ClockRef> tasks, const Clock& clock) {
  if (level_ != TraceLevel::full) return;
  for (const ClockRef& task : tasks)
    if (!clock.complete(task)) awaited_.push_back(number_of(task));
}

void Tracer::joined(ClockRef join, ClockRef member, const Clock& clock) {
  if (level_ == TraceLevel::full && !clock.complete(member)) add({number_of(member), number_of(join)});
}

// What comes before something that is issued.
void Tracer::add_all(std::span<const ClockRef> deps, std::int64_t to, const Clock& clock) {
  if (level_ != TraceLevel::full) return;
  for (const std::int64_t from : std::exchange(awaited_, {})) add({from, to, true});
  std::int64_t before = 0;
  for (const ClockRef& dep : deps) {
    if (clock.complete(dep)) continue;
    const std::int64_t from = number_of(dep);
    if (from > first_pipeline || from != before) add({from, to});  // many may be tasks of one pipeline
    before = from;
  }
}

void Tracer::issued(std::uint32_t pipeline, ClockRef task, std::uint64_t last, std::span<const ClockRef> deps, const Clock& clock) {
  pipes_.issued(pipeline, task, last);
  if (pipeline != none) add_all(deps, first_pipeline - static_cast<std::int64_t>(pipeline), clock);
}

void Tracer::add(Edge edge) {
  const auto is_kept = [&](std::int64_t n) {
    return n < static_cast<std::int64_t>(limit_) && (n > first_pipeline || first_pipeline - n < static_cast<std::int64_t>(pipes_.pipelines().size()));
  };
  const bool kept = is_kept(edge.from) && is_kept(edge.to) && edges_.size() < limit_ * edges_per_task;
  if (kept)
    edges_.push_back(edge);
  else
    ++dropped_edges_;
}

void Tracer::issued(const Issue& issue) {
  if (pipes_.issued(issue) || issue.position >= limit_) return;
  TracedTask& t = chunk_of(issue.position).tasks[issue.position % chunk_size];
  t.due = issue.due;
  t.asked = issue.asked;
  t.order = issue.order;
  t.waited = issue.waited;
  t.stalled = issue.stalled;
}

void Tracer::completed(const Task& task) {
  if (task.lane == no_lane) {
    pipes_.completed(task);
    return;
  }
  TracedTask* const t = at(task.position);
  if (t == nullptr) return;
  t->issue = task.issue;
  t->ready = task.ready;
  t->start = task.start;
  t->end = task.end;
  t->lane = task.lane;
}

// Asked each time: in a forked child a thread has another number.
std::uint32_t Tracer::this_thread() { return static_cast<std::uint32_t>(gettid()); }

std::uint64_t Tracer::now() const {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(SteadyClock::now() - began_).count());
}

}  // namespace pto_wsp
