// Kernels with loops, branches, scalars and parts of regions: what they compute, where they stop, what they cost.

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "check.hpp"
#include "kernel_control_builder.hpp"
#include "pto_wsp/isa.hpp"
#include "pto_wsp/scalar.hpp"

using namespace pto_wsp;
using namespace builder;
using End = ControlBuilder::End;

namespace {

struct Scratch {
  std::vector<std::byte> memory;
  std::byte* data;
  explicit Scratch(const Kernel& k) : memory(k.scratch_bytes() + 64, std::byte{0x7f}) {
    data = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64;
  }
};

// A matrix of i32 in memory of exactly its size, rows and columns at any strides.
struct Matrix {
  int rows, cols;
  std::int64_t strides[2];
  std::vector<std::int32_t> memory;
  std::size_t origin = 0;

  Matrix(int r, int c, int layout = 0) : rows(r), cols(c), memory(static_cast<std::size_t>(r * c)) {
    strides[0] = 4 * (layout == 1 ? 1 : c);
    strides[1] = 4 * (layout == 1 ? r : 1);
    if (layout == 2) {  // backwards
      origin = memory.empty() ? 0 : memory.size() - 1;
      strides[0] = -strides[0];
      strides[1] = -strides[1];
    }
    for (int i = 0; i < r; ++i)
      for (int j = 0; j < c; ++j) at(i, j) = 10 * i + j;
  }
  std::int32_t& at(int i, int j) { return memory[static_cast<std::size_t>(static_cast<std::int64_t>(origin) + (i * strides[0] + j * strides[1]) / 4)]; }
  std::byte* data() { return reinterpret_cast<std::byte*>(memory.data() + origin); }
  Arg region() {
    Arg a;
    a.region = {data(), strides, {rows, cols, 0, 0}};
    return a;
  }
  Arg tile() {
    Arg a;
    a.tile = {data(), strides[0], strides[1], rows, cols, nullptr, nullptr};
    return a;
  }
};
Arg scalar(std::int64_t x) {
  Arg a;
  a.scalar = static_cast<std::uint64_t>(x);
  return a;
}

Fault run(const Kernel& k, std::vector<Arg> args) {
  CHECK_EQ(k.failed_check(args), -1);
  Scratch scratch(k);
  return k.run(args, scratch.data);
}
void runs(const Kernel& k, std::vector<Arg> args) { CHECK_EQ(run(k, std::move(args)).origin, -1); }

End tile(int v) { return {v, {}}; }
End single(builder::Operand x) { return {-1, std::move(x)}; }

int zeros(ControlBuilder& b, int rows, int cols) { return b.make(Op::full, DType::i32, rows, cols, fixed(rows), fixed(cols), {whole(0)}); }
int i32_value(ControlBuilder& b, int rows, int cols) { return b.value(DType::i32, rows, cols, fixed(rows), fixed(cols)); }

// out = sums of columns of x, four rows at a time, with a tail.
ControlBuilder column_sums(bool constant_trips = false) {
  ControlBuilder b;
  const int x = b.region(Dir::in, DType::i32, {-1, 8}), out = b.tile(Dir::out, DType::i32, 1, 8);
  const int init = zeros(b, 1, 8), sum = i32_value(b, 1, 8), total = i32_value(b, 1, 8);
  const int n = b.dim(length_of(x, 0));
  const int up = b.compute(ScalarOp::add, {held(n), number(3)}), trips = b.compute(ScalarOp::floordiv, {held(up), number(4)});
  b.loop(number(0), constant_trips ? number(7) : held(trips), {{true, sum, total, init}}, [&](int i) -> std::vector<End> {
    const int at = b.compute(ScalarOp::mul, {held(i), number(4)}), left = b.compute(ScalarOp::sub, {held(n), held(at)});
    const int rows = b.compute(ScalarOp::min, {held(left), number(4)});
    b.bound(rows, 4);
    const int part = b.part(x, {held(at), number(0)}, 4, 8, extent(rows), fixed(8));
    const int sums = b.make(Op::colsum, DType::i32, 1, 8, fixed(1), fixed(8), {val(part)});
    return {tile(b.make(Op::add, DType::i32, 1, 8, fixed(1), fixed(8), {val(sum), val(sums)}))};
  });
  b.store(out, total);
  return b;
}

void loops_over_parts() {
  const Kernel k = column_sums().decode();
  for (const int rows : {0, 1, 4, 11, 400})
    for (const int layout : {0, 1, 2}) {
      Matrix x(rows, 8, layout), out(1, 8);
      runs(k, {x.region(), out.tile()});
      for (int c = 0; c < 8; ++c) {
        int want = 0;
        for (int r = 0; r < rows; ++r) want += x.at(r, c);
        CHECK_EQ(out.at(0, c), want);
      }
    }
  CHECK(k.varied() && k.costs_extents(0) && !k.costs_extents(1));
}

// (a, b, p, q) -> (b, a, p, p + q): tiles change places, one stays, scalars are carried.
void carries_all_at_once() {
  ControlBuilder b;
  const int x = b.tile(Dir::in, DType::i32, 4, 8), y = b.tile(Dir::in, DType::i32, 4, 8), out = b.tile(Dir::out, DType::i32, 4, 8);
  const int n = b.scalar(DType::i32);
  const int a0 = b.load(x), b0 = b.load(y);
  const int trips = b.widen(n, DType::i64);
  int in[3], end[3];
  for (int& v : in) v = b.value(DType::i32, 4, 8, rows_of(x), cols_of(x));
  for (int& v : end) v = b.value(DType::i32, 4, 8, rows_of(x), cols_of(x));
  for (const int p : {y, out}) {
    b.check(0, rows_of(x), rows_of(p));
    b.check(0, cols_of(x), cols_of(p));
  }
  const int p = b.reg(), q = b.reg(), p_end = b.reg(), q_end = b.reg();
  b.loop(number(0), held(trips), {{true, in[0], end[0], a0}, {true, in[1], end[1], b0}, {true, in[2], end[2], a0}, {false, p, p_end, -1, number(1)}, {false, q, q_end, -1, number(1)}},
         [&](int) -> std::vector<End> {
           const int sum = b.compute(ScalarOp::add, {held(p), held(q)});
           return {tile(in[1]), tile(in[0]), tile(in[2]), single(held(q)), single(held(sum))};
         });
  const int fib = b.narrow(q_end, DType::i32);
  const int both = b.make(Op::mul, DType::i32, 4, 8, rows_of(x), cols_of(x), {val(end[0]), par(fib)});
  b.store(out, b.make(Op::add, DType::i32, 4, 8, rows_of(x), cols_of(x), {val(both), val(end[2])}));
  const Kernel k = b.decode();
  for (const auto& [count, fibonacci] : {std::pair{-3, 1}, {0, 1}, {1, 2}, {2, 3}, {7, 34}})
    for (const int rows : {4, 3}) {
      Matrix mx(rows, 8), my(rows, 8), mout(rows, 8);
      for (int c = 0; c < 8; ++c) my.at(1, c) = -c;
      runs(k, {mx.tile(), my.tile(), mout.tile(), scalar(count)});
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < 8; ++c) CHECK_EQ(mout.at(r, c), (count > 0 && count % 2 != 0 ? my : mx).at(r, c) * fibonacci + mx.at(r, c));
    }
}

