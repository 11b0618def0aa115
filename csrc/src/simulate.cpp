#include "pto_wsp/simulate.hpp"

#include <algorithm>
#include <bit>
#include <functional>
#include <stdexcept>
#include <unordered_map>

#include "pto_wsp/timekeeper.hpp"

namespace pto_wsp {
namespace {

using Order = std::vector<std::uint64_t>;

// The list of task `i`. Arrays are read where they are used, so that nothing is read outside of them, whatever they hold.
std::span<const std::uint64_t> list(const TaskLists& lists, std::size_t i) {
  const std::uint64_t first = lists.indptr[i], last = lists.indptr[i + 1];
  if (first > last || last > lists.indices.size()) throw std::invalid_argument("indptr does not divide indices among the tasks");
  return lists.indices.subspan(first, last - first);
}

bool has_boundary(const TaskGraph& g, std::size_t i) { return !g.waits.indptr.empty() && !list(g.waits, i).empty(); }

// An entry of a column, which may be missing.
template <class T>
T entry(std::span<const T> column, std::size_t i, T absent) {
  return column.empty() ? absent : column[i];
}

std::size_t window(const TaskGraph& g, const std::vector<WindowLimits>& windows, std::size_t i) {
  const auto at = static_cast<std::size_t>(entry<std::int64_t>(g.windows, i, 0));
  if (at >= windows.size()) throw std::invalid_argument("a task's window does not exist");
  return at;
}

class Recorder : public ClockLog {
 public:
  static constexpr std::uint32_t took_none = 65536;  // above all lanes, and told apart from what is in flight
  explicit Recorder(const SimulationTrace& trace) : trace_(trace) {}

  void completed(const Task& task) override {
    trace_.start[task.position] = task.start;
    trace_.end[task.position] = task.end;
    trace_.lane[task.position] = task.lane == no_lane ? took_none : task.lane;
    if (!trace_.issue.empty()) trace_.issue[task.position] = task.issue;
    if (!trace_.ready.empty()) trace_.ready[task.position] = task.ready;
  }

 private:
  SimulationTrace trace_;
};

// What the clock knows of tasks that are not complete, kept where their results will stand: the lane's place holds the slot of a
// task in flight, or the join that others wait for until a later task is issued, whose serial is in the start's place.
class Places {
 public:
  static constexpr std::uint64_t most = std::uint64_t{1} << 30;

  Places(Clock& clock, const SimulationTrace& trace) : clock_(clock), trace_(trace) { std::ranges::fill(trace_.lane, unknown); }

  // What completes with task `i`.
  ClockRef ref(std::uint64_t i) {
    if (i >= trace_.lane.size()) throw std::invalid_argument("a task that is waited for does not exist");
    const std::uint32_t at = trace_.lane[i];
    if (at < slot_bit) return {};
    if (at == unknown) return await(i);
    if ((at & ClockRef::join_bit) != 0) return {trace_.start[i], at};
    return {i + 1, at & ~slot_bit};
  }

  void issued(std::uint64_t i, ClockRef task) {
    const std::uint32_t at = trace_.lane[i];
    trace_.lane[i] = task.index | slot_bit;
    if (at == unknown) return;
    const ClockRef awaited{trace_.start[i], at};
    clock_.add_member(awaited, task);
    clock_.seal(awaited);
  }

 private:
  static constexpr std::uint32_t unknown = 0xffffffffu, slot_bit = 0x40000000u;
  static_assert(slot_bit == most && (slot_bit & ClockRef::join_bit) == 0);

  ClockRef await(std::uint64_t i) {
    const ClockRef join = clock_.open_join();
    trace_.start[i] = join.serial;
    trace_.lane[i] = join.index;
    return join;
  }

  Clock& clock_;
  SimulationTrace trace_;
};

// Positions from which some are taken, each once.
class Remaining {
 public:
  explicit Remaining(std::size_t n) : sums_(n + 1), top_(std::bit_floor(n)) {
    for (std::size_t i = 1; i <= n; ++i) sums_[i] = i & (~i + 1);
  }

