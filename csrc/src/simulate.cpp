#include "pto_wsp/simulate.hpp"

#include <algorithm>
#include <stdexcept>

namespace pto_wsp {
namespace {

bool divides(std::span<const std::uint64_t> indptr, std::span<const std::uint64_t> indices, std::size_t tasks) {
  return indptr.size() == tasks + 1 && indptr[0] == 0 && indptr[tasks] == indices.size() && std::ranges::is_sorted(indptr);
}

// What task `i` names, all of it earlier.
void look_up(std::span<const std::uint64_t> indptr, std::span<const std::uint64_t> indices, std::span<const ClockRef> refs, std::size_t i,
             std::vector<ClockRef>& out) {
  out.clear();
  for (std::uint64_t d = indptr[i]; d < indptr[i + 1]; ++d) {
    if (indices[d] >= i) throw std::invalid_argument("a task can wait for earlier tasks only");
    out.push_back(refs[indices[d]]);
  }
}

}  // namespace

Simulation simulate(const TaskGraph& g) {
  const std::size_t n = g.costs.size();
  if (!divides(g.indptr, g.indices, n)) throw std::invalid_argument("deps_indptr does not divide deps_indices among the tasks");
  const bool waits = !g.wait_indptr.empty() || !g.wait_indices.empty();
  if (waits && !divides(g.wait_indptr, g.wait_indices, n))
    throw std::invalid_argument("waits_indptr does not divide waits_indices among the tasks");
  if (!g.lanes.empty() && g.lanes.size() != n) throw std::invalid_argument("there must be a lane for each task");
  if (g.total_lanes == 0 || g.total_lanes > 65536) throw std::invalid_argument("there must be 1 to 65536 lanes");
  if (g.window == 0) throw std::invalid_argument("a window holds at least one task");

  ClockOptions options;
  options.lanes = g.total_lanes;
  options.issue_cost = g.issue_cost;
  options.handover = g.handover;
  options.read_cost = g.read_cost;
  options.windows = {g.window};
  Clock clock(options);
  Simulation out;
  out.trace.start.resize(n);
  out.trace.end.resize(n);
  out.trace.lane.resize(n);
  clock.record(&out.trace);
  std::vector<ClockRef> refs, deps;
  for (std::size_t i = 0; i < n; ++i) {
    if (waits) {
      look_up(g.wait_indptr, g.wait_indices, refs, i, deps);
      if (!deps.empty()) clock.add_wait(deps);
    }
    look_up(g.indptr, g.indices, refs, i, deps);
    const std::uint64_t lane = g.lanes.empty() ? i : g.lanes[i];
    refs.push_back(clock.issue(g.costs[i], static_cast<std::uint32_t>(lane % g.total_lanes), 0, deps));
  }
  clock.finish();
  out.total = clock.total_cycles();
  out.window = clock.windows()[0];
  out.scalar_waits = clock.scalar_waits();
  out.scalar_wait_cycles = clock.scalar_wait_cycles();
  return out;
}

WindowStats total(std::span<const WindowStats> windows) {
  WindowStats sum;
  for (const WindowStats& w : windows) {
    sum.stalls += w.stalls;
    sum.stall_cycles += w.stall_cycles;
    sum.high_water = std::max(sum.high_water, w.high_water);
  }
  return sum;
}

}  // namespace pto_wsp
