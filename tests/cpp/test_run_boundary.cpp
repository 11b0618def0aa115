// Materialisation boundaries, temporaries, slots and watched runs: figures worked out by hand, failures, and many runs.
#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <string>
#include <thread>

#include "check.hpp"
#include "pto_wsp/arena.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::ErrorKind;
using pto_wsp::Instance;

namespace {

constexpr std::uint32_t thread_counts[] = {1, 2, 8};
constexpr std::uint64_t floordiv = 1, sum = 1, lt = 14;

// i32 arrays of any shape, of which only the first `cells` elements of the first row have memory.
struct Ints {
  std::vector<std::int32_t> data;

  explicit Ints(std::size_t cells, std::int32_t fill = 1) : data(cells, fill) {}
  void bind(Instance& i, std::size_t tensor, std::vector<std::int64_t> shape) {
    std::vector<std::int64_t> strides(shape.size(), 0);
    strides.back() = 4;
    i.bind(tensor, reinterpret_cast<std::byte*>(data.data()), shape, strides, i32, true);
  }
};

Bytes twice(std::uint64_t tensor, const Affine& at, std::uint64_t site = 0) {
  Task t;
  t.site = site;
  t.args = {view(tensor, true, {slice(0), slice(at)})};
  return task(t);
}

// n elements, each written once; much later the first of them is read, and one more task follows.
void writers_that_finished_long_ago_count() {
  constexpr std::int64_t n = 1000;
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{1} << 40}) {  // a grid, and too many cells for one
    for (const std::int64_t first : {std::int64_t{0}, n - 1, n}) {
      writer::Plan p;
      p.regs = 2;
      p.tensors = {{{rows, 2 * n}, 3, i32}};
      p.kernels = {inout_kernel(1, 1, 10, i32)};
      p.lanes = 1;
      p.read_cost = 7;
      p.root = block({loop(0, n, twice(0, reg(0))), item(1, 0, {at(0), at(first)}, true), twice(0, 2 * n - 1)});
      for (const std::uint32_t threads : thread_counts) {
        Instance instance(decode(p.bytes()), threads);
        Ints x(2 * n);
        x.bind(instance, 0, {rows, 2 * n});
        CHECK(run(instance));
        CHECK(!instance.error().has_value());
        // All are issued at once; the boundary waits for the writer of its element, and nothing where there is none.
        const std::uint64_t due = first == n ? 0 : static_cast<std::uint64_t>(10 * (first + 1));
        const pto_wsp::RunStats s = instance.stats();
        CHECK_EQ(s.scalar_waits, first == n ? 0 : 1);
        CHECK_EQ(s.scalar_wait_cycles, due);
        CHECK_EQ(s.total_cycles, first == n - 1 ? 10 * n + 7 + 10 : 10 * (n + 1));
      }
    }
  }
}

// With a window of one task every writer is complete and forgotten by then: the price of reading alone.
void reading_costs_even_when_nothing_is_waited_for() {
  constexpr std::int64_t n = 500;
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{1} << 40}) {
    writer::Plan p;
    p.regs = 2;
    p.tensors = {{{rows, 2 * n}, 3, i32}};
    p.kernels = {inout_kernel(1, 1, 10, i32)};
    p.lanes = 2;
    p.issue_cost = 25;
    p.read_cost = 7;
    p.windows = {1};
    for (const std::int64_t first : {0, 3, 499, 500}) {
      p.root = block({loop(0, n, twice(0, reg(0))), read(1, sum, 0, {at(0), span(first, 3)}, true), twice(0, 2 * n - 1)});
      Instance instance(decode(p.bytes()), 1);
      Ints x(2 * n);
      x.bind(instance, 0, {rows, 2 * n});
      CHECK(run(instance));
      CHECK_EQ(instance.stats().scalar_waits, 0);
      CHECK_EQ(instance.stats().total_cycles, 25 * n + 10 + (first < n ? 7 : 0));
    }
  }
}

// while t0[0] < 2^30: t0[0] *= 2, and beside it a task on an element of its own.
writer::Plan doubling() {
  writer::Plan p;
  p.regs = 4;
  p.tensors = {{{Affine(1), Affine(64)}, 3, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32)};
  p.lanes = 8;
  p.root = while_loop(0, 60, block({item(1, 0, {at(0), at(0)}, true), compute(2, lt, i64, {of(1), constant(std::int64_t{1} << 30)})}), of(2),
                      block({twice(0, 0), loop(3, 20, twice(0, reg(3, 1, 1), 1))}));
  return p;
}

