// Runs: results and figures, what is refused before and during a run, cancelling, deadlines, threads.
#include <bit>
#include <atomic>
#include <chrono>
#include <cmath>
#include <thread>

#include "check.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::ErrorKind;
using pto_wsp::Instance;

namespace {

constexpr std::uint32_t thread_counts[] = {1, 2, 8};

struct Bound {
  Instance instance;
  std::vector<Array> arrays;

  Bound(const writer::Plan& p, std::vector<std::vector<std::int64_t>> shapes, std::uint32_t threads = 1, float fill = 1)
      : instance(decode(p.bytes()), threads) {
    for (auto& s : shapes) arrays.emplace_back(std::move(s), fill);
    for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(instance, i);
  }
  std::optional<pto_wsp::Failure> failure() {
    CHECK(run(instance));
    return instance.error();
  }
  bool all(std::size_t tensor, float value) const {
    for (const float x : arrays[tensor].data)
      if (x != value) return false;
    return true;
  }
};

void independent_tasks() {
  for (const std::uint32_t threads : thread_counts) {
    for (const std::int64_t n : {0, 1, 7, 5000}) {
      Bound b(one_loop(n), {{n, 8}, {n, 8}}, threads);
      for (int again = 0; again < 3; ++again) {
        CHECK(!b.failure().has_value());
        CHECK(b.all(1, 2));
        CHECK_EQ(b.instance.stats().task_count, n);
        CHECK_EQ(b.instance.stats().total_cycles, (n + 3) / 4 * 10);
        CHECK_EQ(b.instance.stats().kernel_counts[0], n);
      }
    }
  }
}

void two_loops_and_chains() {
  for (const std::uint32_t threads : thread_counts) {
    Bound two(two_loops(3000), {{3000, 8}, {3000, 8}, {3000, 8}}, threads);
    for (const std::chrono::nanoseconds hand_over : hand_overs) {
      two.instance.set_hand_over(hand_over);
      two.arrays[1].data.assign(two.arrays[1].data.size(), 0);
      CHECK(!two.failure().has_value());
      CHECK(two.all(1, 2) && two.all(2, 4));
      CHECK_EQ(two.instance.stats().total_cycles, 15000);
      // One that all take for short is run where it is issued.
      if (threads > 1 && hand_over == std::chrono::nanoseconds::max()) CHECK_EQ(two.instance.stats().max_in_flight, 1);
    }
    for (const bool tracked : {false, true}) {
      Bound c(chain(100, tracked), {{1, 8}}, threads);
      CHECK(!c.failure().has_value());
      CHECK(c.all(0, 0x1p100f));
      CHECK_EQ(c.instance.stats().total_cycles, 1000);
    }
  }
}

// 10 rows in tiles of 4 and 5 columns in tiles of 8, in a transposed array whose rows run backwards.
void tails_and_strides() {
  writer::Plan p;
  p.symbols = {"rows", "cols"};
  p.regs = 4;
  p.tensors.assign(2, {{reg(0), reg(1)}, 3, f32});
  p.kernels = {kernel(add, 4, 8, 1, 3)};
  Task t;
  const std::vector<Dim> dims{tile(reg(3, 4), reg(0)), tile(0, reg(1))};
  t.args = {view(0, false, dims), view(1, false, dims)};
  p.root = block({eval(2, 1, reg(0, 1, 3), 4), loop(3, reg(2), task(t))});
  std::vector<float> in(50), out(50, -1);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i);
  Instance instance(decode(p.bytes()), 1);
  const std::int64_t shape[] = {10, 5}, strides[] = {-4, 40};
  instance.bind(0, reinterpret_cast<std::byte*>(in.data() + 9), shape, strides, 0, true);
  instance.bind(1, reinterpret_cast<std::byte*>(out.data() + 9), shape, strides, 0, true);
  const std::int64_t symbols[] = {10, 5};
  instance.set_symbols(symbols);
  CHECK(run(instance));
  CHECK(!instance.error().has_value());
  for (std::size_t i = 0; i < out.size(); ++i) CHECK_EQ(out[i], 2 * in[i]);
  CHECK_EQ(instance.stats().task_count, 3);
  CHECK_EQ(instance.stats().total_cycles, 13);  // lanes 0..2: 1 + 3 * 4, the same, 1 + 3 * 2
  const std::int64_t others[] = {9, 5};
  instance.set_symbols(others);
  CHECK(run(instance));
  CHECK(instance.error()->kind == ErrorKind::dim);
  CHECK_EQ(instance.error()->values[0], 9);
  CHECK_EQ(instance.error()->values[1], 10);
}

