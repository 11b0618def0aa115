// Which boxes of elements a view takes.
#pragma once

#include <array>
#include <cstdint>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/boxes.hpp"

namespace pto_wsp {

/// f(box) for the elements of a view: one, or where dimensions are gathered, one for each run of consecutive indices, which
/// indices(dim) gives.
template <class G, class F>
void each_box(const BoundPlan& plan, const TrackedView& view, const std::int64_t* regs, G&& indices, F&& f) {
  Box box;
  std::array<std::int64_t, max_dims> n{}, next{};
  for (std::uint32_t d = 0; d < view.n_dims; ++d) {
    const TrackedDim& dim = plan.dims(view)[d];
    box.lo[d] = static_cast<std::int64_t>(plan.value(dim.start, regs));
    n[d] = plan.length(dim.length, regs);
    if (n[d] == 0) return;
    box.hi[d] = box.lo[d] + n[d];
  }
  const auto run_from = [&](std::uint32_t d, std::int64_t at) {
    const std::int64_t* const index = indices(plan.dims(view)[d]);
    box.lo[d] = index[at];
    box.hi[d] = index[at] + 1;
    for (next[d] = at + 1; next[d] < n[d] && index[next[d]] == box.hi[d]; ++next[d]) ++box.hi[d];
  };
  const auto gathered = [&](std::uint32_t d) { return plan.dims(view)[d].gather != none; };
  for (std::uint32_t d = 0; d < view.n_dims; ++d)
    if (gathered(d)) run_from(d, 0);
  while (true) {
    f(box);
    std::uint32_t d = view.n_dims;
    for (; d > 0; --d) {
      if (!gathered(d - 1)) continue;
      const bool more = next[d - 1] < n[d - 1];
      run_from(d - 1, more ? next[d - 1] : 0);
      if (more) break;
    }
    if (d == 0) return;
  }
}

}  // namespace pto_wsp
