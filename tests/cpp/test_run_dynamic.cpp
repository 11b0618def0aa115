// Random programs whose loops, branches, views and gathers depend on what their tasks compute, with temporaries, slots and
// handles, against an interpreter that runs them one task after the other and finds every dependence by comparing sets of
// elements: the data, the order of what really ran, and semantic time with its boundaries.
#include <algorithm>
#include <bitset>
#include <map>

#include "check.hpp"
#include "order_helpers.hpp"
#include "run_helpers.hpp"
#include "simulate_helpers.hpp"

using namespace helpers;

namespace {

// Tensors 0 to 2 hold any numbers, 3 and 4 indices below `width`, the rest are temporaries.
constexpr std::int64_t height = 12, width = 8, huge = 4096;
constexpr std::uint64_t n_given = 5, max_tensors = 9;
constexpr std::uint64_t copy = 34;  // the larger of x and x
enum Mode : std::uint64_t { exact, bytes, by_name, hybrid };

struct KernelShape {
  std::int64_t h, w, cost, per_row;
  std::uint64_t op;
};
constexpr KernelShape kernels[] = {{1, 1, 0, 0, add}, {2, 4, 7, 0, mul}, {4, 2, 1, 2, add}, {2, 4, 3, 0, copy}, {height, width, 5, 0, add}};
constexpr std::uint64_t copying = 3, whole = 4;

// One dimension of a view: `length` elements from `start`, or those that a row or column of an index tensor names.
struct Span1 {
  Affine start;
  bool gathered = false, down = false;  // down: the indices lie below one another
  std::uint64_t index = 0;
  Affine across;
};

struct View {
  std::uint64_t tensor = 0;
  Span1 row, col;
};

enum class Kind { block, seq, loop, seq_loop, while_loop, task, number, branch, slot, temporary, reset };

struct Tree {
  Kind kind = Kind::block;
  std::uint64_t id = 0, reg = 0;         // number, slot, loop, branch, while_loop: registers from `reg` on
  std::int64_t extent = 0, below = 1;
  std::uint64_t tensor = 0;              // number, branch, while_loop: an element, or where `sum` a row's part
  bool sum = false;
  Affine row, col;
  std::uint64_t kernel = 0;
  View in, out;
  std::uint64_t handle = 0;              // + 1
  std::vector<std::uint64_t> after;
  std::vector<Tree> children;
};

struct Scoped {
  std::uint64_t reg;
  std::int64_t below;
};

struct Maker {
  Rng& rng;
  bool chained;  // each task after all before it, by name
  std::uint64_t n_tensors = n_given, next_reg = 0, next_id = 0;
  std::vector<Scoped> scope{};
  std::vector<std::uint64_t> usable{0, 1, 2, 3, 4}, released{};
  int parallel = 0;

