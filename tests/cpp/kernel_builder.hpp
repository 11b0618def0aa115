// Puts a kernel together instruction by instruction, for tests that have no compiler at hand. What kernel_control_builder.hpp adds to it are
// equations over registers, loops and branches.
#pragma once

#include <bit>
#include <string>
#include <vector>

#include "plan_writer.hpp"
#include "pto_wsp/kernel.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace builder {

using pto_wsp::Dir;
using pto_wsp::DType;
using pto_wsp::Op;

struct Dim {
  std::uint64_t kind, number;  // 0 constant, 1 rows of a parameter, 2 its columns, 3 a dimension of a region, 4 a register
  std::uint64_t dim = 0;
};
inline Dim fixed(int n) { return {0, static_cast<std::uint64_t>(n)}; }
inline Dim rows_of(int p) { return {1, static_cast<std::uint64_t>(p)}; }
inline Dim cols_of(int p) { return {2, static_cast<std::uint64_t>(p)}; }
inline Dim length_of(int p, int d) { return {3, static_cast<std::uint64_t>(p), static_cast<std::uint64_t>(d)}; }
inline Dim extent(int r) { return {4, static_cast<std::uint64_t>(r)}; }

inline void put(writer::Out& o, const Dim& d) {
  o.u(d.kind).u(d.number);
  if (d.kind == 3) o.u(d.dim);
}

struct Src {
  int kind;  // 0 value, 1 literal, 2 parameter
  int index;
  double literal;
  std::uint64_t bits = 0;
};
inline Src val(int v) { return {0, v, 0}; }
inline Src lit(double x) { return {1, 0, x, std::bit_cast<std::uint64_t>(x)}; }
inline Src whole(int x) { return {1, 0, static_cast<double>(x), static_cast<std::uint64_t>(std::int64_t{x})}; }  // of an integer dtype
inline Src par(int p) { return {2, p, 0}; }

struct ValueType {
  DType dtype;
  int rows, cols;
  Dim valid_rows, valid_cols;
};
struct Instruction {
  Op op;
  int dst;
  std::vector<Src> src;
  std::vector<int> imm;
};

struct KernelBuilder {
  std::vector<pto_wsp::Param> params;
  std::vector<ValueType> values;
  std::vector<Instruction> instrs;  // behind the items
  std::vector<DType> registers;
  std::vector<writer::Bytes> items;
  std::uint64_t origin = 0;
  std::vector<std::vector<std::int64_t>> checks;  // relation, kind, number, kind, number
  writer::Bytes cost = writer::Out().u(1).u(0).s(1).bytes;
  bool pipes = false;                           // the model of costs: then `events` in place of `cost`
  std::vector<writer::Bytes> events;

  int tile(Dir dir, DType t, int rows, int cols) {
    params.push_back({false, false, dir, t, rows, cols, 0, {}});
    return static_cast<int>(params.size()) - 1;
  }
  int scalar(DType t) {
    params.push_back({true, false, Dir::in, t, 0, 0, 0, {}});
    return static_cast<int>(params.size()) - 1;
  }
  void check(int relation, Dim a, Dim b) {
    const auto i = [](std::uint64_t x) { return static_cast<std::int64_t>(x); };
    checks.push_back({relation, i(a.kind), i(a.number), i(b.kind), i(b.number)});
  }
  int value(DType t, int rows, int cols, Dim valid_rows, Dim valid_cols) {
    values.push_back({t, rows, cols, valid_rows, valid_cols});
    return static_cast<int>(values.size()) - 1;
  }
  int make(Op op, DType t, int rows, int cols, Dim valid_rows, Dim valid_cols, std::vector<Src> src, std::vector<int> imm = {}) {
    const int v = value(t, rows, cols, valid_rows, valid_cols);
    instrs.push_back({op, v, std::move(src), std::move(imm)});
    return v;
  }
  // A value of a's type and valid shape.
  int like(Op op, int a, std::vector<Src> src) {
    const ValueType t = values[static_cast<std::size_t>(a)];
    return make(op, t.dtype, t.rows, t.cols, t.valid_rows, t.valid_cols, std::move(src));
  }
  int load(int p) {
    const pto_wsp::Param& t = params[static_cast<std::size_t>(p)];
    return make(Op::load, t.dtype, t.rows, t.cols, rows_of(p), cols_of(p), {par(p)});
  }
  void store(int p, int v) { instrs.push_back({Op::store, -1, {par(p), val(v)}, {}}); }

  writer::Bytes bytes() const {
    const auto n = [](auto x) { return static_cast<std::uint64_t>(x); };
    writer::Out o;
    o.str("k").u(pipes ? 1 : 0).u(params.size());
    for (const auto& p : params) {
      o.u(p.is_scalar ? 1 : p.is_region ? 2 : 0);
      if (!p.is_scalar) o.u(n(p.dir));
      o.u(n(p.dtype));
      if (p.is_region) {
        o.u(p.rank);
        for (std::size_t d = 0; d < p.rank; ++d) o.u(n(p.dims[d] + 1));
      } else if (!p.is_scalar) {
        o.u(n(p.rows)).u(n(p.cols));
      }
    }
    o.u(checks.size());
    for (const auto& c : checks)
      for (const std::int64_t x : c) o.u(n(x));
    o.u(registers.size());
    for (const DType t : registers) o.u(n(t));
    o.u(values.size());
    for (const auto& v : values) {
      o.u(n(v.dtype)).u(n(v.rows)).u(n(v.cols));
      put(o, v.valid_rows);
      put(o, v.valid_cols);
    }
    KernelBuilder last = *this;
    last.flush();
    o.raw(last.body());
    o.raw(pipes ? last.timing() : cost);
    return o.bytes;
  }
  writer::Bytes timing() const {
    writer::Out o;
    o.u(events.size());
    for (const writer::Bytes& e : events) o.raw(e);
    return o.bytes;
  }
  // What has been made so far, as items of a block.
  writer::Bytes body() const {
    writer::Out o;
    o.u(items.size());
    for (const writer::Bytes& i : items) o.raw(i);
    return o.bytes;
  }
  // The instructions so far become an item.
  void flush() {
    if (instrs.empty()) return;
    const auto n = [](auto x) { return static_cast<std::uint64_t>(x); };
    writer::Out o;
    o.u(0).u(instrs.size());
    for (const auto& i : instrs) {
      o.u(n(i.op)).u(n(i.dst + 1)).u(i.src.size());
      for (const Src& s : i.src) {
        o.u(n(s.kind));
        if (s.kind == 1) o.bits(s.bits);
        else o.u(n(s.index));
      }
      o.u(i.imm.size());
      for (const int k : i.imm) o.s(k);
      o.u(origin++);
    }
    items.push_back(o.bytes);
    instrs.clear();
  }
  pto_wsp::Kernel decode() const {
    const writer::Bytes b = bytes();
    pto_wsp::Cursor in(b);
    return pto_wsp::Kernel::decode(in);
  }
};

}  // namespace builder
