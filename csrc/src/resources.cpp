#include "pto_wsp/resources.hpp"

#include <algorithm>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t suggested_tasks = 4096, suggested_entries = std::uint64_t{1} << 20, edges_per_task = 8;
constexpr std::uint64_t max_saved_args = std::uint64_t{1} << 20;

std::uint64_t suggested_window(const BoundPlan& plan) {
  const std::vector<Window>& windows = plan.plan().windows();
  std::vector<bool> used(windows.size());
  std::uint64_t tasks = 0;
  for (std::uint32_t i = 0; i < plan.n_tasks(); ++i) {
    const BoundTask& task = plan.task(i);
    if (!task.reachable || used[task.spec->window]) continue;
    used[task.spec->window] = true;
    tasks += std::min(windows[task.spec->window].tasks, suggested_tasks);
  }
  const std::uint64_t by_memory = max_saved_args / std::max<std::uint64_t>(plan.max_args(), 1);
  return std::max<std::uint64_t>(std::min({tasks, suggested_tasks, by_memory}), 1);
}

}  // namespace

Resources resolve(const Resources& asked, const BoundPlan& plan, std::uint64_t most_entries) {
  Resources r = asked;
  if (r.task_window == 0) r.task_window = suggested_window(plan);
  if (r.dependence_map == 0) r.dependence_map = std::max(std::min(r.task_window * most_entries, suggested_entries), most_entries);
  if (r.edges == 0) r.edges = r.task_window * edges_per_task;
  if (r.ready_queue == 0) r.ready_queue = r.task_window;
  return r;
}

void Stalls::result(AllResourceStats& stats) const {
  for (std::size_t i = 0; i < n_reasons; ++i) {
    stats[i].stalls = counts_[i];
    stats[i].stall_ns = nanoseconds_[i];
  }
}

}  // namespace pto_wsp
