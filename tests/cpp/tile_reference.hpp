// Element types and operations the obvious way, one scalar at a time, to compare the tile operations with.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "pto_wsp/tile_ops.hpp"

namespace reference {

using pto_wsp::DType;
using pto_wsp::Op;

inline constexpr DType all_dtypes[] = {DType::f32, DType::f16, DType::bf16, DType::i32, DType::boolean};

// x rounded to the nearest number of `precision` bits, ties to even, no exponent below that of 2^emin, overflow beyond `largest`.
inline double rounded(double x, int precision, int emin, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = std::max(std::ilogb(x), emin);
  const double unit = std::ldexp(1.0, exponent - precision + 1);
  const double r = std::nearbyint(x / unit) * unit;
  return std::fabs(r) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : std::copysign(r, x);
}
inline double rounded(double x, DType t) {
  switch (t) {
    case DType::f16: return rounded(x, 11, -14, 65504);
    case DType::bf16: return rounded(x, 8, -126, 0x1.fep127);
    default: return static_cast<double>(static_cast<float>(x));
  }
}

inline double decode(const std::byte* p, DType t) {
  switch (t) {
    case DType::f32: {
      float x;
      std::memcpy(&x, p, 4);
      return static_cast<double>(x);
    }
    case DType::bf16: {
      std::uint16_t x;
      std::memcpy(&x, p, 2);
      return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16));
    }
    case DType::f16: {
      std::uint16_t x;
      std::memcpy(&x, p, 2);
      const int exponent = (x >> 10) & 31, fraction = x & 1023;
      const double magnitude = exponent == 31 ? (fraction != 0 ? std::nan("") : std::numeric_limits<double>::infinity())
                               : exponent == 0 ? std::ldexp(fraction, -24)
                                               : std::ldexp(1024 + fraction, exponent - 25);
      return (x & 0x8000) != 0 ? -magnitude : magnitude;
    }
    case DType::i32: {
      std::int32_t x;
      std::memcpy(&x, p, 4);
      return x;
    }
    default: return *p != std::byte{0} ? 1 : 0;
  }
}

// x must be a value of the type.
inline void encode(double x, DType t, std::byte* p) {
  if (t == DType::f32) {
    const auto f = static_cast<float>(x);
    std::memcpy(p, &f, 4);
  } else if (t == DType::bf16) {
    const auto b = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16);
    std::memcpy(p, &b, 2);
  } else if (t == DType::f16) {
    unsigned b = std::signbit(x) ? 0x8000 : 0;
    const double m = std::fabs(x);
    if (std::isnan(x)) b = 0x7e00;
    else if (std::isinf(x)) b |= 0x7c00;
    else if (m < 0x1p-14) b |= static_cast<unsigned>(m * 0x1p24);
    else b |= (static_cast<unsigned>(std::ilogb(m) + 15) << 10) | (static_cast<unsigned>(std::ldexp(m, 10 - std::ilogb(m))) & 1023);
    const auto h = static_cast<std::uint16_t>(b);
    std::memcpy(p, &h, 2);
  } else if (t == DType::i32) {
    const auto i = static_cast<std::int32_t>(x);
    std::memcpy(p, &i, 4);
  } else {
    *p = x != 0 ? std::byte{1} : std::byte{0};
  }
}

inline bool same(const std::byte* a, const std::byte* b, DType t) {
  if (pto_wsp::is_float(t) && std::isnan(decode(a, t))) return std::isnan(decode(b, t));
  return std::memcmp(a, b, pto_wsp::size_of(t)) == 0;
}

inline double wrapped(std::uint64_t x) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(x)); }
inline std::uint64_t u64(double x) { return static_cast<std::uint64_t>(static_cast<std::int64_t>(x)); }

inline double maximum(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::nan("");
  return a == b ? (std::signbit(a) ? b : a) : (a < b ? b : a);
}
inline double minimum(double a, double b) { return -maximum(-a, -b); }

// One rounding to f32, where the double result is exact or has bits enough for rounding twice not to matter.
inline double f32(double x) { return static_cast<double>(static_cast<float>(x)); }

// The remainder with the sign of the divisor.
inline double floored(double a, double b) {
  const double r = std::fmod(a, b);
  if (r == 0) return std::copysign(r, b);
  return std::isfinite(r) && (r < 0) != (b < 0) ? r + b : r;
}
// Of i32, whose quotients and remainders doubles hold exactly; by 0 the quotient is -1, the remainder what was divided.
inline double i32_operation(Op op, double a, double b) {
  const auto x = static_cast<std::int64_t>(a), y = static_cast<std::int64_t>(b);
  const bool inside = y >= 0 && y < 32;
  switch (op) {
    case Op::div: return y == 0 ? -1 : wrapped(u64(std::trunc(a / b)));
    case Op::floordiv: return y == 0 ? -1 : wrapped(u64(std::floor(a / b)));
    case Op::fmod: return y == 0 ? a : std::fmod(a, b) + 0.0;
    case Op::rem: return y == 0 ? a : floored(a, b) + 0.0;
    case Op::bit_and: return static_cast<double>(x & y);
    case Op::bit_or: return static_cast<double>(x | y);
    case Op::bit_xor: return static_cast<double>(x ^ y);
    case Op::shl: return inside ? wrapped(u64(a) << y) : 0;
    default: return std::floor(std::ldexp(a, inside ? -static_cast<int>(y) : -32));  // shr
  }
}

