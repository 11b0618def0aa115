// A simulation together with the trace that it writes.
#pragma once

#include <cstdint>
#include <vector>

#include "pto_wsp/simulate.hpp"

struct Simulated {
  pto_wsp::Simulation simulation;
  std::vector<std::uint64_t> start, end;
  std::vector<std::uint32_t> lane;
};

inline Simulated simulated(const pto_wsp::TaskGraph& graph, const pto_wsp::SimulationOptions& options) {
  const std::size_t n = graph.costs.size();
  Simulated s{{}, std::vector<std::uint64_t>(n), std::vector<std::uint64_t>(n), std::vector<std::uint32_t>(n)};
  s.simulation = pto_wsp::simulate(graph, options, {.start = s.start, .end = s.end, .lane = s.lane});
  return s;
}
