// Random programs of loops, sequential parts and overlapping views, against a list of tasks with every dependence
// found by comparing boxes: the data, the order of what really ran, and semantic time.
#include <algorithm>
#include <map>

#include "check.hpp"
#include "order_helpers.hpp"
#include "pto_wsp/callee.hpp"
#include "run_helpers.hpp"
#include "simulate_helpers.hpp"

using namespace helpers;

namespace {

constexpr std::int64_t rows = 24, cols = 16;

// A view of `h` x `w` elements; where tiles are cut off at `limit_row`.
struct View {
  std::uint64_t tensor = 0;
  Affine row, col;
  std::int64_t h = 1, w = 1, limit_row = rows;
  bool cut = false;
};

struct Tree {
  enum Kind { block, seq, loop, seq_loop, task } kind = block;
  std::uint64_t reg = 0;
  std::int64_t extent = 0;
  std::vector<Tree> children;
  View in, out;
  std::uint64_t kernel = 0, window = 0, dispatch = 0, id = 0;
};

struct Box {
  std::uint64_t tensor;
  std::int64_t r0, r1, c0, c1;
  bool overlaps(const Box& b) const { return tensor == b.tensor && r0 < b.r1 && b.r0 < r1 && c0 < b.c1 && b.c0 < c1; }
};

struct Flat {
  std::vector<std::int64_t> path;  // coordinates: id, then a unique number
  Box in, out;
  std::uint64_t cost, window, dispatch;
  std::vector<std::uint64_t> deps;
};

std::int64_t value(const Affine& a, const std::map<std::uint64_t, std::int64_t>& regs) {
  std::int64_t v = a.constant;
  for (const auto& [r, c] : a.terms) v += c * regs.at(r);
  return v;
}

// A program of random shape: `next_reg` registers, kernels of 1x1, 2x4 and 4x2 tiles.
struct Maker {
  Rng& rng;
  std::uint64_t n_windows, n_dispatch;
  std::uint64_t next_reg = 0, next_task = 0;
  std::vector<std::pair<std::uint64_t, std::int64_t>> loops{};  // open registers and their extents
  bool sequential_allowed = true, tails = false;
  static constexpr std::int64_t heights[] = {1, 2, 4}, widths[] = {1, 4, 2};

  // start = c + k * loop variable, in 0 .. size - length (or, with tails, anywhere in the rows)
  Affine start(std::int64_t size, std::int64_t length, std::int64_t step) {
    const std::int64_t room = size - length;
    if (!loops.empty() && rng.chance(75)) {
      const auto& [reg, extent] = loops[static_cast<std::size_t>(rng.below(static_cast<std::int64_t>(loops.size())))];
      const std::int64_t k = rng.chance(70) ? step : 1 + rng.below(2);
      if (k * (extent - 1) <= room) {
        const std::int64_t c = rng.below((room - k * (extent - 1)) / step + 1) * step;
        return rng.chance(20) ? Affine(c + k * (extent - 1), {{reg, -k}}) : Affine(c, {{reg, k}});
      }
    }
    return Affine(rng.below(room / step + 1) * step);
  }

  View view(std::uint64_t tensor, std::uint64_t kernel) {
    View v;
    v.tensor = tensor;
    v.h = heights[kernel];
    v.w = widths[kernel];
    v.row = start(rows, v.h, rng.chance(85) ? v.h : 1);
    v.col = start(cols, v.w, rng.chance(85) ? v.w : 1);
    return v;
  }

