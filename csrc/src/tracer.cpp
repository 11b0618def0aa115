#include "pto_wsp/tracer.hpp"

#include <unistd.h>

#include <algorithm>
#include <utility>

namespace pto_wsp {
namespace {

std::int64_t number_of(ClockRef ref) {
  const auto serial = static_cast<std::int64_t>(ref.serial);
  return ref.serial >= ClockRef::first_join ? static_cast<std::int64_t>(ClockRef::first_join) - serial : serial - 1;
}

}  // namespace

Tracer::Tracer(const BoundPlan& plan, TraceLevel level, std::uint64_t limit, SteadyClock::time_point began)
    : plan_(&plan), level_(level), limit_(limit), began_(began), chunks_((limit + chunk_size - 1) / chunk_size) {
  for (const TaskSpec& t : plan.plan().tasks()) n_coords_ = std::max(n_coords_, t.coords.size());
}

void Tracer::issued(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement, const Placer::Stream& stream,
                    std::span<const ClockRef> deps, const Clock& clock) {
  const std::uint64_t position = size_ + dropped_;
  if (level_ == TraceLevel::full)
    for (const ClockRef& dep : deps)
      if (!clock.complete(dep)) add({number_of(dep), static_cast<std::int64_t>(position)});
  if (position >= limit_) {
    ++dropped_;
    return;
  }
  Chunk& chunk = chunk_of(position);
  ++size_;
  TracedTask& t = chunk.tasks[position % chunk_size];
  t.site = spec.site;
  t.window = placement.window;
  t.batch = placement.batch;
  t.stream_scope = stream.scope;
  if (stream.scope != none) t.stream = stream.number;
  t.issued_ns = now();
  const std::vector<std::int64_t> coords = plan_->coords(spec, regs);
  std::ranges::copy(coords, chunk.coords.begin() + static_cast<std::ptrdiff_t>(position % chunk_size * n_coords_));
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
    if (!clock.complete(task)) add({number_of(task), static_cast<std::int64_t>(size_ + dropped_), true});
}

void Tracer::joined(ClockRef join, ClockRef member, const Clock& clock) {
  if (level_ == TraceLevel::full && !clock.complete(member)) add({number_of(member), number_of(join)});
}

void Tracer::add(Edge edge) {
  const bool kept = std::max(edge.from, edge.to) < static_cast<std::int64_t>(limit_) && edges_.size() < limit_ * edges_per_task;
  if (kept)
    edges_.push_back(edge);
  else
    ++dropped_edges_;
}

void Tracer::issued(const Issue& issue) {
  if (issue.position >= limit_) return;
  TracedTask& t = chunk_of(issue.position).tasks[issue.position % chunk_size];
  t.due = issue.due;
  t.asked = issue.asked;
  t.order = issue.order;
  t.waited = issue.waited;
  t.stalled = issue.stalled;
}

void Tracer::completed(const Task& task) {
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
