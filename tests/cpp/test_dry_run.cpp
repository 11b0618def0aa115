// Dry runs beside real ones: figures and traces are equal; what they lack, what stops them, and what would let a deadlock go on.
#include <algorithm>
#include <optional>
#include <stdexcept>

#include "check.hpp"
#include "pto_wsp/dry_run.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::DryInputs;
using pto_wsp::DryResult;
using pto_wsp::DryRun;
using pto_wsp::ErrorKind;
using pto_wsp::Instance;
using pto_wsp::Tracer;

namespace {

constexpr std::uint64_t lt = 14, all_tasks = 100'000;

DryRun dry(const writer::Plan& p, std::optional<std::vector<std::int64_t>> numbers = std::nullopt) {
  DryInputs in;
  in.numbers = std::move(numbers);
  return {decode(p.bytes()), std::move(in)};
}

Bytes twice(const Affine& at) {
  Task t;
  t.coords = {at};
  t.args = {view(0, true, {slice(0), slice(at)})};
  return task(t);
}

// while t0[0] < 2^10: t0[0] *= 2, and beside it tasks on elements of their own.
writer::Plan doubling() {
  writer::Plan p;
  p.regs = 4;
  p.tensors = {{{Affine(1), Affine(64)}, 3, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32)};
  p.read_cost = 3;
  const Bytes read = item(1, 0, {at(0), at(0)}, true, 6);
  p.root = while_loop(0, 60, block({read, compute(2, lt, i64, {of(1), constant(std::int64_t{1} << 10)})}), of(2),
                      block({twice(0), loop(3, 5, twice(reg(3, 1, 1)))}));
  return p;
}

// A boundary whose number nobody needs.
writer::Plan idle_read(bool wait) {
  writer::Plan p;
  p.regs = 2;
  p.tensors = {{{Affine(1), Affine(8)}, 3, i32}, {{Affine(1), Affine(8)}, 1, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32)};
  p.read_cost = 3;
  p.root = block({twice(0), item(1, wait ? 0 : 1, {at(0), at(0)}, wait), twice(1)});
  return p;
}

void same_figures(const pto_wsp::RunStats& got, const pto_wsp::RunStats& want) {
  CHECK_EQ(got.task_count, want.task_count);
  CHECK_EQ(got.total_cycles, want.total_cycles);
  CHECK_EQ(got.scalar_waits, want.scalar_waits);
  CHECK_EQ(got.scalar_wait_cycles, want.scalar_wait_cycles);
  CHECK(got.kernel_counts == want.kernel_counts);
  CHECK_EQ(got.windows.size(), want.windows.size());
  for (std::size_t i = 0; i < got.windows.size(); ++i) {
    const pto_wsp::WindowStats &a = got.windows[i], &b = want.windows[i];
    CHECK(a.stalls == b.stalls && a.stall_cycles == b.stall_cycles && a.high_water == b.high_water && a.high_bytes == b.high_bytes);
  }
}

void same_traces(const Tracer& got, const Tracer& want) {
  CHECK_EQ(got.size(), want.size());
  CHECK_EQ(got.dropped(), 0);
  for (std::uint64_t i = 0; i < got.size() && i < want.size(); ++i) {
    const pto_wsp::TracedTask &a = got[i], &b = want[i];
    CHECK(a.issue == b.issue && a.ready == b.ready && a.start == b.start && a.end == b.end && a.lane == b.lane);
    CHECK(a.due == b.due && a.asked == b.asked && a.order == b.order && a.waited == b.waited && a.stalled == b.stalled);
    CHECK(a.site == b.site && a.window == b.window && a.stream == b.stream && a.stream_scope == b.stream_scope && a.batch == b.batch);
    CHECK(std::ranges::equal(got.coords(i), want.coords(i)));
  }
  const auto same = [](const Tracer::Edge& a, const Tracer::Edge& b) { return a.from == b.from && a.to == b.to && a.boundary == b.boundary; };
  CHECK(std::ranges::equal(got.edges(), want.edges(), same));
}

void figures_and_traces_are_those_of_runs() {
  std::vector<writer::Plan> plans{one_loop(50), two_loops(40), chain(30, true), chain(30, false), doubling(), idle_read(true)};
  for (writer::Plan plan : plans) {
    for (const std::uint64_t window : {std::uint64_t{65536}, std::uint64_t{3}}) {
      for (const std::uint64_t cost : {0, 4}) {
        plan.windows = {window};
        plan.issue_cost = plan.handover = cost;
        Instance instance(decode(plan.bytes()), 2);
        instance.set_trace(pto_wsp::TraceLevel::full, all_tasks);
        std::vector<Array> arrays;
        for (const auto& t : plan.tensors) arrays.emplace_back(std::vector{t.dims[0].constant, t.dims[1].constant}, 1);
        std::vector<std::int32_t> ints(64, 1);
        for (std::size_t i = 0; i < arrays.size(); ++i) {
          if (plan.tensors[i].dtype == f32)
            arrays[i].bind(instance, i);
          else
            instance.bind(i, reinterpret_cast<std::byte*>(ints.data()), arrays[i].shape, std::vector<std::int64_t>{256, 4}, i32, true);
        }
        CHECK(run(instance) && !instance.error());
        std::optional<std::vector<std::int64_t>> numbers;
        if (const auto tape = instance.tape()) numbers = tape->numbers();
        DryRun simulated = dry(plan, numbers);
        for (int again = 0; again < 2; ++again) {
          const DryResult figures = simulated.run(), traced = simulated.run_traced(all_tasks);
          CHECK(!figures.failure && !traced.failure && figures.trace == nullptr && traced.trace != nullptr);
          same_figures(figures.stats, instance.stats());
          same_figures(traced.stats, instance.stats());
          if (traced.trace) same_traces(*traced.trace, *instance.trace());
        }
      }
    }
  }
}

void tasks_of_no_cost_take_another_way() {
  writer::Plan p = one_loop(5000);
  p.kernels = {kernel(add, 1, 8, 0)};
  p.issue_cost = 2;
  p.windows = {7};
  same_figures(dry(p).run().stats, dry(p).run_traced(all_tasks).stats);
  CHECK_EQ(dry(p).run().stats.total_cycles, 2 * 4999);
}

void numbers_of_an_earlier_run() {
  const auto missing = [](const std::optional<pto_wsp::Failure>& f) { return f && f->kind == ErrorKind::not_given; };
  std::vector<std::int64_t> numbers;
  for (std::int64_t n = 1; n <= 1024; n *= 2) numbers.push_back(n);
  CHECK(!dry(doubling(), numbers).run().failure);
  for (const auto& few : {std::optional<std::vector<std::int64_t>>(), std::optional(std::vector<std::int64_t>{1, 2})}) {
    const DryResult r = dry(doubling(), few).run();
    CHECK(missing(r.failure) && r.failure->origin == 5);
    CHECK_EQ(r.stats.task_count, few ? 12 : 0);
  }
  numbers.push_back(5);
  const DryResult r = dry(doubling(), numbers).run();
  CHECK(missing(r.failure) && r.failure->values == std::vector<std::int64_t>{1});
  CHECK(dry(doubling(), numbers).run_traced(all_tasks).trace != nullptr);
  // What decides nothing may be missing.
  for (const auto& some : {std::optional<std::vector<std::int64_t>>(), std::optional(std::vector<std::int64_t>{7})}) {
    const DryResult idle = dry(idle_read(true), some).run();
    CHECK(!idle.failure);
    CHECK_EQ(idle.stats.scalar_waits, 1);
    CHECK_EQ(idle.stats.total_cycles, 10 + 3 + 10);
  }
  CHECK(missing(dry(idle_read(true), std::vector<std::int64_t>{7, 8}).run().failure));
}

void without_any_data() {
  CHECK(DryRun::foregone(*decode(idle_read(false).bytes())));
  CHECK(!DryRun::foregone(*decode(doubling().bytes())));
  DryInputs in;
  in.without_data = true;
  CHECK_EQ(DryRun(decode(idle_read(false).bytes()), in).run().stats.task_count, 2);
  DryRun simulated = dry(idle_read(false));  // else what no task writes is read
  std::vector<std::int32_t> numbers(8, 3);
  simulated.bind(1, reinterpret_cast<std::byte*>(numbers.data()), std::vector<std::int64_t>{1, 8}, std::vector<std::int64_t>{4, 4});
  CHECK_EQ(simulated.run().stats.task_count, 2);
}

void who_is_asked_may_stop_it() {
  for (const writer::Plan& p : {one_loop(100'000), chain(100'000, true)}) {
    int asked = 0;
    DryInputs in;
    in.go_on = [&] { return ++asked < 3; };
    DryRun simulated(decode(p.bytes()), in);
    const auto stopped = [](const DryResult& r) { return r.failure && r.failure->kind == ErrorKind::cancelled; };
    CHECK(stopped(simulated.run()));
    CHECK_EQ(asked, 3);
    asked = 0;
    CHECK(stopped(simulated.run_traced(10)));
    CHECK_EQ(asked, 3);
    asked = -1000;
    CHECK_EQ(simulated.run().stats.task_count, 100'000);
  }
}

// 64 tasks, then 64 that wait for all of them: 64 edges each.
writer::Plan many_edges() {
  writer::Plan p = two_loops(64);
  p.kernels.push_back(kernel(add, 64, 8, 10));
  p.tensors[2] = {{Affine(64 * 64), Affine(8)}};
  Task a, b;
  a.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, true, {slice(reg(0)), slice(0)})};
  b.kernel = b.site = 1;
  b.args = {view(1, true, {slice(0), slice(0)}), view(2, true, {slice(reg(1, 64)), slice(0)})};
  p.root = block({loop(0, 64, task(a)), loop(1, 64, task(b))});
  return p;
}

