// Kernels with loops, branches, registers and regions, put together item by item.
#pragma once

#include <functional>

#include "kernel_builder.hpp"
#include "pto_wsp/plan.hpp"

namespace builder {

using Operand = writer::Bytes;
inline Operand held(int r) { return writer::of(static_cast<std::uint64_t>(r)); }
inline Operand number(std::int64_t x) { return writer::constant(x); }

// What a loop carries, or a branch gives: a tile value or a register, by number.
struct Carried {
  bool tile;
  int inside, out;
  int init = -1;      // of a tile
  Operand start{};    // of a register
};

struct ControlBuilder : KernelBuilder {
  int region(Dir dir, DType t, std::vector<int> dims) {
    pto_wsp::Param p;
    p.is_region = true;
    p.dir = dir;
    p.dtype = t;
    p.rank = static_cast<std::uint32_t>(dims.size());
    for (std::size_t d = 0; d < dims.size(); ++d) p.dims[d] = dims[d];
    params.push_back(p);
    made = static_cast<int>(params.size());
    return made - 1;
  }
  int reg(DType t = DType::i64) {
    registers.push_back(t);
    return static_cast<int>(registers.size()) - 1;
  }

  int compute(pto_wsp::ScalarOp op, std::vector<Operand> ins, DType type = DType::i64, DType out = DType::i64) {
    writer::Out& o = equation(0);
    o.u(static_cast<std::uint64_t>(op)).u(n(type)).u(0).u(n(out));
    for (const Operand& x : ins) o.raw(x);
    return done(reg(out));
  }
  int dim(Dim d) {
    put(equation(1), d);
    return done(reg());
  }
  int widen(int p, DType t) {
    equation(2).u(n(p));
    return done(reg(t));
  }
  // Gives the parameter that holds it.
  int narrow(int r, DType to) {
    equation(3).u(n(to)).u(n(r));
    done();
    return next_param();
  }
  // A number of 64 bits that `to` holds.
  int round(int r, DType to, DType t) {
    equation(10).u(n(to)).u(n(r));
    return done(reg(t));
  }
  int element_of(int param, const std::vector<Operand>& at, DType t) {
    equation(4).u(0).u(n(param));
    for (const Operand& x : at) out_.raw(x);
    return done(reg(t));
  }
  int element_of_value(int v, Operand row, Operand col, DType t) {
    equation(4).u(1).u(n(v)).raw(row).raw(col);
    return done(reg(t));
  }
  int part(int param, const std::vector<Operand>& at, int rows, int cols, Dim valid_rows, Dim valid_cols) {
    const int v = value(params[static_cast<std::size_t>(param)].dtype, rows, cols, valid_rows, valid_cols);
    equation(5).u(n(param));
    for (const Operand& x : at) out_.raw(x);
    out_.u(n(v));
    done();
    next_param();
    return v;
  }
  void store_part(int param, int v, const std::vector<Operand>& at) {
    equation(6).u(n(param)).u(n(v));
    for (const Operand& x : at) out_.raw(x);
    done();
  }
  void bound(int r, int most) {
    equation(7).u(n(r)).u(n(most));
    done();
  }
  void check_here(int relation, Dim a, Dim b) {
    equation(8).u(n(relation));
    put(out_, a);
    put(out_, b);
    done();
  }

  // `body` gives what each trip ends with: values of tiles, or operands.
  struct End {
    int value;
    Operand scalar;
  };
  void loop(const Operand& lo, const Operand& hi, std::vector<Carried> carried, const std::function<std::vector<End>(int)>& body) {
    flush();
    writer::Out o;
    o.u(2).u(origin++).raw(lo).raw(hi).u(carried.size());
    for (const Carried& c : carried) {
      if (c.tile) o.u(0).u(n(c.init)).u(n(c.inside));
      else o.u(1).u(n(c.inside)).raw(c.start);
      if (c.tile) next_param();
    }
    const int index = reg();
    o.u(n(index)).raw(block(carried, [&] { return body(index); }));
    for (const Carried& c : carried) o.u(n(c.out));
    add(o.bytes);
  }
  void branch(const Operand& condition, bool data, std::vector<Carried> given, const std::function<std::vector<End>()>& then,
              const std::function<std::vector<End>()>& otherwise) {
    flush();
    writer::Out o;
    o.u(3).u(origin++).raw(condition).u(data ? 1 : 0).u(given.size());
    for (const Carried& c : given) {
      o.u(c.tile ? 0 : 1).u(n(c.out));
      if (c.tile) next_param();
    }
    o.raw(block(given, then)).raw(block(given, otherwise));
    add(o.bytes);
  }
  std::int64_t cost_inside = 1;  // of each block of a loop or branch, in model serial

  // Model pipes: what an equation takes, `cycles` of a unit (4: none); the numbers of what it waits for and of what it gives are those
  // of values, then registers, then arguments.
  void work(unsigned unit, const writer::Bytes& cycles, const std::vector<std::uint64_t>& reads, const std::vector<std::uint64_t>& writes) {
    writer::Out o;
    o.u(0).u(unit);
    if (unit != 4) o.raw(cycles);
    for (const auto* group : {&reads, &writes}) {
      o.u(group->size());
      for (const std::uint64_t x : *group) o.u(x);
    }
    events.push_back(o.bytes);
  }

 private:
  template <class T> static std::uint64_t n(T x) { return static_cast<std::uint64_t>(x); }
  int next_param() {
    if (made < static_cast<int>(params.size())) made = static_cast<int>(params.size());
    return made++;
  }
  writer::Out& equation(unsigned kind) {
    flush();
    out_ = {};
    return out_.u(1).u(kind).u(origin++);
  }
  int done(int r) {
    out_.u(n(r));
    done();
    return r;
  }
  void done() { add(out_.bytes); }
  void add(const writer::Bytes& item) {
    items.push_back(item);
    events.push_back(writer::Out().u(1).bytes);
  }

  writer::Bytes block(const std::vector<Carried>& carried, const std::function<std::vector<End>()>& inside) {
    std::vector<writer::Bytes> outer, outer_events;
    std::swap(outer, items);
    std::swap(outer_events, events);
    const std::vector<End> ends = inside();
    flush();
    writer::Out o;
    o.raw(body());
    if (pipes) o.raw(timing());
    else o.u(1).u(0).s(cost_inside);
    for (std::size_t i = 0; i < carried.size(); ++i) {
      if (carried[i].tile) o.u(n(ends[i].value));
      else o.raw(ends[i].scalar);
    }
    std::swap(outer, items);
    std::swap(outer_events, events);
    return o.bytes;
  }

  writer::Out out_;
  int made = 0;  // parameters so far, those without arguments included
};

}  // namespace builder
