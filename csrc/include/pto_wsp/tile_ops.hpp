#pragma once
// The tile operations: their codes in a plan, and the functions that carry them out at each instruction set level.
//
// Numerics, the same at every level. f16 and bf16 are widened to f32, computed there, and rounded once. Sums and products of
// rows use 16 accumulators (element j into j mod 16) and a binary tree (i with i+8, +4, +2, +1); of columns 4 accumulators
// (row i into i mod 4), combined as (0+2)+(1+3). matmul is one chain of fused multiply-adds over ascending k from the
// accumulator (or +0); with transpose_b and not transpose_a 16 accumulators over k, the tree, then one addition of the
// accumulator. cumsum is one chain of additions from +0. maximum and minimum propagate NaN; max(-0,+0) = +0, min(-0,+0) = -0.
// i32 wraps. Where elements are ordered (topk, rowargmax, rowargmin) NaN comes first, -0 equals +0, and of equals the one with
// the lower index.
//
// Largest errors of the f32 functions over all inputs, in units in the last place of the exact result:
//   exp 1.1, exp2 1.1, log2 1, log 1, tanh 1.5, erf 1.1, sin 2, cos 2, rsqrt 1.5; reciprocal, sqrt, div, fma, rounding functions:
// correctly rounded; pow, expm1, log1p: of f64 by the C library, rounded once more. Functions of f64 are the C library's.

#include <cstddef>
#include <cstdint>

#include "pto_wsp/dtype.hpp"
#include "pto_wsp/isa.hpp"