  // In 0 .. most.
  Affine place(std::int64_t most) {
    if (!scope.empty() && rng.chance(70)) {
      const Scoped& s = scope[static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(scope.size())))];
      if (s.below - 1 <= most) return Affine(rng.below(most - s.below + 2), {{s.reg, 1}});
    }
    return Affine(rng.below(most + 1));
  }

  Span1 span1(std::int64_t size, std::int64_t length) {
    Span1 s;
    s.gathered = length <= 4 && rng.chance(25);
    if (!s.gathered) {
      s.start = place(size - length);
      return s;
    }
    s.index = 3 + static_cast<std::uint64_t>(rng.below(2));
    s.down = rng.chance(50);
    s.start = place((s.down ? height : width) - length);
    s.across = place((s.down ? width : height) - 1);
    return s;
  }

  std::uint64_t any_tensor() { return usable[static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(usable.size())))]; }

  Tree task() {
    Tree t;
    t.kind = Kind::task;
    t.id = next_id++;
    t.out.tensor = any_tensor();
    const bool indices = t.out.tensor == 3 || t.out.tensor == 4;
    do t.in.tensor = indices ? 7 - t.out.tensor : any_tensor();
    while (t.in.tensor == t.out.tensor);
    t.kernel = indices ? copying : static_cast<std::uint64_t>(rng.below(4));
    const KernelShape& k = kernels[t.kernel];
    for (View* v : {&t.in, &t.out}) {
      v->row = span1(height, k.h);
      v->col = span1(width, k.w);
    }
    if (chained) {
      t.handle = 1;
      t.after = {0};
      return t;
    }
    if (rng.chance(15)) t.handle = 1 + static_cast<std::uint64_t>(rng.below(2));
    for (std::uint64_t h = 0; h < 2; ++h)
      if (rng.chance(10)) t.after.push_back(h);
    return t;
  }

  void read_something(Tree& t, std::int64_t below) {
    t.reg = next_reg;
    next_reg += 3;  // what is read, that modulo `below`, and a condition
    t.below = below;
    t.tensor = any_tensor();
    t.sum = rng.chance(30);
    t.row = place(height - 1);
    t.col = place(t.sum ? width - 3 : width - 1);
  }

  Tree body(int depth, std::size_t most = 4) {
    Tree t;
    const std::size_t known = scope.size();
    for (std::size_t i = 0, n = 1 + static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(most))); i < n; ++i) t.children.push_back(make(depth));
    scope.resize(known);
    return t;
  }

  Tree make(int depth) {
    Tree t;
    const std::int64_t pick = depth == 0 ? rng.below(5) : rng.below(14);
    if (pick < 4) return task();
    if (pick == 4 || pick == 5) {
      t.kind = rng.chance(80) ? Kind::number : Kind::slot;
      if (t.kind == Kind::slot) t.extent = rng.below(2);
      read_something(t, 1 + rng.below(5));
      scope.push_back({t.reg + 1, t.below});
    } else if (pick == 6) {
      t.kind = rng.chance(50) ? Kind::seq : Kind::block;
      if (t.kind == Kind::block)
        t.children = body(depth - 1).children;
      else
        for (std::int64_t i = 0, n = 1 + rng.below(4); i < n; ++i) t.children.push_back(body(depth - 1, 1));
    } else if (pick < 9) {
      t.kind = rng.chance(40) ? Kind::seq_loop : Kind::loop;
      t.reg = next_reg++;
      t.extent = rng.chance(10) ? 0 : 1 + rng.below(4);
      scope.push_back({t.reg, std::max<std::int64_t>(t.extent, 1)});
      parallel += t.kind == Kind::loop ? 1 : 0;
      t.children = {body(depth - 1)};
      parallel -= t.kind == Kind::loop ? 1 : 0;
      scope.pop_back();
    } else if (pick == 9) {
      t.kind = Kind::while_loop;
      t.extent = 1 + rng.below(4);
      t.id = next_reg++;
      scope.push_back({t.id, t.extent});
      read_something(t, 3);
      t.children = {body(depth - 1)};
      scope.pop_back();
    } else if (pick == 10) {
      t.kind = Kind::branch;
      read_something(t, 3);
      t.children = {body(depth - 1), body(depth - 1, 2)};
    } else if (pick == 11) {
      t.kind = Kind::reset;
      t.id = chained ? 1 : static_cast<std::uint64_t>(rng.below(2));
    } else if (parallel == 0 && (n_tensors < max_tensors || !released.empty())) {
      t.kind = Kind::temporary;
      if (n_tensors < max_tensors && (released.empty() || rng.chance(80))) {
        t.tensor = n_tensors++;
      } else {
        t.tensor = released.back();
        released.pop_back();
      }
      Tree first;
      first.kind = Kind::task;
      first.id = next_id++;
      first.kernel = whole;
      first.in.tensor = static_cast<std::uint64_t>(rng.below(3));
      first.out.tensor = t.tensor;
      if (chained) {
        first.handle = 1;
        first.after = {0};
      }
      usable.push_back(t.tensor);
      t.children = body(depth - 1).children;
      t.children.insert(t.children.begin(), first);
      std::erase(usable, t.tensor);
      released.push_back(t.tensor);
    } else {
      return task();
    }
    return t;
  }
};

// --- the plan ---

Dim dim_of(const Span1& s, std::int64_t length) {
  if (!s.gathered) return slice(s.start);
  if (s.down) return gather(s.index, {slice(s.start, length), at(s.across)}, true);
  return gather(s.index, {at(s.across), slice(s.start, length)}, true);
}

std::vector<Bytes> nodes_of(const Tree& t, const std::vector<std::uint64_t>& open);

