#pragma once
// Maps over one, two or three tiles, and the functions mapped.

#include "math.hpp"
#include "types.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

// The rows and columns to walk: those of the call, or one long row where nothing lies between the rows.
struct Walk {
  std::int32_t rows, cols;
  unsigned bcast;
};

template <int count> inline Walk walk(const OpArgs& a, std::ptrdiff_t dst_size, const std::ptrdiff_t (&size)[count]) {
  const Walk as_given = {a.rows, a.cols, a.bcast & ((1u << count) - 1u)};
  if (a.rows == 1 || a.dst_rs != a.cols * dst_size) return as_given;
  unsigned bcast = 0;
  for (int i = 0; i < count; ++i) {
    const bool one_column = ((as_given.bcast >> i) & 1) != 0 || a.cols == 1;
    if (one_column && a.src_rs[i] == 0) bcast |= 1u << i;
    else if ((one_column && a.cols != 1) || a.src_rs[i] != a.cols * size[i]) return as_given;
  }
  return {1, a.rows * a.cols, bcast};
}

template <class D, class S, class Fn> void map1(const OpArgs& a) {
  const Walk w = walk(a, D::size, {S::size});
  if (w.bcast != 0) {  // only a repeated element comes so, in one row
    const auto y = Fn{}(S::repeat(a.src[0]));
    int c = 0;
    for (; c + 16 <= w.cols; c += 16) D::store(a.dst + c * D::size, y);
    if (c < w.cols) D::store(a.dst + c * D::size, y, w.cols - c);
    return;
  }
  for (int r = 0; r < w.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    int c = 0;
    for (; c + 16 <= w.cols; c += 16) D::store(d + c * D::size, Fn{}(S::load(s + c * S::size)));
    if (c < w.cols) D::store(d + c * D::size, Fn{}(S::load(s + c * S::size, w.cols - c)), w.cols - c);
  }
}

// One operand of a row: a vector of columns, or an element repeated.
template <class S> struct Operand {
  const std::byte* p;
  bool repeated;
  typename S::V value;
  PTO_WSP_INLINE Operand(const OpArgs& a, unsigned bcast, int i, int r) : p(a.src[i] + r * a.src_rs[i]), repeated(((bcast >> i) & 1) != 0) {
    if (repeated) value = S::repeat(p);
  }
  PTO_WSP_INLINE typename S::V at(int c) const { return repeated ? value : S::load(p + c * S::size); }
  PTO_WSP_INLINE typename S::V at(int c, int n) const { return repeated ? value : S::load(p + c * S::size, n); }
};

template <class D, class S, class Fn> void map2(const OpArgs& a) {
  const Walk w = walk(a, D::size, {S::size, S::size});
  if (w.bcast == 0) {
    for (int r = 0; r < w.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      const std::byte* x = a.src[0] + r * a.src_rs[0];
      const std::byte* y = a.src[1] + r * a.src_rs[1];
      int c = 0;
      for (; c + 16 <= w.cols; c += 16) D::store(d + c * D::size, Fn{}(S::load(x + c * S::size), S::load(y + c * S::size)));
      if (c < w.cols) {
        const int n = w.cols - c;
        D::store(d + c * D::size, Fn{}(S::load(x + c * S::size, n), S::load(y + c * S::size, n)), n);
      }
    }
    return;
  }
  for (int r = 0; r < w.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    const Operand<S> x(a, w.bcast, 0, r), y(a, w.bcast, 1, r);
    int c = 0;
    for (; c + 16 <= w.cols; c += 16) D::store(d + c * D::size, Fn{}(x.at(c), y.at(c)));
    if (c < w.cols) D::store(d + c * D::size, Fn{}(x.at(c, w.cols - c), y.at(c, w.cols - c)), w.cols - c);
  }
}

template <class D, class S0, class S, class Fn> void map3(const OpArgs& a) {
  const Walk w = walk(a, D::size, {S0::size, S::size, S::size});
  for (int r = 0; r < w.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    const Operand<S0> x(a, w.bcast, 0, r);
    const Operand<S> y(a, w.bcast, 1, r), z(a, w.bcast, 2, r);
    int c = 0;
    for (; c + 16 <= w.cols; c += 16) D::store(d + c * D::size, Fn{}(x.at(c), y.at(c), z.at(c)));
    if (c < w.cols) {
      const int n = w.cols - c;
      D::store(d + c * D::size, Fn{}(x.at(c, n), y.at(c, n), z.at(c, n)), n);
    }
  }
}

// Elements of `size` bytes moved as they are; a repeated column is spread.
template <int size> void copy(const OpArgs& a) {
  const auto row_bytes = static_cast<std::size_t>(a.cols) * size;
  if ((a.bcast & 1) != 0 && a.cols != 1) {
    for (int r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs;
      std::byte pattern[64];
      for (int i = 0; i < 64; i += size) std::memcpy(pattern + i, a.src[0] + r * a.src_rs[0], size);
      std::size_t at = 0;
      for (; at + 64 <= row_bytes; at += 64) std::memcpy(d + at, pattern, 64);
      std::memcpy(d + at, pattern, row_bytes - at);
    }
    return;
  }
  const bool dense = a.dst_rs == a.src_rs[0] && a.dst_rs == a.cols * std::ptrdiff_t{size};
  const int rows = dense ? 1 : a.rows;
  for (int r = 0; r < rows; ++r)
    std::memmove(a.dst + r * a.dst_rs, a.src[0] + r * a.src_rs[0], dense ? row_bytes * static_cast<std::size_t>(a.rows) : row_bytes);
}

