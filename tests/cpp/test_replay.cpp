// Schedules that are forced upon runs: who runs what, in which order; those that cannot be are found; traced and going on after
// failures meanwhile.
#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "order_helpers.hpp"
#include "pto_wsp/ready.hpp"
#include "pto_wsp/replay.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::no_worker;
using pto_wsp::RankedReady;
using pto_wsp::Replay;

namespace {

constexpr std::int64_t rows = 40;

struct TwoLoops {
  std::vector<Array> arrays;
  pto_wsp::Instance instance;

  TwoLoops(const Plan& plan, std::uint32_t threads) : instance(decode(plan.bytes()), threads) {
    for (int i = 0; i < 3; ++i) arrays.emplace_back(std::vector<std::int64_t>{rows, 8}, i == 0 ? 1.0f : 0.0f);
    for (std::size_t i = 0; i < 3; ++i) arrays[i].bind(instance, i);
    instance.set_trace(pto_wsp::TraceLevel::full, 1000);
  }
  bool follows(std::shared_ptr<const Replay> replay, bool keep_going = false) {
    std::ranges::fill(arrays[1].data, 0.0f);
    std::ranges::fill(arrays[2].data, 0.0f);
    instance.start(keep_going, std::move(replay));
    return instance.wait(60);
  }
  bool right() const { return std::ranges::count(arrays[2].data, 4.0f) == rows * 8; }
};

// Dealt to workers at random, each in program order but for some neighbours.
struct Dealt {
  std::vector<std::uint32_t> worker;
  std::vector<std::uint64_t> order;
  Dealt(std::uint32_t workers, Rng& rng, int swaps) : worker(2 * rows), order(2 * rows) {
    for (std::uint32_t i = 0; i < 2 * rows; ++i) worker[i] = i < workers ? i : static_cast<std::uint32_t>(rng.below(workers));
    std::iota(order.begin(), order.end(), 0u);
    for (int i = 0; i < swaps; ++i) {
      const auto at = static_cast<std::size_t>(rng.below(2 * rows - 1));
      std::swap(order[at], order[at + 1]);
    }
  }
  std::shared_ptr<const Replay> replay() const { return std::make_shared<const Replay>(worker, order); }
};

// Of each worker one thread, and its tasks begin in the order of the schedule.
void check_followed(const pto_wsp::Tracer& trace, const Dealt& dealt, std::uint32_t workers) {
  for (std::uint32_t w = 0; w < workers; ++w) {
    std::uint64_t last = 0;
    std::uint32_t thread = 0;
    for (const std::uint64_t task : dealt.order) {
      if (dealt.worker[task] != w) continue;
      const pto_wsp::TracedTask& t = trace[task];
      CHECK(t.outcome == pto_wsp::Outcome::done);
      CHECK(t.started_ns >= last);
      CHECK(thread == 0 || t.thread == thread);
      last = t.ended_ns;
      thread = t.thread;
    }
  }
}

void runs_are_as_they_were() {
  for (const bool keep_going : {false, true}) {
    for (const std::uint64_t window : {5u, 65536u}) {
      Plan plan = two_loops(rows);
      plan.windows = {window};
      for (const std::uint32_t workers : {1u, 2u, 4u}) {
        TwoLoops t(plan, 2);
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
          Rng rng{std::mt19937_64(seed)};
          const Dealt dealt(workers, rng, 0);
          CHECK(t.follows(dealt.replay(), keep_going));
          CHECK(!t.instance.error().has_value());
          CHECK(t.right());
          check_followed(*t.instance.trace(), dealt, workers);
        }
      }
    }
  }
}

// With neighbours exchanged some cannot be: they end at once, the others as they should.
void impossible_orders_are_found() {
  Plan plan = two_loops(rows);
  plan.windows = {4};
  TwoLoops t(plan, 2);
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    Rng rng{std::mt19937_64(seed)};
    const auto workers = static_cast<std::uint32_t>(1 + rng.below(4));
    const Dealt dealt(workers, rng, 60);
    CHECK(t.follows(dealt.replay(), seed % 2 == 0));
    const std::optional<pto_wsp::Failure> failure = t.instance.error();
    if (failure.has_value()) {
      ++refused;
      CHECK(failure->kind == pto_wsp::ErrorKind::replay);
      CHECK_EQ(failure->values.at(0), static_cast<std::int64_t>(pto_wsp::ReplayError::order));
    } else {
      CHECK(t.right());
      check_followed(*t.instance.trace(), dealt, workers);
    }
  }
  CHECK(refused > 10);
  CHECK(refused < 150);
}

