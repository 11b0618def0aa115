// Semantic time of a task graph given as arrays.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/clock.hpp"

namespace pto_wsp {

/// Lists of tasks, one for each task: that of task i is indices[indptr[i] .. indptr[i + 1]).
struct TaskLists {
  std::span<const std::uint64_t> indptr, indices;
};

/// Tasks are named by their positions in program order. A task may wait for later ones.
struct TaskGraph {
  std::span<const std::uint64_t> costs;
  TaskLists deps;
  // Where the list is not empty, task i is issued behind a boundary that waits for it. No lists: there are no boundaries.
  TaskLists waits = {};
  // Each of these has one entry for each task, or none at all.
  std::span<const std::int64_t> lanes = {};       // home lanes, modulo those of the pool; -1: the task's position
  std::span<const std::int64_t> streams = {};     // -1: of no stream
  std::span<const std::int64_t> priorities = {};  // 0
  std::span<const std::int64_t> units = {};       // places in SimulationOptions::pools; 0
  std::span<const std::int64_t> steals = {};      // not 0: idle lanes of its pool may take it; 0
  std::span<const std::int64_t> windows = {};     // places in SimulationOptions::windows; 0
  std::span<const std::int64_t> batches = {};     // places in SimulationOptions::batches; -1: released at once
  std::span<const std::uint64_t> distances = {};  // cycles until the next issue, at least; 0
  std::span<const std::uint64_t> bytes = {};      // 0; their sum must be below 2^64
  std::span<const std::int64_t> composites = {};  // not 0: it takes no lane; 0
};

struct WindowLimits {
  std::uint64_t tasks = no_limit, bytes = no_limit;
  WindowMode mode = WindowMode::stall;
};

struct SimulationOptions {
  std::vector<std::uint32_t> pools{4};  // lanes of each pool
  std::vector<WindowLimits> windows = std::vector<WindowLimits>(1);
  std::vector<std::uint64_t> batches;   // tasks released together in each scope
  std::uint64_t issue_cost = 0, handover = 0, read_cost = 0;
  std::uint64_t start = 0;
  // Streams that take turns in issue, among as many tasks as the window of the first that is not issued holds; 0: program order.
  std::uint64_t interleave = 0;
};

struct Simulation {
  struct Deadlock {
    std::uint64_t issued = 0, retired = 0;
    std::optional<Clock::Blocked> at;         // none: there is no order of issue
  };
  struct Needed {
    std::size_t window;
    std::optional<std::uint64_t> tasks, bytes;  // where the limit is below
  };
  std::uint64_t total = 0;
  std::vector<WindowStats> windows;
  std::uint64_t scalar_waits = 0, scalar_wait_cycles = 0;
  bool overflowed = false;                    // the times are beyond end_of_time, and wrong
  std::optional<Deadlock> deadlock;           // the rest means nothing then
  std::vector<Needed> needed;                 // given up for want of these; the rest means nothing then
};

/// Where and when each task ran, by position in program order. Nothing is written for those that never do; what takes no lane has
/// no_lane.
struct SimulationTrace {
  std::span<std::uint64_t> start, end;
  std::span<std::uint32_t> lane;
  std::span<std::uint64_t> issue = {}, ready = {};  // as in ClockLog; or empty
};

/// `trace` has a place for each of fewer than 2^30 tasks; in between it holds other things. Needs no lock.
/// Throws invalid_argument when the arrays do not make a graph.
Simulation simulate(const TaskGraph& graph, const SimulationOptions& options, const SimulationTrace& trace);

/// Stalls added up, and the highest marks.
WindowStats total(std::span<const WindowStats> windows);

}  // namespace pto_wsp
