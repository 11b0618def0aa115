// Schedules that say more than hints, in real runs: pins, priorities, and the start of what really runs.
#include <algorithm>
#include <chrono>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "check.hpp"
#include "order_helpers.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::ErrorKind;
using pto_wsp::Instance;
using pto_wsp::Placement;

namespace {

constexpr std::uint32_t thread_counts[] = {1, 2, 4};

// Places tasks by site and first coordinate, and records who runs which, and when.
struct Placed {
  struct Began {
    Placement placement;
    std::uint64_t position;  // in program order
    std::uint64_t issued;    // by then
    std::thread::id thread;
  };

  Placement (*rule)(std::int64_t site, std::int64_t i);
  std::mutex mutex;
  std::map<std::pair<std::int64_t, std::int64_t>, std::pair<Placement, std::uint64_t>> placements;
  std::uint64_t issued = 0;
  std::vector<Began> began;
  std::chrono::microseconds delay{0};

  explicit Placed(Placement (*r)(std::int64_t, std::int64_t)) : rule(r) {}

  static Placement place(void* self, std::uint32_t site, const std::int64_t* coords, std::size_t n) {
    auto& p = *static_cast<Placed*>(self);
    const std::int64_t i = n == 0 ? 0 : coords[0];
    const Placement placement = p.rule(site, i);
    const std::lock_guard lock(p.mutex);
    p.placements[{site, i}] = {placement, p.issued++};
    return placement;
  }
  static void hook(void* self, bool begin, std::uint32_t site, const std::int64_t* coords, std::size_t n) {
    auto& p = *static_cast<Placed*>(self);
    if (!begin) return;
    if (p.delay.count() != 0) std::this_thread::sleep_for(p.delay);
    const std::lock_guard lock(p.mutex);
    const auto& [placement, position] = p.placements[{site, n == 0 ? 0 : coords[0]}];
    p.began.push_back({placement, position, p.issued, std::this_thread::get_id()});
  }
  void watch(Instance& instance, pto_wsp::Demands demands) {
    instance.set_placing({&place, this, demands});
    instance.set_hook({&hook, this});
  }
  void clear() {
    placements.clear();
    began.clear();
    issued = 0;
  }
  // Each lane's tasks on the thread of lane mod threads, no two of these the same, none of them the caller.
  void check_pins(std::uint32_t threads) {
    std::map<std::uint32_t, std::set<std::thread::id>> of_worker;
    for (const Began& b : began)
      if (b.placement.pinned) of_worker[b.placement.lane % threads].insert(b.thread);
    std::set<std::thread::id> all;
    for (const auto& [worker, ids] : of_worker) {
      CHECK_EQ(ids.size(), 1u);
      CHECK(!ids.contains(std::this_thread::get_id()));
      all.insert(ids.begin(), ids.end());
    }
    CHECK_EQ(all.size(), of_worker.size());
  }
};

Placement on_lane(std::uint32_t lane) {
  Placement p;
  p.lane = lane;
  p.pinned = true;
  return p;
}
Placement of_priority(std::int64_t priority) {
  Placement p;
  p.priority = priority;
  return p;
}
Placement all_pinned(std::int64_t site, std::int64_t i) { return on_lane(static_cast<std::uint32_t>((3 * i + site) % 7)); }
Placement some_pinned(std::int64_t site, std::int64_t i) { return (i + site) % 3 == 0 ? Placement{} : all_pinned(site, i); }
Placement mixed(std::int64_t site, std::int64_t i) {
  Placement p = some_pinned(site, i);
  p.priority = (i * 37 + site) % 11;
  return p;
}

constexpr pto_wsp::Demands pins{.pins = true}, priorities{.priorities = true};

struct Bound {
  Instance instance;
  std::vector<Array> arrays;
  std::int64_t rows;