void refused_before_anything_runs() {
  writer::Plan p = one_loop(5);
  p.tensors[1].dims[0] = 4;
  Bound b(p, {{5, 8}, {4, 8}});
  const auto f = b.failure();
  CHECK(f && f->kind == ErrorKind::bounds);
  CHECK(f->arg == 1 && f->dim == 0 && f->coords == std::vector<std::int64_t>{4});
  CHECK(f->values == (std::vector<std::int64_t>{4, 1, 4}));
  CHECK(b.all(1, 1));

  p = one_loop(5);
  Task t;
  t.args = {view(0, false, {slice(reg(0)), slice(1)}), view(1, false, {slice(reg(0)), slice(0)})};
  p.root = loop(0, 0, task(t));
  CHECK(!Bound(p, {{5, 8}, {5, 8}}).failure().has_value());  // no iteration, nothing out of bounds
  p.root = loop(0, -1, task(t));
  const auto negative = Bound(p, {{5, 8}, {5, 8}}).failure();
  CHECK(negative && negative->kind == ErrorKind::extent && negative->values[0] == -1);
  // Beyond 64 bits: not a number that happens to be in bounds.
  t.args[0] = view(0, false, {slice(reg(0, INT64_MAX)), slice(0)});
  p.root = loop(0, 5, task(t));
  CHECK(Bound(p, {{5, 8}, {5, 8}}).failure()->kind == ErrorKind::bounds);
  // A huge loop around nothing that runs.
  p.root = loop(0, INT64_MAX, loop(1, 0, task(t)));
  p.regs = 2;
  CHECK(!Bound(p, {{5, 8}, {5, 8}}).failure().has_value());
}

// Rows 0, 1, 4, 9, ...: only known as each task comes; the first that is outside stops the run.
writer::Plan squares(std::int64_t n, bool sequential) {
  writer::Plan p = one_loop(n);
  p.regs = 2;
  Task t;
  t.site = 3;
  t.coords = {reg(0)};
  t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(1)), slice(0)})};
  p.root = loop(0, n, block({eval(1, 0, reg(0), reg(0)), task(t)}), sequential);
  return p;
}

void the_earliest_failure_counts() {
  for (const std::uint32_t threads : thread_counts) {
    for (const bool sequential : {false, true}) {
      Bound b(squares(100, sequential), {{100, 8}, {100, 8}}, threads);
      const auto f = b.failure();
      CHECK(f && f->kind == ErrorKind::bounds && f->site == 3 && f->arg == 1);
      CHECK(f->coords == std::vector<std::int64_t>{10});
      CHECK(f->values == (std::vector<std::int64_t>{100, 1, 100}));
      for (std::size_t i = 0; i < 100; ++i) {
        const bool square = i == 0 || i == 1 || i == 4 || i == 9 || i == 16 || i == 25 || i == 36 || i == 49 || i == 64 || i == 81;
        CHECK_EQ(b.arrays[1].data[8 * i], square ? 2.0f : 1.0f);
      }
      const auto again = b.failure();  // an instance runs again after a failure
      CHECK(again && again->coords == std::vector<std::int64_t>{10});
    }
  }
}