inline double unary(Op op, double x, DType t) {
  const bool integer = t == DType::i32;
  switch (op) {
    case Op::neg: return integer ? wrapped(0 - u64(x)) : -x;
    case Op::abs: return integer ? wrapped(x < 0 ? 0 - u64(x) : u64(x)) : std::fabs(x);
    case Op::exp: return std::exp(x);
    case Op::exp2: return std::exp2(x);
    case Op::expm1: return std::expm1(x);
    case Op::log: return std::log(x);
    case Op::log2: return std::log2(x);
    case Op::log1p: return std::log1p(x);
    case Op::sqrt: return f32(std::sqrt(x));
    case Op::rsqrt: return f32(1 / f32(std::sqrt(x)));
    case Op::reciprocal: return f32(1 / x);
    case Op::tanh: return std::tanh(x);
    case Op::erf: return std::erf(x);
    case Op::sin: return std::sin(x);
    case Op::cos: return std::cos(x);
    case Op::floor: return std::floor(x);
    case Op::ceil: return std::ceil(x);
    case Op::rint: return std::nearbyint(x);
    case Op::trunc: return std::trunc(x);
    case Op::round: return std::round(x);
    case Op::bit_not: return -x - 1;
    case Op::logical_not: return x == 0 ? 1 : 0;
    default: return x;
  }
}
inline double binary(Op op, double a, double b, DType t) {
  const bool integer = t == DType::i32;
  switch (op) {
    case Op::add: return integer ? wrapped(u64(a) + u64(b)) : f32(a + b);
    case Op::sub: return integer ? wrapped(u64(a) - u64(b)) : f32(a - b);
    case Op::mul: return integer ? wrapped(u64(a) * u64(b)) : f32(a * b);
    case Op::fmod: return integer ? i32_operation(op, a, b) : std::fmod(a, b);
    case Op::pow: return f32(std::pow(a, b));
    case Op::rem: return integer ? i32_operation(op, a, b) : f32(floored(a, b));
    case Op::div: return integer ? i32_operation(op, a, b) : f32(a / b);
    case Op::floordiv: case Op::bit_and: case Op::bit_or: case Op::bit_xor: case Op::shl: case Op::shr: return i32_operation(op, a, b);
    case Op::logical_xor: return (a != 0) != (b != 0) ? 1 : 0;
    case Op::maximum: return integer ? std::max(a, b) : maximum(a, b);
    case Op::minimum: return integer ? std::min(a, b) : minimum(a, b);
    case Op::logical_and: return a != 0 && b != 0 ? 1 : 0;
    case Op::logical_or: return a != 0 || b != 0 ? 1 : 0;
    case Op::eq: return a == b ? 1 : 0;
    case Op::ne: return a != b ? 1 : 0;
    case Op::lt: return a < b ? 1 : 0;
    case Op::le: return a <= b ? 1 : 0;
    case Op::gt: return a > b ? 1 : 0;
    case Op::ge: return a >= b ? 1 : 0;
    default: return 0;
  }
}
inline double cast(double x, DType from, DType to) {
  if (to == DType::boolean) return x != 0 ? 1 : 0;
  if (to == DType::i32 && pto_wsp::is_float(from))
    return std::isnan(x) ? 0 : std::trunc(std::min(std::max(x, -2147483648.0), 2147483647.0));
  return pto_wsp::is_float(to) ? rounded(x, to) : x;
}

// Reductions: `count` accumulators, element j into j mod count, then the stated tree.
inline double reduce(Op op, const std::vector<double>& x, bool rows, DType t) {
  const Op join = op == Op::rowsum || op == Op::colsum   ? Op::add
                  : op == Op::rowmax || op == Op::colmax ? Op::maximum
                  : op == Op::rowmin || op == Op::colmin ? Op::minimum
                                                         : Op::mul;
  const bool integer = t == DType::i32;
  const double inf = std::numeric_limits<double>::infinity();
  const double start = join == Op::add ? 0 : join == Op::mul ? 1 : join == Op::maximum ? (integer ? INT32_MIN : -inf) : (integer ? INT32_MAX : inf);
  const DType in = integer ? DType::i32 : DType::f32;
  const std::size_t count = rows ? 16 : 4;
  std::vector<double> acc(count, start);
  for (std::size_t j = 0; j < x.size(); ++j) acc[j % count] = binary(join, acc[j % count], x[j], in);
  for (std::size_t half = count / 2; half != 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) acc[i] = binary(join, acc[i], acc[i + half], in);
  return integer ? acc[0] : rounded(acc[0], t);
}

// Values that have gone wrong somewhere, and random ones.
inline double sample(std::mt19937& random, DType t) {
  static constexpr double inf = std::numeric_limits<double>::infinity();
  static const double special[] = {0.0, -0.0, 1.0, -1.0, inf, -inf, std::nan(""), 0x1p-149, -0x1p-149, 0x1p-126, 0x1.8p-24, -0x1p-24, 0x1p-14,
                                   65504, 65519, 65520, -65536, 0x1.fffffep127, 0.5, 1.5, 2.5, -2.5, 1e-3, 88.7, -104, 2147483647, -2147483648.0, 1e5};
  const auto pick = random() % 8;
  if (t == DType::boolean) return random() % 2 != 0 ? 1 : 0;
  if (t == DType::i32) {
    if (pick == 0) return random() % 2 != 0 ? INT32_MAX : INT32_MIN;
    return pick < 4 ? static_cast<double>(random() % 21) - 10 : static_cast<double>(static_cast<std::int32_t>(random()));
  }
  if (pick == 0) return rounded(special[random() % (sizeof special / sizeof *special)], t);
  const double unit = static_cast<double>(random()) / 0x1p32 * 2 - 1;
  return rounded(pick < 6 ? unit * 4 : std::ldexp(unit, static_cast<int>(random() % 40) - 20), t);
}

}  // namespace reference