  Bound(const writer::Plan& p, std::int64_t n, std::uint32_t threads) : instance(decode(p.bytes()), threads), rows(n) {
    for (std::size_t i = 0; i < p.tensors.size(); ++i) arrays.emplace_back(std::vector<std::int64_t>{n, 8}, 1.0f);
    for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(instance, i);
  }
  void check_run() {
    for (std::size_t i = 1; i < arrays.size(); ++i) std::ranges::fill(arrays[i].data, 0.0f);
    CHECK(run(instance));
    CHECK(!instance.error().has_value());
    for (std::size_t i = 1; i < arrays.size(); ++i)
      CHECK(std::ranges::all_of(arrays[i].data, [&](float x) { return x == static_cast<float>(1 << i); }));
  }
};

void pinned_tasks_stay_on_their_thread() {
  for (const std::uint32_t threads : thread_counts) {
    for (const auto rule : {all_pinned, some_pinned, mixed}) {
      for (const bool tracked : {false, true}) {
        Bound b(tracked ? two_loops(300) : one_loop(300), 300, threads);
        Placed placed(rule);
        placed.watch(b.instance, pins);
        for (int again = 0; again < 10; ++again) {
          placed.clear();
          b.check_run();
          CHECK_EQ(placed.began.size(), tracked ? 600u : 300u);
          placed.check_pins(threads);
          CHECK(b.instance.stats().threads <= threads + std::uint64_t{1});  // who waits takes what is not pinned
        }
      }
    }
  }
}

// Nobody waits in the run: the pool's threads do it by themselves.
void pinned_runs_need_nobody_who_waits() {
  Bound b(two_loops(200), 200, 3);
  Placed placed(some_pinned);
  placed.watch(b.instance, pins);
  for (int again = 0; again < 50; ++again) {
    placed.clear();
    CHECK(b.instance.start());
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (b.instance.is_running() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::microseconds(50));
    CHECK(!b.instance.is_running());
    placed.check_pins(3);
  }
}

void several_pinned_runs_at_once() {
  std::vector<std::thread> callers;
  for (std::uint32_t caller = 0; caller < 5; ++caller) {
    callers.emplace_back([caller] {
      const std::uint32_t threads = 1 + caller % 4;
      Bound b(two_loops(100), 100, threads);
      Placed placed(caller % 2 == 0 ? mixed : all_pinned);
      placed.watch(b.instance, pins);
      for (int again = 0; again < 40; ++again) {
        placed.clear();
        b.check_run();
        placed.check_pins(threads);
      }
    });
  }
  for (std::thread& t : callers) t.join();
}

// Runs without an end have all threads of the pool; others have their turns.
void runs_that_go_on_leave_turns_to_others() {
  std::vector<std::unique_ptr<Bound>> endless;
  for (int i = 0; i < 6; ++i) {
    endless.push_back(std::make_unique<Bound>(chain(1'000'000'000'000, false), 1, 2));
    endless.back()->instance.start();
  }
  Bound b(two_loops(100), 100, 4);
  Placed placed(all_pinned);
  placed.watch(b.instance, pins);
  b.check_run();
  placed.check_pins(4);
  for (const auto& e : endless) e->instance.cancel();
  for (const auto& e : endless) CHECK(e->instance.wait(60));
}

void a_thousand_small_runs() {
  for (const std::uint32_t threads : thread_counts) {
    Bound b(two_loops(5), 5, threads);
    Placed placed(all_pinned);
    placed.watch(b.instance, pins);
    for (int again = 0; again < 1000; ++again) {
      if (again % 10 == 0) std::this_thread::sleep_for(std::chrono::microseconds(again));  // everybody sleeps
      b.check_run();
    }
    CHECK_EQ(placed.began.size(), 10'000u);
  }
}

// In order of (highest priority, program order).
void check_ranks(const std::vector<Placed::Began>& began) {
  for (std::size_t i = 1; i < began.size(); ++i) {
    const auto &a = began[i - 1], &b = began[i];
    CHECK(a.placement.priority > b.placement.priority || (a.placement.priority == b.placement.priority && a.position < b.position));
  }
}

Placement few_priorities(std::int64_t, std::int64_t i) { return of_priority(i * 7919 % 5 - 2); }
Placement pinned_priorities(std::int64_t, std::int64_t i) {
  Placement p = on_lane(static_cast<std::uint32_t>(i % 4));
  p.priority = i * 7919 % 13;
  return p;
}

void the_highest_priority_comes_first() {
  for (const bool gate : {false, true}) {  // as many as may be in flight are issued first, gate or not
    Bound one(one_loop(2000), 2000, 1);
    Placed placed(few_priorities);
    placed.watch(one.instance, {.priorities = true, .start = gate ? 2000u : 0u});
    one.check_run();
    CHECK_EQ(placed.began.size(), 2000u);
    check_ranks(placed.began);
    CHECK_EQ(one.instance.stats().threads, 1u);
  }
  // Each worker runs its own in order.
  for (const std::uint32_t threads : thread_counts) {
    Bound b(one_loop(2000), 2000, threads);
    Placed placed(pinned_priorities);
    placed.watch(b.instance, {.pins = true, .priorities = true, .start = 2000});
    b.check_run();
    std::map<std::thread::id, std::vector<Placed::Began>> by_thread;
    for (const Placed::Began& x : placed.began) by_thread[x.thread].push_back(x);
    CHECK_EQ(by_thread.size(), threads);
    for (const auto& [thread, tasks] : by_thread) check_ranks(tasks);
  }
}

void dependences_stand_above_priorities() {
  for (const std::uint32_t threads : thread_counts) {
    Bound b(two_loops(1000), 1000, threads);
    Placed placed([](std::int64_t, std::int64_t i) { return of_priority(i); });
    placed.watch(b.instance, priorities);
    for (int again = 0; again < 5; ++again) {
      placed.clear();
      b.check_run();
      CHECK(b.instance.stats().threads <= threads);
    }
  }
}

std::uint64_t fewest_issued(const Placed& placed) {
  std::uint64_t fewest = ~std::uint64_t{0};
  for (const Placed::Began& b : placed.began) fewest = std::min(fewest, b.issued);
  return fewest;
}

void nothing_starts_before_the_gate_opens() {
  for (const std::uint32_t threads : thread_counts) {
    for (const auto rule : {few_priorities, all_pinned}) {
      // Tasks, the start, and what is issued by the first that begins.
      for (const auto& [n, start, issued] : {std::tuple{500, 100u, 100u}, {500, 500u, 500u}, {100, 1'000'000u, 100u}, {5000, 4500u, 4096u}}) {
        Bound b(one_loop(n), n, threads);
        Placed placed(rule);
        placed.watch(b.instance, {.pins = rule == all_pinned, .start = start});
        b.check_run();
        CHECK(fewest_issued(placed) >= issued);
      }
      // A window that is full opens it, or there would be no end.
      writer::Plan narrow = one_loop(300);
      narrow.windows = {5};
      Bound b(narrow, 300, threads);
      Placed placed(rule);
      placed.watch(b.instance, {.pins = rule == all_pinned, .start = 100});
      b.check_run();
      CHECK(fewest_issued(placed) >= 5);
      CHECK_EQ(b.instance.stats().windows_in_flight[0].tasks, 5u);
    }
  }
}

/// Each iteration reads what the one before computed: a boundary each.
writer::Plan boundaries() {
  writer::Plan p;
  p.regs = 4;
  p.tensors = {{{Affine(1), Affine(64)}, 3, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32)};
  Task first, others;
  first.args = {view(0, true, {slice(0), slice(0)})};
  others.site = 1;
  others.coords = {reg(3)};
  others.args = {view(0, true, {slice(0), slice(reg(3, 1, 1))})};
  constexpr std::uint64_t lt = 14;
  p.root = while_loop(0, 60, block({item(1, 0, {at(0), at(0)}, true), compute(2, lt, i64, {of(1), constant(std::int64_t{1} << 30)})}), of(2),
                      block({task(first), loop(3, 20, task(others))}));
  return p;
}

struct Ints {
  std::vector<std::int32_t> data = std::vector<std::int32_t>(64, 1);
  void bind(Instance& i) { i.bind(0, reinterpret_cast<std::byte*>(data.data()), std::vector<std::int64_t>{1, 64}, std::vector<std::int64_t>{256, 4}, i32, true); }
};

void a_boundary_that_waits_opens_the_gate() {
  for (const std::uint32_t threads : thread_counts) {
    for (const auto rule : {few_priorities, all_pinned, mixed}) {
      Instance instance(decode(boundaries().bytes()), threads);
      Ints x;
      x.bind(instance);
      Placed placed(rule);
      placed.watch(instance, {.pins = rule != few_priorities, .priorities = true, .start = 1000});
      for (int again = 0; again < 5; ++again) {
        placed.clear();
        std::ranges::fill(x.data, 1);
        CHECK(run(instance));
        CHECK(!instance.error().has_value());
        CHECK_EQ(x.data[20], 1 << 30);
        CHECK_EQ(instance.stats().task_count, 30u * 21u);
        CHECK(fewest_issued(placed) >= 21);
      }
    }
  }
}

void cancelling_pinned_runs() {
  for (const std::uint32_t threads : thread_counts) {
    std::mt19937_64 random(threads);
    Bound b(two_loops(2000), 2000, threads);
    Placed placed(some_pinned);
    placed.watch(b.instance, {.pins = true, .start = 50});
    for (int again = 0; again < 100; ++again) {
      placed.clear();
      placed.delay = std::chrono::microseconds(again % 3 == 0 ? 20 : 0);
      b.instance.start();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 200));
      if (again % 2 == 0) b.instance.wait(1e-5);
      b.instance.cancel();
      CHECK(b.instance.wait(60));
      CHECK(!b.instance.error() || b.instance.error()->kind == ErrorKind::cancelled);
      placed.check_pins(threads);
    }
    placed.clear();
    placed.delay = {};
    b.check_run();
  }
}

