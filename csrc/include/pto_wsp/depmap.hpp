// Which earlier tasks a task conflicts with: exact overlap of boxes in index space, RAW, WAR and WAW.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/clock.hpp"

namespace pto_wsp {

/// Whether a task can still be waited for; asked to keep the map small.
class Liveness {
 public:
  virtual bool finished(const ClockRef& task) const = 0;

 protected:
  ~Liveness() = default;
};

/// Per tensor either an array indexed by the cells of a grid that every tracked view respects, or, where there is
/// no such grid or it would be too fine, a list of boxes. Memory is bounded by grid size and live tasks.
class DepMap {
 public:
  /// For a new run. Storage of the last one is used again.
  void prepare(const BoundPlan& plan);

  /// Appends what the task at these registers must wait for. Tasks come in program order; finished ones may be
  /// among the result.
  void collect(const BoundTask& task, const std::int64_t* regs, std::vector<ClockRef>& deps);

  /// Makes the task known to later ones.
  void record(const BoundTask& task, const std::int64_t* regs, ClockRef self, const Liveness& live);

  /// Between runs: gives back what few runs need.
  void trim();

  /// How many tensors have no grid.
  std::uint32_t boxed() const { return boxed_; }

 private:
  struct Reader {
    ClockRef task;
    std::uint32_t next;
  };
  struct Cell {
    std::uint64_t writer;  // serial, 0: none
    std::uint32_t writer_index;
    std::uint32_t readers;  // index + 1, 0: none
    std::uint32_t epoch;
  };
  struct Box {
    std::array<std::int64_t, max_dims> lo, hi;  // half open
    ClockRef task;
    bool write;
  };
  struct Free {
    void operator()(Cell* cells) const { std::free(cells); }
  };
  struct Tensor {
    bool used = false, grid = false;
    std::uint32_t n_dims = 0;
    std::array<std::int64_t, max_dims> step{}, cells{};
    std::uint64_t n_cells = 0, capacity = 0;
    std::unique_ptr<Cell, Free> cell;
    std::vector<Box> boxes;
    std::size_t prune_at = 64;
  };
  // A view in units of cells.
  struct GridView {
    std::uint64_t constant = 0;
    std::uint32_t first = 0, count = 0;
    std::uint32_t cells = 1;    // when `simple`: how many cells in a row
    bool simple = false;        // no tail, and contiguous in the array of cells
  };

  bool find_grid(const BoundPlan& plan, std::uint32_t tensor);
  void grid_view(const BoundPlan& plan, const TrackedView& view, GridView& out);
  Cell& at(Tensor& t, std::uint64_t i);
  template <class F>
  void each_cell(const TrackedView& view, std::uint32_t index, const std::int64_t* regs, F&& f);
  Box box_of(const TrackedView& view, const std::int64_t* regs) const;
  static bool overlap(const Box& a, const Box& b, std::uint32_t n);
  static bool covers(const Box& outer, const Box& inner, std::uint32_t n);

  void collect_cell(const Cell& cell, bool write, std::vector<ClockRef>& deps) const;
  void record_cell(Cell& cell, bool write, ClockRef self, const Liveness& live);
  void record_box(Tensor& t, Box box, const Liveness& live);
  void sweep(const Liveness& live);

  const BoundPlan* plan_ = nullptr;
  std::uint32_t epoch_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<GridView> views_;  // in the order of the plan's tracked views
  std::vector<std::uint32_t> first_view_;
  std::vector<LinearTerm> terms_;
  std::vector<Reader> readers_;
  std::uint32_t free_reader_ = none, live_readers_ = 0, sweep_at_ = 0;
  std::uint32_t boxed_ = 0;
};

}  // namespace pto_wsp