  void take(std::size_t position) {
    for (std::size_t i = position + 1; i < sums_.size(); i += i & (~i + 1)) --sums_[i];
  }
  /// Above the first `count` that are left, or above all.
  std::size_t after(std::uint64_t count) const {
    std::size_t at = 0;
    for (std::size_t step = top_; step != 0; step /= 2) {
      if (at + step >= sums_.size() || sums_[at + step] >= count) continue;
      at += step;
      count -= sums_[at];
    }
    return std::min(at + 1, sums_.size() - 1);
  }

 private:
  std::vector<std::uint64_t> sums_;                   // i: how many of the last (lowest bit of i) positions below i are left
  std::size_t top_;
};

// The order of issue that takes one task of each stream in turn among the next tasks that are not issued, as many as the window of
// the first of them holds, never past what a task waits for or a boundary. None: a task waits for one that comes after it in
// every order.
class Interleaving {
 public:
  Interleaving(const TaskGraph& g, const SimulationOptions& o) : g_(g), windows_(o.windows), remaining_(g.costs.size()) {
    const std::size_t n = g.costs.size();
    for (std::size_t i = 0; i < n; ++i)
      turn_.push_back(g.streams.empty() || g.streams[i] < 0 ? 0 : static_cast<std::uint64_t>(g.streams[i]) % o.interleave);
    turn_around(n);
  }

  std::optional<Order> order() {
    const std::size_t n = turn_.size();
    Order out;
    while (out.size() < n) {
      const std::optional<std::uint64_t> next = turns_.take(look_ahead());
      if (!next) return std::nullopt;
      const std::uint64_t i = *next;
      remaining_.take(i);
      --near_;
      out.push_back(i);
      for (std::uint64_t u = users_first_[i]; u < users_first_[i + 1]; ++u)
        if (--missing_[users_[u]] == 0 && users_[u] < end_) turns_.add(turn_[users_[u]], users_[u]);
    }
    return out;
  }

 private:
  // Who waits for each task.
  void turn_around(std::size_t n) {
    missing_.resize(n);
    users_first_.resize(n + 2);
    for (std::size_t i = 0; i < n; ++i)
      for (const std::uint64_t d : list(g_.deps, i)) {
        if (d >= n) throw std::invalid_argument("a task that is waited for does not exist");
        ++users_first_[d + 2];
        ++missing_[i];
      }
    for (std::size_t i = 2; i < n + 2; ++i) users_first_[i] += users_first_[i - 1];
    users_.resize(users_first_[n + 1]);
    for (std::size_t i = 0; i < n; ++i)
      for (const std::uint64_t d : list(g_.deps, i)) users_.at(users_first_.at(d + 1)++) = i;
  }

  // Says below which position tasks may be issued. What lies behind a boundary is not known before its task is issued; that comes
  // when it is the first.
  std::size_t look_ahead() {
    const std::uint64_t most = windows_[window(g_, windows_, remaining_.after(1) - 1)].tasks;
    if (near_ == 0) behind_boundary_ = false;
    while (end_ < turn_.size() && near_ < most && !behind_boundary_) {
      if (has_boundary(g_, end_)) {
        if (near_ != 0) break;
        behind_boundary_ = true;
      }
      const std::size_t i = end_++;
      ++near_;
      if (missing_[i] == 0) turns_.add(turn_[i], i);
    }
    return near_ > most ? remaining_.after(most) : end_;  // a window before it held more
  }