// What narrow loses is lost in the register too, and counts in costs.
void rounded_scalars_are_those_of_the_dtype() {
  for (const auto& [given, kept] : {std::pair{3, 3}, {127, 127}, {128, -128}, {301, 45}, {-300, -44}}) {
    ControlBuilder b;
    const int out = b.tile(Dir::out, DType::i32, 1, 1);
    const int n = b.scalar(DType::i32);
    const int wide = b.widen(n, DType::i64);
    const int small = b.round(wide, DType::i8, DType::i64);
    const int back = b.narrow(small, DType::i32);
    b.store(out, b.make(Op::full, DType::i32, 1, 1, fixed(1), fixed(1), {par(back)}));
    const Kernel k = b.decode();
    Matrix mout(1, 1);
    runs(k, {mout.tile(), scalar(given)});
    CHECK_EQ(mout.at(0, 0), kept);
  }
}

// Adds 1 to what is there, part by part; parts are read after they were written.
void parts_are_stored_in_order() {
  ControlBuilder b;
  const int x = b.region(Dir::inout, DType::i32, {-1, -1});
  const int n = b.dim(length_of(x, 0));
  b.loop(number(1), held(n), {}, [&](int i) -> std::vector<End> {
    const int before = b.compute(ScalarOp::sub, {held(i), number(1)});
    const int here = b.part(x, {held(i), number(0)}, 1, 3, fixed(1), fixed(3));
    const int above = b.part(x, {held(before), number(1)}, 1, 3, fixed(1), fixed(3));
    const int sum = b.make(Op::add, DType::i32, 1, 3, fixed(1), fixed(3), {val(here), val(above)});
    b.store_part(x, sum, {held(i), number(1)});
    const int again = b.part(x, {held(i), number(1)}, 1, 3, fixed(1), fixed(3));
    b.store_part(x, b.make(Op::neg, DType::i32, 1, 3, fixed(1), fixed(3), {val(again)}), {held(i), number(0)});
    return {};
  });
  const Kernel k = b.decode();
  for (const int layout : {0, 1, 2}) {
    Matrix x2(6, 4, layout), want(6, 4);
    for (int i = 1; i < 6; ++i) {
      for (int c = 2; c >= 0; --c) want.at(i, c + 1) = want.at(i, c) + want.at(i - 1, c + 1);
      for (int c = 0; c < 3; ++c) want.at(i, c) = -want.at(i, c + 1);
    }
    runs(k, {x2.region()});
    for (int r = 0; r < 6; ++r)
      for (int c = 0; c < 4; ++c) CHECK_EQ(x2.at(r, c), want.at(r, c));
  }
}

