// Functions in the place of a kernel's steps: which steps there are, that linked functions run for all rows, and which are refused.

#include <atomic>
#include <cstring>
#include <thread>

#include "check.hpp"
#include "kernel_reference.hpp"

using namespace pto_wsp;
using namespace builder;
using reference::Tensor;

namespace {

// out = cumsum(2 x + 1), rows independent of each other
KernelBuilder example() {
  KernelBuilder b;
  const int x = b.tile(Dir::in, DType::f32, 2000, 40), out = b.tile(Dir::out, DType::f32, 2000, 40);
  b.check(0, rows_of(x), rows_of(out));
  b.check(0, cols_of(x), cols_of(out));
  const int v = b.load(x);
  const int twice = b.like(Op::mul, v, {val(v), lit(2)});
  const int more = b.like(Op::add, twice, {val(twice), lit(1)});
  b.store(out, b.make(Op::cumsum, DType::f32, 2000, 40, rows_of(x), cols_of(x), {val(more)}, {1}));
  return b;
}

std::vector<float> run(const Kernel& k, int rows, int cols) {
  std::vector<float> x(static_cast<std::size_t>(rows * cols)), out(x.size(), -1);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 7);
  std::vector<std::byte> memory(k.scratch_bytes() + 64);
  std::byte* scratch = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  const auto tile = [&](std::vector<float>& of) {
    Arg a;
    a.tile = {};
    a.tile.data = reinterpret_cast<std::byte*>(of.data());
    a.tile.row_stride = cols * 4;
    a.tile.col_stride = 4;
    a.tile.rows = rows;
    a.tile.cols = cols;
    return a;
  };
  const std::array<Arg, 2> args = {tile(x), tile(out)};
  k.run(args, scratch);
  return out;
}

// What the two steps compute, from what `groups` says of them: x in base 2; the result where the second puts it.
std::int64_t result_offset = 0, result_stride = 0;
std::size_t result_base = 0;
std::atomic<int> calls = 0;
void linked(const Base* bases, const std::int32_t* sizes, std::int32_t row, std::int32_t rows) {
  ++calls;
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < sizes[0]; ++c) {
      float x = 0;
      std::memcpy(&x, bases[2].data + (row + r) * bases[2].stride + c * 4, 4);
      x = 2 * x + 1;
      std::memcpy(bases[result_base].data + result_offset + r * result_stride + c * 4, &x, 4);
    }
}

void what_is_linked_runs() {
  const Kernel k = example().decode();
  const auto groups = k.groups();
  CHECK_EQ(groups.size(), 1u);
  CHECK(!groups[0].whole);
  const auto& steps = groups[0].steps;
  CHECK_EQ(steps.size(), 3u);  // the load is the argument itself, the store is made by the last
  CHECK(steps[0].op == Op::mul && steps[1].op == Op::add && steps[2].op == Op::cumsum);
  CHECK_EQ(steps[0].sources[0].base, 2u);
  CHECK(steps[0].sources[1].kind == OperandInfo::Kind::constant && steps[0].sources[1].one_row);
  CHECK_EQ(steps[1].sources[0].value, steps[0].result.value);
  CHECK(!steps[0].kept && !steps[1].kept && steps[2].kept);
  CHECK(steps[1].result.of_strip);
  CHECK_EQ(steps[2].result.base, 3u);
  CHECK(steps[0].extents[0].kind == 't' && steps[0].extents[0].id == steps[2].extents[0].id);

  const auto want = run(k, 1999, 40), small = run(k, 3, 5);
  result_base = steps[1].result.base;
  result_offset = steps[1].result.offset;
  result_stride = steps[1].result.stride;
  k.link_native({{0, 2, linked, {{1, 1}}, {}}});
  CHECK(run(k, 1999, 40) == want);
  CHECK(calls > 1);  // a strip each
  CHECK(run(k, 3, 5) == small);
  k.link_native({});  // the first ones stay
  const int before = calls.load();
  CHECK(run(k, 3, 5) == small);
  CHECK_EQ(calls.load(), before + 1);
}

// A task whose extents are not as the pieces need them runs the steps.
void other_extents_run_the_steps() {
  const Kernel k = example().decode();
  const auto want = run(k, 30, 40), small = run(k, 30, 30);
  calls = 0;
  k.link_native({{0, 2, linked, {{1, 1}}, {{{0, 0}, {0, 1}}}}});  // rows and columns
  CHECK(run(k, 30, 40) == want);
  CHECK_EQ(calls.load(), 0);
  CHECK(run(k, 30, 30) == small);
  CHECK_EQ(calls.load(), 1);
}

// Runs that are under way when functions are linked finish as they began or go over to them.
void may_be_linked_while_it_runs() {
  const Kernel k = example().decode();
  const auto want = run(k, 300, 40);
  std::atomic<bool> is_linked{false};
  std::thread other([&] {
    while (!is_linked) CHECK(run(k, 300, 40) == want);
    CHECK(run(k, 300, 40) == want);
  });
  k.link_native({{0, 2, linked, {{1, 1}}, {}}});
  is_linked = true;
  other.join();
}

void others_are_refused() {
  const Kernel k = example().decode();
  const NativePiece good = {0, 2, linked, {{1, 1}}, {}};
  const auto refused = [&](auto damage) {
    NativePiece p = good;
    damage(p);
    CHECK_THROWS(PlanError, k.link_native({p}));
  };
  refused([](NativePiece& p) { p.count = 0; });
  refused([](NativePiece& p) { p.count = 4; });
  refused([](NativePiece& p) { p.first = 3; });
  refused([](NativePiece& p) { p.run = nullptr; });
  refused([](NativePiece& p) { p.sizes = {{3, 0}}; });
  refused([](NativePiece& p) { p.sizes = {{0, 3}}; });
  refused([](NativePiece& p) { p.sizes.assign(33, {0, 0}); });
  refused([](NativePiece& p) { p.equal = {{{0, 0}, {9, 0}}}; });
  CHECK_THROWS(PlanError, k.link_native({good, {1, 1, linked, {}, {}}}));
}

}  // namespace

int main() {
  what_is_linked_runs();
  other_extents_run_the_steps();
  others_are_refused();
  may_be_linked_while_it_runs();
  return check::result();
}
