#include "pto_wsp/depmap.hpp"

#include <algorithm>
#include <new>
#include <numeric>

#include "pto_wsp/view_boxes.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t max_cells = std::uint64_t{1} << 22;
constexpr std::uint64_t max_cells_per_view = 4096;
constexpr std::uint64_t max_idle_cells = std::uint64_t{1} << 15;
constexpr std::size_t max_idle_tensors = 256;

std::int64_t signed_(std::uint64_t v) { return static_cast<std::int64_t>(v); }

// |v| where it exists; the most negative number shares every power of two with anything.
std::int64_t gcd(std::int64_t g, std::uint64_t v) {
  const std::int64_t s = signed_(v);
  return s == INT64_MIN ? std::gcd(g, std::int64_t{1} << 62) : std::gcd(g, s);
}

std::uint64_t cells_in(std::int64_t length, std::int64_t step) {
  return static_cast<std::uint64_t>(length / step) + (length % step != 0 ? 1 : 0);
}

// What every start and end in dimension `dim` is a multiple of, unless it is the end of the tensor.
std::int64_t common_step(const BoundPlan& plan, const TrackedDim& dim, std::int64_t g) {
  if (dim.gather != none) return 1;
  g = gcd(g, dim.start.constant);
  for (const LinearTerm& t : plan.terms(dim.start)) g = gcd(g, t.coef);
  if (!dim.length.tail) {
    const bool to_the_end = dim.start.count == 0 && signed_(dim.start.constant) == dim.extent - dim.length.size;
    return to_the_end ? g : std::gcd(g, std::int64_t{dim.length.size});
  }
  if (!dim.length.may_be_empty) g = std::gcd(g, std::int64_t{dim.length.size});
  // limit = room + start
  std::vector<LinearTerm> limit(plan.terms(dim.length.room).begin(), plan.terms(dim.length.room).end());
  for (const LinearTerm& t : plan.terms(dim.start)) {
    const auto same = std::ranges::find(limit, t.reg, &LinearTerm::reg);
    if (same == limit.end())
      limit.push_back(t);
    else
      same->coef += t.coef;
  }
  std::erase_if(limit, [](const LinearTerm& t) { return t.coef == 0; });
  const std::uint64_t constant = dim.length.room.constant + dim.start.constant;
  if (limit.empty() && signed_(constant) == dim.extent) return g;
  g = gcd(g, constant);
  for (const LinearTerm& t : limit) g = gcd(g, t.coef);
  return g;
}

}  // namespace

void DepMap::prepare(const BoundPlan& plan) {
  plan_ = &plan;
  exact_ = plan.plan().deps_mode() == DepsMode::exact || plan.plan().deps_mode() == DepsMode::hybrid;
  readers_.clear();
  free_reader_ = none;
  live_readers_ = 0;
  boxed_ = 0;
  views_.clear();
  terms_.clear();
  const std::size_t n = plan.plan().tensors().size();
  tensors_.resize(n);
  if (++epoch_ == 0) {  // epochs have come round: nothing may look current
    for (Tensor& t : tensors_) t.capacity = 0;
    epoch_ = 1;
  }
  mark_used();
  n_cells_ = 0;
  for (std::uint32_t i = 0; i < n; ++i) {
    Tensor& t = tensors_[i];
    if (!t.used) continue;
    t.grid = find_grid(i);
    t.boxes.reset(t.n_dims, t.awaited);
    if (!t.grid) {
      ++boxed_;
      t.memory.reset();
      t.capacity = 0;
      continue;
    }
    n_cells_ += t.n_cells;
    if (t.capacity >= t.n_cells) continue;
    // Zeroed pages come from the system as they are touched.
    std::size_t room = t.n_cells * sizeof(Cell) + sizeof(Cell);
    void* at = std::calloc(1, room);
    t.memory.reset(at);
    if (at == nullptr) throw std::bad_alloc();
    t.cell = static_cast<Cell*>(std::align(sizeof(Cell), t.n_cells * sizeof(Cell), at, room));
    t.capacity = t.n_cells;
  }
  sweep_at_ = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(n_cells_, 65536, 1u << 28));
  entries_.assign(plan.n_tasks(), 0);
  for (std::uint32_t i = 0; i < plan.n_tasks(); ++i) {
    const BoundTask& task = plan.task(i);
    if (!task.reachable) continue;
    if (views_.size() < task.first_view + task.n_views) views_.resize(task.first_view + task.n_views);
    std::uint32_t at = task.first_view;
    for (const TrackedView& v : plan.views(task)) {
      grid_view(v, views_[at]);
      entries_[i] += entries_of(v, views_[at++]);
    }
  }
}

