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
//   exp 1.1, log 1, tanh 1.5, erf 1.1, sin 2, cos 2, rsqrt 1.5; reciprocal, sqrt, div, fma, rounding functions: correctly rounded.

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
  restrict = 92, load_part = 93, store_part = 94, element = 95, debug_print = 96,
};

struct OpName {
  Op op;
  const char* name;
};

inline constexpr OpName op_names[] = {
    {Op::load, "load"}, {Op::store, "store"}, {Op::full, "full"}, {Op::iota, "iota"}, {Op::broadcast, "broadcast"},
    {Op::cast, "cast"}, {Op::matmul, "matmul"}, {Op::where, "where"}, {Op::fma, "fma"}, {Op::neg, "neg"}, {Op::abs, "abs"},
    {Op::exp, "exp"}, {Op::log, "log"}, {Op::sqrt, "sqrt"}, {Op::rsqrt, "rsqrt"}, {Op::reciprocal, "reciprocal"},
    {Op::tanh, "tanh"}, {Op::erf, "erf"}, {Op::sin, "sin"}, {Op::cos, "cos"}, {Op::floor, "floor"}, {Op::ceil, "ceil"},
    {Op::rint, "rint"}, {Op::trunc, "trunc"}, {Op::logical_not, "logical_not"}, {Op::add, "add"}, {Op::sub, "sub"},
    {Op::mul, "mul"}, {Op::div, "div"}, {Op::maximum, "maximum"}, {Op::minimum, "minimum"}, {Op::logical_and, "logical_and"},
    {Op::logical_or, "logical_or"}, {Op::eq, "eq"}, {Op::ne, "ne"}, {Op::lt, "lt"}, {Op::le, "le"}, {Op::gt, "gt"},
    {Op::ge, "ge"}, {Op::rowsum, "rowsum"}, {Op::rowmax, "rowmax"}, {Op::rowmin, "rowmin"}, {Op::rowprod, "rowprod"},
    {Op::colsum, "colsum"}, {Op::colmax, "colmax"}, {Op::colmin, "colmin"}, {Op::colprod, "colprod"},
    {Op::count_cols, "count_cols"}, {Op::count_rows, "count_rows"}, {Op::slice, "slice"}, {Op::concat, "concat"},
    {Op::transpose, "transpose"}, {Op::reshape, "reshape"}, {Op::interleave, "interleave"}, {Op::gather, "gather"},
    {Op::scatter, "scatter"}, {Op::cumsum, "cumsum"}, {Op::bincount, "bincount"}, {Op::rowargmax, "rowargmax"},
    {Op::rowargmin, "rowargmin"}, {Op::extract_topk_indices, "extract_topk_indices"}, {Op::topk_values, "topk_values"},
    {Op::restrict, "restrict"}, {Op::load_part, "load_part"}, {Op::store_part, "store_part"}, {Op::element, "element"},
    {Op::debug_print, "debug_print"},
};

// What a kernel met that it cannot compute, the first of a task.
//   index    an index leads outside of a tile: index, size
//   part     a part of a parameter begins or ends outside: first element, size of the dimension
//   scalar   a scalar operation has no result: its ScalarStatus, the operand to tell
//   shape    a valid extent is not what an operation needs: the extents, or the extent and the most there can be
//   trips    a loop runs too often: its trips, the most
// `origin`: the equation's number among all of the kernel, in walk order; -1: none.
enum class FaultKind : std::uint8_t { index, part, scalar, shape, trips };
struct Fault {
  std::int32_t origin = -1;
  FaultKind kind = FaultKind::index;
  std::int64_t a = 0, b = 0;
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