// A number per row, or per column.
inline void iota(const OpArgs& a) {
  for (int r = 0; r < a.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    I x = a.imm == 0 ? splat(a.row0 + r) : lane_index();
    const I step = splat(a.imm == 0 ? 0 : 16);
    int c = 0;
    for (; c + 16 <= a.cols; c += 16, x = add(x, step)) store_i32(d + c * 4, x);
    if (c < a.cols) store_i32(d + c * 4, x, a.cols - c);
  }
}

// How many valid columns (rows) the operand has; its elements are not read.
inline void count(const OpArgs& a) {
  const F n = splat(static_cast<float>(a.inner));
  for (int r = 0; r < a.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    int c = 0;
    for (; c + 16 <= a.cols; c += 16) store_f32(d + c * 4, n);
    if (c < a.cols) store_f32(d + c * 4, n, a.cols - c);
  }
}

#define PTO_WSP_MAP(name, params, result) \
  struct name {                           \
    PTO_WSP_INLINE auto operator() params const { return result; } \
  }

PTO_WSP_MAP(Same, (auto x), x);
PTO_WSP_MAP(NegF, (F x), negate(x));
PTO_WSP_MAP(NegI, (I x), sub(splat(0), x));
PTO_WSP_MAP(AbsF, (F x), magnitude(x));
PTO_WSP_MAP(AbsI, (I x), maximum(x, sub(splat(0), x)));
PTO_WSP_MAP(Exp, (F x), exp(x));
PTO_WSP_MAP(Log, (F x), log(x));
PTO_WSP_MAP(Exp2, (F x), exp2(x));
PTO_WSP_MAP(Log2, (F x), log2(x));
PTO_WSP_MAP(Sqrt, (F x), sqrt(x));
PTO_WSP_MAP(Rsqrt, (F x), rsqrt(x));
PTO_WSP_MAP(Reciprocal, (F x), reciprocal(x));
PTO_WSP_MAP(Tanh, (F x), tanh(x));
PTO_WSP_MAP(Erf, (F x), erf(x));
PTO_WSP_MAP(Sin, (F x), sin(x));
PTO_WSP_MAP(Cos, (F x), cos(x));
PTO_WSP_MAP(Floor, (F x), floor(x));
PTO_WSP_MAP(Ceil, (F x), ceil(x));
PTO_WSP_MAP(Rint, (F x), rint(x));
PTO_WSP_MAP(Trunc, (F x), trunc(x));
PTO_WSP_MAP(Not, (M x), mask_xor(x, splat_mask(true)));
PTO_WSP_MAP(Add, (auto x, auto y), add(x, y));
PTO_WSP_MAP(Sub, (auto x, auto y), sub(x, y));
PTO_WSP_MAP(Mul, (auto x, auto y), mul(x, y));
PTO_WSP_MAP(Div, (F x, F y), div(x, y));
PTO_WSP_MAP(Maximum, (auto x, auto y), maximum(x, y));
PTO_WSP_MAP(Minimum, (auto x, auto y), minimum(x, y));
PTO_WSP_MAP(And, (M x, M y), mask_and(x, y));
PTO_WSP_MAP(Or, (M x, M y), mask_or(x, y));
PTO_WSP_MAP(Xor, (M x, M y), mask_xor(x, y));
PTO_WSP_MAP(Xnor, (M x, M y), mask_xor(mask_xor(x, y), splat_mask(true)));
PTO_WSP_MAP(Eq, (auto x, auto y), eq(x, y));
PTO_WSP_MAP(Ne, (auto x, auto y), ne(x, y));
PTO_WSP_MAP(Lt, (auto x, auto y), lt(x, y));
PTO_WSP_MAP(Le, (auto x, auto y), le(x, y));
PTO_WSP_MAP(Gt, (auto x, auto y), lt(y, x));
PTO_WSP_MAP(Ge, (auto x, auto y), le(y, x));
PTO_WSP_MAP(Fma, (F x, F y, F z), fma(x, y, z));
PTO_WSP_MAP(Select, (M m, auto x, auto y), select(m, x, y));
PTO_WSP_MAP(SelectMask, (M m, M x, M y), mask_or(mask_and(m, x), mask_and(mask_xor(m, splat_mask(true)), y)));
PTO_WSP_MAP(Truncate, (F x), saturating_int(x));
PTO_WSP_MAP(ToFloat, (I x), to_float(x));
PTO_WSP_MAP(NonzeroF, (F x), ne(x, splat(0.0f)));
PTO_WSP_MAP(NonzeroI, (I x), ne(x, splat(0)));
PTO_WSP_MAP(OneF, (M m), select(m, splat(1.0f), splat(0.0f)));
PTO_WSP_MAP(OneI, (M m), select(m, splat(1), splat(0)));

// To be rounded to 8 or 11 bits next: beyond f32's 24 bits the lost ones are gathered in the last bit kept (round to odd), so
// that the second rounding is the only one that counts.
struct ToFloatOdd {
  PTO_WSP_INLINE F operator()(I x) const {
    const I low = bit_and(x, splat(0xff));
    const I kept = bit_and(x, splat(~0xff));
    const I odd = select(eq(low, splat(0)), kept, bit_or(kept, splat(0x100)));
    const I top = sar<24>(x);  // 0 or -1: fewer than 25 bits, exact
    return to_float(select(mask_or(eq(top, splat(0)), eq(top, splat(-1))), x, odd));
  }
};

#undef PTO_WSP_MAP

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