  Tree make(int depth) {
    Tree t;
    const std::int64_t pick = depth == 0 ? 9 : rng.below(10);
    if (pick >= 6) {
      t.kind = Tree::task;
      t.id = next_task++;
      t.kernel = static_cast<std::uint64_t>(rng.below(3));
      t.window = static_cast<std::uint64_t>(rng.below(static_cast<std::int64_t>(n_windows)));
      t.dispatch = static_cast<std::uint64_t>(rng.below(static_cast<std::int64_t>(n_dispatch) + 1));
      const auto a = static_cast<std::uint64_t>(rng.below(3));
      t.in = view(a, t.kernel);
      t.out = view((a + 1 + static_cast<std::uint64_t>(rng.below(2))) % 3, t.kernel);
      if (tails && t.kernel == 2 && rng.chance(70)) {
        t.in.cut = t.out.cut = true;
        t.in.limit_row = t.out.limit_row = rows - 3 + rng.below(4);
        t.in.row = t.out.row = start(t.in.limit_row, 1, 4);
      }
      return t;
    }
    if (pick >= 3) {
      t.kind = sequential_allowed && rng.chance(40) ? Tree::seq_loop : Tree::loop;
      t.reg = next_reg++;
      t.extent = rng.chance(10) ? 0 : 1 + rng.below(5);
      loops.emplace_back(t.reg, std::max<std::int64_t>(t.extent, 1));
      t.children.push_back(make(depth - 1));
      loops.pop_back();
      return t;
    }
    t.kind = sequential_allowed && rng.chance(50) ? Tree::seq : Tree::block;
    for (std::int64_t i = 0, n = 1 + rng.below(4); i < n; ++i) t.children.push_back(make(depth - 1));
    return t;
  }
};

Bytes view_bytes(const View& v) {
  return view(v.tensor, true, {v.cut ? tile(v.row, v.limit_row) : slice(v.row), slice(v.col)});
}

Bytes tree_bytes(const Tree& t, const std::vector<std::uint64_t>& open) {
  if (t.kind == Tree::task) {
    Task k;
    k.kernel = t.kernel;
    k.site = t.id;
    k.window = t.window;
    k.dispatch = t.dispatch;
    for (const std::uint64_t r : open) k.coords.push_back(reg(r));
    k.args = {view_bytes(t.in), view_bytes(t.out)};
    return task(k);
  }
  std::vector<std::uint64_t> inner = open;
  if (t.kind == Tree::loop || t.kind == Tree::seq_loop) inner.push_back(t.reg);
  std::vector<Bytes> nodes;
  for (const Tree& c : t.children) nodes.push_back(tree_bytes(c, inner));
  if (t.kind == Tree::block) return block(nodes);
  if (t.kind == Tree::seq) return seq(nodes);
  return loop(t.reg, t.extent, nodes[0], t.kind == Tree::seq_loop);
}

// The list of tasks. Structure gives each task the ones it must follow as a set.
struct Flattener {
  std::vector<Flat> tasks{};
  std::map<std::uint64_t, std::int64_t> regs{};
  std::vector<std::uint64_t> open{};

  Box box(const View& v) {
    const std::int64_t r = value(v.row, regs), c = value(v.col, regs);
    return {v.tensor, r, std::min(r + v.h, v.limit_row), c, c + v.w};
  }