std::uint64_t DepMap::entries_of(const TrackedView& view, const GridView& cells) const {
  const Tensor& t = tensors_[view.tensor];
  if (!t.used || (!exact_ && !view.write)) return 0;
  if (t.grid) return view.write ? 0 : cells.cells;
  std::uint64_t boxes = 1;
  for (const TrackedDim& dim : plan_->dims(view))
    if (dim.gather != none) boxes *= static_cast<std::uint64_t>(dim.length.size);
  return boxes;
}

void DepMap::mark_used() {
  for (Tensor& t : tensors_) t.used = t.awaited = false;
  for (const ReadSpec& r : plan_->plan().reads())
    if (r.wait) tensors_[r.tensor].awaited = true;
  for (const GatherSpec& g : plan_->plan().gathers())
    if (g.wait) tensors_[g.tensor].awaited = true;
  for (std::uint32_t i = 0; i < plan_->n_tasks(); ++i)
    if (plan_->task(i).reachable)
      for (const TrackedView& v : plan_->views(plan_->task(i))) tensors_[v.tensor].used = exact_ || tensors_[v.tensor].awaited;
}

void DepMap::trim() {
  std::uint64_t cells = 0;
  for (Tensor& t : tensors_) {
    cells += t.capacity;
    if (cells > max_idle_cells) {
      t.memory.reset();
      t.capacity = 0;
    }
    t.boxes.trim();
  }
  if (tensors_.size() > max_idle_tensors) free_memory(tensors_);
  if (readers_.capacity() > max_idle_cells) free_memory(readers_);
}

bool DepMap::find_grid(std::uint32_t tensor) {
  const BoundPlan& plan = *plan_;
  Tensor& t = tensors_[tensor];
  std::array<std::int64_t, max_dims> extent{};
  t.step.fill(0);
  const auto each_view = [&](auto&& f) {
    for (std::uint32_t i = 0; i < plan.n_tasks(); ++i)
      if (plan.task(i).reachable)
        for (const TrackedView& v : plan.views(plan.task(i)))
          if (v.tensor == tensor) f(v);
  };
  each_view([&](const TrackedView& v) {
    t.n_dims = v.n_dims;
    for (std::uint32_t d = 0; d < v.n_dims; ++d) {
      extent[d] = plan.dims(v)[d].extent;
      t.step[d] = common_step(plan, plan.dims(v)[d], t.step[d]);
    }
  });
  t.n_cells = 1;
  for (std::uint32_t d = 0; d < t.n_dims; ++d) {
    if (t.step[d] == 0) t.step[d] = std::max<std::int64_t>(extent[d], 1);
    t.cells[d] = static_cast<std::int64_t>(cells_in(extent[d], t.step[d]));
    if (static_cast<std::uint64_t>(t.cells[d]) > max_cells) return false;
    t.n_cells *= static_cast<std::uint64_t>(t.cells[d]);
    if (t.n_cells > max_cells) return false;
  }
  bool coarse = true;
  each_view([&](const TrackedView& v) {
    std::uint64_t cells = 1;
    for (std::uint32_t d = 0; d < v.n_dims; ++d) cells *= cells_in(plan.dims(v)[d].length.size, t.step[d]);
    coarse = coarse && cells <= max_cells_per_view;
  });
  t.n_cells = std::max<std::uint64_t>(t.n_cells, 1);
  return coarse;
}