void other_failures_of_tasks() {
  for (const bool sequential : {false, true}) {
    writer::Plan p = one_loop(8);
    p.regs = 2;
    Task t;
    t.site = 5;
    t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
    p.root = loop(0, 8, block({eval(1, 1, 12, reg(0, -1, 6), 8), task(t)}), sequential);
    auto f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::zero_divisor && f->site == -1 && f->origin == 7 && f->coords == std::vector<std::int64_t>{6} && f->values == std::vector<std::int64_t>{12});

    p.root = loop(0, 8, block({eval(1, 0, reg(0, INT64_MAX / 4), 1), task(t)}), sequential);
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::overflow);

    p.root = loop(0, 8, loop(1, reg(0, -1, 3), task(t), false, 4), sequential);
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::extent && f->origin == 3 && f->coords == std::vector<std::int64_t>{4});

    // Costs 3 - rows: negative for full tiles of 4.
    p = one_loop(8);
    p.kernels = {kernel(add, 4, 8, 3, -1)};
    p.root = loop(0, 2, task({0, 6, 0, 0, {reg(0)}, {view(0, false, {tile(reg(0, 4), 7), slice(0)}), view(1, false, {tile(reg(0, 4), 7), slice(0)})}}), sequential);
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::cost && f->site == 6 && f->coords == std::vector<std::int64_t>{0});

    // 4 rows into 3.
    p.kernels = {kernel(add, 4, 8, 1)};
    p.root = loop(0, 2, task({0, 7, 0, 0, {reg(0)}, {view(0, false, {tile(reg(0, 4), 8), slice(0)}), view(1, false, {tile(reg(0, 4), 7), slice(0)})}}), sequential);
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::valid_shape && f->site == 7 && f->check == 0 && f->coords == std::vector<std::int64_t>{1});
  }
}

void scalars_are_rounded_once() {
  using pto_wsp::DType;
  std::uint64_t x = 0;
  const auto is = [&](std::int64_t v, DType dtype, double want) {
    CHECK(pto_wsp::to_scalar(v, dtype, x));
    CHECK_EQ(std::bit_cast<double>(x), want);
  };
  is(16777217, DType::f32, 16777216);
  is(16777219, DType::f32, 16777220);
  is(INT64_MIN, DType::f32, -0x1p63);
  is((std::int64_t{1} << 62) + (std::int64_t{1} << 38) + 1, DType::f32, 0x1p62 + 0x1p39);
  is((std::int64_t{1} << 53) + 1, DType::f64, 0x1p53);
  is(2049, DType::f16, 2048);
  is(65519, DType::f16, 65504);
  is(257, DType::bf16, 256);
  CHECK(!pto_wsp::to_scalar(-65520, DType::f16, x) && !pto_wsp::to_scalar(65520, DType::f16, x));
  CHECK(pto_wsp::to_scalar(-2147483648ll, DType::i32, x) && static_cast<std::int64_t>(x) == -2147483648ll);
  CHECK(!pto_wsp::to_scalar(2147483648ll, DType::i32, x) && !pto_wsp::to_scalar(-2147483649ll, DType::i32, x));
  CHECK(pto_wsp::to_scalar(INT64_MIN, DType::i64, x) && static_cast<std::int64_t>(x) == INT64_MIN);
  CHECK(pto_wsp::to_scalar(INT64_MAX, DType::u64, x) && x == INT64_MAX);
  CHECK(!pto_wsp::to_scalar(-1, DType::u64, x));
  CHECK(pto_wsp::to_scalar(-5, DType::boolean, x) && x == 1);
}

