// Conversions between the types that have no vectors of their own, and with rounding and saturation as told: plain loops, one form
// for all levels. Everything goes through 64 bits: f64, i64, u64 or a bool.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "levels.hpp"
#include "pto_wsp/scalar.hpp"

namespace pto_wsp::tiles {
namespace {

enum class Rounding : std::uint8_t { nearest_even = 0, nearest_away = 1, down = 2, up = 3, to_zero = 4, odd = 5 };

// To an integer in f64.
double rounded(double x, Rounding how) {
  switch (how) {
    case Rounding::nearest_even: return std::nearbyint(x);
    case Rounding::nearest_away: return std::round(x);
    case Rounding::down: return std::floor(x);
    case Rounding::up: return std::ceil(x);
    case Rounding::to_zero: return std::trunc(x);
    case Rounding::odd: {
      const double t = std::trunc(x);
      return t == x || std::fmod(t, 2) != 0 ? t : t + std::copysign(1.0, x);
    }
  }
  return x;
}

double to_float(double x, DType to, Rounding how, bool saturate) {
  double y = x;
  if (how == Rounding::nearest_even) {
    y = round_float(x, to);
  } else if (x != 0 && std::isfinite(x) && to != DType::f64) {
    int exponent = 0;
    std::frexp(x, &exponent);
    const int last = std::max(exponent - 1, smallest_exponent(to)) - significand_bits(to) + 1;  // of the last place
    y = std::copysign(std::ldexp(rounded(std::ldexp(x, -last), how), last), x);
    if (std::fabs(y) > largest_of(to)) y = round_float(y, to);
  }
  const bool beyond = !(std::fabs(y) <= largest_of(to)) && !std::isnan(x);
  return saturate && beyond ? std::copysign(largest_of(to), x) : y;
}

struct Limits {
  std::int64_t least;
  std::uint64_t most;
};
Limits limits(DType t) {
  const int n = 8 * static_cast<int>(size_of(t));
  if (is_unsigned(t)) return {0, ~std::uint64_t{0} >> (64 - n)};
  return {std::numeric_limits<std::int64_t>::min() >> (64 - n), ~std::uint64_t{0} >> (65 - n)};
}

// A float to the 64 bits of an integer. What does not fit is the nearest that does, or without `saturate` that of 64 bits, of
// negative numbers signed, which then wraps.
std::uint64_t to_integer(double x, DType to, Rounding how, bool saturate) {
  if (std::isnan(x)) return 0;
  const double y = rounded(x, how);
  if (!saturate && is_unsigned(to) && y < 0) return to_integer(y, DType::i64, how, true);
  const Limits l = limits(saturate ? to : scalar_of(to));
  if (y <= static_cast<double>(l.least)) return static_cast<std::uint64_t>(l.least);
  if (y >= static_cast<double>(l.most)) return l.most;  // of 64 bits the bound is rounded up, which is beyond
  return is_unsigned(to) ? static_cast<std::uint64_t>(y) : static_cast<std::uint64_t>(static_cast<std::int64_t>(y));
}

std::uint64_t clamped(std::uint64_t v, bool negative, DType to) {
  const Limits l = limits(to);
  if (negative) return static_cast<std::int64_t>(v) < l.least ? static_cast<std::uint64_t>(l.least) : v;
  return v > l.most ? l.most : v;
}

std::uint64_t converted(std::uint64_t v, DType from, DType to, Rounding how, bool saturate) {
  const DType kind = scalar_of(from);
  if (to == DType::boolean) return kind == DType::f64 ? std::bit_cast<double>(v) != 0 : v != 0;
  if (kind == DType::f64) {
    const double x = std::bit_cast<double>(v);
    return is_float(to) ? std::bit_cast<std::uint64_t>(to_float(x, to, how, saturate)) : to_integer(x, to, how, saturate);
  }
  const bool negative = kind == DType::i64 && static_cast<std::int64_t>(v) < 0;
  if (!is_float(to)) return saturate ? clamped(v, negative, to) : v;
  std::uint64_t out = 0;
  to_scalar(v, kind == DType::boolean ? DType::u64 : kind, to, out);
  const double y = std::bit_cast<double>(out);
  if (std::fabs(y) <= largest_of(to)) return out;
  return std::bit_cast<std::uint64_t>(saturate ? std::copysign(largest_of(to), negative ? -1.0 : 1.0) : round_float(y, to));
}

template <DType from, DType to> void cast(const OpArgs& a, Rounding how, bool saturate) {
  constexpr auto in = static_cast<std::ptrdiff_t>(size_of(from)), out = static_cast<std::ptrdiff_t>(size_of(to));
  const std::ptrdiff_t next = (a.bcast & 1) != 0 ? 0 : in;
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    std::byte* d = a.dst + r * a.dst_rs;
    for (std::int32_t c = 0; c < a.cols; ++c, s += next, d += out) store_scalar(converted(load_scalar(s, from), from, to, how, saturate), to, d);
  }
}
// Without more said floats are rounded to nearest even, and to integers towards zero and to the nearest that fits; integers wrap.
template <DType from, DType to> void plain_cast(const OpArgs& a) {
  cast<from, to>(a, is_float(from) && !is_float(to) ? Rounding::to_zero : Rounding::nearest_even, is_float(from) && !is_float(to));
}
template <DType from, DType to> void exact_cast(const OpArgs& a) { cast<from, to>(a, static_cast<Rounding>(a.imm & 7), (a.imm & 8) != 0); }

#define PTO_WSP_DTYPES(each) \
  each(f32) each(f16) each(bf16) each(i32) each(boolean) each(i64) each(u64) each(f64) each(i8) each(i16) each(u8) each(u16) each(u32) each(f8e4m3) each(f8e5m2)

template <DType from> OpFn cast_from(Op op, DType to) {
  switch (to) {
#define PTO_WSP_CAST(t) \
  case DType::t: return op == Op::cast ? plain_cast<from, DType::t> : exact_cast<from, DType::t>;
    PTO_WSP_DTYPES(PTO_WSP_CAST)
#undef PTO_WSP_CAST
  }
  return nullptr;
}

// Types whose casts among themselves have vectors.
bool has_vectors(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::i32 || t == DType::boolean; }

}  // namespace

OpFn find_convert(Op op, DType src, DType dst) noexcept {
  if (op != Op::cast && op != Op::cast_as) return nullptr;
  if (op == Op::cast && (src == dst || (has_vectors(src) && has_vectors(dst)))) return nullptr;
  switch (src) {
#define PTO_WSP_CAST(t) \
  case DType::t: return cast_from<DType::t>(op, dst);
    PTO_WSP_DTYPES(PTO_WSP_CAST)
#undef PTO_WSP_CAST
  }
  return nullptr;
}

}  // namespace pto_wsp::tiles