// The side that an element decides; a branch inside of a loop.
void branches() {
  ControlBuilder b;
  const int x = b.tile(Dir::in, DType::i32, 4, 8), out = b.tile(Dir::out, DType::i32, 4, 8);
  for (const Dim d : {rows_of(x), rows_of(out)}) b.check(0, d, fixed(4));
  for (const Dim d : {cols_of(x), cols_of(out)}) b.check(0, d, fixed(8));
  const int v = b.make(Op::load, DType::i32, 4, 8, fixed(4), fixed(8), {par(x)});
  const int carried = i32_value(b, 4, 8), total = i32_value(b, 4, 8), chosen = i32_value(b, 4, 8);
  const int count = b.reg(), count_end = b.reg(), step = b.reg();
  b.cost_inside = 5;
  b.loop(number(0), number(4), {{true, carried, total, v}, {false, count, count_end, -1, number(0)}}, [&](int i) -> std::vector<End> {
    const int e = b.element_of_value(v, held(i), number(2), DType::i64);
    const int big = b.compute(ScalarOp::gt, {held(e), number(12)}, DType::i64, DType::boolean);
    b.branch(held(big), true, {{true, -1, chosen}, {false, -1, step}},
             [&]() -> std::vector<End> { return {tile(b.make(Op::add, DType::i32, 4, 8, fixed(4), fixed(8), {val(carried), whole(100)})), single(number(1))}; },
             [&]() -> std::vector<End> { return {tile(carried), single(number(0))}; });
    return {tile(chosen), single(held(b.compute(ScalarOp::add, {held(count), held(step)})))};
  });
  const int n = b.narrow(count_end, DType::i32);
  b.store(out, b.make(Op::add, DType::i32, 4, 8, fixed(4), fixed(8), {val(total), par(n)}));
  const Kernel k = b.decode();
  Matrix m(4, 8), got(4, 8);
  runs(k, {m.tile(), got.tile()});  // rows 2 and 3 have more than 12 in column 2
  for (int r = 0; r < 4; ++r)
    for (int c = 0; c < 8; ++c) CHECK_EQ(got.at(r, c), m.at(r, c) + 202);
  const std::vector<Arg> args{m.tile(), got.tile()};
  CHECK_EQ(k.cost(args), 4 * (5 + 5) + 1);
  CHECK(!k.varied());
}

void what_it_costs() {
  ControlBuilder b = column_sums();
  b.cost_inside = 3;
  Matrix out(1, 8);
  for (const auto& [rows, cycles] : {std::pair{0, 1}, {1, 2}, {4, 2}, {5, 3}, {4000000, 1000001}}) {
    Arg x;
    const std::int64_t strides[] = {0, 0};
    x.region = {nullptr, strides, {rows, 8, 0, 0}};
    CHECK_EQ(column_sums().decode().cost(std::vector<Arg>{x, out.tile()}), cycles);
  }
}

