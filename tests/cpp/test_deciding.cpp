// Which numbers decide what a plan does: each way from a read to what there is to do, and what is left out of a dry run where there is
// none.
#include <algorithm>

#include "check.hpp"
#include "kernel_control_builder.hpp"
#include "pto_wsp/deciding.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::Deciding;
using pto_wsp::NodeKind;

namespace {

enum Kernels : std::uint64_t { plain, with_scalar, costs_its_scalar };

// y = x + n over an InOut tile; `by_cost`: as many cycles as n says.
Bytes scalar_kernel(bool by_cost) {
  builder::ControlBuilder b;
  const int x = b.tile(pto_wsp::Dir::inout, pto_wsp::DType::i32, 1, 1), n = b.scalar(pto_wsp::DType::i32);
  b.store(x, b.like(pto_wsp::Op::add, b.load(x), {builder::val(0), builder::par(n)}));
  const auto r = static_cast<std::uint64_t>(b.widen(n, pto_wsp::DType::i64));
  if (by_cost) b.cost = Out().u(5).u(1).u(4).u(r).u(0).s(1).u(4).u(0).s(1).u(2).bytes;
  return b.bytes();
}

constexpr std::uint64_t plus = 0, divide = 3, lt = 14;  // of numbers
constexpr std::uint64_t floordiv = 1;                     // of index expressions

writer::Plan plan(Bytes root) {
  writer::Plan p;
  p.regs = 8;
  p.tensors = {{{Affine(1), Affine(64)}, 3, i32}, {{Affine(1), Affine(64)}, 3, i32}};
  p.kernels = {inout_kernel(1, 1, 10, i32), scalar_kernel(false), scalar_kernel(true)};
  p.slots = {i64};
  p.memories = 1;
  p.dispatches = {4};
  p.dispatch_flags = {0};
  p.root = std::move(root);
  return p;
}

Task on(const Affine& at) {
  Task t;
  t.args = {view(0, true, {slice(0), slice(at)})};
  return t;
}
Bytes some_task() { return task(on(0)); }
Bytes given(std::uint64_t kernel, std::uint64_t r) {
  Task t = on(0);
  t.kernel = kernel;
  t.args.push_back(scalar(r, i64));
  return task(t);
}
Bytes number(bool wait = true, std::uint64_t r = 1) { return item(r, 0, {at(0), at(0)}, wait); }

struct Found {
  std::vector<bool> idle;
  bool data;
};
Found found_in(const writer::Plan& p) {
  const auto decoded = decode(p.bytes());
  const Deciding d(*decoded);
  return {d.idle_reads(), d.data()};
}

// A read, and what uses it.
void a_read_decides(const char* how, bool wanted, const Bytes& use) {
  for (const bool wait : {false, true}) {
    const Found found = found_in(plan(block({number(wait), use})));
    if (found.idle != std::vector{!wanted} || found.data != wanted) check::fail(how, std::source_location::current());
  }
}

void ways_from_a_read_to_what_there_is_to_do() {
  const Bytes small = compute(2, lt, i64, {of(1), constant(std::int64_t{9})});
  Task coordinate = on(0), lane = on(0), priority = on(0);
  coordinate.coords = {reg(1)};
  lane.dispatch = 1;
  lane.lane = rule(reg(1));
  priority.priority = rule({rule_step("add", i64, {affine(reg(1)), constant(std::int64_t{1})})}, step(0));
  a_read_decides("nothing", false, some_task());
  a_read_decides("an extent", true, loop(0, reg(1), task(on(reg(0)))));
  a_read_decides("a condition", true, block({small, cond(of(2), some_task(), block({}))}));
  a_read_decides("a loop's condition", true, while_loop(0, 5, block({small}), of(2), some_task()));
  a_read_decides("a coordinate", true, task(coordinate));
  a_read_decides("a view", true, task(on(reg(1))));
  a_read_decides("a lane", true, task(lane));
  a_read_decides("a priority", true, task(priority));
  a_read_decides("a slot", false, slot_set(0, of(1)));
  a_read_decides("what comes from a slot", true, block({slot_set(0, of(1)), slot_get(2, 0), loop(0, reg(2), some_task())}));
  a_read_decides("an argument from a slot", false, block({slot_set(0, of(1)), slot_get(2, 0), given(with_scalar, 2)}));
  a_read_decides("an argument", false, given(with_scalar, 1));
  a_read_decides("an argument that costs are of", true, given(costs_its_scalar, 1));
}

void chains_of_computations() {
  const auto chain = [](Bytes end) {
    return plan(block({number(), compute(2, plus, i64, {of(1), constant(std::int64_t{1})}), eval(3, floordiv, reg(2), 2),
                       compute(4, lt, i64, {affine(reg(3)), constant(std::int64_t{9})}), std::move(end)}));
  };
  CHECK(found_in(chain(cond(of(4), some_task(), block({})))).idle == std::vector{false});
  CHECK(found_in(chain(some_task())).idle == std::vector{true});
  CHECK(found_in(chain(given(with_scalar, 3))).idle == std::vector{true});
  CHECK(found_in(chain(given(costs_its_scalar, 3))).idle == std::vector{false});
  // Where another read is of, decides: not what that reads.
  const Found found = found_in(plan(block({number(), item(2, 0, {at(0), at(reg(1))}, true), given(with_scalar, 2)})));
  CHECK((found.idle == std::vector{false, true}));
  CHECK(found.data);
}

// Processes, of which the first reads numbers; of each read whether it decides nothing.
std::vector<bool> idle_in(const std::vector<Channel>& channels, const std::vector<Process>& processes) {
  const Found found = found_in(plan(pipeline(channels, processes)));
  CHECK(found.data == (std::ranges::count(found.idle, false) != 0));
  return found.idle;
}

void numbers_go_through_channels() {
  using V = std::vector<bool>;
  const std::vector<Channel> one{{1, {i64}}}, two{{1, {i64}}, {1, {i64}}};
  const auto extent = [](std::uint64_t r) { return loop(0, reg(r), some_task()); };
  const Process sends{{0}, block({number(), send(0, {of(1)})})};
  CHECK(idle_in(one, {sends, {{}, receive(0, {2})}}) == V{true});
  CHECK(idle_in(one, {sends, {{}, consume(0, {2}, given(with_scalar, 2))}}) == V{true});
  CHECK(idle_in(one, {sends, {{}, consume(0, {2}, given(costs_its_scalar, 2))}}) == V{false});
  CHECK(idle_in(one, {sends, {{}, block({receive(0, {2}), extent(2)})}}) == V{false});
  CHECK(idle_in(one, {{{0}, block({number(), try_send(2, 0, {of(1)})})}, {{}, consume(0, {3}, extent(3))}}) == V{false});
  CHECK(idle_in(one, {{{0}, block({number(), send(0, {affine(reg(1))})})}, {{}, consume(0, {2}, extent(2))}}) == V{false});
  // Each field for itself.
  const Process both{{0}, block({number(), number(true, 2), send(0, {of(1), of(2)})})};
  CHECK(idle_in({{1, {i64, i64}}}, {both, {{}, consume(0, {3, 4}, block({extent(3), given(with_scalar, 4)}))}}) == (V{false, true}));
  // A channel of several: what one receiver does with a token decides, and of whichever sender.
  const Process also{{0}, block({number(true, 2), send(0, {of(2)})})};
  CHECK(idle_in(one, {sends, also, {{}, consume(0, {3}, given(with_scalar, 3))}}) == (V{true, true}));
  CHECK(idle_in(one, {sends, also, {{}, consume(0, {3}, given(with_scalar, 3))}, {{}, consume(0, {4}, extent(4))}}) == (V{false, false}));
  // On to a further channel, and round in a ring.
  const Process on_it_goes{{1}, consume(0, {2}, send(1, {affine(reg(2))}))};
  CHECK(idle_in(two, {sends, on_it_goes, {{}, consume(1, {3}, given(with_scalar, 3))}}) == V{true});
  CHECK(idle_in(two, {sends, on_it_goes, {{}, consume(1, {3}, extent(3))}}) == V{false});
  const auto ring = [&](const Bytes& use) {
    const Process back{{0}, block({number(), send(0, {of(1)}), receive(1, {3}), use, send(0, {of(3)})})};
    return idle_in(two, {back, on_it_goes});
  };
  CHECK(ring(given(with_scalar, 3)) == V{true});
  CHECK(ring(extent(3)) == V{false});
  // Each pipeline has channels of its own.
  const auto inside = [&](const Bytes& use) { return Process{{}, pipeline(one, {{{0}, send(0, {constant(std::int64_t{1})})}, {{}, consume(0, {4}, use)}})}; };
  CHECK(idle_in(one, {sends, {{}, receive(0, {2})}, inside(extent(4))}) == V{true});
}

void symbols_slots_and_gathers_are_data() {
  CHECK(!found_in(plan(some_task())).data);
  CHECK(!found_in(plan(block({slot_get(1, 0), given(with_scalar, 1)}))).data);
  CHECK(found_in(plan(block({slot_get(1, 0), loop(0, reg(1), some_task())}))).data);
  writer::Plan sized = plan(some_task());
  sized.symbols = {"n"};
  CHECK(found_in(sized).data);
  Task gathering = on(0);
  gathering.args = {view(0, true, {slice(0), gather(1, {at(0), slice(0, 1)})})};
  CHECK(found_in(plan(task(gathering))).data);
}

// Nodes of a dry run that are left out: what computes with numbers that are not there.
void idle_nodes() {
  const auto left_out = [](const writer::Plan& p, bool reads) {
    const auto decoded = decode(p.bytes());
    std::vector<NodeKind> kinds;
    for (const pto_wsp::Node* n : Deciding(*decoded).idle_nodes(reads)) kinds.push_back(n->kind);
    std::ranges::sort(kinds);
    return kinds;
  };
  const auto dividing = [](bool wait, Bytes end) {
    return plan(block({number(wait), compute(2, divide, i64, {constant(std::int64_t{1}), of(1)}, true), eval(3, floordiv, reg(2), 2),
                       compute(4, plus, i64, {constant(std::int64_t{1}), constant(std::int64_t{2})}), std::move(end)}));
  };
  using K = std::vector<NodeKind>;
  K both{NodeKind::eval, NodeKind::scalar}, all{NodeKind::eval, NodeKind::scalar, NodeKind::read};
  std::ranges::sort(both);
  std::ranges::sort(all);
  CHECK(left_out(dividing(true, given(with_scalar, 3)), false) == both);   // the read itself waits, which takes time
  CHECK(left_out(dividing(true, given(with_scalar, 3)), true) == both);
  CHECK(left_out(dividing(false, given(with_scalar, 3)), false).empty());  // its tensor is there
  CHECK(left_out(dividing(false, given(with_scalar, 3)), true) == all);
  CHECK(left_out(dividing(true, loop(0, reg(3), some_task())), true).empty());
  const Bytes dividing_by_token = block({compute(3, divide, i64, {constant(std::int64_t{1}), of(2)}, true), given(with_scalar, 3)});
  const auto sent = [&](Bytes first) {
    return plan(pipeline({{1, {i64}}}, {{{0}, block({std::move(first), send(0, {of(1)})})}, {{}, consume(0, {2}, dividing_by_token)}}));
  };
  CHECK((left_out(sent(number()), false) == K{NodeKind::scalar}));
  CHECK(left_out(sent(compute(1, plus, i64, {constant(std::int64_t{1}), constant(std::int64_t{2})})), false).empty());
}

}  // namespace

int main() {
  ways_from_a_read_to_what_there_is_to_do();
  chains_of_computations();
  numbers_go_through_channels();
  symbols_slots_and_gathers_are_data();
  idle_nodes();
  return check::result();
}