void loops_that_ask_what_they_compute() {
  for (const std::uint32_t threads : thread_counts) {
    Instance instance(decode(doubling().bytes()), threads);
    Ints x(64);
    x.bind(instance, 0, {1, 64});
    for (int again = 0; again < 40; ++again) {
      x.data.assign(64, 1);
      CHECK(run(instance));
      CHECK(!instance.error().has_value());
      CHECK_EQ(x.data[0], 1 << 30);
      CHECK_EQ(x.data[20], 1 << 30);
      CHECK_EQ(x.data[21], 1);
      CHECK_EQ(instance.stats().task_count, 30 * 21);
      CHECK_EQ(instance.stats().scalar_waits, 29);  // none before the first, and no task is behind the last
    }
  }
}

void cancelling_at_boundaries() {
  for (const std::uint32_t threads : thread_counts) {
    Instance instance(decode(doubling().bytes()), threads);
    Ints x(64);
    x.bind(instance, 0, {1, 64});
    std::mt19937_64 random(threads);
    for (int again = 0; again < 200; ++again) {
      x.data.assign(64, 1);
      instance.start();
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 100));
      if (again % 2 == 0) instance.wait(1e-5);
      instance.cancel();
      CHECK(instance.wait(60));
      const auto failure = instance.error();
      CHECK(!failure || failure->kind == ErrorKind::cancelled);
    }
  }
}

// n tasks, then a read that fails, then more tasks that must not run.
void failures_at_boundaries() {
  constexpr std::int64_t n = 50;
  for (const std::uint32_t threads : thread_counts) {
    writer::Plan p;
    p.regs = 4;
    p.tensors = {{{Affine(1), Affine(n)}, 3, i32}};
    p.kernels = {inout_kernel(1, 1, 10, i32)};
    // For i in seq(3): each doubles; t0[0] is 2, 4, 8 when it is read, and the element 48 + t0[0] / 4 is read then.
    p.root = loop(0, 3, block({loop(1, n, twice(0, reg(1))), item(2, 0, {at(0), at(0)}, true), eval(3, floordiv, reg(2), 4),
                               item(4, 0, {at(0), at(reg(3, 1, 48))}, true, 5), twice(0, 1)}), true);
    p.regs = 5;
    Instance instance(decode(p.bytes()), threads);
    Ints x(n);
    x.bind(instance, 0, {1, n});
    CHECK(run(instance));
    const auto failure = instance.error();
    CHECK(failure && failure->kind == ErrorKind::read_bounds);
    if (!failure) continue;
    CHECK_EQ(failure->origin, 4);
    CHECK_EQ(failure->dim, 1);
    CHECK(failure->coords == std::vector<std::int64_t>({2}));
    CHECK(failure->values == std::vector<std::int64_t>({50, 1, n}));
    CHECK_EQ(instance.stats().task_count, 3 * n + 2);
    CHECK(x.data[0] == 8 && x.data[1] == 32 && x.data[n - 1] == 8);
    x.data.assign(n, 0);  // it can run again: 0 stays 0
    CHECK(run(instance));
    CHECK(!instance.error().has_value());
    CHECK_EQ(instance.stats().task_count, 3 * n + 3);
  }
}

// t1[k] = 2 t0[k] and t2[k] = 2 t1[k], each through a temporary of a row, the next one in the memory of the last.
writer::Plan through_temporaries(std::int64_t n, std::int64_t width) {
  writer::Plan p;
  p.regs = 3;
  p.tensors = {{{Affine(n), Affine(width)}}, {{Affine(n), Affine(width)}}, {{Affine(n), Affine(width)}},
               {{Affine(8), Affine(width)}, 7}, {{Affine(8), Affine(width)}, 7}};
  p.kernels = {kernel(add, 1, static_cast<std::uint64_t>(width), 10)};
  const auto step = [&](std::uint64_t from, Affine at_from, std::uint64_t to, Affine at_to, std::uint64_t site) {
    Task t;
    t.site = site;
    t.args = {view(from, true, {slice(at_from), slice(0)}), view(to, true, {slice(at_to), slice(0)})};
    return task(t);
  };
  // No order by structure between what shares memory: one temporary is released where the next is acquired.
  p.root = loop(0, n / 8, block({acquire(3), loop(1, 8, block({step(0, Affine(0, {{0, 8}, {1, 1}}), 3, reg(1), 0), step(3, reg(1), 1, Affine(0, {{0, 8}, {1, 1}}), 1)})),
                                 release(3), acquire(4),
                                 loop(2, 8, block({step(0, Affine(0, {{0, 8}, {2, 1}}), 4, reg(2), 2), step(4, reg(2), 2, Affine(0, {{0, 8}, {2, 1}}), 3)})),
                                 release(4)}), true);
  return p;
}