// One kernel for each fault, which tells the equation and the numbers.
void faults() {
  const auto expect = [](const Kernel& k, std::vector<Arg> args, int origin, FaultKind kind, std::int64_t a, std::int64_t most) {
    const Fault f = run(k, std::move(args));
    CHECK_EQ(f.origin, origin);
    CHECK(f.kind == kind);
    CHECK_EQ(f.a, a);
    CHECK_EQ(f.b, most);
  };
  Matrix x(3, 8), out(1, 8);
  {
    ControlBuilder b;  // the third of 7 trips begins at row 8 of 9
    const Kernel k = column_sums(true).decode();
    Matrix nine(9, 8);
    const Fault f = run(k, {nine.region(), out.tile()});
    CHECK(f.kind == FaultKind::shape && f.a == -3 && f.b == 4);
  }
  for (const std::int64_t row : {-1, 1, 3}) {
    ControlBuilder b;
    const int r = b.region(Dir::in, DType::i32, {-1, 8}), o = b.tile(Dir::out, DType::i32, 3, 8);
    for (const Dim d : {rows_of(o)}) b.check(0, d, fixed(3));
    b.check(0, cols_of(o), fixed(8));
    b.store(o, b.part(r, {number(row), number(0)}, 3, 8, fixed(3), fixed(8)));
    Matrix three(3, 8);
    expect(b.decode(), {x.region(), three.tile()}, 0, FaultKind::part, row, 3);
  }
  {
    ControlBuilder b;
    const int t = b.tile(Dir::in, DType::i32, 4, 8);
    b.element_of(t, {number(3), number(0)}, DType::i64);
    expect(b.decode(), {x.tile()}, 0, FaultKind::part, 3, 3);
  }
  {
    ControlBuilder b;
    const int n = b.scalar(DType::i32), r = b.widen(n, DType::i64);
    b.compute(ScalarOp::floordiv, {number(5), held(r)});
    runs(b.decode(), {scalar(2)});
    expect(b.decode(), {scalar(0)}, 1, FaultKind::scalar, static_cast<std::int64_t>(ScalarStatus::zero_divisor), 5);
  }
  {
    ControlBuilder b;
    const int n = b.scalar(DType::i32), r = b.widen(n, DType::i64);
    b.loop(number(0), held(r), {}, [](int) -> std::vector<End> { return {}; });
    runs(b.decode(), {scalar(1000)});
    expect(b.decode(), {scalar(std::int64_t{1} << 31)}, 1, FaultKind::trips, std::int64_t{1} << 31, INT32_MAX);
    const Kernel k = b.decode();
    Scratch scratch(k);
    const std::atomic<bool> stop{true};
    const Arg arg = scalar(INT32_MAX);
    CHECK(k.run(std::span(&arg, 1), scratch.data, &stop).kind == FaultKind::stopped);
  }
  {
    ControlBuilder b;
    const int t = b.tile(Dir::in, DType::i32, 4, 8), n = b.scalar(DType::i32), r = b.widen(n, DType::i64);
    b.check_here(0, rows_of(t), extent(r));
    runs(b.decode(), {x.tile(), scalar(3)});
    expect(b.decode(), {x.tile(), scalar(4)}, 1, FaultKind::shape, 3, 4);
  }
}

void refused(const std::string& what, const std::function<void(ControlBuilder&)>& build) {
  ControlBuilder b;
  build(b);
  bool caught = false;
  try {
    b.decode();
  } catch (const PlanError&) {
    caught = true;
  }
  if (!caught) check::fail(what + " is not refused", std::source_location::current());
}

