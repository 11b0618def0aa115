// Who has touched which boxes of elements, for tensors that no grid fits.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "pto_wsp/clock.hpp"
#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// Whether a task can still be waited for; asked to keep lists small.
class Liveness {
 public:
  virtual bool finished(const ClockRef& task) const = 0;
  /// Whether who waits for `by`, a later task that touches the same, has no more to wait for it.
  virtual bool superseded(const ClockRef& task, const ClockRef& by) const = 0;

 protected:
  ~Liveness() = default;
};

/// Half open in each dimension.
struct Box {
  std::array<std::int64_t, max_dims> lo{}, hi{};
};

inline bool overlap(const Box& a, const Box& b, std::uint32_t n) {
  for (std::uint32_t d = 0; d < n; ++d)
    if (a.lo[d] >= b.hi[d] || b.lo[d] >= a.hi[d]) return false;
  return true;
}

inline bool covers(const Box& outer, const Box& inner, std::uint32_t n) {
  for (std::uint32_t d = 0; d < n; ++d)
    if (outer.lo[d] > inner.lo[d] || outer.hi[d] < inner.hi[d]) return false;
  return true;
}

/// Boxes and the tasks that touch them, to be found by overlap. Space is cut into cells, about as long in each dimension as boxes are
/// on average; what reaches into many cells is kept apart.
class BoxIndex {
 public:
  struct Entry {
    Box box;
    ClockRef task;  // of serial 0: removed
  };

  void reset(std::uint32_t n_dims);
  void clear() { reset(n_dims_); }
  void trim();
  std::size_t size() const { return entries_.size(); }

  /// f(entry) for each that overlaps `box`, once.
  template <class F>
  void each(const Box& box, F&& f) const {
    visit(box, [&](std::uint32_t i) { f(entries_[i]); });
  }
  /// Removes those that overlap `box` and for which f(entry), which is called once, is true.
  template <class F>
  void remove_if(const Box& box, F&& f);
  void remove_covered_by(const Box& box);
  void add(const Box& box, ClockRef task);

  /// Whether to call `keep` before more is added.
  bool full() const { return entries_.size() >= most_ || apart_.size() >= most_apart_; }
  /// Removes those for which keep(entry) is false, and cuts space anew.
  template <class F>
  void keep(F&& keep) {
    std::erase_if(entries_, [&](const Entry& e) { return e.task.serial == 0 || !keep(e); });
    cut();
  }

 private:
  using Cell = std::array<std::int64_t, max_dims>;
  // The cells that a box reaches into: from the first to the last in each dimension.
  struct Cells {
    Cell first{}, last{};
    std::uint64_t count = 1;
  };
  // An entry in one of the cells of which the hashes begin a chain.
  struct Node {
    std::uint64_t hash;
    std::uint32_t entry, next;
  };

  Cells cells_of(const Box& box) const;
  template <class F>
  void each_cell(const Cells& cells, F&& f) const;
  template <class F>
  void visit(const Box& box, F&& f) const;
  void cut();
  void place(std::uint32_t entry);
  void remove(std::uint32_t entry);

  std::uint32_t n_dims_ = 0;
  bool cut_ = false;                             // else the entries are looked at one by one
  std::uint32_t head_shift_ = 0;
  std::array<std::uint32_t, max_dims> shift_{};  // cells are 2^shift long
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> heads_;  // by the leading bits of a hash: the first node + 1
  std::vector<Node> nodes_;
  std::vector<std::uint32_t> apart_;  // entries that reach into many cells
  std::vector<std::uint32_t> covered_;
  std::size_t most_ = 0, most_apart_ = 0;
};

// f(hash, cell) for each cell.
template <class F>
void BoxIndex::each_cell(const Cells& cells, F&& f) const {
  Cell at = cells.first;
  while (true) {
    std::uint64_t hash = 0;
    for (std::uint32_t d = 0; d < n_dims_; ++d) hash = (std::rotl(hash, 23) ^ static_cast<std::uint64_t>(at[d])) * 0x9e3779b97f4a7c15u;
    f(hash, at);
    std::uint32_t d = n_dims_;
    for (; d > 0; --d) {
      if (++at[d - 1] <= cells.last[d - 1]) break;
      at[d - 1] = cells.first[d - 1];
    }
    if (d == 0) return;
  }
}

// f(index of an entry) for each that overlaps `box`, once.
template <class F>
void BoxIndex::visit(const Box& box, F&& f) const {
  const Cells cells = cut_ ? cells_of(box) : Cells{};
  if (!cut_ || cells.count > entries_.size()) {
    for (std::uint32_t i = 0; i < entries_.size(); ++i)
      if (entries_[i].task.serial != 0 && overlap(entries_[i].box, box, n_dims_)) f(i);
    return;
  }
  for (const std::uint32_t i : apart_)
    if (overlap(entries_[i].box, box, n_dims_)) f(i);
  each_cell(cells, [&](std::uint64_t hash, const Cell& at) {
    for (std::uint32_t n = heads_[hash >> head_shift_]; n != 0; n = nodes_[n - 1].next) {
      const Node& node = nodes_[n - 1];
      if (node.hash != hash || !overlap(entries_[node.entry].box, box, n_dims_)) continue;
      // What shares several cells with the box is found in the first of them.
      bool first = true;
      for (std::uint32_t d = 0; d < n_dims_; ++d)
        first = first && at[d] == std::max(cells.first[d], entries_[node.entry].box.lo[d] >> shift_[d]);
      if (first) f(node.entry);
    }
  });
}

template <class F>
void BoxIndex::remove_if(const Box& box, F&& f) {
  covered_.clear();
  visit(box, [&](std::uint32_t i) {
    if (f(std::as_const(entries_[i]))) covered_.push_back(i);
  });
  if (!cut_) {  // in ascending order
    for (std::size_t n = covered_.size(); n-- > 0;) entries_.erase(entries_.begin() + covered_[n]);
    return;
  }
  for (const std::uint32_t i : covered_) remove(i);
}

/// One tensor's. Memory is bounded by the tasks in flight and, where writes are kept, by what is written in how many pieces.
class BoxList {
 public:
  /// For a new run. `keep_writes`: `collect_writers` is asked, also long after the writers have finished.
  void reset(std::uint32_t n_dims, bool keep_writes);
  /// Between runs: gives all memory back.
  void trim();

  /// Appends the tasks that touch `box`, of which one writes.
  void collect(const Box& box, bool write, std::vector<ClockRef>& deps) const;

  /// Appends the tasks that wrote something of `box`, but for some that have finished. False: nobody ever wrote any of it.
  bool collect_writers(const Box& box, std::vector<ClockRef>& deps) const;

  void record(const Box& box, bool write, ClockRef task, const Liveness& live);

 private:
  void drop_finished(ClockRef task, const Liveness& live);

  std::uint32_t n_dims_ = 0;
  bool keep_writes_ = false;
  BoxIndex writes_, reads_;
  std::vector<Box> written_;  // by tasks that have finished
};

}  // namespace pto_wsp
