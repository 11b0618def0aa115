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
  refused([](writer::Plan& p, Task&) { p.dispatches = {5}; });
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
  nesting_is_bounded();
  counts_reserve_no_memory();
  return check::result();
}