void bad_programs() {
  refused("a register without a value", [](ControlBuilder& b) { b.compute(ScalarOp::add, {held(b.reg()), number(1)}); });
  refused("a register of another type", [](ControlBuilder& b) {
    const int n = b.scalar(DType::f32);
    b.compute(ScalarOp::add, {held(b.widen(n, DType::f64)), number(1)});
  });
  refused("a value of a loop's body after the loop", [](ControlBuilder& b) {
    const int out = b.tile(Dir::out, DType::i32, 1, 1);
    int inside = 0;
    b.loop(number(0), number(3), {}, [&](int) -> std::vector<End> {
      inside = zeros(b, 1, 1);
      return {};
    });
    b.store(out, inside);
  });
  refused("a register of a branch after it", [](ControlBuilder& b) {
    int inside = 0;
    b.branch(number(1), false, {}, [&]() -> std::vector<End> { inside = b.compute(ScalarOp::add, {number(1), number(2)}); return {}; },
             []() -> std::vector<End> { return {}; });
    b.compute(ScalarOp::add, {held(inside), number(1)});
  });
  refused("an extent that may be anything", [](ControlBuilder& b) {
    const int x = b.region(Dir::in, DType::i32, {-1, 8}), n = b.dim(length_of(x, 0));
    b.part(x, {number(0), number(0)}, 4, 8, extent(n), fixed(8));
  });
  refused("an extent beyond the static size", [](ControlBuilder& b) {
    const int x = b.region(Dir::in, DType::i32, {-1, 8}), n = b.dim(length_of(x, 0));
    b.bound(n, 5);
    b.part(x, {number(0), number(0)}, 4, 8, extent(n), fixed(8));
  });
  refused("an extent bounded in another block", [](ControlBuilder& b) {
    const int x = b.region(Dir::in, DType::i32, {-1, 8}), n = b.dim(length_of(x, 0));
    b.branch(number(1), false, {}, [&]() -> std::vector<End> { b.bound(n, 4); return {}; }, []() -> std::vector<End> { return {}; });
    b.part(x, {number(0), number(0)}, 4, 8, extent(n), fixed(8));
  });
  refused("a carried extent of the loop's own", [](ControlBuilder& b) {
    const int init = zeros(b, 4, 8), n = b.reg(), inside = b.value(DType::i32, 4, 8, extent(n), fixed(8)), out = b.value(DType::i32, 4, 8, extent(n), fixed(8));
    b.loop(number(0), number(2), {{false, n, b.reg(), -1, number(3)}, {true, inside, out, init}}, [&](int) -> std::vector<End> {
      b.bound(n, 4);
      return {single(held(n)), tile(inside)};
    });
  });
  refused("a carried tile of another dtype", [](ControlBuilder& b) {
    const int init = zeros(b, 1, 8), inside = b.value(DType::f32, 1, 8, fixed(1), fixed(8)), out = b.value(DType::f32, 1, 8, fixed(1), fixed(8));
    b.loop(number(0), number(2), {{true, inside, out, init}}, [&](int) -> std::vector<End> { return {tile(inside)}; });
  });
  refused("a trip that gives less than it takes", [](ControlBuilder& b) {
    const int x = b.region(Dir::in, DType::i32, {-1, 8}), n = b.dim(length_of(x, 0));
    const int init = zeros(b, 4, 8), inside = i32_value(b, 4, 8), out = i32_value(b, 4, 8);
    b.bound(n, 4);
    b.loop(number(0), number(2), {{true, inside, out, init}}, [&](int) -> std::vector<End> {
      return {tile(b.part(x, {number(0), number(0)}, 4, 8, extent(n), fixed(8)))};
    });
  });
  refused("a part stored to an In region", [](ControlBuilder& b) {
    const int x = b.region(Dir::in, DType::i32, {-1, 8});
    b.store_part(x, zeros(b, 1, 8), {number(0), number(0)});
  });
  refused("a part of another dtype", [](ControlBuilder& b) {
    const int x = b.region(Dir::inout, DType::f32, {-1, 8});
    b.store_part(x, zeros(b, 1, 8), {number(0), number(0)});
  });
  refused("too many rows of a vector", [](ControlBuilder& b) {
    const int x = b.region(Dir::inout, DType::i32, {-1});
    b.store_part(x, zeros(b, 2, 8), {number(0)});
  });
  refused("an element of a scalar", [](ControlBuilder& b) { b.element_of(b.scalar(DType::i32), {number(0), number(0)}, DType::i64); });
  refused("a condition that is no bool", [](ControlBuilder& b) {
    b.branch(number(2), false, {}, []() -> std::vector<End> { return {}; }, []() -> std::vector<End> { return {}; });
  });
  refused("nesting without end", [](ControlBuilder& b) {
    const std::function<std::vector<End>(int)> deeper = [&](int i) -> std::vector<End> {
      if (b.origin < 40) b.loop(number(0), held(i), {}, deeper);
      return {};
    };
    b.loop(number(0), number(1), {}, deeper);
  });
}

}  // namespace

int main() {
  loops_over_parts();
  carries_all_at_once();
  parts_are_stored_in_order();
  rounded_scalars_are_those_of_the_dtype();
  branches();
  what_it_costs();
  faults();
  bad_programs();
  return check::result();
}
