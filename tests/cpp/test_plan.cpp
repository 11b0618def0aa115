// What decodes, and what is refused.
#include <algorithm>

#include "check.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::PlanError;

namespace {

void what_is_written_is_read() {
  const auto plan = decode(two_loops(6).bytes());
  CHECK_EQ(plan->tensors().size(), 3);
  CHECK_EQ(plan->tensors()[1].name, std::string("t1"));
  CHECK(plan->tensors()[1].read && plan->tensors()[1].written);
  CHECK_EQ(plan->kernels().size(), 1);
  CHECK_EQ(plan->tasks().size(), 2);
  CHECK_EQ(plan->lanes(), 4);
  CHECK(!plan->independent());
  CHECK(decode(one_loop(6).bytes())->independent());
  CHECK(!decode(chain(6, false).bytes())->independent());
}

void blocks_are_flattened() {
  writer::Plan p = one_loop(4);
  const Bytes loop_node = p.root;
  p.root = block({block({block({}), loop_node}), block({})});
  const auto plan = decode(p.bytes());
  CHECK(plan->nodes()[plan->root()].kind == pto_wsp::NodeKind::block || plan->nodes()[plan->root()].kind == pto_wsp::NodeKind::loop);
}

void every_shorter_and_longer_text_is_refused() {
  for (const writer::Plan& p : {one_loop(300), two_loops(6), chain(5, true)}) {
    const Bytes whole = p.bytes();
    for (std::size_t n = 0; n < whole.size(); ++n) CHECK_THROWS(PlanError, decode(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(n))));
    Bytes more = whole;
    more.push_back(std::byte{0});
    CHECK_THROWS(PlanError, decode(more));
    for (const std::size_t at : {0u, 3u, 4u, 7u}) {
      Bytes other = whole;
      other[at] ^= std::byte{4};
      CHECK_THROWS(PlanError, decode(other));
    }
  }
}

template <class Change>
void refused(Change&& change) {
  writer::Plan p = one_loop(4);
  Task t;
  t.coords = {reg(0)};
  t.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
  change(p, t);
  if (p.root == one_loop(4).root) p.root = loop(0, 4, task(t));
  CHECK_THROWS(PlanError, decode(p.bytes()));
}

void tables_and_numbers() {
  refused([](writer::Plan& p, Task&) { p.lanes = 0; });
  refused([](writer::Plan& p, Task&) { p.lanes = 65537; });
  refused([](writer::Plan& p, Task&) { p.windows = {}; });
  refused([](writer::Plan& p, Task&) { p.windows = {0}; });
  refused([](writer::Plan& p, Task&) { p.dispatches = {65537}; });
  refused([](writer::Plan& p, Task&) { p.dispatches = {0}; });
  refused([](writer::Plan& p, Task&) { p.issue_cost = std::uint64_t{1} << 61; });
  refused([](writer::Plan& p, Task&) { p.regs = std::uint64_t{1} << 40; });
  refused([](writer::Plan& p, Task&) { p.tensors[0].dtype = 8; });
  refused([](writer::Plan& p, Task&) { p.kernels[0] = kernel(add, 1, 8, 10, 0, i64); });
  refused([](writer::Plan& p, Task&) { p.tensors[0].dtype = i32; });            // not the parameter's
  refused([](writer::Plan& p, Task&) { p.tensors[1].flags = 1; });              // written, not declared so
  refused([](writer::Plan& p, Task&) { p.tensors[0].flags = 2; });              // read, not declared so
  refused([](writer::Plan& p, Task&) { p.tensors[0].dims.assign(9, Affine(1)); });
  refused([](writer::Plan& p, Task&) { p.tensors[0].dims[0] = reg(0); });       // a dimension over a loop variable
  refused([](writer::Plan&, Task& t) { t.kernel = 1; });
  refused([](writer::Plan&, Task& t) { t.dispatch = 1; });
  refused([](writer::Plan&, Task& t) { t.window = 1; });
  refused([](writer::Plan&, Task& t) { t.args[0] = view(2, false, {slice(reg(0)), slice(0)}); });
  refused([](writer::Plan&, Task& t) { t.args[0] = view(0, false, {slice(reg(0)), at(0)}); });   // one dimension kept
  refused([](writer::Plan&, Task& t) { t.args[0] = scalar(1.0); });
  refused([](writer::Plan&, Task& t) { t.args.pop_back(); });
  refused([](writer::Plan& p, Task& t) {
    p.tensors[0].dims.push_back(Affine(8));
    t.args[0] = view(0, false, {slice(reg(0)), slice(0), slice(0)});
  });
}