void temporaries_share_memory_once_it_is_free() {
  for (const std::uint32_t threads : thread_counts) {
    constexpr std::int64_t n = 400, width = 24;
    Instance instance(decode(through_temporaries(n, width).bytes()), threads);
    std::vector<Array> arrays(3, Array({n, width}, 1));
    for (std::size_t i = 0; i < 3; ++i) arrays[i].bind(instance, i);
    for (int again = 0; again < 5; ++again) {
      for (std::size_t i = 0; i < arrays[0].data.size(); ++i) arrays[0].data[i] = static_cast<float>(i % 1000);
      CHECK(run(instance));
      CHECK(!instance.error().has_value());
      bool right = true;
      for (std::size_t i = 0; i < arrays[0].data.size(); ++i)
        right = right && arrays[1].data[i] == 4 * arrays[0].data[i] && arrays[2].data[i] == 4 * arrays[0].data[i];
      CHECK(right);
      CHECK_EQ(instance.stats().arena_bytes, 8 * width * 4);
    }
  }
}

void places_of_temporaries() {
  writer::Plan p;
  p.symbols = {"n"};
  p.regs = 1;
  p.tensors = {{{reg(0)}, 7}, {{reg(0, 2), Affine(3)}, 7}, {{Affine(10)}, 7, i64}, {{reg(0)}, 7}, {{reg(0)}, 3}, {{reg(0)}, 7}};
  p.kernels = {kernel(add, 1, 1, 1)};
  p.root = block({acquire(0), acquire(1), release(0), acquire(2), acquire(3), release(1), release(2), release(3), acquire(5), release(5), acquire(5), release(5)});
  const auto plan = decode(p.bytes());
  pto_wsp::Arena arena;
  std::vector<pto_wsp::Buffer> buffers(6);
  const auto prepare = [&](std::int64_t n) {
    buffers[4] = {nullptr, {n}, {4}};
    arena.prepare(*plan, {&n, 1}, buffers, pto_wsp::no_limit);
    return [&](std::size_t i) { return buffers[i].data - buffers[5].data; };
  };
  const auto at = prepare(20);  // 80 bytes are 128 with what aligns the next; tensor 5 has a place of its own, the first
  CHECK_EQ(at(0), 128);
  CHECK_EQ(at(1), 256);
  CHECK_EQ(at(2), 128);  // 80 bytes
  CHECK_EQ(at(3), 256 + 512);
  CHECK_EQ(arena.bytes(), 256 + 512 + 128);
  CHECK(buffers[1].shape == std::vector<std::int64_t>({40, 3}) && buffers[1].strides == std::vector<std::int64_t>({12, 4}));
  CHECK_EQ(reinterpret_cast<std::uintptr_t>(buffers[5].data) % 64, 0);
  const std::byte* const first = buffers[5].data;
  prepare(10);
  CHECK(buffers[5].data == first);  // kept where it suffices
  CHECK_EQ(arena.bytes(), 64 + 64 + 256 + 128);  // the hole of tensor 0 is too small for tensor 2
  prepare(0);
  CHECK_EQ(arena.bytes(), 128);
  CHECK(!arena.prepare(*plan, std::array<std::int64_t, 1>{20}, buffers, 256 + 512 + 128 - 1));
  CHECK(arena.prepare(*plan, std::array<std::int64_t, 1>{20}, buffers, 256 + 512 + 128));
  CHECK_THROWS(std::bad_alloc, prepare(std::int64_t{1} << 45));
  CHECK_THROWS(std::bad_alloc, prepare(INT64_MAX / 2));
  prepare(20);
  // Who takes a part of released memory waits for those that used it, once.
  arena.release(0, 7);
  arena.release(1, 5);
  CHECK_EQ(arena.acquire(2), 7);
  CHECK_EQ(arena.acquire(3), 0);
  CHECK_EQ(arena.acquire(1), 5);
  CHECK_EQ(arena.acquire(1), 0);
  CHECK_EQ(arena.acquire(0), 0);
}

void parts_of_released_memory() {
  writer::Plan p;
  p.tensors = {{{Affine(64)}, 7}, {{Affine(16)}, 7}, {{Affine(32)}, 7}, {{Affine(16)}, 7}};
  p.kernels = {kernel(add, 1, 1, 1)};
  p.root = block({acquire(0), release(0), acquire(1), acquire(2), acquire(3), release(1), release(2), release(3)});
  const auto plan = decode(p.bytes());
  pto_wsp::Arena arena;
  std::vector<pto_wsp::Buffer> buffers(4);
  arena.prepare(*plan, {}, buffers, pto_wsp::no_limit);
  CHECK_EQ(arena.bytes(), 256);
  arena.release(0, 7);
  CHECK_EQ(arena.acquire(2), 7);  // in the middle
  CHECK_EQ(arena.acquire(3), 7);
  arena.release(3, 9);
  CHECK_EQ(arena.acquire(0), 9);
  CHECK_EQ(arena.acquire(1), 0);
}