  const TaskGraph& g_;
  const std::vector<WindowLimits>& windows_;
  Remaining remaining_;                               // not issued
  std::vector<std::uint64_t> turn_;                   // of each task
  std::vector<std::uint64_t> missing_;                // of each task: what it waits for and is not issued
  std::vector<std::uint64_t> users_first_, users_;
  Turns turns_;                                       // tasks that may be issued
  std::size_t end_ = 0;                               // tasks below it are issued or near; so may be some that lie too far now
  std::uint64_t near_ = 0;
  bool behind_boundary_ = false;
};

ClockOptions clock_options(const TaskGraph& g, const SimulationOptions& o) {
  ClockOptions c;
  c.lanes = 0;
  for (const std::uint32_t lanes : o.pools) c.lanes += lanes;
  c.issue_cost = o.issue_cost;
  c.handover = o.handover;
  c.read_cost = o.read_cost;
  c.windows.clear();
  for (const WindowLimits& w : o.windows) {
    c.windows.push_back(w.tasks);
    if (!g.bytes.empty()) c.window_bytes.push_back(w.bytes);
  }
  c.batches = o.batches;
  c.ranked = !g.priorities.empty();
  c.steals = !g.steals.empty();
  c.pools = o.pools;
  c.start = o.start;
  return c;
}

Placement placement(const TaskGraph& g, const SimulationOptions& o, const std::vector<std::uint64_t>& first_lane, std::size_t i) {
  const auto pool = static_cast<std::size_t>(entry<std::int64_t>(g.units, i, 0));
  if (pool >= o.pools.size()) throw std::invalid_argument("a task's unit has no pool");
  const std::int64_t lane = entry<std::int64_t>(g.lanes, i, -1);
  const std::int64_t batch = entry<std::int64_t>(g.batches, i, -1);
  if (batch >= 0 && static_cast<std::size_t>(batch) >= o.batches.size()) throw std::invalid_argument("a task's batch does not exist");
  Placement p;
  p.lane = entry<std::int64_t>(g.composites, i, 0) != 0 ? no_lane : static_cast<std::uint32_t>(first_lane[pool] + (lane < 0 ? i : static_cast<std::uint64_t>(lane)) % o.pools[pool]);
  p.window = static_cast<std::uint32_t>(window(g, o.windows, i));
  if (batch >= 0) p.batch = static_cast<std::uint32_t>(batch);
  p.steal = entry<std::int64_t>(g.steals, i, 0) != 0;
  p.priority = entry<std::int64_t>(g.priorities, i, 0);
  p.bytes = entry<std::uint64_t>(g.bytes, i, 0);
  p.distance = entry<std::uint64_t>(g.distances, i, 0);
  return p;
}

Simulation run(const TaskGraph& g, const SimulationOptions& o, const SimulationTrace& trace) {
  const std::size_t n = g.costs.size();
  Order order;
  if (o.interleave != 0) {
    std::optional<Order> found = Interleaving(g, o).order();
    if (!found) {
      Simulation never;
      never.deadlock.emplace();
      return never;
    }
    order = std::move(*found);
  }
  std::vector<std::uint64_t> first_lane;
  for (std::uint64_t first = 0; const std::uint32_t lanes : o.pools) {
    first_lane.push_back(first);
    first += lanes;
  }
  Clock clock(clock_options(g, o));
  Recorder recorder(trace);
  clock.record(recorder);
  std::uint64_t room = 0;
  for (const WindowLimits& w : o.windows) room += std::min<std::uint64_t>(n, w.tasks);
  clock.reserve(std::min<std::uint64_t>(n, room));
  Places places(clock, trace);
  std::unordered_map<std::int64_t, std::uint64_t> last_of_stream;
  std::vector<ClockRef> refs;
  for (std::size_t at = 0; at < n && !clock.deadlocked(); ++at) {
    const std::size_t i = order.empty() ? at : order[at];
    if (has_boundary(g, i)) {
      refs.clear();
      for (const std::uint64_t task : list(g.waits, i)) refs.push_back(places.ref(task));
      clock.add_wait(refs);
    }
    refs.clear();
    for (const std::uint64_t task : list(g.deps, i)) refs.push_back(places.ref(task));
    if (!g.streams.empty() && g.streams[i] >= 0) {
      const auto [last, is_first] = last_of_stream.try_emplace(g.streams[i], i);
      if (!is_first) refs.push_back(places.ref(last->second));
      last->second = i;
    }
    const ClockRef task = clock.issue(g.costs[i], placement(g, o, first_lane, i), refs, i);
    if (!clock.deadlocked()) places.issued(i, task);
  }
  if (!clock.deadlocked()) clock.finish();
  if (!g.composites.empty()) std::ranges::replace(trace.lane, Recorder::took_none, no_lane);
  Simulation out;
  out.overflowed = clock.overflowed();
  if (clock.deadlocked()) {
    out.deadlock = {clock.task_count(), clock.task_count() - clock.in_flight(), clock.blocked()};
    return out;
  }
  out.total = clock.total_cycles();
  out.windows = clock.windows();
  out.scalar_waits = clock.scalar_waits();
  out.scalar_wait_cycles = clock.scalar_wait_cycles();
  return out;
}

void check(const TaskGraph& g, const SimulationOptions& o, const SimulationTrace& trace) {
  const std::size_t n = g.costs.size();
  const auto fits = [n](std::size_t size) { return size == 0 || size == n; };
  if (n >= Places::most) throw std::invalid_argument("there must be fewer than 2^30 tasks");
  if (g.deps.indptr.size() != n + 1 || (!g.waits.indptr.empty() && g.waits.indptr.size() != n + 1))
    throw std::invalid_argument("indptr has one entry more than there are tasks");
  if (!fits(g.lanes.size()) || !fits(g.streams.size()) || !fits(g.priorities.size()) || !fits(g.units.size()) || !fits(g.steals.size()) ||
      !fits(g.windows.size()) || !fits(g.batches.size()) || !fits(g.distances.size()) || !fits(g.bytes.size()) || !fits(g.composites.size()))
    throw std::invalid_argument("there must be one entry for each task");
  if (trace.start.size() != n || trace.end.size() != n || trace.lane.size() != n || !fits(trace.issue.size()) || !fits(trace.ready.size()))
    throw std::invalid_argument("the trace must have a place for each task");
  std::uint64_t lanes = 0;
  for (const std::uint32_t pool : o.pools) lanes += pool;
  if (o.pools.empty() || std::ranges::count(o.pools, 0u) != 0 || lanes > 65536) throw std::invalid_argument("there must be 1 to 65536 lanes");
  if (o.windows.empty()) throw std::invalid_argument("there must be a window");
  if (std::ranges::count(o.windows, 0u, &WindowLimits::tasks) != 0 || std::ranges::count(o.batches, 0u) != 0)
    throw std::invalid_argument("a window and a batch hold at least one task");
}

}  // namespace

Simulation simulate(const TaskGraph& g, const SimulationOptions& o, const SimulationTrace& trace) {
  check(g, o, trace);
  SimulationOptions free = o, limited = o;
  bool aborts = false;
  for (std::size_t w = 0; w < o.windows.size(); ++w) {
    const WindowMode mode = o.windows[w].mode;
    if (mode != WindowMode::stall) free.windows[w] = {};
    if (mode == WindowMode::benchmark) limited.windows[w] = {};
    aborts = aborts || mode == WindowMode::abort;
  }
  Simulation out = run(g, free, trace);
  if (!aborts) return out;
  if (!out.deadlock) {
    for (std::size_t w = 0; w < o.windows.size(); ++w) {
      if (o.windows[w].mode != WindowMode::abort) continue;
      Simulation::Needed needed{w, {}, {}};
      if (out.windows[w].high_water > o.windows[w].tasks) needed.tasks = out.windows[w].high_water;
      if (out.windows[w].high_bytes > o.windows[w].bytes) needed.bytes = out.windows[w].high_bytes;
      if (needed.tasks || needed.bytes) out.needed.push_back(needed);
    }
    // Nothing was in the way, and only the order of issue may depend on the windows.
    if (!out.needed.empty() || o.interleave == 0) return out;
  }
  return run(g, limited, trace);
}

WindowStats total(std::span<const WindowStats> windows) {
  WindowStats sum;
  for (const WindowStats& w : windows) {
    sum.stalls += w.stalls;
    sum.stall_cycles += w.stall_cycles;
    sum.high_water = std::max(sum.high_water, w.high_water);
    sum.high_bytes = std::max(sum.high_bytes, w.high_bytes);
  }
  return sum;
}

}  // namespace pto_wsp
