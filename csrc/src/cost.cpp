#include "pto_wsp/cost.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr std::size_t max_shapes = 16;

}  // namespace

void CostTable::prepare(const BoundPlan& plan) {
  plan_ = &plan;
  entries_.assign(plan.n_tasks(), {});
}

bool CostTable::cost(std::uint32_t id, const Arg* args, std::uint64_t& out, ErrorKind& failure) {
  const BoundTask& task = plan_->task(id);
  if (!task.shaped) {
    out = static_cast<std::uint64_t>(task.cost.value_or(0));
    failure = task.cost_error;
    return task.cost.has_value();
  }
  shape_.clear();
  const std::span<const BoundArg> bound = plan_->args(task);
  for (std::size_t i = 0; i < bound.size(); ++i) {
    if (bound[i].is_scalar) {
      const std::uint64_t bits = args[i].scalar;
      if (task.kernel->costs_scalar(i) && !bound[i].constant) shape_.insert(shape_.end(), {static_cast<std::int32_t>(bits), static_cast<std::int32_t>(bits >> 32)});
      continue;
    }
    if (!task.kernel->costs_extents(i)) continue;
    if (bound[i].first_dim != none) {
      shape_.insert(shape_.end(), args[i].region.length, args[i].region.length + bound[i].n_dims);
      continue;
    }
    if (bound[i].rows.tail) shape_.push_back(args[i].tile.rows);
    if (bound[i].cols.tail) shape_.push_back(args[i].tile.cols);
  }
  std::vector<Entry>& known = entries_[id];
  for (const Entry& e : known) {
    if (e.shape != shape_) continue;
    out = e.cost;
    return true;
  }
  try {
    out = static_cast<std::uint64_t>(task.kernel->cost(std::span(args, task.n_args)));
  } catch (const TripsError&) {
    failure = ErrorKind::trips;
    return false;
  } catch (const CostError&) {
    failure = ErrorKind::cost;
    return false;
  }
  if (known.size() < max_shapes) known.push_back({shape_, out});
  return true;
}

}  // namespace pto_wsp