Bytes body_of(const Tree& t, const std::vector<std::uint64_t>& open) { return block(nodes_of(t, open)); }

Bytes task_of(const Tree& t, const std::vector<std::uint64_t>& open) {
  Task k;
  k.kernel = t.kernel;
  k.site = t.id;
  for (const std::uint64_t r : open) k.coords.push_back(reg(r));
  for (const View* v : {&t.in, &t.out})
    k.args.push_back(view(v->tensor, true, {dim_of(v->row, kernels[t.kernel].h), dim_of(v->col, kernels[t.kernel].w)}));
  k.handle = t.handle;
  k.after = t.after;
  return task(k);
}

// What is read into `reg`, modulo `below` into the one after it, and whether that is not 0 into the third.
std::vector<Bytes> reads_of(const Tree& t) {
  const Bytes from = t.sum ? read(t.reg, 1, t.tensor, {at(t.row), t.id % 2 == 0 ? slice(t.col, 3) : span(t.col, 3)}, true)
                           : item(t.reg, t.tensor, {at(t.row), at(t.col)}, true);
  return {from, eval(t.reg + 1, 2, reg(t.reg), t.below), compute(t.reg + 2, 13, i64, {of(t.reg + 1), constant(std::int64_t{0})})};
}

std::vector<Bytes> nodes_of(const Tree& t, const std::vector<std::uint64_t>& open) {
  std::vector<std::uint64_t> inner = open;
  std::vector<Bytes> out;
  const auto children = [&](std::vector<Bytes> list) {
    for (const Tree& c : t.children)
      for (Bytes& b : nodes_of(c, inner)) list.push_back(std::move(b));
    return list;
  };
  switch (t.kind) {
    case Kind::task: return {task_of(t, open)};
    case Kind::reset: return {reset(t.id)};
    case Kind::number: return reads_of(t);
    case Kind::slot:
      out = {slot_get(t.reg, 0), eval(t.reg + 1, 2, reg(t.reg), t.below)};
      if (t.extent == 1) out.push_back(slot_set(0, affine(reg(t.reg + 1, 3, 1))));
      return out;
    case Kind::block: return {block(children({}))};
    case Kind::seq: {
      std::vector<Bytes> parts;
      for (const Tree& c : t.children) parts.push_back(body_of(c, open));
      return {seq(parts)};
    }
    case Kind::loop:
    case Kind::seq_loop:
      inner.push_back(t.reg);
      return {loop(t.reg, t.extent, block(children({})), t.kind == Kind::seq_loop)};
    case Kind::while_loop:
      inner.push_back(t.id);
      return {while_loop(t.id, t.extent, block(reads_of(t)), of(t.reg + 2), block(children({})))};
    case Kind::branch:
      out = reads_of(t);
      out.push_back(cond(of(t.reg + 2), body_of(t.children[0], open), body_of(t.children[1], open)));
      return out;
    case Kind::temporary:
      out = children({acquire(t.tensor)});
      out.push_back(release(t.tensor));
      return {block(out)};
  }
  return out;
}

// --- the interpreter ---

using Elements = std::bitset<max_tensors * height * width>;
using Data = std::vector<std::vector<std::int32_t>>;

std::size_t element(std::uint64_t tensor, std::int64_t r, std::int64_t c) {
  return static_cast<std::size_t>((static_cast<std::int64_t>(tensor) * height + r) * width + c);
}

struct Touched {
  Elements elements;
  std::uint64_t tensor;
  std::int64_t first = INT64_MAX, last = INT64_MIN;  // in row-major order
};

struct Flat {
  std::vector<std::int64_t> path;
  Touched in, out;
  std::uint64_t cost;
  std::vector<std::uint64_t> deps, waits;
};

struct Interpreter {
  std::uint64_t mode;
  Data data;
  std::int64_t slot;
  std::map<std::uint64_t, std::int64_t> regs{};
  std::vector<std::uint64_t> open{};
  std::vector<Flat> tasks{};
  std::vector<std::uint64_t> handles[2]{}, waits{};

  std::int64_t value(const Affine& a) const {
    std::int64_t v = a.constant;
    for (const auto& [r, c] : a.terms) v += c * regs.at(r);
    return v;
  }

