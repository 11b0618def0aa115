#include "pto_wsp/boxes.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr std::size_t first_prune = 64;

bool overlap(const Box& a, const Box& b, std::uint32_t n) {
  for (std::uint32_t d = 0; d < n; ++d)
    if (a.lo[d] >= b.hi[d] || b.lo[d] >= a.hi[d]) return false;
  return true;
}

bool covers(const Box& outer, const Box& inner, std::uint32_t n) {
  for (std::uint32_t d = 0; d < n; ++d)
    if (outer.lo[d] > inner.lo[d] || outer.hi[d] < inner.hi[d]) return false;
  return true;
}

// Boxes that are alike but in dimension `d`, where they touch or overlap, become one.
void join_along(std::vector<Box>& boxes, std::uint32_t d) {
  const auto elsewhere = [d](const Box& a, const Box& b) {
    for (std::uint32_t e = 0; e < max_dims; ++e) {
      if (e == d) continue;
      if (a.lo[e] != b.lo[e]) return a.lo[e] <=> b.lo[e];
      if (a.hi[e] != b.hi[e]) return a.hi[e] <=> b.hi[e];
    }
    return std::strong_ordering::equal;
  };
  std::ranges::sort(boxes, [&](const Box& a, const Box& b) {
    const auto order = elsewhere(a, b);
    return order != 0 ? order < 0 : a.lo[d] < b.lo[d];
  });
  std::size_t n = 0;
  for (const Box& box : boxes) {
    if (n > 0 && elsewhere(boxes[n - 1], box) == 0 && box.lo[d] <= boxes[n - 1].hi[d])
      boxes[n - 1].hi[d] = std::max(boxes[n - 1].hi[d], box.hi[d]);
    else
      boxes[n++] = box;
  }
  boxes.resize(n);
}

}  // namespace

void BoxList::reset(std::uint32_t n_dims, bool keep_writes) {
  n_dims_ = n_dims;
  keep_writes_ = keep_writes;
  entries_.clear();
  written_.clear();
  prune_at_ = first_prune;
}

void BoxList::trim() {
  std::vector<Entry>().swap(entries_);
  std::vector<Box>().swap(written_);
}

void BoxList::collect(const Box& box, bool write, std::vector<ClockRef>& deps) const {
  for (const Entry& e : entries_)
    if ((e.write || write) && overlap(e.box, box, n_dims_)) deps.push_back(e.task);
}

bool BoxList::collect_writers(const Box& box, std::vector<ClockRef>& deps) const {
  bool any = std::ranges::any_of(written_, [&](const Box& b) { return overlap(b, box, n_dims_); });
  for (const Entry& e : entries_) {
    if (!e.write || !overlap(e.box, box, n_dims_)) continue;
    any = true;
    deps.push_back(e.task);
  }
  return any;
}

void BoxList::record(const Box& box, bool write, ClockRef task, const Liveness& live) {
  // Whoever conflicts with what a write covers conflicts with the write, which has waited for it.
  if (write) std::erase_if(entries_, [&](const Entry& e) { return covers(box, e.box, n_dims_); });
  if (entries_.size() >= prune_at_) prune(live);
  entries_.push_back({box, task, write});
}

void BoxList::prune(const Liveness& live) {
  const std::size_t known = written_.size();
  std::erase_if(entries_, [&](const Entry& e) {
    if (!live.finished(e.task)) return false;
    if (e.write && keep_writes_) written_.push_back(e.box);
    return true;
  });
  if (written_.size() != known)
    for (std::uint32_t d = n_dims_; d-- > 0;) join_along(written_, d);
  prune_at_ = 2 * entries_.size() + first_prune;
}

}  // namespace pto_wsp
