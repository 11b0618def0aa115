// The clock on cases worked by hand, and the recurrence of independent tasks against the general engine.
#include <random>

#include "check.hpp"
#include "pto_wsp/simulate.hpp"

using namespace pto_wsp;

namespace {

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
  return simulate({g.costs, {}, indptr, indices, window, lanes, issue_cost, handover});
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
  CHECK_EQ(run(free_tasks(5, 0), 1, 1).window.stalls, 4);  // stalls of no cycles count
  CHECK_EQ(run(free_tasks(5, 0), 1, 1).window.stall_cycles, 0);
  CHECK_EQ(run(eight, 4, 100).window.high_water, 8);
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
        clock.add_member(join, clock.issue(g.costs.back(), static_cast<std::uint32_t>(members.back() % 2), 0, {&before, 1}));
      }
      clock.seal(join);
      before = join;
      last = members;
    }
    clock.finish();
    const Simulation direct = run(g, 2, window);
    CHECK_EQ(clock.total_cycles(), direct.total);
    CHECK_EQ(clock.windows()[0].stall_cycles, direct.window.stall_cycles);
    CHECK(clock.complete(before));
  }
}

void boundaries() {
  const auto run_waits = [](std::vector<std::uint64_t> costs, std::vector<std::uint64_t> indptr, std::vector<std::uint64_t> indices,
                            std::uint32_t lanes, std::uint64_t read_cost, std::uint64_t issue_cost = 0) {
    const std::vector<std::uint64_t> none(costs.size() + 1, 0);
    return simulate({costs, {}, none, {}, 65536, lanes, issue_cost, 0, indptr, indices, read_cost});
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
  const ClockRef a = clock.issue(10, 0, 0, {}), b = clock.issue(4, 1, 0, {});
  clock.add_wait({&b, 1});
  clock.add_wait({&a, 1});
  clock.add_wait({});
  clock.issue(1, 0, 0, {});  // from 13 to 14
  CHECK(clock.complete(a) && clock.complete(b));
  clock.add_wait({});
  clock.issue(1, 1, 0, {});  // from 16 to 17
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
    for (std::uint64_t w = 0; w <= below(3); ++w) options.windows.push_back(1 + below(9));
    Clock exact(options);
    LaneClock quick(options);
    const std::uint64_t most = 1 + below(30);
    for (std::uint64_t i = 0, n = below(80); i < n; ++i) {
      const std::uint64_t cost = 1 + below(most);
      const auto lane = static_cast<std::uint32_t>(below(options.lanes));
      const auto window = static_cast<std::uint32_t>(below(options.windows.size()));
      exact.issue(cost, lane, window, {});
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
    exact.issue(much, 0, 0, {});
    quick.issue(much, 0, 0);
  }
  exact.finish();
  CHECK(exact.overflowed() && quick.overflowed());
  CHECK(exact.task_count() == 5 && exact.total_cycles() == end_of_time && quick.total_cycles() == end_of_time);
}

void wrong_graphs_are_refused() {
  const std::vector<std::uint64_t> costs{1}, indptr{0, 1}, own{0};
  CHECK_THROWS(std::invalid_argument, simulate({costs, {}, indptr, own, 1, 1, 0, 0}));
  CHECK_THROWS(std::invalid_argument, simulate({costs, {}, indptr, {}, 1, 1, 0, 0}));
}

}  // namespace

int main() {
  worked_cases();
  joins_are_as_edges_to_every_member();
  boundaries();
  boundaries_of_one_task_are_one();
  the_recurrence_equals_the_engine();
  time_does_not_wrap_around();
  wrong_graphs_are_refused();
  return check::result();
}
