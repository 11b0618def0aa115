#include "pto_wsp/simulate.hpp"

#include <algorithm>
#include <stdexcept>

namespace pto_wsp {

Simulation simulate(const TaskGraph& g) {
  const std::size_t n = g.costs.size();
  if (g.indptr.size() != n + 1 || g.indptr[0] != 0 || g.indptr[n] != g.indices.size() || !std::ranges::is_sorted(g.indptr))
    throw std::invalid_argument("deps_indptr does not divide deps_indices among the tasks");
  if (!g.lanes.empty() && g.lanes.size() != n) throw std::invalid_argument("there must be a lane for each task");
  if (g.total_lanes == 0 || g.total_lanes > 65536) throw std::invalid_argument("there must be 1 to 65536 lanes");
  if (g.window == 0) throw std::invalid_argument("a window holds at least one task");

  ClockOptions options;
  options.lanes = g.total_lanes;
  options.issue_cost = g.issue_cost;
  options.handover = g.handover;
  options.windows = {g.window};
  Clock clock(options);
  Simulation out;
  out.trace.start.resize(n);
  out.trace.end.resize(n);
  out.trace.lane.resize(n);
  clock.record(&out.trace);
  std::vector<ClockRef> refs, deps;
  for (std::size_t i = 0; i < n; ++i) {
    deps.clear();
    for (std::uint64_t d = g.indptr[i]; d < g.indptr[i + 1]; ++d) {
      if (g.indices[d] >= i) throw std::invalid_argument("a task can wait for earlier tasks only");
      deps.push_back(refs[g.indices[d]]);
    }
    const std::uint64_t lane = g.lanes.empty() ? i : g.lanes[i];
    refs.push_back(clock.issue(g.costs[i], static_cast<std::uint32_t>(lane % g.total_lanes), 0, deps));
  }
  clock.finish();
  out.total = clock.total_cycles();
  out.window = clock.windows()[0];
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