  std::int32_t& at(std::uint64_t tensor, std::int64_t r, std::int64_t c) { return data[tensor][static_cast<std::size_t>(r * width + c)]; }

  std::int32_t read(std::uint64_t tensor, std::int64_t r, std::int64_t c) {
    for (std::uint64_t i = 0; i < tasks.size(); ++i)
      if (tasks[i].out.elements[element(tensor, r, c)]) waits.push_back(i);
    return at(tensor, r, c);
  }

  std::vector<std::int64_t> elements(const Span1& s, std::int64_t length) {
    std::vector<std::int64_t> out;
    const std::int64_t first = value(s.start);
    for (std::int64_t i = 0; i < length; ++i) {
      const std::int64_t across = s.gathered ? value(s.across) : 0;
      out.push_back(!s.gathered ? first + i : s.down ? read(s.index, first + i, across) : read(s.index, across, first + i));
    }
    return out;
  }

  void task(const Tree& t, const std::vector<std::uint64_t>& before) {
    const KernelShape& k = kernels[t.kernel];
    Flat f;
    f.path = {static_cast<std::int64_t>(t.id)};
    for (const std::uint64_t r : open) f.path.push_back(regs[r]);
    const auto in_rows = elements(t.in.row, k.h), in_cols = elements(t.in.col, k.w);
    const auto out_rows = elements(t.out.row, k.h), out_cols = elements(t.out.col, k.w);
    f.in.tensor = t.in.tensor;
    f.out.tensor = t.out.tensor;
    const auto touch = [](Touched& touched, std::int64_t r, std::int64_t c) {
      touched.elements.set(element(touched.tensor, r, c));
      touched.first = std::min(touched.first, r * width + c);
      touched.last = std::max(touched.last, r * width + c);
    };
    for (std::size_t r = 0; r < in_rows.size(); ++r)
      for (std::size_t c = 0; c < in_cols.size(); ++c) {
        const auto x = static_cast<std::uint32_t>(at(t.in.tensor, in_rows[r], in_cols[c]));
        at(t.out.tensor, out_rows[r], out_cols[c]) = static_cast<std::int32_t>(k.op == add ? x + x : k.op == mul ? x * x : x);
        touch(f.in, in_rows[r], in_cols[c]);
        touch(f.out, out_rows[r], out_cols[c]);
      }
    f.cost = static_cast<std::uint64_t>(k.cost + k.per_row * k.h);
    f.deps = before;
    for (const std::uint64_t h : t.after) f.deps.insert(f.deps.end(), handles[h].begin(), handles[h].end());
    for (std::uint64_t i = 0; i < tasks.size(); ++i)
      if (conflict(tasks[i].out, f.out) || conflict(tasks[i].out, f.in) || conflict(tasks[i].in, f.out)) f.deps.push_back(i);
    std::ranges::sort(f.deps);
    f.deps.erase(std::ranges::unique(f.deps).begin(), f.deps.end());
    std::swap(f.waits, waits);
    if (t.handle != 0) handles[t.handle - 1].push_back(tasks.size());
    tasks.push_back(std::move(f));
  }

  bool conflict(const Touched& a, const Touched& b) const {
    if (mode == by_name || a.tensor != b.tensor) return false;
    return mode == bytes ? a.first <= b.last && b.first <= a.last : (a.elements & b.elements).any();
  }

  bool number(const Tree& t) {
    std::int64_t v = 0;
    for (std::int64_t i = 0; i < (t.sum ? 3 : 1); ++i) v += read(t.tensor, value(t.row), value(t.col) + i);
    regs[t.reg + 1] = (v % t.below + t.below) % t.below;
    return regs[t.reg + 1] != 0;
  }

