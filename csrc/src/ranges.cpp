#include "pto_wsp/ranges.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

struct Reach {
  std::int64_t lo, hi;
};

// From how far below the first element to how far above it `n` rows or columns begin.
Reach reach(std::int64_t stride, std::int32_t n, const std::int64_t* index) {
  if (index == nullptr) return {std::min<std::int64_t>(0, (n - 1) * stride), std::max<std::int64_t>(0, (n - 1) * stride)};
  const auto [least, most] = std::minmax_element(index, index + n);
  return {std::min(*least * stride, *most * stride), std::max(*least * stride, *most * stride)};
}

Box range_of(const TileArg& t, DType dtype) {
  const Reach rows = reach(t.row_stride, t.rows, t.row_index), cols = reach(t.col_stride, t.cols, t.col_index);
  const auto at = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(t.data));
  Box box;
  box.lo[0] = at + rows.lo + cols.lo;
  box.hi[0] = at + rows.hi + cols.hi + static_cast<std::int64_t>(size_of(dtype));
  return box;
}

Box range_of(const RegionArg& r, const Param& p) {
  const auto at = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(r.data));
  Box box;
  box.lo[0] = box.hi[0] = at;
  for (std::uint32_t d = 0; d < p.rank; ++d) {
    const Reach along = reach(r.strides[d], std::max(r.length[d], 1), nullptr);
    box.lo[0] += along.lo;
    box.hi[0] += along.hi;
    if (r.length[d] == 0) return {};  // nothing
  }
  box.hi[0] += static_cast<std::int64_t>(size_of(p.dtype));
  return box;
}

}  // namespace

void RangeMap::prepare(const BoundPlan& plan) {
  tensors_.resize(plan.plan().tensors().size());
  for (BoxList& t : tensors_) t.reset(1, false);
}

// Of the views that are tracked.
template <class F>
void RangeMap::each_range(const BoundTask& task, const Arg* args, F&& f) {
  const std::span<const Param> params = task.kernel->params();
  for (std::uint32_t i = 0; i < task.n_args; ++i) {
    const ArgSpec& spec = task.spec->args[i];
    if (spec.is_scalar || !spec.tracked) continue;
    const Box box = spec.is_region ? range_of(args[i].region, params[i]) : range_of(args[i].tile, params[i].dtype);
    if (box.lo[0] < box.hi[0]) f(spec.tensor, box, params[i].dir != Dir::in);
  }
}

void RangeMap::collect(const BoundTask& task, const Arg* args, std::vector<ClockRef>& deps) const {
  each_range(task, args, [&](std::uint32_t tensor, const Box& box, bool write) { tensors_[tensor].collect(box, write, deps); });
}

void RangeMap::record(const BoundTask& task, const Arg* args, ClockRef self, const Liveness& live) {
  each_range(task, args, [&](std::uint32_t tensor, const Box& box, bool write) { tensors_[tensor].record(box, write, self, live); });
}

}  // namespace pto_wsp