void registers_are_scoped() {
  const auto body = [](std::uint64_t r) {
    return task({0, 0, 0, 0, {}, {view(0, false, {slice(reg(r)), slice(0)}), view(1, false, {slice(0), slice(0)})}});
  };
  refused([&](writer::Plan& p, Task&) { p.root = body(0); });                                   // before any value
  refused([&](writer::Plan& p, Task&) { p.root = loop(0, reg(0), body(0)); });                  // in its own extent
  refused([&](writer::Plan& p, Task&) { p.root = block({loop(0, 2, body(0)), body(0)}); });     // after the loop
  refused([&](writer::Plan& p, Task&) { p.root = block({loop(0, 2, body(0)), loop(0, 2, body(0))}); });
  refused([&](writer::Plan& p, Task&) { p.root = loop(1, 2, body(0)); });                       // there is no register 1
  refused([&](writer::Plan& p, Task&) { p.root = loop(0, 2, eval(0, 0, 1, 1)); });              // written twice
  refused([&](writer::Plan& p, Task&) { p.root = eval(0, 5, 1, 1); });
  refused([&](writer::Plan& p, Task&) {
    p.regs = 2;
    p.root = block({block({eval(0, 0, 1, 1)}), body(0)});
  });
  writer::Plan p = one_loop(4);
  p.regs = 2;
  p.root = block({eval(0, 0, 1, 1), body(0), loop(1, reg(0), body(0))});
  CHECK(decode(p.bytes()) != nullptr);
}

// Tensor 0 f32, 1 f32 written, 2 i32, 3 f64, 4 a temporary of f32; slot 0 i64, 1 bool; two handles; 8 registers.
writer::Plan with_data(const Bytes& root) {
  writer::Plan p = one_loop(4);
  p.regs = 8;
  p.tensors.push_back({{Affine(4)}, 1, i32});
  p.tensors.push_back({{Affine(4)}, 1, f64});
  p.tensors.push_back({{Affine(4), Affine(8)}, 7, f32});
  p.slots = {i64, boolean};
  p.handles = 2;
  p.root = root;
  return p;
}

Bytes job(const Dim& row, std::uint64_t x = 0) {
  return task({0, 0, 0, 0, {}, {view(x, false, {row, slice(0)}), view(1, false, {slice(0), slice(0)})}});
}

void scalars_have_types() {
  const auto ok = [](const Bytes& root) { CHECK(decode(with_data(root).bytes()) != nullptr); };
  const auto no = [](const Bytes& root) { CHECK_THROWS(PlanError, decode(with_data(root).bytes())); };
  constexpr std::uint64_t add_ = 0, div = 5, bits = 6, shift = 10, eq = 12, where = 22, cast = 23;
  const Bytes n = item(0, 2, {at(0)}), x = item(1, 3, {at(0)}), c = compute(2, eq, i64, {of(0), affine(3)});
  ok(block({n, x, c, cond(of(2), job(slice(reg(0))), block({})), slot_set(0, of(0)), slot_set(1, of(2)), slot_get(3, 1), cond(of(3), block({}), block({}))}));
  ok(block({n, x, c, compute(3, where, f64, {of(2), of(1), constant(1.5)}), compute(4, cast, f64, {of(3)}, true, i64), job(slice(reg(4)))}));
  no(block({x, job(slice(reg(1)))}));                             // an f64 in an index
  no(block({n, c, job(slice(reg(2)))}));                          // a bool
  no(block({n, x, compute(3, add_, i64, {of(0), of(1)})}));       // an f64 among i64
  no(block({x, compute(3, add_, f64, {of(1), affine(2)})}));      // an index expression among f64
  no(block({n, compute(3, add_, i64, {of(0)})}));                 // one operand of two
  no(block({n, compute(3, add_, i64, {of(0), of(0), of(0)})}));
  no(block({n, compute(3, div, i64, {of(0), of(0)})}));           // no such operation
  no(block({n, x, compute(3, bits, f64, {of(1), of(1)})}));
  no(block({n, x, compute(3, shift, f64, {of(1), of(1)})}));
  no(block({n, c, compute(3, add_, boolean, {of(2), of(2)})}));
  no(block({n, compute(3, 24, i64, {of(0), of(0)})}));
  no(block({n, compute(3, add_, i32, {of(0), of(0)})}));          // scalars are i64, u64, f64, bool
  no(block({n, compute(3, add_, i64, {of(0), of(0)}, false, f64)}));  // only a cast has another type
  no(block({n, compute(3, cast, i64, {of(0)}, false, f32)}));
  no(block({n, compute(3, where, i64, {of(0), of(0), of(0)})}));  // not a bool
  no(block({n, c, compute(3, eq, boolean, {of(2), constant(std::int64_t{2})})}));  // a constant that is no bool
  no(cond(of(2), block({}), block({})));
  no(block({n, cond(of(0), block({}), block({}))}));
  no(block({n, cond(affine(1), block({}), block({}))}));
  no(block({n, cond(constant(std::int64_t{1}), item(3, 2, {at(0)}), block({})), job(slice(reg(3)))}));  // of one branch only
  no(slot_set(2, constant(std::int64_t{1})));
  no(slot_get(3, 2));
  no(block({x, slot_set(0, of(1))}));
  no(block({slot_get(3, 1), job(slice(reg(3)))}));
}

