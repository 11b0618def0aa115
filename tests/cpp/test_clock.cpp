// The clock on cases worked by hand, and the recurrence of independent tasks against the general engine.
#include <algorithm>
#include <random>

#include "check.hpp"
#include "simulate_helpers.hpp"

using namespace pto_wsp;

namespace {

using At = Clock::Blocked::At;

struct Graph {
  std::vector<std::uint64_t> costs;
  std::vector<std::vector<std::uint64_t>> deps;
};

Simulation run(const Graph& g, std::uint32_t lanes, std::uint64_t window, std::uint64_t issue_cost = 0, std::uint64_t handover = 0) {
  std::vector<std::uint64_t> indptr{0}, indices;
  for (std::size_t i = 0; i < g.costs.size(); ++i) {
    if (i < g.deps.size()) indices.insert(indices.end(), g.deps[i].begin(), g.deps[i].end());
    indptr.push_back(indices.size());
  }
  SimulationOptions options;
  options.pools = {lanes};
  options.windows[0].tasks = window;
  options.issue_cost = issue_cost;
  options.handover = handover;
  return simulated({g.costs, {indptr, indices}}, options).simulation;
}

Graph free_tasks(std::size_t n, std::uint64_t cost) { return {std::vector<std::uint64_t>(n, cost), {}}; }

Graph chain(std::size_t n, std::uint64_t cost) {
  Graph g = free_tasks(n, cost);
  g.deps.resize(n);
  for (std::size_t i = 1; i < n; ++i) g.deps[i] = {i - 1};
  return g;
}

void worked_cases() {
  const Graph eight = free_tasks(8, 10), sixteen = free_tasks(16, 10);
  CHECK_EQ(run(eight, 4, 65536).total, 20);
  CHECK_EQ(run(eight, 4, 1).total, 80);
  CHECK_EQ(run(eight, 4, 2).total, 40);
  for (const auto& [lanes, total] : {std::pair{1u, 160}, {2u, 80}, {4u, 40}, {16u, 10}}) CHECK_EQ(run(sixteen, lanes, 100).total, total);
  for (const auto& [window, total] : {std::pair{1u, 160}, {2u, 80}, {3u, 60}, {4u, 40}}) CHECK_EQ(run(sixteen, 4, window).total, total);
  CHECK_EQ(run(chain(8, 10), 4, 100).total, 80);
  CHECK_EQ(run(eight, 4, 100, 5).total, 7 * 5 + 10);
  CHECK_EQ(run(eight, 4, 100, 0, 3).total, 23);
  CHECK_EQ(run(free_tasks(5, 0), 1, 100).total, 0);
  CHECK_EQ(run(free_tasks(5, 0), 1, 1).windows[0].stalls, 4);  // stalls of no cycles count
  CHECK_EQ(run(free_tasks(5, 0), 1, 1).windows[0].stall_cycles, 0);
  CHECK_EQ(run(eight, 4, 100).windows[0].high_water, 8);
  CHECK_EQ(run(free_tasks(0, 0), 1, 1).total, 0);
}

void joins_are_as_edges_to_every_member() {
  for (const std::uint64_t window : {2, 5, 100}) {
    ClockOptions options;
    options.lanes = 2;
    options.windows = {window};
    Clock clock(options);
    Graph g;
    ClockRef before;
    std::vector<std::uint64_t> last;
    for (std::uint64_t part = 0; part < 4; ++part) {
      const ClockRef join = clock.open_join();
      std::vector<std::uint64_t> members;
      for (std::uint64_t i = 0; i < 3; ++i) {
        members.push_back(g.costs.size());
        g.costs.push_back(part * i + 1);
        g.deps.push_back(last);
        clock.add_member(join, clock.issue(g.costs.back(), {.lane = static_cast<std::uint32_t>(members.back() % 2)}, {&before, 1}));
      }
      clock.seal(join);
      before = join;
      last = members;
    }
    clock.finish();
    const Simulation direct = run(g, 2, window);
    CHECK_EQ(clock.total_cycles(), direct.total);
    CHECK_EQ(clock.windows()[0].stall_cycles, direct.windows[0].stall_cycles);
    CHECK(clock.complete(before));
  }
}

// What waits for any task of a composite one waits for its end, whether that is issued yet or not.
void composites_stand_for_their_tasks() {
  ClockOptions options;
  options.handover = 1;
  Clock clock(options);
  const ClockRef before = clock.issue(10, {}, {});
  const ClockRef all = clock.stand_for_all_from(2);
  const ClockRef second{3, all.index};
  CHECK(!clock.complete(all) && !clock.complete(second) && clock.complete({1, all.index}));
  const ClockRef both = clock.open_join();
  clock.add_member(both, before);
  clock.add_member(both, second);
  clock.seal(both);
  const ClockRef composite = clock.issue(30, {.lane = no_lane}, {&before, 1}, 1, 3);  // from 12 to 42
  CHECK_EQ(composite.serial, 2);
  clock.end_at(all, 4);
  clock.add_member(all, composite);
  clock.seal(all);
  CHECK(!clock.complete({4, all.index}) && clock.complete({5, all.index}));
  CHECK_EQ(clock.settled(), 0);
  CHECK_EQ(clock.issue(1, {}, {&second, 1}).serial, 5);
  CHECK_EQ(clock.task_count(), 3);
  clock.add_wait({&both, 1});
  clock.issue(1, {}, {});  // behind the boundary, so after the one before it: from 44 to 45
  CHECK(clock.complete(second) && clock.complete(all) && clock.complete(both));
  CHECK_EQ(clock.settled(), 4);
  clock.finish();
  CHECK_EQ(clock.total_cycles(), 45);
  CHECK_EQ(clock.settled(), 6);
}

void boundaries() {
  const auto run_waits = [](std::vector<std::uint64_t> costs, std::vector<std::uint64_t> indptr, std::vector<std::uint64_t> indices,
                            std::uint32_t lanes, std::uint64_t read_cost, std::uint64_t issue_cost = 0) {
    const std::vector<std::uint64_t> none(costs.size() + 1, 0);
    SimulationOptions options;
    options.pools = {lanes};
    options.issue_cost = issue_cost;
    options.read_cost = read_cost;
    return simulated({costs, {none, {}}, {indptr, indices}}, options).simulation;
  };
  const Simulation waits = run_waits({10, 5, 7}, {0, 0, 0, 1}, {0}, 2, 0);
  CHECK(waits.total == 17 && waits.scalar_waits == 1 && waits.scalar_wait_cycles == 10);
  CHECK_EQ(run_waits({10, 7}, {0, 0, 1}, {0}, 2, 3).total, 20);
  const Simulation paid = run_waits({1, 1}, {0, 0, 1}, {0}, 1, 2, 5);  // complete when due: the price of reading alone
  CHECK(paid.total == 8 && paid.scalar_waits == 0 && paid.scalar_wait_cycles == 0);
}

// Several calls before a task are one boundary, and tasks complete long ago need not be named.
void boundaries_of_one_task_are_one() {
  ClockOptions options;
  options.lanes = 2;
  options.read_cost = 3;
  Clock clock(options);
  const ClockRef a = clock.issue(10, {}, {}), b = clock.issue(4, {.lane = 1}, {});
  clock.add_wait({&b, 1});
  clock.add_wait({&a, 1});
  clock.add_wait({});
  clock.issue(1, {}, {});  // from 13 to 14
  CHECK(clock.complete(a) && clock.complete(b));
  clock.add_wait({});
  clock.issue(1, {.lane = 1}, {});  // from 16 to 17
  clock.add_wait({});        // no task follows
  clock.finish();
  CHECK_EQ(clock.total_cycles(), 17);
  CHECK(clock.scalar_waits() == 1 && clock.scalar_wait_cycles() == 10);
}

void the_recurrence_equals_the_engine() {
  std::mt19937_64 random(7);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  for (int round = 0; round < 3000; ++round) {
    ClockOptions options;
    options.lanes = static_cast<std::uint32_t>(1 + below(6));
    options.issue_cost = below(3) == 0 ? below(6) : 0;
    options.handover = below(3) == 0 ? below(6) : 0;
    options.windows.clear();
    for (std::uint64_t w = 0; w <= below(3); ++w) options.windows.push_back(below(6) == 0 ? no_limit : 1 + below(9));
    Clock exact(options);
    LaneClock quick(options);
    const std::uint64_t most = 1 + below(30);
    for (std::uint64_t i = 0, n = below(80); i < n; ++i) {
      const std::uint64_t cost = 1 + below(most);
      const auto lane = static_cast<std::uint32_t>(below(options.lanes));
      const auto window = static_cast<std::uint32_t>(below(options.windows.size()));
      exact.issue(cost, {.lane = lane, .window = window}, {});
      quick.issue(cost, lane, window);
    }
    exact.finish();
    CHECK_EQ(quick.total_cycles(), exact.total_cycles());
    for (std::size_t w = 0; w < options.windows.size(); ++w) {
      CHECK_EQ(quick.windows()[w].stalls, exact.windows()[w].stalls);
      CHECK_EQ(quick.windows()[w].stall_cycles, exact.windows()[w].stall_cycles);
      CHECK_EQ(quick.windows()[w].high_water, exact.windows()[w].high_water);
    }
  }
}

void time_does_not_wrap_around() {
  const std::uint64_t much = std::uint64_t{1} << 61;
  ClockOptions options;
  Clock exact(options);
  LaneClock quick(options);
  for (int i = 0; i < 5; ++i) {
    exact.issue(much, {}, {});
    quick.issue(much, 0, 0);
  }
  exact.finish();
  CHECK(exact.overflowed() && quick.overflowed());
  CHECK(exact.task_count() == 5 && exact.total_cycles() == end_of_time && quick.total_cycles() == end_of_time);
}

// Eight tasks of 10 cycles on lane 0 of 4: the others steal, lowest lane first.
void lanes_steal() {
  const std::vector<std::uint64_t> costs(8, 10), none(9);
  const std::vector<std::int64_t> lanes(8, 0), steals(8, 1), units{0, 0, 0, 0, 1, 1, 1, 1};
  SimulationOptions options;
  TaskGraph graph{costs, {none, {}}};
  graph.steals = steals;
  graph.lanes = lanes;
  const Simulated s = simulated(graph, options);
  CHECK_EQ(s.simulation.total, 20);
  CHECK(std::equal(s.lane.begin(), s.lane.begin() + 4, std::vector<std::uint32_t>{0, 1, 2, 3}.begin()));
  graph.units = units;  // nobody steals from another pool
  options.pools = {1, 3};
  const Simulated typed = simulated(graph, options);
  CHECK_EQ(typed.simulation.total, 40);
  for (std::size_t i = 0; i < 8; ++i) CHECK((typed.lane[i] == 0) == (i < 4));
}

void the_highest_priority_comes_first() {
  const std::vector<std::uint64_t> costs{1, 1, 1, 1}, none(5);
  const std::vector<std::int64_t> priorities{-1, 2, 2, 3};
  SimulationOptions options;
  options.pools = {1};
  TaskGraph graph{costs, {none, {}}};
  graph.priorities = priorities;
  const Simulated s = simulated(graph, options);
  CHECK(s.start == std::vector<std::uint64_t>({3, 1, 2, 0}));
}

void batches_and_starts() {
  const Graph g = free_tasks(8, 10);
  const std::vector<std::uint64_t> none(9);
  SimulationOptions options;
  TaskGraph graph{g.costs, {none, {}}};
  const std::vector<std::int64_t> together(8, 0);
  options.windows[0].tasks = 2;
  options.batches = {4};
  graph.batches = together;
  CHECK_EQ(simulated(graph, options).simulation.total, 40);  // a stall releases what there is
  options.windows[0].tasks = 4;
  options.start = no_limit;
  const Simulation never = simulated({g.costs, {none, {}}}, options).simulation;
  CHECK(never.deadlock && never.deadlock->at->at == At::window && never.deadlock->issued == 4 && never.deadlock->retired == 0);
  options.windows[0].tasks = 8;
  CHECK_EQ(simulated({g.costs, {none, {}}}, options).simulation.total, 20);
}

void bytes_limit_the_ring() {
  const std::vector<std::uint64_t> costs(4, 10), none(5), bytes{60, 60, 500, 1};
  SimulationOptions options;
  options.windows[0].bytes = 100;
  TaskGraph graph{costs, {none, {}}};
  graph.bytes = bytes;
  Simulation s = simulated(graph, options).simulation;
  CHECK(s.total == 40 && s.windows[0].high_bytes == 500 && s.windows[0].stalls == 3);
  options.windows[0].mode = WindowMode::benchmark;
  CHECK(simulated(graph, options).simulation.windows[0].high_bytes == 621);
  options.windows[0].mode = WindowMode::abort;
  s = simulated(graph, options).simulation;
  CHECK(s.needed.size() == 1 && s.needed[0].bytes == 621u && !s.needed[0].tasks);
  options.windows[0].tasks = 3;
  CHECK(simulated(graph, options).simulation.needed.at(0).tasks == 4u);
  options.windows[0].bytes = 621;
  options.windows[0].tasks = 4;
  CHECK_EQ(simulated(graph, options).simulation.total, 10);
}

// Tasks of two batch scopes, one of which is complete before the other's last task.
void a_log_is_told_of_every_task() {
  struct Log : ClockLog {
    void completed(const Task& t) override { lines.push_back({t.position, t.lane, t.issue, t.ready, t.start, t.end}); }
    std::vector<std::vector<std::uint64_t>> lines;
  } log;
  ClockOptions options;
  options.lanes = 2;
  options.handover = 1;
  options.batches = {2, 2};
  Clock clock(options);
  clock.record(log);
  clock.issue(10, {.lane = 0, .batch = 0, .distance = 5}, {});
  clock.issue(10, {.lane = 1, .batch = 1}, {});
  clock.issue(3, {.lane = 0, .batch = 0}, {});
  clock.finish();
  const std::vector<std::vector<std::uint64_t>> expected{{0, 0, 0, 6, 6, 16}, {1, 1, 5, 6, 6, 16}, {2, 0, 5, 6, 16, 19}};
  CHECK(log.lines == expected);
}

void a_blocked_clock_says_where() {
  ClockOptions options;
  options.windows = {8, 2};
  options.window_bytes = {no_limit, 100};
  options.start = 9;
  Clock clock(options);
  CHECK(!clock.blocked());
  clock.issue(1, {.window = 0, .bytes = 7}, {});
  clock.issue(1, {.window = 1, .bytes = 70}, {});
  clock.issue(1, {.window = 1, .bytes = 40}, {});  // no room, and nothing starts
  CHECK(clock.deadlocked());
  const Clock::Blocked& b = *clock.blocked();
  CHECK(b.at == At::window && b.window == 1 && b.tasks == 1 && b.limit == 2 && b.bytes == 70 && b.byte_limit == 100);
  CHECK(b.more_bytes == 40 && b.issued == 2 && b.first == 1u && b.start == 9);
}

// The previous task of a stream in order of issue; look-ahead ends at boundaries and at what is not issued.
void streams_take_turns() {
  const std::vector<std::uint64_t> costs(6, 1), none(7);
  const std::vector<std::int64_t> streams{0, 0, 0, 1, 1, 1};
  SimulationOptions options;
  options.pools = {1};
  options.issue_cost = 1;
  options.interleave = 2;
  TaskGraph graph{costs, {none, {}}};
  graph.streams = streams;
  CHECK(simulated(graph, options).start == std::vector<std::uint64_t>({0, 2, 4, 1, 3, 5}));
  options.windows[0].tasks = 1;
  CHECK(simulated(graph, options).start == std::vector<std::uint64_t>({0, 1, 2, 3, 4, 5}));
  options.windows[0].tasks = no_limit;
  const std::vector<std::uint64_t> waits{0, 0, 1, 1, 1, 1, 1}, first{0};
  graph.waits = {waits, first};
  CHECK(simulated(graph, options).start == std::vector<std::uint64_t>({0, 1, 3, 2, 4, 5}));
}

void later_tasks_are_waited_for() {
  const std::vector<std::uint64_t> costs{1, 2, 3}, indptr{0, 2, 2, 2}, indices{2, 1}, itself{0, 1, 1, 1}, zero{0};
  SimulationOptions options;
  const Simulated s = simulated({costs, {indptr, indices}}, options);
  CHECK(s.start == std::vector<std::uint64_t>({3, 0, 0}) && s.lane == std::vector<std::uint32_t>({0, 1, 2}));
  options.windows[0].tasks = 2;
  const Simulation full = simulated({costs, {indptr, indices}}, options).simulation;
  CHECK(full.deadlock && full.deadlock->at->at == At::window && full.deadlock->issued == 2 && full.deadlock->retired == 0);
  const Simulation never = simulated({costs, {itself, zero}}, options).simulation;
  CHECK(never.deadlock && never.deadlock->at->at == At::window);
  options.windows[0].tasks = 3;
  const Simulation own = simulated({costs, {itself, zero}}, options).simulation;
  CHECK(own.deadlock && own.deadlock->at->at == At::end && own.deadlock->issued == 3);
  options.interleave = 1;
  const Simulation order = simulated({costs, {itself, zero}}, options).simulation;
  CHECK(order.deadlock && !order.deadlock->at && order.deadlock->issued == 0);
}

void the_largest_and_its_place() {
  for (const std::uint32_t size : {1u, 3u, 8u}) {
    Tournament t(size);
    CHECK_EQ(t.largest(), 0);
    t.set(size - 1, 2);
    CHECK(t.largest() == 2 && t.place() == size - 1);
    t.set(0, 2);
    CHECK(t.largest() == 2 && t.place() == 0);
    t.set(0, 1);
    CHECK(t.place() == (size == 1 ? 0 : size - 1) && t[0] == 1);
  }
}

void wrong_graphs_are_refused() {
  const std::vector<std::uint64_t> costs{1}, indptr{0, 1}, beyond{1}, none{0, 0};
  const std::vector<std::int64_t> one{1}, none_at{0};
  const SimulationOptions options;
  const auto refused = [&](const TaskGraph& graph, const SimulationOptions& o) {
    CHECK_THROWS(std::invalid_argument, simulated(graph, o));
  };
  refused({costs, {indptr, beyond}}, options);
  refused({costs, {indptr, {}}}, options);
  refused({costs, {beyond, {}}}, options);
  refused({costs, {none, {}}, {indptr, beyond}}, options);
  TaskGraph graph{costs, {none, {}}};
  graph.units = one;
  refused(graph, options);
  graph.units = {};
  const std::vector<std::int64_t> two{1, 1};
  graph.lanes = two;
  refused(graph, options);
  graph.lanes = {};
  SimulationOptions other;
  other.pools = {4, 0};
  refused(graph, other);
  other.pools = {65536, 1};
  refused(graph, other);
  other.pools = {1};
  other.windows[0].tasks = 0;
  refused(graph, other);
  other.windows.clear();
  refused(graph, other);
  other.windows = {{.tasks = 1}};
  other.batches = {0};
  refused(graph, other);
  other.batches = {};
  graph.batches = none_at;
  refused(graph, other);
  graph.batches = {};
  graph.windows = one;
  refused(graph, other);
  other.interleave = 1;
  refused(graph, other);
  refused({costs, {indptr, beyond}}, other);
  CHECK_THROWS(std::invalid_argument, simulate(graph, options, {}));
}

}  // namespace

int main() {
  worked_cases();
  joins_are_as_edges_to_every_member();
  composites_stand_for_their_tasks();
  boundaries();
  boundaries_of_one_task_are_one();
  the_recurrence_equals_the_engine();
  time_does_not_wrap_around();
  lanes_steal();
  the_highest_priority_comes_first();
  batches_and_starts();
  bytes_limit_the_ring();
  a_log_is_told_of_every_task();
  a_blocked_clock_says_where();
  streams_take_turns();
  later_tasks_are_waited_for();
  the_largest_and_its_place();
  wrong_graphs_are_refused();
  return check::result();
}