void cancelling_and_deadlines() {
  using std::chrono::steady_clock;
  for (const std::uint32_t threads : thread_counts) {
    for (const bool sequential : {false, true}) {
      // 10^12 tasks on one row.
      writer::Plan p = chain(1'000'000'000'000, false);
      Task t;
      t.args = {view(0, false, {slice(0), slice(0)})};
      p.root = loop(0, 1'000'000'000'000, task(t), sequential);
      if (!sequential) p.windows = {1};  // they are not independent; one at a time
      Bound b(p, {{1, 8}}, threads, 0);
      const auto began = steady_clock::now();
      b.instance.start();
      CHECK(!b.instance.wait(0.05));
      CHECK(b.instance.is_running());
      CHECK_THROWS(std::logic_error, b.instance.start());
      CHECK_THROWS(std::logic_error, b.arrays[0].bind(b.instance, 0));
      b.instance.cancel();
      CHECK(b.instance.wait(20));
      CHECK(b.instance.error() && b.instance.error()->kind == ErrorKind::cancelled);
      CHECK(steady_clock::now() - began < std::chrono::seconds(15));
    }
    // No task at all, for ever.
    writer::Plan p = one_loop(1);
    p.regs = 3;
    Task t;
    t.args = {view(0, false, {slice(0), slice(0)}), view(1, false, {slice(0), slice(0)})};
    p.root = loop(0, std::int64_t{1} << 50, block({eval(1, 2, reg(0), 1), loop(2, reg(1), task(t))}));
    Bound b(p, {{1, 8}, {1, 8}}, threads);
    b.instance.start();
    CHECK(!b.instance.wait(0.02));
    b.instance.cancel();
    CHECK(b.instance.wait(20));
    // Destroyed while running.
    Bound c(p, {{1, 8}, {1, 8}}, threads);
    c.instance.start();
  }
}

void misuse() {
  Instance i(decode(one_loop(4).bytes()), 1);
  CHECK(i.wait(0));
  CHECK(!i.is_running() && !i.error().has_value());
  CHECK_THROWS(std::logic_error, i.start());
  Array a({4, 8});
  const std::int64_t shape[] = {4, 8}, strides[] = {32, 4}, negative[] = {-1, 8};
  auto* data = reinterpret_cast<std::byte*>(a.data.data());
  CHECK_THROWS(std::invalid_argument, i.bind(2, data, shape, strides, 0, true));
  CHECK_THROWS(std::invalid_argument, i.bind(0, data, shape, strides, 1, true));
  CHECK_THROWS(std::invalid_argument, i.bind(0, data, {shape, 1}, {strides, 1}, 0, true));
  CHECK_THROWS(std::invalid_argument, i.bind(1, data, shape, strides, 0, false));
  CHECK_THROWS(std::invalid_argument, i.bind(0, data, negative, strides, 0, true));
  const std::int64_t symbol[] = {1};
  CHECK_THROWS(std::invalid_argument, i.set_symbols(symbol));
  CHECK_THROWS(std::invalid_argument, Instance(decode(one_loop(4).bytes()), 0));
}

// Two kernels wait for each other inside the hook.
struct Meeting {
  std::atomic<int> here{0};
  std::atomic<bool> met{false};

  static void call(void* self, bool begin, std::uint32_t, const std::int64_t*, std::size_t) {
    auto& m = *static_cast<Meeting*>(self);
    if (!begin || m.met.load()) return;
    m.here.fetch_add(1);
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!m.met.load() && std::chrono::steady_clock::now() < until) {
      if (m.here.load() >= 2) m.met = true;
      std::this_thread::yield();
    }
  }
};

void two_kernels_at_once() {
  for (const bool tracked : {false, true}) {
    const std::int64_t n = 200;
    Bound b(tracked ? two_loops(n) : one_loop(n), {{n, 8}, {n, 8}}, 2);
    Array third({n, 8});
    if (tracked) third.bind(b.instance, 2);
    Meeting meeting;
    b.instance.set_hook({&Meeting::call, &meeting});
    CHECK(!b.failure().has_value());
    CHECK(meeting.met.load());
    CHECK_EQ(b.instance.stats().threads, 2);
  }
}