void reads_and_gathers_are_checked() {
  const auto ok = [](const Bytes& root) { CHECK(decode(with_data(root).bytes()) != nullptr); };
  const auto no = [](const Bytes& root) { CHECK_THROWS(PlanError, decode(with_data(root).bytes())); };
  ok(block({read(0, 1, 2, {span(1, 2)}), read(1, 5, 3, {tile(0, 3, 2)}), read(2, 2, 0, {slice(0, 0), at(1)})}));
  no(item(0, 2, {slice(0, 1)}));                       // more than an element
  no(item(0, 2, {}));
  no(item(0, 9, {at(0)}));
  no(read(0, 6, 2, {at(0)}));
  no(read(0, 1, 2, {tile(0, 3, 0)}));
  no(read(0, 1, 2, {gather(2, {slice(0, 1)})}));
  no(read(0, 1, 2, {slice(0, std::int64_t{1} << 31)}));
  no(block({item(0, 2, {at(0)}), item(0, 2, {at(0)})}));
  ok(job(gather(2, {slice(1, 1)})));
  ok(job(gather(2, {tile(0, 1, 1)})));
  no(job(gather(2, {slice(1, 2)})));                   // two indices for one row
  no(job(gather(2, {at(1)})));                         // none kept
  no(job(gather(3, {slice(0, 1)})));                   // of f64
  no(job(gather(0, {slice(0, 1), slice(0, 1)})));
  no(job(gather(2, {span(0, 1)})));
  no(job(span(0, 1)));
  no(job(gather(2, {gather(2, {slice(0, 1)})})));
  writer::Plan p = with_data(item(0, 2, {at(0)}));
  p.tensors[2].flags = 2;
  CHECK_THROWS(PlanError, decode(p.bytes()));          // not declared read
  CHECK_EQ(decode(with_data(job(gather(2, {slice(1, 1)}))).bytes())->max_gather(), 1);
}

void temporaries_and_handles() {
  const auto ok = [](const Bytes& root) { CHECK(decode(with_data(root).bytes()) != nullptr); };
  const auto no = [](const Bytes& root) { CHECK_THROWS(PlanError, decode(with_data(root).bytes())); };
  const Bytes uses = job(slice(0), 4);
  ok(block({acquire(4), uses, release(4), acquire(4), release(4)}));
  ok(loop(0, 3, block({acquire(4), loop(1, 2, uses), release(4)}), true));
  ok(block({acquire(4), seq({uses, uses}), release(4)}));
  no(uses);
  no(block({acquire(4), uses}));                                  // kept for ever
  no(block({acquire(4), release(4), uses}));
  no(block({acquire(4), acquire(4), release(4)}));
  no(release(4));
  no(acquire(0));                                                 // not a temporary
  no(acquire(9));
  no(loop(0, 3, block({acquire(4), uses, release(4)})));          // by iterations that run at once
  no(block({acquire(4), loop(0, 3, release(4), true)}));          // by another region
  no(block({acquire(4), cond(constant(std::int64_t{1}), release(4), block({})), release(4)}));
  no(block({cond(constant(std::int64_t{1}), acquire(4), block({})), release(4)}));
  no(block({item(0, 4, {at(0), at(0)})}));
  Task t{0, 0, 0, 0, {}, {view(0, false, {slice(0), slice(0)}), view(1, false, {slice(0), slice(0)})}};
  t.handle = 2;
  t.after = {0, 1};
  ok(block({reset(0), task(t)}));
  no(reset(2));
  t.after = {2};
  no(task(t));
  t.after = {};
  t.handle = 3;
  no(task(t));
  writer::Plan p = with_data(block({}));
  p.deps = 4;
  CHECK_THROWS(PlanError, decode(p.bytes()));
  p = with_data(block({}));
  p.slots.assign(65, i64);
  CHECK_THROWS(PlanError, decode(p.bytes()));
  p.slots = {i32};
  CHECK_THROWS(PlanError, decode(p.bytes()));
  p.slots = {};
  p.tensors[4].flags = 8;
  CHECK_THROWS(PlanError, decode(p.bytes()));
}