void DepMap::grid_view(const TrackedView& view, GridView& out) {
  out = {};
  const BoundPlan& plan = *plan_;
  const Tensor& t = tensors_[view.tensor];
  if (!t.used || !t.grid) return;
  out.first = static_cast<std::uint32_t>(terms_.size());
  std::int64_t stride = 1;
  bool full = true;
  out.simple = true;
  std::vector<LinearTerm> terms;
  for (std::uint32_t d = view.n_dims; d-- > 0;) {
    const TrackedDim& dim = plan.dims(view)[d];
    const std::int64_t step = t.step[d];
    out.constant += static_cast<std::uint64_t>(signed_(dim.start.constant) / step) * static_cast<std::uint64_t>(stride);
    for (const LinearTerm& term : plan.terms(dim.start)) {
      const std::uint64_t coef = static_cast<std::uint64_t>(signed_(term.coef) / step) * static_cast<std::uint64_t>(stride);
      const auto same = std::ranges::find(terms, term.reg, &LinearTerm::reg);
      if (same == terms.end())
        terms.push_back({coef, term.reg});
      else
        same->coef += coef;
    }
    const std::uint64_t cells = cells_in(dim.length.size, step);
    if (dim.gather != none || dim.length.may_be_empty || (dim.length.tail && dim.length.size > step)) out.simple = false;
    if (cells > 1 && !full) out.simple = false;
    full = full && cells == static_cast<std::uint64_t>(t.cells[d]);
    out.cells *= static_cast<std::uint32_t>(cells);
    stride *= t.cells[d];
  }
  out.count = static_cast<std::uint32_t>(terms.size());
  terms_.insert(terms_.end(), terms.begin(), terms.end());
}

DepMap::Cell& DepMap::at(Tensor& t, std::uint64_t i) {
  Cell& cell = t.cell[i];
  if (cell.epoch != epoch_) cell = {0, 0, epoch_, 0, 0, 0};
  return cell;
}

template <class F>
void DepMap::each_cell(const TaskView& v, F&& f) {
  const TrackedView& view = *v.view;
  const std::int64_t* const regs = v.regs;
  Tensor& t = tensors_[view.tensor];
  const GridView& g = views_[v.number];
  std::uint64_t base = g.constant;
  for (std::uint32_t i = 0; i < g.count; ++i)
    base += terms_[g.first + i].coef * static_cast<std::uint64_t>(regs[terms_[g.first + i].reg]);
  if (g.simple) {
    for (std::uint32_t i = 0; i < g.cells; ++i) f(at(t, base + i));
    return;
  }
  std::array<std::uint64_t, max_dims> n{}, i{}, stride{};
  std::array<const std::int64_t*, max_dims> gathered{};
  std::uint64_t s = 1;
  for (std::uint32_t d = view.n_dims; d-- > 0;) {
    const TrackedDim& dim = plan_->dims(view)[d];
    n[d] = cells_in(plan_->length(dim.length, regs), t.step[d]);
    if (n[d] == 0) return;
    if (dim.gather != none) gathered[d] = v.gathered(*plan_, dim);
    stride[d] = s;
    s *= static_cast<std::uint64_t>(t.cells[d]);
  }
  while (true) {
    std::uint64_t cell = base;
    for (std::uint32_t d = 0; d < view.n_dims; ++d)
      cell += (gathered[d] == nullptr ? i[d] : static_cast<std::uint64_t>(gathered[d][i[d]])) * stride[d];
    f(at(t, cell));
    std::uint32_t d = view.n_dims;
    while (d > 0 && ++i[d - 1] == n[d - 1]) i[--d] = 0;
    if (d == 0) return;
  }
}

template <class F>
void DepMap::each_box(const TaskView& v, F&& f) const {
  pto_wsp::each_box(*plan_, *v.view, v.regs, [&](const TrackedDim& dim) { return v.gathered(*plan_, dim); }, f);
}

void DepMap::collect(const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices, std::vector<ClockRef>& deps) {
  if (!exact_) return;
  TaskView v{&task, nullptr, task.first_view, regs, indices};
  for (const TrackedView& view : plan_->views(task)) {
    v.view = &view;
    const Tensor& t = tensors_[view.tensor];
    if (t.grid)
      each_cell(v, [&](Cell& cell) { collect_cell(cell, view.write, deps); });
    else
      each_box(v, [&](const Box& box) { t.boxes.collect(box, view.write, deps); });
    ++v.number;
  }
}

void DepMap::record(const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices, ClockRef self, const Liveness& live) {
  TaskView v{&task, nullptr, task.first_view - 1, regs, indices};
  for (const TrackedView& view : plan_->views(task)) {
    v.view = &view;
    ++v.number;
    Tensor& t = tensors_[view.tensor];
    if (!exact_ && !(t.used && view.write)) continue;
    if (t.grid)
      each_cell(v, [&](Cell& cell) { record_cell(cell, view.write, self, live); });
    else
      each_box(v, [&](const Box& box) { t.boxes.record(box, view.write, self, live); });
  }
}