void other_numbers_of_tasks_are_found() {
  TwoLoops t(two_loops(rows), 2);
  for (const std::uint32_t n : {1u, 79u, 81u, 200u}) {
    std::vector<std::uint32_t> worker(n);
    std::vector<std::uint64_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    CHECK(t.follows(std::make_shared<const Replay>(worker, order)));
    const std::optional<pto_wsp::Failure> failure = t.instance.error();
    CHECK(failure.has_value() && failure->kind == pto_wsp::ErrorKind::replay);
    const auto why = n < 2 * rows ? pto_wsp::ReplayError::more_tasks : pto_wsp::ReplayError::fewer_tasks;
    if (failure.has_value()) CHECK_EQ(failure->values.at(0), static_cast<std::int64_t>(why));
  }
}

void schedules_have_each_task_once() {
  const auto refused = [](const std::vector<std::uint32_t>& worker, const std::vector<std::uint64_t>& order) {
    try {
      const Replay replay(worker, order);
      return false;
    } catch (const std::invalid_argument&) {
      return true;
    }
  };
  CHECK(!refused({0, 1}, {1, 0}));
  CHECK(refused({0, 1}, {1, 1}));
  CHECK(refused({0, 1}, {0, 2}));
  CHECK(refused({0, 1}, {0}));
  CHECK(refused({0, 2}, {0, 1}));
  CHECK(refused({0, 1024}, {0, 1}));
  CHECK(!refused({}, {}));
}

void workers_take_what_is_next() {
  RankedReady ready;
  ready.prepare(2, 16, true);
  CHECK(ready.quiet());
  ready.push(1, -1, 0);
  CHECK_EQ(ready.ready(0), 0u);
  CHECK_EQ(ready.take(0), 0u);
  CHECK(ready.call() == no_worker);
  CHECK(ready.quiet());
  CHECK(ready.waiting() == (std::pair<std::uint32_t, std::uint64_t>{0, 0}));
  ready.push(2, 0, 0);
  CHECK_EQ(ready.call(), 0u);
  CHECK(!ready.quiet());
  CHECK_EQ(ready.take(1), 0u);
  CHECK_EQ(ready.take(0), 2u);
  CHECK_EQ(ready.take(0), 1u);
  CHECK(!ready.quiet());
  ready.done();
  ready.done();
  CHECK(ready.quiet());
  ready.push(3, -5, 1);
  CHECK_EQ(ready.take(1), 0u);
  ready.leave_gaps();
  CHECK_EQ(ready.take(1), 3u);
}

// What several threads tell of lost tasks at once, while others ask.
void casualties_of_several_threads() {
  for (const unsigned n : {1u, 2u, 4u}) {
    pto_wsp::Casualties lost;
    std::vector<std::thread> threads;
    for (unsigned k = 0; k < n; ++k)
      threads.emplace_back([&lost, k, n] {
        for (std::uint64_t i = k; i < 400; i += n) {
          if (i % 3 == 0)
            lost.fail({i, 0, {static_cast<std::int64_t>(i)}}, {.kind = pto_wsp::ErrorKind::kernel_fault, .values = {static_cast<std::int64_t>(i)}});
          else
            lost.skip({i, 1, {}});
          CHECK(lost.lost(i + 1));
          CHECK_EQ(lost.failed(i + 1), i % 3 == 0);
          CHECK(!lost.lost(1000));
        }
      });
    for (std::thread& t : threads) t.join();
    CHECK_EQ(lost.failed().size(), 134u);
    CHECK_EQ(lost.skipped().size(), 266u);
    CHECK(std::ranges::is_sorted(lost.skipped(), {}, &pto_wsp::Casualties::Task::position));
    CHECK(lost.first().has_value() && lost.first()->values == std::vector<std::int64_t>{0});
    CHECK(!lost.stopped().has_value());
    lost.stop({.kind = pto_wsp::ErrorKind::unknown});
    CHECK(lost.stopped().has_value());
  }
}

}  // namespace

int main() {
  runs_are_as_they_were();
  impossible_orders_are_found();
  other_numbers_of_tasks_are_found();
  schedules_have_each_task_once();
  workers_take_what_is_next();
  casualties_of_several_threads();
  return check::result();
}
