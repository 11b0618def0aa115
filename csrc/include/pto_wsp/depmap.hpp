// Which earlier tasks a task conflicts with: exact overlap in index space, RAW, WAR and WAW.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/boxes.hpp"
#include "pto_wsp/clock.hpp"

namespace pto_wsp {

/// Per tensor either an array indexed by the cells of a grid that every tracked view respects, or, where there is
/// no such grid or it would be too fine, a list of boxes. Memory is bounded by grid size and live tasks.
class DepMap {
 public:
  /// For a new run. Storage of the last one is used again. Where the plan's dependences are not those of exact overlap, only
  /// writes are known, of the tensors that are read from while tasks write them.
  void prepare(const BoundPlan& plan);

  /// Appends what the task at these registers must wait for. Tasks come in program order; finished ones may be
  /// among the result. `indices` are those of its gathers.
  void collect(const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices, std::vector<ClockRef>& deps);

  /// Appends the last writers of the elements of `view`, which is read behind a boundary. False: no task of the run ever wrote any
  /// of them, or it is empty or out of bounds. Writers that have finished may be missing, but count here.
  bool collect_read(const TrackedView& view, const std::int64_t* regs, std::vector<ClockRef>& deps);

  /// Makes the task known to later ones.
  void record(const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices, ClockRef self, const Liveness& live);

  /// Between runs: gives back what few runs need.
  void trim();

  /// Most entries that `record` makes for a task, by its number in the plan: of each view the cells that it reads, or its boxes.
  /// Writers of cells take none: cells belong to the tensor.
  std::uint64_t entries(std::uint32_t task) const { return entries_[task]; }

  /// How many tensors have no grid, and how many cells the others have.
  std::uint32_t boxed() const { return boxed_; }
  std::uint64_t cells() const { return n_cells_; }

 private:
  struct Reader {
    ClockRef task;
    std::uint32_t next;
  };
  // Two to a cache line, as cells are met in any order.
  struct Cell {
    std::uint64_t writer;  // serial, 0: none
    std::uint32_t writer_index, epoch;
    std::uint64_t reader;  // the last one since the last write; serial, 0: none
    std::uint32_t reader_index;
    std::uint32_t readers;  // before it: index + 1, 0: none
  };
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  struct Tensor {
    bool used = false, grid = false;
    bool awaited = false;       // scalars or indices are read from it behind boundaries
    std::uint32_t n_dims = 0;
    std::array<std::int64_t, max_dims> step{}, cells{};
    std::uint64_t n_cells = 0, capacity = 0;
    std::unique_ptr<void, Free> memory;
    Cell* cell = nullptr;  // in it
    BoxList boxes;
  };
  // A view in units of cells.
  struct GridView {
    std::uint64_t constant = 0;
    std::uint32_t first = 0, count = 0;
    std::uint32_t cells = 1;    // when `simple`: how many cells in a row
    bool simple = false;        // no tail or gather, and contiguous in the array of cells
  };

  // A view of a task that is there now; `number` is its place in views_.
  struct TaskView {
    const BoundTask* task;
    const TrackedView* view;
    std::uint32_t number;
    const std::int64_t* regs;
    const std::int64_t* indices;

    const std::int64_t* gathered(const BoundPlan& plan, const TrackedDim& dim) const {
      return indices + plan.gathers(*task)[dim.gather].first;
    }
  };

  void mark_used();
  bool find_grid(std::uint32_t tensor);
  void grid_view(const TrackedView& view, GridView& out);
  std::uint64_t entries_of(const TrackedView& view, const GridView& cells) const;
  Cell& at(Tensor& t, std::uint64_t i);
  template <class F>
  void each_cell(const TaskView& v, F&& f);
  template <class F>
  void each_box(const TaskView& v, F&& f) const;

  void collect_cell(const Cell& cell, bool write, std::vector<ClockRef>& deps) const;
  void record_cell(Cell& cell, bool write, ClockRef self, const Liveness& live);
  void keep_reader(Cell& cell, ClockRef next, const Liveness& live);
  void drop_reader(std::uint32_t& link);
  void sweep(const Liveness& live);

  const BoundPlan* plan_ = nullptr;
  bool exact_ = true;                // conflicts are found here
  std::uint32_t epoch_ = 0;
  std::vector<Tensor> tensors_;
  std::vector<GridView> views_;  // in the order of the plan's tracked views
  std::vector<LinearTerm> terms_;
  std::vector<Reader> readers_;
  std::uint32_t free_reader_ = none, live_readers_ = 0, sweep_at_ = 0;
  std::vector<std::uint64_t> entries_;  // by task
  std::uint32_t boxed_ = 0;
  std::uint64_t n_cells_ = 0;
};

}  // namespace pto_wsp