void loops_that_end_early() {
  const auto ok = [](const Bytes& root) { CHECK(decode(with_data(root).bytes()) != nullptr); };
  const auto no = [](const Bytes& root) { CHECK_THROWS(PlanError, decode(with_data(root).bytes())); };
  const Bytes asks = block({item(1, 2, {at(reg(0))}), compute(2, 14, i64, {of(1), affine(reg(0))})});
  ok(while_loop(0, 4, asks, of(2), job(slice(reg(0)))));
  no(while_loop(0, 4, asks, of(1), block({})));                         // not a bool
  no(while_loop(0, 4, asks, of(2), job(slice(reg(1)))));                // the condition's own
  no(while_loop(0, 4, block({job(slice(0))}), constant(std::int64_t{1}), block({})));
  no(while_loop(0, 4, block({loop(1, 2, block({}))}), constant(std::int64_t{1}), block({})));
  no(while_loop(0, 4, block({slot_set(0, constant(std::int64_t{1}))}), constant(std::int64_t{1}), block({})));
  no(while_loop(0, 4, item(1, 2, {at(0)}), constant(std::int64_t{1}), block({})));  // not a list
  const auto plan = decode(with_data(loop(0, 4, loop(3, 2, while_loop(4, 4, block({item(1, 2, {at(reg(4))}), compute(2, 14, i64, {of(1), of(4)}, false, 0, 8)}), of(2), block({}))))).bytes());
  const auto& nodes = plan->nodes();
  const auto compares = std::ranges::find(nodes, pto_wsp::NodeKind::scalar, &pto_wsp::Node::kind);
  CHECK(compares != nodes.end() && compares->origin == 7);
  CHECK(plan->loops_around(*compares) == (std::vector<std::uint32_t>{0, 3, 4}));
}

void what_is_independent() {
  const auto independent = [](const Bytes& root) { return decode(with_data(root).bytes())->independent(); };
  // The temporary alone makes it ordered.
  const auto plain = [](const Bytes& root) {
    writer::Plan p = with_data(root);
    p.tensors.pop_back();
    return decode(p.bytes())->independent();
  };
  CHECK(!independent(block({})));
  CHECK(plain(block({item(0, 2, {at(0)}), slot_get(1, 0), cond(constant(std::int64_t{1}), job(gather(2, {slice(0, 1)})), block({}))})));
  CHECK(!plain(item(0, 2, {at(0)}, true)));
  CHECK(!plain(job(gather(2, {slice(0, 1)}, true))));
  CHECK(!plain(slot_set(0, constant(std::int64_t{1}))));
  CHECK(!plain(reset(0)));
  CHECK(!plain(while_loop(0, 4, block({}), constant(std::int64_t{1}), block({}))));
}

void nesting_is_bounded() {
  for (const int depth : {63, 64, 100000}) {
    writer::Plan p = one_loop(4);
    Bytes deep;
    for (int i = 0; i < depth; ++i) {
      deep.push_back(std::byte{0});
      deep.push_back(std::byte{1});
    }
    const Bytes leaf = block({});
    deep.insert(deep.end(), leaf.begin(), leaf.end());
    p.root = deep;
    if (depth == 63)
      CHECK(decode(p.bytes()) != nullptr);
    else
      CHECK_THROWS(PlanError, decode(p.bytes()));
  }
}

void counts_reserve_no_memory() {
  // "2^60 symbols", and a string longer than the rest.
  for (const Bytes& rest : {Out().u(std::uint64_t{1} << 60).bytes, Out().u(1).u(5).u(0).u(0).u(0).u(0).bytes}) {
    Bytes b = one_loop(1).bytes();
    b.resize(8);
    b.insert(b.end(), rest.begin(), rest.end());
    CHECK_THROWS(PlanError, decode(b));
  }
}

}  // namespace

int main() {
  what_is_written_is_read();
  blocks_are_flattened();
  every_shorter_and_longer_text_is_refused();
  tables_and_numbers();
  registers_are_scoped();
  scalars_have_types();
  reads_and_gathers_are_checked();
  temporaries_and_handles();
  loops_that_end_early();
  what_is_independent();
  nesting_is_bounded();
  counts_reserve_no_memory();
  return check::result();
}