  // `t`, each task after all of `before`.
  void walk(const Tree& t, const std::vector<std::uint64_t>& before) {
    std::vector<std::uint64_t> last = before;
    const auto part = [&](const Tree& c, bool sequential) {
      const std::uint64_t first = tasks.size();
      walk(c, last);
      if (!sequential || tasks.size() == first) return;
      last = before;
      for (std::uint64_t i = first; i < tasks.size(); ++i) last.push_back(i);
    };
    switch (t.kind) {
      case Kind::task: task(t, before); break;
      case Kind::reset: handles[t.id].clear(); break;
      case Kind::number: number(t); break;
      case Kind::slot:
        regs[t.reg + 1] = (slot % t.below + t.below) % t.below;
        if (t.extent == 1) slot = 3 * regs[t.reg + 1] + 1;
        break;
      case Kind::block:
      case Kind::temporary:
      case Kind::seq:
        for (const Tree& c : t.children) part(c, t.kind == Kind::seq);
        break;
      case Kind::branch: walk(t.children[number(t) ? 0 : 1], before); break;
      case Kind::loop:
      case Kind::seq_loop:
      case Kind::while_loop: {
        const std::uint64_t variable = t.kind == Kind::while_loop ? t.id : t.reg;
        open.push_back(variable);
        for (std::int64_t i = 0; i < t.extent; ++i) {
          regs[variable] = i;
          if (t.kind == Kind::while_loop && !number(t)) break;
          part(t.children[0], t.kind != Kind::loop);
        }
        open.pop_back();
        break;
      }
    }
  }
};

struct Program {
  writer::Plan plan;
  std::vector<Flat> tasks;
  Data before, after;
  std::int64_t slot = 0;
};

// `mode`: how dependences are found.
Program make_program(std::uint64_t seed, std::uint64_t mode) {
  Rng rng{std::mt19937_64(seed)};
  Program p;
  p.plan.lanes = static_cast<std::uint64_t>(1 + rng.below(5));
  p.plan.issue_cost = rng.chance(25) ? 3 : 0;
  p.plan.handover = rng.chance(25) ? 2 : 0;
  p.plan.read_cost = rng.chance(50) ? 4 : 0;
  p.plan.windows = {static_cast<std::uint64_t>(rng.chance(50) ? 65536 : 1 + rng.below(6))};
  p.plan.deps = mode;
  p.plan.handles = 2;
  p.plan.slots = {i64};
  const Affine rows = rng.chance(50) ? height : huge, cols = rng.chance(50) ? width : huge;  // too fine for a grid
  Maker maker{rng, mode == by_name};
  Tree root = maker.body(4, 5);
  root.children.push_back(maker.task());
  p.plan.regs = maker.next_reg;
  p.plan.tensors.assign(n_given, {{rows, cols}, 3, i32});
  p.plan.tensors.resize(maker.n_tensors, {{Affine(height), Affine(width)}, 7, i32});
  for (const KernelShape& k : kernels)
    p.plan.kernels.push_back(kernel(k.op, static_cast<std::uint64_t>(k.h), static_cast<std::uint64_t>(k.w), k.cost, k.per_row, i32));
  p.plan.root = body_of(root, {});
  p.before.assign(max_tensors, std::vector<std::int32_t>(height * width));
  for (std::size_t t = 0; t < n_given; ++t)
    for (std::int32_t& x : p.before[t]) x = static_cast<std::int32_t>(t < 3 ? rng.below(1000) - 500 : rng.below(width));
  p.slot = rng.below(100);
  Interpreter i{mode, p.before, p.slot};
  i.walk(root, {});
  p.tasks = std::move(i.tasks);
  p.after = std::move(i.data);
  return p;
}

void same_time(const Program& p, const pto_wsp::RunStats& stats) {
  std::vector<std::uint64_t> costs, indptr{0}, indices, wait_indptr{0}, wait_indices;
  for (const Flat& f : p.tasks) {
    costs.push_back(f.cost);
    indices.insert(indices.end(), f.deps.begin(), f.deps.end());
    indptr.push_back(indices.size());
    wait_indices.insert(wait_indices.end(), f.waits.begin(), f.waits.end());
    wait_indptr.push_back(wait_indices.size());
  }
  pto_wsp::SimulationOptions options;
  options.pools = {static_cast<std::uint32_t>(p.plan.lanes)};
  options.windows[0].tasks = p.plan.windows[0];
  options.issue_cost = p.plan.issue_cost;
  options.handover = p.plan.handover;
  options.read_cost = p.plan.read_cost;
  const auto s = simulated({costs, {indptr, indices}, {wait_indptr, wait_indices}}, options).simulation;
  CHECK_EQ(stats.total_cycles, s.total);
  CHECK_EQ(stats.scalar_waits, s.scalar_waits);
  CHECK_EQ(stats.scalar_wait_cycles, s.scalar_wait_cycles);
  CHECK_EQ(stats.windows[0].stalls, s.windows[0].stalls);
  CHECK_EQ(stats.windows[0].stall_cycles, s.windows[0].stall_cycles);
  CHECK_EQ(stats.windows[0].high_water, s.windows[0].high_water);
}

