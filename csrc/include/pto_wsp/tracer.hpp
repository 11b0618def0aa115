// What a run tells of its tasks: when each was issued, ready, started and ended, in cycles and really, on which lane and which
// thread, and what it had to wait for.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/clock.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/pipe_trace.hpp"
#include "pto_wsp/placer.hpp"

namespace pto_wsp {

/// `full` also keeps what tasks had to wait for.
enum class TraceLevel : std::uint8_t { off, tasks, full };

/// What became of a task. `dropped`: it was issued, but the run stopped before it started.
enum class Outcome : std::uint8_t { dropped, done, failed, skipped };

constexpr const char* name_of(Outcome outcome) noexcept {
  constexpr const char* names[] = {"dropped", "done", "failed", "skipped"};
  return names[static_cast<std::size_t>(outcome)];
}

struct TracedTask {
  std::uint64_t issue = never, ready = never, start = never, end = never;  // cycles
  std::uint64_t due = never, asked = never, order = never;                 // of its issue, as ClockLog says
  std::uint64_t issued_ns = never, started_ns = never, ended_ns = never;   // since the run began
  std::uint32_t site = 0, lane = 0, window = 0, thread = 0;                // thread: as the system calls it
  std::int64_t stream = -1;
  std::uint32_t stream_scope = none, batch = no_batch;                     // none: it has no stream
  std::uint32_t pipeline = none, process = none;                           // of PipeTrace; its cycles are counted as there
  Outcome outcome = Outcome::dropped;
  bool waited = false, stalled = false;
};

/// Tasks by position in program order. One thread at a time issues; any may run what has been issued.
class Tracer final : public ClockLog {
 public:
  static constexpr std::uint64_t chunk_size = 4096;
  static constexpr std::uint64_t edges_per_task = 16;

  /// Keeps the first `limit` tasks, and so many edges each on average.
  Tracer(const BoundPlan& plan, TraceLevel level, std::uint64_t limit, SteadyClock::time_point began);

  TraceLevel level() const { return level_; }

  // --- the orchestrator ---
  /// The next task in program order. `deps`: what it waits for in semantic time. Throws bad_alloc.
  void issued(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement, const Placer::Stream& stream,
              std::span<const ClockRef> deps, const Clock& clock);
  /// The next one is of a process: which, that came to it, and for which it started and ended then. It waits for what the process does.
  struct InProcess {
    std::uint32_t pipeline, process;
    std::uint64_t came, start, end;
  };
  void issued(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement, const InProcess& at);
  /// A pipeline has been issued as a task.
  void issued(std::uint32_t pipeline, ClockRef task, std::uint64_t last, std::span<const ClockRef> deps, const Clock& clock);
  PipeTrace& pipes() { return pipes_; }
  const PipeTrace& pipes() const { return pipes_; }
  /// What is issued next is issued behind a boundary that waits for these.
  void awaits(std::span<const ClockRef> tasks, const Clock& clock);
  /// There is room for task `position` in the run, after it may have been waited for.
  void admitted(std::uint64_t position) {
    if (TracedTask* const t = at(position)) t->issued_ns = now();
  }
  /// `join` is complete when `member` is, and others.
  void joined(ClockRef join, ClockRef member, const Clock& clock);
  void issued(const Issue& issue) override;
  void completed(const Task& task) override;

  // --- any thread ---
  /// Runs `f`, which says whether it went well, as task `position`.
  template <class F>
  bool timed(std::uint64_t position, F&& f) {
    TracedTask* const t = at(position);
    if (t == nullptr) return f();
    t->thread = this_thread();
    t->started_ns = now();
    const bool ok = f();
    t->ended_ns = now();
    t->outcome = ok ? Outcome::done : Outcome::failed;
    return ok;
  }
  void not_run(std::uint64_t position, Outcome outcome) {
    if (TracedTask* const t = at(position)) t->outcome = outcome;
  }

  // --- when the run is over ---
  std::uint64_t size() const { return size_; }
  /// Tasks and edges that there was no room for.
  std::uint64_t dropped() const { return dropped_; }
  std::uint64_t dropped_edges() const { return dropped_edges_; }
  /// The smallest limit that has room for all.
  std::uint64_t enough() const {
    return std::max({size_ + dropped_, (edges_.size() + dropped_edges_ + edges_per_task - 1) / edges_per_task, pipes_.enough()});
  }
  const TracedTask& operator[](std::uint64_t position) const { return chunks_[position / chunk_size]->tasks[position % chunk_size]; }
  /// As many for each task as the task with most of them has.
  std::size_t n_coords() const { return n_coords_; }
  std::span<const std::int64_t> coords(std::uint64_t position) const {
    return {chunks_[position / chunk_size]->coords.data() + position % chunk_size * n_coords_, n_coords_};
  }
  /// From a task, join or pipeline to one. Joins are numbered from -1 downwards, pipelines from first_pipeline. `boundary`: what it leads to was issued after that, rather
  /// than ready.
  struct Edge {
    std::int64_t from, to;
    bool boundary = false;
  };
  const std::vector<Edge>& edges() const { return edges_; }
  static constexpr std::int64_t first_pipeline = -(std::int64_t{1} << 40);

 private:
  struct Chunk {
    std::array<TracedTask, chunk_size> tasks;
    std::vector<std::int64_t> coords;
  };

  static std::uint32_t this_thread();
  std::uint64_t now() const;
  TracedTask* at(std::uint64_t position) {
    return position < limit_ ? &chunks_[position / chunk_size]->tasks[position % chunk_size] : nullptr;
  }
  TracedTask* keep(const TaskSpec& spec, const std::int64_t* regs, const Placement& placement);
  Chunk& chunk_of(std::uint64_t position);
  std::int64_t number_of(ClockRef ref) const;
  void add_all(std::span<const ClockRef> deps, std::int64_t to, const Clock& clock);
  void add(Edge edge);

  const BoundPlan* plan_;  // of the run
  TraceLevel level_;
  std::uint64_t limit_;
  SteadyClock::time_point began_;
  std::size_t n_coords_ = 0;
  // Never grows: a thread that runs a task finds its chunk while others are added.
  std::vector<std::unique_ptr<Chunk>> chunks_;
  std::uint64_t size_ = 0, dropped_ = 0, dropped_edges_ = 0;
  std::vector<Edge> edges_;
  std::vector<std::int64_t> awaited_;  // by what is issued next
  PipeTrace pipes_;
};

}  // namespace pto_wsp
