// Semantic time of a task graph given as arrays.
#pragma once

#include <cstdint>
#include <span>

#include "pto_wsp/clock.hpp"

namespace pto_wsp {

struct TaskGraph {
  std::span<const std::uint64_t> costs;
  std::span<const std::uint32_t> lanes;          // home lanes; empty: position modulo total_lanes
  std::span<const std::uint64_t> indptr, indices;  // task i waits for indices[indptr[i] .. indptr[i+1]), all below i
  std::uint64_t window = 65536;
  std::uint32_t total_lanes = 4;
  std::uint64_t issue_cost = 0, handover = 0;
  // Task i is issued behind a boundary that waits for wait_indices[wait_indptr[i] .. wait_indptr[i+1]), where there are any.
  std::span<const std::uint64_t> wait_indptr = {}, wait_indices = {};  // both empty: no boundaries
  std::uint64_t read_cost = 0;
};

struct Simulation {
  Clock::Trace trace;
  std::uint64_t total = 0;
  WindowStats window;
  std::uint64_t scalar_waits = 0, scalar_wait_cycles = 0;
};

/// Throws invalid_argument when the arrays do not make a graph in program order.
Simulation simulate(const TaskGraph& graph);

/// Stalls added up, and the highest mark.
WindowStats total(std::span<const WindowStats> windows);

}  // namespace pto_wsp