void traces_have_a_limit() {
  const auto few = dry(two_loops(20)).run_traced(15).trace;
  CHECK(few->size() == 15 && few->dropped() == 25 && few->dropped_edges() == 20 && few->enough() == 40);
  const auto tight = dry(many_edges()).run_traced(128).trace;
  CHECK(tight->size() == 128 && tight->dropped() == 0 && tight->edges().size() == 128 * 16 && tight->dropped_edges() == 64 * 64 - 128 * 16);
  CHECK_EQ(tight->enough(), 64 * 64 / 16);
  const auto whole = dry(many_edges()).run_traced(tight->enough()).trace;
  CHECK(whole->edges().size() == 64 * 64 && whole->dropped_edges() == 0 && whole->enough() == tight->enough());
  const auto less = dry(many_edges()).run_traced(tight->enough() - 1).trace;
  CHECK(less->dropped_edges() == 16);
}

void what_only_the_whole_run_shows() {
  writer::Plan p = one_loop(20);
  Task t;
  t.coords = {reg(0)};
  t.window = 1;
  t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
  p.root = loop(0, 20, task(t));
  p.windows = {65536, 4};
  p.window_modes = {0, 1};
  for (const bool traced : {false, true}) {
    const DryResult r = traced ? dry(p).run_traced(all_tasks) : dry(p).run();
    CHECK(r.failure && r.failure->kind == ErrorKind::window && r.failure->values == std::vector<std::int64_t>({1, 20, 4, 0}));
  }
  for (const bool tracked : {false, true}) {
    writer::Plan late = chain(8, tracked);
    late.kernels = {inout_kernel(1, 8, std::int64_t{1} << 60)};
    const auto failure = dry(late).run().failure;
    CHECK(failure && failure->kind == ErrorKind::overflow);
  }
}