namespace pto_wsp {

enum class Op : std::uint8_t {
  load = 1, store = 2, full = 3, iota = 4, broadcast = 5, cast = 6, matmul = 7, where = 8, fma = 9,
  neg = 10, abs = 11, exp = 12, log = 13, sqrt = 14, rsqrt = 15, reciprocal = 16, tanh = 17, erf = 18, sin = 19, cos = 20,
  floor = 21, ceil = 22, rint = 23, trunc = 24, logical_not = 25,
  add = 30, sub = 31, mul = 32, div = 33, maximum = 34, minimum = 35, logical_and = 36, logical_or = 37,
  eq = 40, ne = 41, lt = 42, le = 43, gt = 44, ge = 45,
  rowsum = 50, rowmax = 51, rowmin = 52, rowprod = 53, colsum = 54, colmax = 55, colmin = 56, colprod = 57,
  count_cols = 58, count_rows = 59,
  slice = 60, concat = 61, transpose = 62, reshape = 63, interleave = 64, gather = 65, scatter = 66, cumsum = 67, bincount = 68,
  rowargmax = 69, rowargmin = 70, extract_topk_indices = 71, topk_values = 72,
  bit_not = 73, round = 74, exp2 = 75, log2 = 76, logical_xor = 77, fmod = 78, rem = 79, bit_and = 80, bit_or = 81, bit_xor = 82,
  shl = 83, shr = 84, floordiv = 85, pow = 86, log1p = 87, expm1 = 88,
  fill_pad = 91, restrict = 92,
  load_part = 93, store_part = 94, element = 95, debug_print = 96,  // equations between tile operations, in a form of their own
  cpp = 99,  // C++ that is compiled on the machine: a kernel of its own
  cast_as = 100,
};

// How an operation treats its operands. Of the elementwise ones (make, repeat, unary, binary, compare, select, fused, cast) an
// element of the result needs the same element of each operand alone.
enum class OpKind : std::uint8_t {
  memory,    // load, store
  make,      // full, iota: from no tile
  repeat,    // one row or column many times
  cast, unary, binary, compare, select, fused,
  matmul,
  row_reduce, col_reduce,
  move,      // elements go to other places: each operation has a rule of its own
  order,     // rows are looked at as a whole: scans, arg-reductions, sorts
  view,      // no work: the same memory
  between,   // no tile operation
};

// An immediate of as many bits goes into OpArgs::imm, the next one above it; one of 32 is in OpArgs::at.
struct OpTraits {
  Op op{};
  const char* name = nullptr;  // none: there is no such operation
  OpKind kind{};
  std::uint8_t min_sources = 0, max_sources = 0;
  std::uint8_t immediates[3] = {};  // bits of each, 0: none
};

inline constexpr OpTraits op_list[] = {
    {Op::load, "load", OpKind::memory, 1, 1},
    {Op::store, "store", OpKind::memory, 2, 2},
    {Op::full, "full", OpKind::make, 1, 1},
    {Op::iota, "iota", OpKind::make, 0, 0, {1}},
    {Op::broadcast, "broadcast", OpKind::repeat, 1, 1},
    {Op::cast, "cast", OpKind::cast, 1, 1},
    {Op::cast_as, "cast_as", OpKind::cast, 1, 1, {3, 1}},
    {Op::matmul, "matmul", OpKind::matmul, 2, 3, {1, 1}},
    {Op::where, "where", OpKind::select, 3, 3},
    {Op::fma, "fma", OpKind::fused, 3, 3},
    {Op::neg, "neg", OpKind::unary, 1, 1},
    {Op::abs, "abs", OpKind::unary, 1, 1},
    {Op::exp, "exp", OpKind::unary, 1, 1},
    {Op::log, "log", OpKind::unary, 1, 1},
    {Op::sqrt, "sqrt", OpKind::unary, 1, 1},
    {Op::rsqrt, "rsqrt", OpKind::unary, 1, 1},
    {Op::reciprocal, "reciprocal", OpKind::unary, 1, 1},
    {Op::tanh, "tanh", OpKind::unary, 1, 1},
    {Op::erf, "erf", OpKind::unary, 1, 1},
    {Op::sin, "sin", OpKind::unary, 1, 1},
    {Op::cos, "cos", OpKind::unary, 1, 1},
    {Op::floor, "floor", OpKind::unary, 1, 1},
    {Op::ceil, "ceil", OpKind::unary, 1, 1},
    {Op::rint, "rint", OpKind::unary, 1, 1},
    {Op::trunc, "trunc", OpKind::unary, 1, 1},
    {Op::logical_not, "logical_not", OpKind::unary, 1, 1},
    {Op::bit_not, "bit_not", OpKind::unary, 1, 1},
    {Op::round, "round", OpKind::unary, 1, 1},
    {Op::exp2, "exp2", OpKind::unary, 1, 1},
    {Op::log2, "log2", OpKind::unary, 1, 1},
    {Op::log1p, "log1p", OpKind::unary, 1, 1},
    {Op::expm1, "expm1", OpKind::unary, 1, 1},
    {Op::add, "add", OpKind::binary, 2, 2},
    {Op::sub, "sub", OpKind::binary, 2, 2},
    {Op::mul, "mul", OpKind::binary, 2, 2},
    {Op::div, "div", OpKind::binary, 2, 2},
    {Op::maximum, "maximum", OpKind::binary, 2, 2},
    {Op::minimum, "minimum", OpKind::binary, 2, 2},
    {Op::logical_and, "logical_and", OpKind::binary, 2, 2},
    {Op::logical_or, "logical_or", OpKind::binary, 2, 2},
    {Op::logical_xor, "logical_xor", OpKind::binary, 2, 2},
    {Op::fmod, "fmod", OpKind::binary, 2, 2},
    {Op::rem, "rem", OpKind::binary, 2, 2},
    {Op::bit_and, "bit_and", OpKind::binary, 2, 2},
    {Op::bit_or, "bit_or", OpKind::binary, 2, 2},
    {Op::bit_xor, "bit_xor", OpKind::binary, 2, 2},
    {Op::shl, "shl", OpKind::binary, 2, 2},
    {Op::shr, "shr", OpKind::binary, 2, 2},
    {Op::floordiv, "floordiv", OpKind::binary, 2, 2},
    {Op::pow, "pow", OpKind::binary, 2, 2},
    {Op::eq, "eq", OpKind::compare, 2, 2},
    {Op::ne, "ne", OpKind::compare, 2, 2},
    {Op::lt, "lt", OpKind::compare, 2, 2},
    {Op::le, "le", OpKind::compare, 2, 2},
    {Op::gt, "gt", OpKind::compare, 2, 2},
    {Op::ge, "ge", OpKind::compare, 2, 2},
    {Op::rowsum, "rowsum", OpKind::row_reduce, 1, 1},
    {Op::rowmax, "rowmax", OpKind::row_reduce, 1, 1},
    {Op::rowmin, "rowmin", OpKind::row_reduce, 1, 1},
    {Op::rowprod, "rowprod", OpKind::row_reduce, 1, 1},
    {Op::count_cols, "count_cols", OpKind::row_reduce, 1, 1},
    {Op::colsum, "colsum", OpKind::col_reduce, 1, 1},
    {Op::colmax, "colmax", OpKind::col_reduce, 1, 1},
    {Op::colmin, "colmin", OpKind::col_reduce, 1, 1},
    {Op::colprod, "colprod", OpKind::col_reduce, 1, 1},
    {Op::count_rows, "count_rows", OpKind::col_reduce, 1, 1},
    {Op::slice, "slice", OpKind::move, 1, 1, {32, 32, 32}},
    {Op::concat, "concat", OpKind::move, 2, 2, {1}},
    {Op::transpose, "transpose", OpKind::move, 1, 1},
    {Op::reshape, "reshape", OpKind::move, 1, 1},
    {Op::interleave, "interleave", OpKind::move, 2, 2},
    {Op::gather, "gather", OpKind::move, 2, 2, {1}},
    {Op::scatter, "scatter", OpKind::move, 3, 3, {1}},
    {Op::bincount, "bincount", OpKind::move, 1, 1},
    {Op::fill_pad, "fill_pad", OpKind::move, 2, 2},
    {Op::cumsum, "cumsum", OpKind::order, 1, 1, {1}},
    {Op::rowargmax, "rowargmax", OpKind::order, 1, 1},
    {Op::rowargmin, "rowargmin", OpKind::order, 1, 1},
    {Op::extract_topk_indices, "extract_topk_indices", OpKind::order, 1, 1},
    {Op::topk_values, "topk_values", OpKind::order, 2, 2},
    {Op::restrict, "restrict", OpKind::view, 1, 1},
    {Op::load_part, "load_part", OpKind::between},
    {Op::store_part, "store_part", OpKind::between},
    {Op::element, "element", OpKind::between},
    {Op::debug_print, "debug_print", OpKind::between},
    {Op::cpp, "cpp", OpKind::between},
};

namespace detail {
struct OpTable {
  OpTraits of[256] = {};
};
consteval OpTable op_table() {
  OpTable t;
  for (const OpTraits& o : op_list) {
    if (t.of[static_cast<std::size_t>(o.op)].name != nullptr) throw "two operations have one code";
    t.of[static_cast<std::size_t>(o.op)] = o;
  }
  return t;
}
// of each file alone: those of the instruction sets share no symbol
static constexpr OpTable table = op_table();
}  // namespace detail

static constexpr const OpTraits& traits(Op op) noexcept { return detail::table.of[static_cast<std::size_t>(op)]; }
constexpr OpKind kind_of(Op op) noexcept { return traits(op).kind; }

constexpr bool is_elementwise(Op op) noexcept {
  switch (kind_of(op)) {
    case OpKind::make:
    case OpKind::repeat:
    case OpKind::cast:
    case OpKind::unary:
    case OpKind::binary:
    case OpKind::compare:
    case OpKind::select:
    case OpKind::fused: return true;
    default: return false;
  }
}
// Whether an operand of one row or one column may stand for as many as the result has.
constexpr bool may_repeat(Op op) noexcept { return is_elementwise(op) && kind_of(op) != OpKind::unary && kind_of(op) != OpKind::cast; }
// Whether fewer rows or columns of the result are the same ones computed alone, from the same operands.
constexpr bool is_prefix_closed(Op op) noexcept {
  const OpKind k = kind_of(op);
  return is_elementwise(op) || k == OpKind::memory || k == OpKind::matmul || k == OpKind::row_reduce || k == OpKind::col_reduce;
}

// What a kernel met that it cannot compute, the first of a task.
//   index    an index leads outside of a tile: index, size
//   part     a part of a parameter begins or ends outside: first element, size of the dimension
//   scalar   a scalar operation has no result: its ScalarStatus, the operand to tell
//   shape    a valid extent is not what an operation needs: the extents, or the extent and the most there can be
//   trips    a loop runs too often: its trips, the most
//   stopped  nothing is wrong, but it was told to stop
//   cpp      C++ threw an exception: what it says is `text`, until the thread runs another task
//   unaligned  memory of a region does not lie as C++ needs it: the parameter, the element's bytes
// `origin`: the equation's number among all of the kernel, in walk order; -1: none.
enum class FaultKind : std::uint8_t { index, part, scalar, shape, trips, stopped, cpp, unaligned };
struct Fault {
  std::int32_t origin = -1;
  FaultKind kind = FaultKind::index;
  std::int64_t a = 0, b = 0;
  const char* text = nullptr;
};

// What one call of an operation works on. Columns of every tile lie side by side; rows are `*_rs` bytes apart (0 repeats a
// row). `bcast` bit i: source i is one column, repeated. A source may be the destination itself where the operation is
// elementwise, and as matmul's accumulator.
struct OpArgs {
  std::byte* dst;
  std::ptrdiff_t dst_rs;
  const std::byte* src[3];
  std::ptrdiff_t src_rs[3];
  std::int32_t rows, cols;   // of the result
  // Reductions: how many elements go into one; matmul: k; topk, argmax: columns of the source; gather, scatter: what indices are
  // below; bincount: columns of the source; concat: how many rows or columns come from source 0; reshape: columns of the source.
  std::int32_t inner;
  std::int32_t outer;        // scatter: how many rows or columns of indices; bincount: rows of the source
  std::int32_t row0;         // iota: the tile row that dst starts at
  std::uint8_t bcast;
  std::uint8_t imm;          // iota, concat, gather, scatter, cumsum: axis; matmul: 1 transpose_a | 2 transpose_b | 4 has an accumulator (source 2)
  const std::int32_t* at;    // slice: first row, first column, step of columns
  const std::byte* ahead;    // matmul of one or two rows: what the next one reads as this one reads source 1, with its strides; or nullptr
  std::byte* work;           // matmul, topk: ..._work_bytes(), 64-byte aligned
  std::int32_t origin;       // to tell in a fault
  Fault* fault;              // gather, scatter, bincount: an index outside is told here, if it is the first, and left out
};

using OpFn = void (*)(const OpArgs&);

// The function for an operation on elements of type `src` giving `dst`, nullptr where the operation has no such types.
// load, store, full, broadcast copy (load makes any nonzero byte of a bool 1). For compare `dst` is bool, for where and the
// rest both are the type of the values; for matmul `src` is the type of a and b; for what gives indices `dst` is i32.
OpFn find_op(Isa isa, Op op, DType src, DType dst) noexcept;

// Working memory of one matmul call with these (largest) sizes; a multiple of 64.
std::size_t matmul_work_bytes(std::int32_t m, std::int32_t n, std::int32_t k) noexcept;
// Of one extract_topk_indices call with this many columns.
std::size_t topk_work_bytes(std::int32_t cols) noexcept;

}  // namespace pto_wsp
