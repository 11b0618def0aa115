// The ready tasks of ranked runs against a plain list of them, who is called, and rings that count bytes.
#include <algorithm>
#include <optional>
#include <vector>

#include "check.hpp"
#include "order_helpers.hpp"
#include "pto_wsp/ready.hpp"
#include "pto_wsp/ring.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::no_worker;
using pto_wsp::RankedReady;

namespace {

struct Listed {
  std::uint64_t serial;
  std::int64_t priority;
  std::uint32_t worker;
};

std::uint64_t take_from(std::vector<Listed>& list, std::uint32_t worker) {
  auto best = list.end();
  for (auto at = list.begin(); at != list.end(); ++at) {
    if (at->worker != no_worker && at->worker != worker) continue;
    if (best == list.end() || at->priority > best->priority || (at->priority == best->priority && at->serial < best->serial)) best = at;
  }
  if (best == list.end()) return 0;
  const std::uint64_t serial = best->serial;
  list.erase(best);
  return serial;
}

void takes_the_best_there_is() {
  constexpr std::uint64_t capacity = 64;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    Rng rng{std::mt19937_64(seed)};
    const auto workers = static_cast<std::uint32_t>(rng.below(5));
    RankedReady ready;
    ready.prepare(workers, capacity);
    std::vector<Listed> list;
    std::uint64_t serial = 0;
    const auto anybody = [&] {
      const auto w = static_cast<std::uint32_t>(rng.below(workers + 1));
      return w == workers ? no_worker : w;
    };
    for (int step = 0; step < 3000; ++step) {
      const std::uint64_t oldest = list.empty() ? serial + 1 : std::ranges::min(list, {}, &Listed::serial).serial;
      if (rng.chance(55) && serial + 1 - oldest < capacity) {
        list.push_back({++serial, rng.below(4) - 2, anybody()});
        ready.push(list.back().serial, list.back().priority, list.back().worker);
      } else if (rng.chance(3)) {
        const std::uint64_t any = ready.take_any();
        CHECK_EQ(std::erase_if(list, [&](const Listed& l) { return l.serial == any; }), any == 0 ? 0u : 1u);
      } else {
        const std::uint32_t who = anybody();
        CHECK_EQ(ready.take(who), take_from(list, who));
      }
      CHECK_EQ(ready.ready(), list.size());
    }
  }
}

std::vector<std::uint32_t> called(RankedReady& ready) {
  std::vector<std::uint32_t> all;
  for (std::uint32_t w = ready.call(); w != no_worker; w = ready.call()) all.push_back(w);
  std::ranges::sort(all);
  return all;
}

void calls_those_who_are_away() {
  using Workers = std::vector<std::uint32_t>;
  RankedReady ready;
  ready.prepare(3, 16);
  ready.enter(0);
  ready.push(1, 0, 0);
  CHECK(called(ready).empty());
  ready.push(2, 0, 2);
  ready.push(3, 0, 2);
  CHECK(called(ready) == Workers{2});
  ready.push(4, 0, 2);
  CHECK(called(ready) == Workers{2});  // once more: it may have looked before
  ready.push(5, 0, 1);
  ready.enter(1);
  CHECK(called(ready).empty());  // it is there by now
  ready.leave(1);
  ready.push(6, 0, no_worker);
  ready.push(7, 0, no_worker);
  ready.push(8, 0, no_worker);
  CHECK(called(ready) == (Workers{1, 2}));
  ready.enter(2);
  ready.enter(1);
  ready.push(9, 0, no_worker);
  CHECK(called(ready).empty());
}

void nothing_is_taken_while_it_is_closed() {
  RankedReady ready;
  ready.prepare(3, 16);
  ready.close();
  ready.push(1, 0, 1);
  ready.push(2, 5, no_worker);
  CHECK_EQ(ready.ready(1), 0u);
  CHECK_EQ(ready.take(1), 0u);
  CHECK(called(ready).empty());
  ready.open();
  CHECK_EQ(called(ready).size(), 2u);
  CHECK_EQ(ready.ready(0), 1u);
  CHECK_EQ(ready.ready(1), 2u);
  CHECK_EQ(ready.take(1), 2u);
  ready.close();
  CHECK_EQ(ready.take_any(), 1u);  // to be dropped
}

struct Bytes100 {
  std::shared_ptr<const pto_wsp::Plan> plan = decode(two_loops(64).bytes());
  std::vector<Array> arrays;
  pto_wsp::BoundPlan bound;
  pto_wsp::Ring ring;
  std::vector<pto_wsp::Arg> args;

  explicit Bytes100(bool ranked) {
    std::vector<pto_wsp::Buffer> buffers;
    for (int i = 0; i < 3; ++i) {
      arrays.emplace_back(std::vector<std::int64_t>{64, 8});
      buffers.push_back({reinterpret_cast<std::byte*>(arrays.back().data.data()), {64, 8}, {32, 4}});
    }
    CHECK(!bound.bind(*plan, {}, buffers).has_value());
    args.resize(bound.max_args());
    const pto_wsp::Window windows[] = {{8, 100}, {2, ~std::uint64_t{0}}};
    ring.prepare(bound, {.windows = windows, .resources = pto_wsp::resolve({}, bound, 0), .ranked = ranked});
  }
  static pto_wsp::Placement of(std::uint32_t window, std::uint64_t bytes) {
    pto_wsp::Placement placement;
    placement.window = window;
    placement.bytes = bytes;
    return placement;
  }
  bool room(std::uint32_t window, std::uint64_t bytes) { return ring.lacks(of(window, bytes), {}) == pto_wsp::Reason::nothing; }
  void issue(std::uint32_t window, std::uint64_t bytes) {
    CHECK(room(window, bytes));
    ring.issue(bound.task(0), {args.data(), nullptr, bound.initial_regs().data(), 0}, {}, of(window, bytes));
  }
  void run_one() {
    pto_wsp::Ring::Node* node = ring.take(no_worker);
    CHECK(node != nullptr);
    if (node != nullptr) CHECK(ring.complete(node) == nullptr);
  }
};