void right_order(const Program& p, const Order& order) {
  CHECK_EQ(order.events.size(), 2 * p.tasks.size());
  std::map<std::vector<std::int64_t>, std::size_t> began, ended;
  for (std::size_t i = 0; i < order.events.size(); ++i) (order.events[i].first ? began : ended)[order.events[i].second] = i;
  for (const Flat& f : p.tasks) {
    for (const std::uint64_t d : f.deps) CHECK(ended[p.tasks[d].path] < began[f.path]);
    for (const std::uint64_t d : f.waits) CHECK(ended[p.tasks[d].path] < began[f.path]);
  }
}

struct Totals {
  std::uint64_t tasks = 0, waits = 0, arena = 0;
} totals;

Waits waits;

void one(std::uint64_t seed, std::uint64_t mode, std::uint32_t threads, bool hook, bool few = false) {
  const Program p = make_program(seed, mode);
  Data data = p.before;
  const auto make = [&](const pto_wsp::Resources& resources) {
    auto made = std::make_unique<pto_wsp::Instance>(decode(p.plan.bytes()), threads, resources);
    for (std::size_t t = 0; t < n_given; ++t) {
      const std::int64_t shape[] = {p.plan.tensors[t].dims[0].constant, p.plan.tensors[t].dims[1].constant}, strides[] = {width * 4, 4};
      made->bind(t, reinterpret_cast<std::byte*>(data[t].data()), shape, strides, i32, true);
    }
    const std::pair<std::uint32_t, std::uint64_t> slot{0, static_cast<std::uint64_t>(p.slot)};
    made->set_slots({&slot, 1});
    return made;
  };
  const auto owned = make(few ? few_resources(seed, make) : pto_wsp::Resources());
  pto_wsp::Instance& instance = *owned;
  Order order;
  order.delays = threads > 1;
  if (hook) instance.set_hook({&Order::call, &order});
  instance.set_hand_over(hand_overs[seed % std::size(hand_overs)]);
  const int before = check::failures.load();
  for (int again = 0; again < 2; ++again) {
    for (std::size_t t = 0; t < n_given; ++t) data[t] = p.before[t];  // keeps its memory
    order.events.clear();
    CHECK(run(instance));
    if (const auto failure = instance.error()) {
      CHECK_EQ(std::string(name_of(failure->kind)), "none");
      break;
    }
    for (std::size_t t = 0; t < n_given; ++t) CHECK(p.after[t] == data[t]);
    const pto_wsp::RunStats stats = instance.stats();
    CHECK_EQ(stats.task_count, p.tasks.size());
    same_time(p, stats);
    if (hook) right_order(p, order);
    waits.add(stats);
    totals.tasks += stats.task_count;
    totals.waits += stats.scalar_waits;
    totals.arena += stats.arena_bytes;
  }
  if (check::failures.load() != before)
    std::fprintf(stderr, "seed %llu, mode %llu, %u threads\n", static_cast<unsigned long long>(seed), static_cast<unsigned long long>(mode), threads);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t programs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100;
  for (std::uint64_t seed = 0; seed < programs; ++seed) {
    for (const std::uint64_t mode : {exact, bytes, by_name, hybrid}) {
      if (mode != exact && seed % 3 != 0) continue;
      one(seed, mode, 1, seed % 2 == 0);
      one(seed, mode, 2, seed % 2 == 0);
      one(seed, mode, 8, seed % 2 == 1);
      one(seed, mode, 2, seed % 2 == 1, true);
      one(seed, mode, 4, seed % 2 == 0, true);
    }
  }
  using pto_wsp::Reason;
  for (const Reason reason : {Reason::task_ring, Reason::dependence_map, Reason::edges, Reason::arena, Reason::ready_queue, Reason::scalar})
    CHECK(waits.of(reason) > 0);
  CHECK(totals.tasks > 0 && totals.waits > 0 && totals.arena > 0);
  return check::result();
}