bool is_deadlock(const std::optional<pto_wsp::Failure>& f) { return f && f->kind == ErrorKind::deadlock; }

void deadlocks_and_what_lets_them_go_on() {
  for (const bool in_bytes : {false, true}) {
    for (const std::uint64_t start : {std::uint64_t{5}, std::uint64_t{9}, std::uint64_t{20}}) {
      writer::Plan p = two_loops(10);
      p.start = start;
      const auto limited = [&](std::uint64_t size) {
        p.windows = {in_bytes ? 65536 : size};
        p.window_bytes = {in_bytes ? size : 0};
        return dry(p);
      };
      const std::uint64_t enough = in_bytes ? 32 * start : start;  // a task writes eight numbers of four bytes
      DryRun blocked = limited(in_bytes ? 100 : 3);
      CHECK(is_deadlock(blocked.run().failure));
      CHECK(is_deadlock(blocked.run_until_open(pto_wsp::no_limit)));
      const auto few = blocked.run_until_open(2);
      CHECK(few && few->kind == ErrorKind::cancelled);
      const pto_wsp::Remedy remedy = blocked.remedy();
      CHECK(remedy.known && !remedy.unknown && remedy.sizes.size() == 1);
      if (remedy.sizes.size() == 1) {
        CHECK(remedy.sizes[0].window == 0 && remedy.sizes[0].bytes == in_bytes);
        CHECK_EQ(remedy.sizes[0].needed, enough);
      }
      CHECK(remedy.oldest_site == 0 && remedy.oldest_coords == std::vector<std::int64_t>{0});
      CHECK(!limited(enough).run_until_open(pto_wsp::no_limit));
      CHECK(!limited(enough).run().failure);
      CHECK(is_deadlock(limited(enough - 1).run().failure));
    }
  }
}

void what_is_given_is_checked() {
  const auto plan = decode(one_loop(4).bytes());
  DryInputs in;
  in.symbols = {1};
  CHECK_THROWS(std::invalid_argument, DryRun(plan, in));
  in.symbols.clear();
  in.slots = {1};
  CHECK_THROWS(std::invalid_argument, DryRun(plan, in));
  in.slots.clear();
  DryRun simulated(plan, in);
  const std::vector<std::int64_t> two{4, 8}, one{4};
  CHECK_THROWS(std::invalid_argument, simulated.bind(2, nullptr, two, two));
  CHECK_THROWS(std::invalid_argument, simulated.bind(0, nullptr, one, one));
  CHECK_THROWS(std::invalid_argument, simulated.bind(0, nullptr, two, one));
  simulated.bind(0, nullptr, std::vector<std::int64_t>{3, 8}, two);  // another shape than the plan's: told before anything else
  const DryResult r = simulated.run_traced(10);
  CHECK(r.failure && r.failure->kind == ErrorKind::dim && r.trace == nullptr);
}

}  // namespace

int main() {
  figures_and_traces_are_those_of_runs();
  tasks_of_no_cost_take_another_way();
  numbers_of_an_earlier_run();
  without_any_data();
  who_is_asked_may_stop_it();
  traces_have_a_limit();
  what_only_the_whole_run_shows();
  deadlocks_and_what_lets_them_go_on();
  what_is_given_is_checked();
  return check::result();
}