void too_much_memory_is_a_failure() {
  writer::Plan p;
  p.symbols = {"n"};
  p.regs = 1;
  p.tensors = {{{Affine(1), Affine(8)}}, {{reg(0), Affine(8)}, 7}};
  p.kernels = {kernel(add, 1, 8, 10)};
  Task t;
  t.args = {view(0, true, {slice(0), slice(0)}), view(1, true, {slice(0), slice(0)})};
  p.root = block({acquire(1), task(t), release(1)});
  Instance instance(decode(p.bytes()), 2);
  Array x({1, 8}, 1);
  x.bind(instance, 0);
  CHECK_THROWS(std::invalid_argument, x.bind(instance, 1));
  for (const std::int64_t n : {std::int64_t{1} << 44, INT64_MAX, std::int64_t{4}}) {
    instance.set_symbols({&n, 1});
    CHECK_EQ(instance.start(), n == 4);
    CHECK(instance.wait(60));
    const auto failure = instance.error();
    CHECK_EQ(failure.has_value(), n != 4);
    CHECK(!failure || failure->kind == ErrorKind::memory);
  }
}

void slots_start_anew_in_each_run() {
  writer::Plan p;
  p.regs = 2;
  p.slots = {i64, boolean};
  p.tensors = {{{Affine(1), Affine(100)}, 3, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32)};
  // For i in seq(4): t0[slot] *= 2; slot = 2 slot + 1
  p.root = loop(0, 4, block({slot_get(1, 0), twice(0, reg(1)), slot_set(0, affine(reg(1, 2, 1)))}), true);
  Instance instance(decode(p.bytes()), 2);
  Ints x(100);
  x.bind(instance, 0, {1, 100});
  CHECK(run(instance) && !instance.error());
  CHECK(x.data[0] == 2 && x.data[1] == 2 && x.data[3] == 2 && x.data[7] == 2);
  using Slot = std::pair<std::uint32_t, std::uint64_t>;
  const Slot five[] = {{0, 5}};
  instance.set_slots(five);
  for (int again = 0; again < 2; ++again) CHECK(run(instance) && !instance.error());
  CHECK(x.data[5] == 4 && x.data[11] == 4 && x.data[23] == 4 && x.data[47] == 4);
  const Slot outside[] = {{2, 5}}, no_bool[] = {{0, 1}, {1, 2}};
  CHECK_THROWS(std::invalid_argument, instance.set_slots(outside));
  CHECK_THROWS(std::invalid_argument, instance.set_slots(no_bool));
  CHECK(run(instance) && x.data[5] == 8);  // a refused call changes nothing
}

struct Watch {
  std::vector<std::int64_t> seen;
  std::int64_t stop_at = -1;
  bool in_order = true, open = false;
  std::thread::id thread = std::this_thread::get_id();

  static bool call(void* self, bool begin, std::uint32_t, std::span<const std::int64_t> regs) {
    Watch& w = *static_cast<Watch*>(self);
    w.in_order = w.in_order && w.open != begin && std::this_thread::get_id() == w.thread;
    w.open = begin;
    if (begin) w.seen.push_back(regs[0]);
    return w.stop_at != regs[0];
  }
};

void watched_runs_are_in_program_order() {
  for (const std::uint32_t threads : thread_counts) {
    Instance instance(decode(one_loop(300).bytes()), threads);  // independent tasks
    std::vector<Array> arrays(2, Array({300, 8}, 1));
    for (std::size_t i = 0; i < 2; ++i) arrays[i].bind(instance, i);
    Watch watch;
    instance.set_watch({&Watch::call, &watch});
    CHECK(run(instance) && !instance.error());
    CHECK(watch.in_order && watch.seen.size() == 300 && std::ranges::is_sorted(watch.seen));
    CHECK_EQ(instance.stats().total_cycles, 75 * 10);
    watch = {};
    watch.stop_at = 40;
    CHECK(run(instance));
    const auto failure = instance.error();
    CHECK(failure && failure->kind == ErrorKind::hook && failure->coords == std::vector<std::int64_t>({40}) && failure->site == 0);
    CHECK_EQ(watch.seen.size(), 41);
    instance.start();  // nobody waits: nothing happens
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK(instance.is_running() && watch.seen.size() == 41);
    CHECK_THROWS(std::logic_error, instance.set_watch({}));
    instance.cancel();
    CHECK(instance.wait(60) && watch.seen.size() == 41);
    instance.set_watch({});
    CHECK(run(instance) && !instance.error() && watch.seen.size() == 41);
  }
}

}  // namespace

int main() {
  writers_that_finished_long_ago_count();
  reading_costs_even_when_nothing_is_waited_for();
  loops_that_ask_what_they_compute();
  cancelling_at_boundaries();
  failures_at_boundaries();
  temporaries_share_memory_once_it_is_free();
  places_of_temporaries();
  parts_of_released_memory();
  too_much_memory_is_a_failure();
  slots_start_anew_in_each_run();
  watched_runs_are_in_program_order();
  return check::result();
}
