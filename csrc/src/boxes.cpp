#include "pto_wsp/boxes.hpp"

#include <algorithm>
#include <bit>
#include <set>
#include <utility>

namespace pto_wsp {
namespace {

constexpr std::size_t few = 64;             // entries that are looked at one by one
constexpr std::uint64_t most_cells = 64;    // of an entry that is found by its cells
constexpr std::uint64_t most_counted = std::uint64_t{1} << 40;

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

void BoxIndex::reset(std::uint32_t n_dims) {
  n_dims_ = n_dims;
  entries_.clear();
  cut();
}

void BoxIndex::trim() {
  std::vector<Entry>().swap(entries_);
  std::vector<std::uint32_t>().swap(heads_);
  std::vector<Node>().swap(nodes_);
  std::vector<std::uint32_t>().swap(apart_);
  std::vector<std::uint32_t>().swap(covered_);
}

BoxIndex::Cells BoxIndex::cells_of(const Box& box) const {
  Cells cells;
  for (std::uint32_t d = 0; d < n_dims_; ++d) {
    cells.first[d] = box.lo[d] >> shift_[d];
    cells.last[d] = (box.hi[d] - 1) >> shift_[d];
    const auto n = static_cast<std::uint64_t>(cells.last[d] - cells.first[d]) + 1;
    cells.count = n > most_counted / cells.count ? most_counted : cells.count * n;
  }
  return cells;
}

void BoxIndex::remove_covered_by(const Box& box) {
  remove_if(box, [&](const Entry& e) { return covers(box, e.box, n_dims_); });
}

void BoxIndex::add(const Box& box, ClockRef task) {
  entries_.push_back({box, task});
  if (cut_) place(static_cast<std::uint32_t>(entries_.size() - 1));
}

void BoxIndex::cut() {
  nodes_.clear();
  apart_.clear();
  most_ = 2 * entries_.size() + few;
  most_apart_ = most_;
  cut_ = entries_.size() > few;
  if (!cut_) return;
  for (std::uint32_t d = 0; d < n_dims_; ++d) {
    double sum = 0;
    for (const Entry& e : entries_) sum += static_cast<double>(e.box.hi[d] - e.box.lo[d]);
    const auto mean = static_cast<std::uint64_t>(sum / static_cast<double>(entries_.size()));
    shift_[d] = static_cast<std::uint32_t>(std::bit_width(mean - 1));
  }
  heads_.assign(std::bit_ceil(most_), 0);
  head_shift_ = 64 - static_cast<std::uint32_t>(std::bit_width(heads_.size()) - 1);
  for (std::uint32_t i = 0; i < entries_.size(); ++i) place(i);
  most_apart_ = 2 * apart_.size() + few;
}

void BoxIndex::place(std::uint32_t entry) {
  const Cells cells = cells_of(entries_[entry].box);
  if (cells.count > most_cells) return apart_.push_back(entry);
  each_cell(cells, [&](std::uint64_t hash, const Cell&) {
    std::uint32_t& head = heads_[hash >> head_shift_];
    nodes_.push_back({hash, entry, head});
    head = static_cast<std::uint32_t>(nodes_.size());
  });
}

void BoxIndex::remove(std::uint32_t entry) {
  const Cells cells = cells_of(entries_[entry].box);
  if (cells.count > most_cells) {
    std::erase(apart_, entry);
  } else {
    each_cell(cells, [&](std::uint64_t hash, const Cell&) {
      std::uint32_t* link = &heads_[hash >> head_shift_];
      while (nodes_[*link - 1].hash != hash || nodes_[*link - 1].entry != entry) link = &nodes_[*link - 1].next;
      *link = nodes_[*link - 1].next;
    });
  }
  entries_[entry].task = {};
}

void BoxList::reset(std::uint32_t n_dims, bool keep_writes) {
  n_dims_ = n_dims;
  keep_writes_ = keep_writes;
  writes_.reset(n_dims);
  reads_.reset(n_dims);
  written_.clear();
}

void BoxList::trim() {
  writes_.trim();
  reads_.trim();
  std::vector<Box>().swap(written_);
}

void BoxList::collect(const Box& box, bool write, std::vector<ClockRef>& deps) const {
  const auto add = [&](const BoxIndex::Entry& e) { deps.push_back(e.task); };
  writes_.each(box, add);
  if (write) reads_.each(box, add);
}

bool BoxList::collect_writers(const Box& box, std::vector<ClockRef>& deps) const {
  bool any = std::ranges::any_of(written_, [&](const Box& b) { return overlap(b, box, n_dims_); });
  writes_.each(box, [&](const BoxIndex::Entry& e) {
    any = true;
    deps.push_back(e.task);
  });
  return any;
}

void BoxList::record(const Box& box, bool write, ClockRef task, const Liveness& live) {
  if (writes_.full() || reads_.full()) drop_finished(task, live);
  if (!write) return reads_.add(box, task);
  // Whoever conflicts with what a write covers conflicts with the write, which has waited for it.
  writes_.remove_covered_by(box);
  reads_.remove_covered_by(box);
  writes_.add(box, task);
}

void BoxList::drop_finished(ClockRef task, const Liveness& live) {
  // Of what `task` stands in for, one of each box is enough.
  std::set<std::pair<std::array<std::int64_t, max_dims>, std::array<std::int64_t, max_dims>>> known_boxes;
  reads_.keep([&](const BoxIndex::Entry& e) {
    if (live.finished(e.task)) return false;
    return !live.superseded(e.task, task) || known_boxes.insert({e.box.lo, e.box.hi}).second;
  });
  const std::size_t known = written_.size();
  writes_.keep([&](const BoxIndex::Entry& e) {
    const bool finished = live.finished(e.task);
    if (finished && keep_writes_) written_.push_back(e.box);
    return !finished;
  });
  if (written_.size() != known)
    for (std::uint32_t d = n_dims_; d-- > 0;) join_along(written_, d);
}

}  // namespace pto_wsp