struct InFlight {
  std::atomic<int> now{0}, most{0};
  static void call(void* self, bool begin, std::uint32_t, const std::int64_t*, std::size_t) {
    auto& f = *static_cast<InFlight*>(self);
    if (!begin) {
      f.now.fetch_sub(1);
      return;
    }
    const int n = f.now.fetch_add(1) + 1;
    int most = f.most.load();
    while (most < n && !f.most.compare_exchange_weak(most, n)) {
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
};

void windows_bound_what_is_in_flight() {
  for (const std::uint64_t window : {1, 2, 3}) {
    for (const bool tracked : {false, true}) {
      const std::int64_t n = 100;
      writer::Plan p = tracked ? two_loops(n) : one_loop(n);
      p.windows = {window};
      Bound b(p, {{n, 8}, {n, 8}}, 8);
      Array third({n, 8});
      if (tracked) third.bind(b.instance, 2);
      InFlight flight;
      b.instance.set_hook({&InFlight::call, &flight});
      CHECK(!b.failure().has_value());
      CHECK(static_cast<std::uint64_t>(flight.most.load()) <= window);
      CHECK(b.instance.stats().max_in_flight <= window);
      CHECK(b.instance.stats().windows[0].high_water <= window);
    }
  }
}

void several_runs_at_once() {
  std::vector<std::unique_ptr<Bound>> runs;
  for (int i = 0; i < 6; ++i)
    runs.push_back(std::make_unique<Bound>(i % 2 == 0 ? one_loop(4000) : two_loops(4000),
                                           std::vector<std::vector<std::int64_t>>(i % 2 == 0 ? 2 : 3, {4000, 8}), 2));
  for (auto& r : runs) r->instance.start();
  for (auto& r : runs) CHECK(r->instance.wait(30));
  for (std::size_t i = 0; i < runs.size(); ++i) CHECK(runs[i]->all(i % 2 == 0 ? 1 : 2, i % 2 == 0 ? 2 : 4));
  std::vector<std::thread> callers;
  for (auto& r : runs)
    callers.emplace_back([&r] {
      for (int again = 0; again < 20; ++again) CHECK(run(r->instance));
    });
  for (auto& c : callers) c.join();
}

// Nobody waits: the pool's threads do it all.
void runs_progress_in_the_background() {
  for (const std::uint32_t threads : thread_counts) {
    Bound b(two_loops(2000), {{2000, 8}, {2000, 8}, {2000, 8}}, threads);
    b.instance.start();
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (b.instance.is_running() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(!b.instance.is_running());
    CHECK(b.all(2, 4));
  }
}

// Loops that are not rectangular, outer ones with few iterations, and tasks of no cost.
void other_shapes_of_loops() {
  for (const std::uint32_t threads : thread_counts) {
    for (const std::int64_t outer : {3, 200}) {
      for (const std::int64_t cost : {0, 4}) {
        writer::Plan p = one_loop(outer * outer);
        p.regs = 3;
        p.kernels = {kernel(add, 1, 8, cost)};
        Task t;
        const Affine row(0, {{0, outer}, {1, 1}}), rest(outer, {{0, outer}, {0 + 2, 1}});
        t.args = {view(0, false, {slice(row), slice(0)}), view(1, false, {slice(row), slice(0)})};
        Task u = t;
        const Affine last(0, {{0, outer + 1}, {2, 1}});
        u.args = {view(0, false, {slice(last), slice(0)}), view(1, false, {slice(last), slice(0)})};
        // row i: columns 0 .. i-1, then i .. outer-1
        p.root = loop(0, outer, block({loop(1, reg(0), task(t)), loop(2, reg(0, -1, outer), task(u))}));
        Bound b(p, {{outer * outer, 8}, {outer * outer, 8}}, threads);
        CHECK(!b.failure().has_value());
        CHECK(b.all(1, 2));
        CHECK_EQ(b.instance.stats().task_count, outer * outer);
        CHECK_EQ(b.instance.stats().total_cycles, (outer * outer + 3) / 4 * cost);
      }
    }
  }
}

// Cancels and deadlines come through where no task is met, or few.
void stretches_without_tasks() {
  using std::chrono::steady_clock;
  constexpr std::int64_t many = 10'000'000'000;
  for (const std::uint32_t threads : thread_counts) {
    for (const bool sequential : {false, true}) {
      for (const bool few : {false, true}) {
        writer::Plan p = one_loop(1);
        p.regs = 4;
        Task t;
        t.args = {view(0, false, {slice(0), slice(0)}), view(1, false, {slice(0), slice(0)})};
        const Bytes never = block({eval(1, 1, reg(0), many), loop(2, reg(1), task(t), sequential)});
        p.root = few ? loop(3, many, block({loop(0, 3'000'000, never, sequential), task(t)}), sequential) : loop(0, many, never, sequential);
        if (!sequential) p.windows = {1};
        Bound b(p, {{1, 8}, {1, 8}}, threads);
        b.instance.start();
        auto began = steady_clock::now();
        CHECK(!b.instance.wait(0.05));
        CHECK(steady_clock::now() - began < std::chrono::seconds(2));
        b.instance.cancel();
        began = steady_clock::now();
        CHECK(b.instance.wait(20));
        CHECK(steady_clock::now() - began < std::chrono::seconds(2));
      }
    }
  }
  // Many short loops around loops without iterations, to be unrolled or not.
  writer::Plan p = one_loop(1);
  p.regs = 13;
  Task t;
  t.args = {view(0, false, {slice(0), slice(0)}), view(1, false, {slice(0), slice(0)})};
  Bytes body = loop(12, reg(6), task(t));
  for (std::uint64_t r = 6; r-- > 0;) body = loop(r, 60, block({eval(6 + r, 1, reg(r), 1000), body}));
  p.root = body;
  Bound b(p, {{1, 8}, {1, 8}});
  const auto began = steady_clock::now();
  b.instance.start();
  b.instance.wait(0.05);
  CHECK(steady_clock::now() - began < std::chrono::seconds(3));
}

// What came before the failure in program order, whoever found it and whatever ran beyond.
void figures_after_a_failure() {
  for (const std::int64_t cost : {0, 10}) {
    for (const bool sequential : {false, true}) {
      for (const std::uint32_t threads : thread_counts) {
        for (int again = 0; again < 3; ++again) {
          writer::Plan p = squares(10000, sequential);
          p.kernels = {kernel(add, 1, 8, cost)};
          Bound b(p, {{10000, 8}, {10000, 8}}, threads);
          const auto f = b.failure();
          CHECK(f && f->coords == std::vector<std::int64_t>{100});
          const auto stats = b.instance.stats();
          CHECK_EQ(stats.task_count, 100);
          CHECK_EQ(stats.kernel_counts[0], 100);
          CHECK_EQ(stats.total_cycles, sequential ? 100 * cost : 25 * cost);
        }
      }
    }
  }
  // The second task of a body fails; the nest is a single loop.
  for (const std::uint32_t threads : thread_counts) {
    writer::Plan p = one_loop(5000);
    Task t;
    t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
    Task u = t;
    u.args[0] = view(0, false, {slice(reg(1)), slice(0)});
    p.regs = 2;
    p.root = loop(0, 5000, block({task(t), eval(1, 0, reg(0), 2), task(u)}));
    Bound b(p, {{5000, 8}, {5000, 8}}, threads);
    const auto f = b.failure();
    CHECK(f && f->values == (std::vector<std::int64_t>{5000, 1, 5000}));
    CHECK_EQ(b.instance.stats().task_count, 5001);
    CHECK_EQ(b.instance.stats().total_cycles, (5001 + 3) / 4 * 10);
  }
}

void the_earliest_iteration_is_named() {
  writer::Plan p = one_loop(10);
  p.regs = 3;
  const auto fails = [&](const Task& t, std::vector<std::int64_t> coords, std::vector<std::int64_t> values) {
    p.root = loop(0, 10, loop(1, 6, task(t)));
    const auto f = Bound(p, {{10, 8}, {10, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::bounds);
    CHECK(f->coords == coords);
    CHECK(f->values == values);
  };
  const Bytes good = view(1, false, {slice(0), slice(0)});
  const auto of = [&](const Affine& row) { return Task{0, 0, 0, 0, {reg(0), reg(1)}, {view(0, false, {slice(row), slice(0)}), good}}; };
  fails(of(Affine(0, {{0, 1}, {1, 2}})), {0, 5}, {10, 1, 10});
  fails(of(Affine(0, {{0, 3}, {1, -1}})), {0, 1}, {-1, 1, 10});
  fails(of(Affine(3, {{0, 1}, {1, -1}})), {0, 4}, {-1, 1, 10});
  fails(of(reg(1, 3)), {0, 4}, {12, 1, 10});
  fails(of(reg(0, -2, 9)), {5, 0}, {-1, 1, 10});
  // Another argument fails earlier.
  Task t = of(reg(0, 2));
  t.args[1] = view(1, false, {slice(reg(1, 3)), slice(0)});
  fails(t, {0, 4}, {12, 1, 10});
  // A later task of the body fails in an earlier iteration.
  p.root = loop(0, 10, block({task({0, 1, 0, 0, {reg(0)}, {view(0, false, {slice(reg(0, 2)), slice(0)}), good}}),
                              task({0, 2, 0, 0, {reg(0)}, {view(0, false, {slice(reg(0, 4)), slice(0)}), good}})}));
  auto f = Bound(p, {{10, 8}, {10, 8}}).failure();
  CHECK(f && f->site == 2 && f->coords == std::vector<std::int64_t>{3} && f->values == (std::vector<std::int64_t>{12, 1, 10}));
  // Tiles of 4 rows of 20, in tensors of 10: the first whose own rows are not there.
  p.kernels = {kernel(add, 4, 8, 10)};
  const Bytes rows = view(0, false, {tile(reg(0, 4), 20), slice(0)});
  p.root = loop(0, 5, task({0, 1, 0, 0, {reg(0)}, {rows, view(1, false, {tile(reg(0, 4), 20), slice(0)})}}));
  f = Bound(p, {{10, 8}, {10, 8}}).failure();
  CHECK(f && f->coords == std::vector<std::int64_t>{2} && f->values == (std::vector<std::int64_t>{8, 20, 10}));
  // A number of iterations below zero.
  p.root = loop(0, 10, loop(1, reg(0, -1, 3), task({0, 1, 0, 0, {reg(0)}, {rows, rows}})));
  f = Bound(p, {{10, 8}, {10, 8}}).failure();
  CHECK(f && f->kind == ErrorKind::extent && f->coords == std::vector<std::int64_t>{4} && f->values == std::vector<std::int64_t>{-1});
}

void evaluations_that_fail_tell_where() {
  for (const bool sequential : {false, true}) {
    writer::Plan p = one_loop(8);
    p.regs = 3;
    Task t;
    t.coords = {reg(0)};
    t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
    p.root = loop(0, 8, block({eval(1, 1, 12, reg(0, -1, 6)), task(t)}), sequential);
    auto f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::zero_divisor && f->coords == std::vector<std::int64_t>{6} && f->values == std::vector<std::int64_t>{12});
    p.root = loop(0, 8, block({eval(1, 0, reg(0, INT64_MAX / 4), 1), task(t)}), sequential);
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::overflow && f->coords == std::vector<std::int64_t>{5} && f->values.empty());
    p.root = loop(0, 8, loop(2, 3, block({eval(1, 1, 12, reg(0, -1, 6)), task(t)})), sequential);  // in the first of both
    f = Bound(p, {{8, 8}, {8, 8}}).failure();
    CHECK(f && f->kind == ErrorKind::zero_divisor && f->coords == (std::vector<std::int64_t>{6, 0}));
  }
}

}  // namespace

int main() {
  independent_tasks();
  two_loops_and_chains();
  tails_and_strides();
  refused_before_anything_runs();
  the_earliest_failure_counts();
  other_failures_of_tasks();
  scalars_are_rounded_once();
  cancelling_and_deadlines();
  misuse();
  two_kernels_at_once();
  windows_bound_what_is_in_flight();
  several_runs_at_once();
  runs_progress_in_the_background();
  other_shapes_of_loops();
  stretches_without_tasks();
  figures_after_a_failure();
  the_earliest_iteration_is_named();
  evaluations_that_fail_tell_where();
  return check::result();
}