  // Emits the tasks of `t`, each after all of `before`.
  void walk(const Tree& t, const std::vector<std::uint64_t>& before) {
    if (t.kind == Tree::task) {
      Flat f;
      f.path = {static_cast<std::int64_t>(t.id)};
      for (const std::uint64_t r : open) f.path.push_back(regs[r]);
      f.in = box(t.in);
      f.out = box(t.out);
      f.cost = t.kernel == 0 ? 0 : t.kernel == 1 ? 7 : static_cast<std::uint64_t>(1 + 2 * (f.in.r1 - f.in.r0));
      f.window = t.window;
      f.dispatch = t.dispatch;
      f.deps = before;
      for (std::uint64_t i = 0; i < tasks.size(); ++i)
        if (tasks[i].out.overlaps(f.out) || tasks[i].out.overlaps(f.in) || tasks[i].in.overlaps(f.out)) f.deps.push_back(i);
      std::ranges::sort(f.deps);
      f.deps.erase(std::ranges::unique(f.deps).begin(), f.deps.end());
      tasks.push_back(std::move(f));
      return;
    }
    std::vector<std::uint64_t> last = before;
    const auto part = [&](const Tree& c, bool sequential) {
      const std::uint64_t first = tasks.size();
      walk(c, last);
      if (!sequential || tasks.size() == first) return;
      last = before;
      for (std::uint64_t i = first; i < tasks.size(); ++i) last.push_back(i);
    };
    if (t.kind == Tree::block || t.kind == Tree::seq) {
      for (const Tree& c : t.children) part(c, t.kind == Tree::seq);
      return;
    }
    open.push_back(t.reg);
    for (std::int64_t i = 0; i < t.extent; ++i) {
      regs[t.reg] = i;
      part(t.children[0], t.kind == Tree::seq_loop);
    }
    open.pop_back();
  }
};

struct Program {
  writer::Plan plan;
  std::vector<Flat> tasks;
};

Program make_program(std::uint64_t seed) {
  Rng rng{std::mt19937_64(seed)};
  Program p;
  p.plan.lanes = static_cast<std::uint64_t>(1 + rng.below(5));
  p.plan.issue_cost = rng.chance(25) ? 3 : 0;
  p.plan.handover = rng.chance(25) ? 2 : 0;
  p.plan.windows = {static_cast<std::uint64_t>(rng.chance(50) ? 65536 : 1 + rng.below(6))};
  const bool windows = rng.chance(20);
  if (windows) p.plan.windows.push_back(static_cast<std::uint64_t>(1 + rng.below(3)));
  if (rng.chance(40)) p.plan.dispatches = {static_cast<std::uint64_t>(1 + rng.below(static_cast<std::int64_t>(p.plan.lanes)))};
  Maker maker{rng, p.plan.windows.size(), p.plan.dispatches.size()};
  maker.sequential_allowed = rng.chance(75);
  maker.tails = rng.chance(50);
  Tree root = maker.make(4);
  if (root.kind == Tree::task) root = Tree{Tree::block, 0, 0, {root, maker.make(3), maker.make(3)}, {}, {}};
  p.plan.regs = maker.next_reg;
  p.plan.tensors.assign(3, {{Affine(rows), Affine(cols)}, 3, f32});
  p.plan.kernels = {kernel(add, 1, 1, 0), kernel(mul, 2, 4, 7), kernel(add, 4, 2, 1, 2)};
  p.plan.root = tree_bytes(root, {});
  Flattener f;
  f.walk(root, {});
  p.tasks = std::move(f.tasks);
  return p;
}

float initial(std::size_t tensor, std::size_t i) { return static_cast<float>((i * 7 + tensor * 3) % 5) - 1; }

std::vector<Array> initial_arrays() {
  std::vector<Array> arrays;
  for (std::size_t t = 0; t < 3; ++t) {
    arrays.emplace_back(std::vector<std::int64_t>{rows, cols});
    for (std::size_t i = 0; i < arrays[t].data.size(); ++i) arrays[t].data[i] = initial(t, i);
  }
  return arrays;
}

std::vector<Array> expected(const Program& p) {
  std::vector<Array> arrays = initial_arrays();
  for (const Flat& f : p.tasks) {
    const bool multiplies = f.cost == 7 && f.in.r1 - f.in.r0 == 2 && f.in.c1 - f.in.c0 == 4;
    for (std::int64_t r = 0; r < f.in.r1 - f.in.r0; ++r)
      for (std::int64_t c = 0; c < f.in.c1 - f.in.c0; ++c) {
        const float x = arrays[f.in.tensor].data[static_cast<std::size_t>((f.in.r0 + r) * cols + f.in.c0 + c)];
        arrays[f.out.tensor].data[static_cast<std::size_t>((f.out.r0 + r) * cols + f.out.c0 + c)] = multiplies ? x * x : x + x;
      }
  }
  return arrays;
}

void same_time(const Program& p, const pto_wsp::RunStats& stats) {
  std::vector<std::uint64_t> costs, indptr{0}, indices;
  std::vector<std::int64_t> lanes, windows;
  std::uint64_t in_scope = 0;
  for (const Flat& f : p.tasks) {
    const std::uint64_t at = costs.size();
    lanes.push_back(static_cast<std::int64_t>(f.dispatch == 0 ? at % p.plan.lanes : in_scope++ % p.plan.dispatches[0]));
    windows.push_back(static_cast<std::int64_t>(f.window));
    costs.push_back(f.cost);
    indices.insert(indices.end(), f.deps.begin(), f.deps.end());
    indptr.push_back(indices.size());
  }
  pto_wsp::SimulationOptions options;
  options.pools = {static_cast<std::uint32_t>(p.plan.lanes)};
  options.windows.clear();
  for (const std::uint64_t tasks : p.plan.windows) options.windows.push_back({.tasks = tasks});
  options.issue_cost = p.plan.issue_cost;
  options.handover = p.plan.handover;
  pto_wsp::TaskGraph graph{costs, {indptr, indices}};
  graph.lanes = lanes;
  graph.windows = windows;
  const auto s = simulated(graph, options).simulation;
  CHECK_EQ(stats.total_cycles, s.total);
  CHECK_EQ(stats.windows.size(), s.windows.size());
  for (std::size_t w = 0; w < s.windows.size(); ++w) {
    CHECK_EQ(stats.windows[w].stalls, s.windows[w].stalls);
    CHECK_EQ(stats.windows[w].stall_cycles, s.windows[w].stall_cycles);
    CHECK_EQ(stats.windows[w].high_water, s.windows[w].high_water);
  }
}

void right_order(const Program& p, const Order& order) {
  CHECK_EQ(order.events.size(), 2 * p.tasks.size());
  std::map<std::vector<std::int64_t>, std::vector<std::size_t>> began, ended;
  for (std::size_t i = 0; i < order.events.size(); ++i) (order.events[i].first ? began : ended)[order.events[i].second].push_back(i);
  for (const Flat& f : p.tasks) {
    if (began[f.path].size() != 1) return;  // a body repeated by a loop that is not among its coordinates
    for (const std::uint64_t d : f.deps) CHECK(ended[p.tasks[d].path][0] < began[f.path][0]);
  }
}

Waits waits;

void one(std::uint64_t seed, std::uint32_t threads, bool hook, bool few = false) {
  const Program p = make_program(seed);
  std::vector<Array> arrays = initial_arrays();
  const auto make = [&](const pto_wsp::Resources& resources) {
    auto made = std::make_unique<pto_wsp::Instance>(decode(p.plan.bytes()), threads, resources);
    for (std::size_t t = 0; t < 3; ++t) arrays[t].bind(*made, t);
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
    for (std::size_t t = 0; t < 3; ++t)
      for (std::size_t i = 0; i < arrays[t].data.size(); ++i) arrays[t].data[i] = initial(t, i);
    order.events.clear();
    CHECK(run(instance));
    CHECK(!instance.error().has_value());
    const std::vector<Array> want = expected(p);
    for (std::size_t t = 0; t < 3; ++t)
      CHECK(std::memcmp(want[t].data.data(), arrays[t].data.data(), want[t].data.size() * sizeof(float)) == 0);
    const pto_wsp::RunStats stats = instance.stats();
    CHECK_EQ(stats.task_count, p.tasks.size());
    same_time(p, stats);
    waits.add(stats);
    if (hook) {
      right_order(p, order);
      std::uint64_t limit = 0;
      for (const std::uint64_t w : p.plan.windows) limit += w;
      CHECK(order.most.load() <= std::min<std::uint64_t>(limit, threads));
    }
  }
  if (check::failures.load() != before) std::fprintf(stderr, "seed %llu, %u threads\n", static_cast<unsigned long long>(seed), threads);
}

// Called with buffers that are elsewhere each time: the first call is bound and timed, later ones are made by who calls where they are short.
void called(std::uint64_t seed, std::uint32_t threads) {
  const Program p = make_program(seed);
  pto_wsp::Callee callee(decode(p.plan.bytes()));
  const std::vector<Array> want = expected(p);
  const int before = check::failures.load();
  std::vector<std::vector<Array>> kept;
  for (int again = 0; again < 5; ++again) {
    std::vector<Array>& arrays = kept.emplace_back(initial_arrays());
    constexpr std::int64_t dims[] = {rows, cols}, sources[] = {0, 1, 2};
    std::vector<PtoWspBuffer> buffers;
    for (Array& a : arrays) buffers.push_back({a.data.data(), dims, 2, 0});
    CHECK(!callee.call(buffers, {.threads = threads, .sources = sources}));
    for (std::size_t t = 0; t < 3; ++t)
      CHECK(std::memcmp(want[t].data.data(), arrays[t].data.data(), want[t].data.size() * sizeof(float)) == 0);
  }
  if (check::failures.load() != before) std::fprintf(stderr, "seed %llu, %u threads, called\n", static_cast<unsigned long long>(seed), threads);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t programs = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 150;
  for (std::uint64_t seed = 0; seed < programs; ++seed) {
    one(seed, 1, false);
    one(seed, 1, true);
    one(seed, 2, seed % 2 == 0);
    one(seed, 8, seed % 2 == 1);
    one(seed, 2, seed % 2 == 1, true);
    one(seed, 4, seed % 2 == 0, true);
    called(seed, 1);
    called(seed, 2);
  }
  using pto_wsp::Reason;
  for (const Reason reason : {Reason::task_ring, Reason::window, Reason::dependence_map, Reason::edges, Reason::ready_queue}) CHECK(waits.of(reason) > 0);
  return check::result();
}