// Rows 0, 1, 4, 9, ..: the first outside ends the run, after all tasks before it.
void failing_pinned_runs() {
  for (const std::uint32_t threads : thread_counts) {
    writer::Plan p = one_loop(100);
    p.regs = 2;
    Task t;
    t.coords = {reg(0)};
    t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(1)), slice(0)})};
    p.root = loop(0, 100, block({eval(1, 0, reg(0), reg(0)), task(t)}));
    Bound b(p, 100, threads);
    Placed placed(mixed);
    placed.watch(b.instance, pins);
    for (int again = 0; again < 50; ++again) {
      placed.clear();
      CHECK(run(b.instance));
      const auto f = b.instance.error();
      CHECK(f && f->kind == ErrorKind::bounds && f->coords == std::vector<std::int64_t>{10});
      CHECK_EQ(placed.began.size(), 10u);
      placed.check_pins(threads);
    }
  }
}

// Who waits for a moment only leaves the rest to others.
void deadlines_of_those_who_wait() {
  Bound b(two_loops(500), 500, 2);
  Placed placed(mixed);
  placed.watch(b.instance, {.pins = true, .priorities = true});
  placed.delay = std::chrono::microseconds(5);
  for (int again = 0; again < 10; ++again) {
    placed.clear();
    b.instance.start();
    for (int i = 0; i < 100'000 && !b.instance.wait(1e-5); ++i) {
    }
    CHECK(!b.instance.is_running());
    placed.check_pins(2);
  }
}

}  // namespace

int main() {
  pinned_tasks_stay_on_their_thread();
  pinned_runs_need_nobody_who_waits();
  several_pinned_runs_at_once();
  runs_that_go_on_leave_turns_to_others();
  a_thousand_small_runs();
  the_highest_priority_comes_first();
  dependences_stand_above_priorities();
  nothing_starts_before_the_gate_opens();
  a_boundary_that_waits_opens_the_gate();
  cancelling_pinned_runs();
  failing_pinned_runs();
  deadlines_of_those_who_wait();
  return check::result();
}