// What is run where it is issued takes a place for as long, and nobody else can take it.
void tasks_may_pass() {
  Bytes100 b(false);
  CHECK(b.ring.idle());
  const auto pass = [&](std::uint64_t bytes) {
    CHECK(b.room(0, bytes));
    return b.ring.pass({{}, {}, 5}, Bytes100::of(0, bytes)).serial;
  };
  CHECK_EQ(pass(60), 1u);
  CHECK_EQ(pass(70), 2u);
  CHECK(b.ring.finished(2) && b.ring.idle());
  b.issue(0, 10);
  CHECK(!b.ring.idle() && !b.ring.finished(3));
  pto_wsp::Ring::Node* here = nullptr;
  const pto_wsp::ClockRef before{3, 0};
  b.ring.issue(b.bound.task(0), {b.args.data(), nullptr, b.bound.initial_regs().data(), 0}, {{&before, 1}, {}, 0}, Bytes100::of(0, 10), &here);
  CHECK(here == nullptr);  // it waits for the one before
  b.ring.issue(b.bound.task(0), {b.args.data(), nullptr, b.bound.initial_regs().data(), 0}, {}, Bytes100::of(0, 10), &here);
  CHECK(here != nullptr && here->serial == 5);
  pto_wsp::Ring::Node* const first = b.ring.take(no_worker);
  CHECK(first != nullptr && first->serial == 3 && b.ring.take(no_worker) == nullptr);
  CHECK(b.ring.complete(here) == nullptr);
  pto_wsp::Ring::Node* const second = b.ring.complete(first);
  CHECK(second != nullptr && second->serial == 4);
  CHECK(b.ring.complete(second) == nullptr && b.ring.retired(5) && b.ring.idle());
  CHECK_EQ(b.ring.issued(), 5u);
  CHECK_EQ(b.ring.shared(), 3u);
  CHECK_EQ(b.ring.completed(), 3u);
  CHECK_EQ(b.ring.window_high_water()[0].tasks, 3u);
  CHECK_EQ(b.ring.window_high_water()[0].bytes, 70u);
  pto_wsp::AllResourceStats stats;
  b.ring.result(stats);
  CHECK_EQ(stats[static_cast<std::size_t>(pto_wsp::Reason::dependence_map)].high_water, 5u);
}

void windows_count_tasks_and_bytes() {
  for (const bool ranked : {false, true}) {
    Bytes100 b(ranked);
    b.issue(0, 60);
    b.issue(0, 40);
    CHECK(!b.room(0, 1));
    CHECK(b.room(0, 0));
    b.issue(1, 1'000'000);
    b.issue(1, 0);
    CHECK(!b.room(1, 0));  // two tasks
    b.run_one();
    CHECK(b.room(0, 60));
    CHECK(!b.room(0, 61));
    b.run_one();
    b.issue(0, 5000);  // an empty window admits any
    CHECK(!b.room(0, 1));
    const std::vector<pto_wsp::InFlight> most = b.ring.window_high_water();
    CHECK_EQ(most[0].tasks, 2u);
    CHECK_EQ(most[0].bytes, 5000u);
    CHECK_EQ(most[1].tasks, 2u);
    CHECK_EQ(most[1].bytes, 1'000'000u);
    CHECK_EQ(b.ring.max_in_flight(), 4u);
  }
}

void short_tasks_are_found_by_measuring() {
  using std::chrono::nanoseconds;
  const auto plan = decode(two_loops(4).bytes());
  pto_wsp::ShortTasks tasks(*plan);
  CHECK(!tasks.expects(0, 0));
  tasks.measured(0, 10, nanoseconds(100));
  CHECK(tasks.expects(0, 0) && tasks.expects(0, 10) && !tasks.expects(0, 11));
  for (int i = 0; i < 8; ++i) tasks.measured(0, 40, nanoseconds(1000));
  CHECK(tasks.expects(0, 10) && !tasks.expects(0, 40));
  // Once or twice it is noise, or too long to be.
  tasks.measured(0, 10, nanoseconds(1000));
  tasks.measured(0, 10, nanoseconds(1000));
  tasks.measured(0, 10, nanoseconds(100));
  tasks.measured(0, 10, nanoseconds(1000));
  tasks.measured(0, 10, nanoseconds(1000));
  CHECK(tasks.expects(0, 10));
  tasks.measured(0, 10, nanoseconds(1000));
  CHECK(tasks.expects(0, 9) && !tasks.expects(0, 10));
  tasks.measured(0, 10, nanoseconds(100));
  CHECK(tasks.expects(0, 10));
  tasks.measured(0, 10, nanoseconds(2000));
  CHECK(!tasks.expects(0, 10));
  int sampled = 0;
  for (std::uint64_t serial = 0; serial < 32'000; serial += 2) sampled += pto_wsp::ShortTasks::samples(serial) ? 1 : 0;
  CHECK(sampled > 400 && sampled < 600);  // of every second task as well
}

}  // namespace

int main() {
  takes_the_best_there_is();
  calls_those_who_are_away();
  nothing_is_taken_while_it_is_closed();
  windows_count_tasks_and_bytes();
  tasks_may_pass();
  short_tasks_are_found_by_measuring();
  return check::result();
}