bool DepMap::collect_read(const TrackedView& view, const std::int64_t* regs, std::vector<ClockRef>& deps) {
  Tensor& t = tensors_[view.tensor];
  if (!t.used) return false;
  Box box;
  for (std::uint32_t d = 0; d < view.n_dims; ++d) {
    const TrackedDim& dim = plan_->dims(view)[d];
    box.lo[d] = signed_(plan_->value(dim.start, regs));
    box.hi[d] = box.lo[d] + plan_->length(dim.length, regs);
    if (box.lo[d] < 0 || box.lo[d] >= box.hi[d] || box.hi[d] > dim.extent) return false;
  }
  if (!t.grid) return t.boxes.collect_writers(box, deps);
  std::array<std::int64_t, max_dims> first{}, end{}, i{};
  for (std::uint32_t d = 0; d < t.n_dims; ++d) {
    i[d] = first[d] = box.lo[d] / t.step[d];
    end[d] = (box.hi[d] - 1) / t.step[d] + 1;
  }
  bool any = false;
  while (true) {
    std::int64_t cell = 0;
    for (std::uint32_t d = 0; d < t.n_dims; ++d) cell = cell * t.cells[d] + i[d];
    const Cell& c = at(t, static_cast<std::uint64_t>(cell));
    any = any || c.writer != 0;
    if (c.writer != 0 && (deps.empty() || deps.back().serial != c.writer)) deps.push_back({c.writer, c.writer_index});
    std::uint32_t d = t.n_dims;
    while (d > 0 && ++i[d - 1] == end[d - 1]) {
      i[d - 1] = first[d - 1];
      --d;
    }
    if (d == 0) return any;
  }
}

// The readers since the last write already waited for it.
void DepMap::collect_cell(const Cell& cell, bool write, std::vector<ClockRef>& deps) const {
  if (write && cell.reader != 0) {
    deps.push_back({cell.reader, cell.reader_index});
    for (std::uint32_t r = cell.readers; r != 0; r = readers_[r - 1].next) deps.push_back(readers_[r - 1].task);
  } else if (cell.writer != 0 && (deps.empty() || deps.back().serial != cell.writer)) {
    deps.push_back({cell.writer, cell.writer_index});
  }
}

void DepMap::record_cell(Cell& cell, bool write, ClockRef self, const Liveness& live) {
  if (write) {
    while (cell.readers != 0) drop_reader(cell.readers);
    cell.reader = 0;
    cell.writer = self.serial;
    cell.writer_index = self.index;
    return;
  }
  if (cell.reader == self.serial) return;
  if (cell.reader != 0) keep_reader(cell, self, live);
  cell.reader = self.serial;
  cell.reader_index = self.index;
}

// The last reader becomes one of those before, unless it is finished.
void DepMap::keep_reader(Cell& cell, ClockRef next, const Liveness& live) {
  const auto needless = [&](const ClockRef& task) { return live.finished(task) || live.superseded(task, next); };
  while (cell.readers != 0 && needless(readers_[cell.readers - 1].task)) drop_reader(cell.readers);
  const ClockRef last{cell.reader, cell.reader_index};
  if (needless(last)) return;
  if (live_readers_ >= sweep_at_) sweep(live);
  std::uint32_t r = free_reader_;
  if (r == none) {
    readers_.push_back({});
    r = static_cast<std::uint32_t>(readers_.size() - 1);
  } else {
    free_reader_ = readers_[r].next;
  }
  readers_[r] = {last, cell.readers};
  cell.readers = r + 1;
  ++live_readers_;
}

void DepMap::drop_reader(std::uint32_t& link) {
  const std::uint32_t r = link - 1;
  link = readers_[r].next;
  readers_[r].next = free_reader_;
  free_reader_ = r;
  --live_readers_;
}

// Drops the finished readers of every cell.
void DepMap::sweep(const Liveness& live) {
  for (Tensor& t : tensors_) {
    if (!t.used || !t.grid) continue;
    for (std::uint64_t i = 0; i < t.n_cells; ++i) {
      Cell& cell = at(t, i);
      std::uint32_t* link = &cell.readers;
      while (*link != 0) {
        if (live.finished(readers_[*link - 1].task))
          drop_reader(*link);
        else
          link = &readers_[*link - 1].next;
      }
    }
  }
  sweep_at_ = std::max(sweep_at_, live_readers_ * 2);
}

}  // namespace pto_wsp
