#include "pto_wsp/scalar.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace pto_wsp {
namespace {

using Status = ScalarStatus;

std::int64_t as_i64(std::uint64_t bits) { return static_cast<std::int64_t>(bits); }
std::uint64_t bits_of(std::int64_t v) { return static_cast<std::uint64_t>(v); }
double as_f64(std::uint64_t bits) { return std::bit_cast<double>(bits); }
std::uint64_t bits_of(double v) { return std::bit_cast<std::uint64_t>(v); }

// --- integers, Int: std::int64_t or std::uint64_t ---

template <class Int>
Status integer_divided(bool modulo, bool checked, Int a, Int b, Int& out) {
  if (b == 0) return Status::zero_divisor;
  if constexpr (std::is_signed_v<Int>) {
    if (b == -1) {  // the one quotient there is no number for
      out = modulo ? 0 : as_i64(0 - bits_of(a));
      return !modulo && checked && a == std::numeric_limits<Int>::min() ? Status::overflow : Status::ok;
    }
    const Int q = a / b, r = a % b;
    const bool below = r != 0 && (r < 0) != (b < 0);
    out = modulo ? (below ? r + b : r) : (below ? q - 1 : q);
  } else {
    out = modulo ? a % b : a / b;
  }
  return Status::ok;
}

template <class Int>
Status integer_shifted(bool left, bool checked, Int a, Int n, Int& out) {
  if (n < 0 || n > 63) return Status::shift;
  if (!left) {
    out = static_cast<Int>(a >> n);
    return Status::ok;
  }
  out = static_cast<Int>(static_cast<std::uint64_t>(a) << n);
  return checked && (out >> n) != a ? Status::overflow : Status::ok;
}

template <class Int>
Status integer(ScalarOp op, bool checked, Int a, Int b, Int& out) {
  bool overflow = false;
  switch (op) {
    case ScalarOp::add: overflow = __builtin_add_overflow(a, b, &out); break;
    case ScalarOp::sub: overflow = __builtin_sub_overflow(a, b, &out); break;
    case ScalarOp::mul: overflow = __builtin_mul_overflow(a, b, &out); break;
    case ScalarOp::neg: overflow = __builtin_sub_overflow(Int{0}, a, &out); break;
    case ScalarOp::abs:
      out = a;
      if constexpr (std::is_signed_v<Int>)
        if (a < 0) overflow = __builtin_sub_overflow(Int{0}, a, &out);
      break;
    case ScalarOp::floordiv: return integer_divided(false, checked, a, b, out);
    case ScalarOp::mod: return integer_divided(true, checked, a, b, out);
    case ScalarOp::shl: return integer_shifted(true, checked, a, b, out);
    case ScalarOp::shr: return integer_shifted(false, checked, a, b, out);
    case ScalarOp::bit_and: out = a & b; break;
    case ScalarOp::bit_or: out = a | b; break;
    case ScalarOp::bit_xor: out = a ^ b; break;
    case ScalarOp::bit_not: out = ~a; break;
    case ScalarOp::min: out = a < b ? a : b; break;
    default: out = a < b ? b : a; break;  // max
  }
  return overflow && checked ? Status::overflow : Status::ok;
}

// --- floats ---

double modulo(double a, double b) {
  double m = std::fmod(a, b);
  if (m == 0) return std::copysign(0.0, b);
  if ((m < 0) != (b < 0)) m += b;
  return m;
}

// As CPython's float_floor_div: from the remainder, which is exact.
double floor_divided(double a, double b) {
  const double m = std::fmod(a, b);
  double q = (a - m) / b;
  if (m != 0 && (m < 0) != (b < 0)) q -= 1;
  if (q == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(q);
  return q - whole > 0.5 ? whole + 1 : whole;
}

double largest(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? a : b;
  if (a == b) return std::signbit(a) ? b : a;
  return a < b ? b : a;
}

double smallest(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) ? a : b;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

Status floating(ScalarOp op, double a, double b, double& out) {
  const bool divides = op == ScalarOp::div || op == ScalarOp::floordiv || op == ScalarOp::mod;
  if (divides && b == 0) return Status::zero_divisor;
  switch (op) {
    case ScalarOp::add: out = a + b; break;
    case ScalarOp::sub: out = a - b; break;
    case ScalarOp::mul: out = a * b; break;
    case ScalarOp::div: out = a / b; break;
    case ScalarOp::floordiv: out = floor_divided(a, b); break;
    case ScalarOp::mod: out = modulo(a, b); break;
    case ScalarOp::neg: out = -a; break;
    case ScalarOp::abs: out = std::fabs(a); break;
    case ScalarOp::min: out = smallest(a, b); break;
    default: out = largest(a, b); break;
  }
  return Status::ok;
}

template <class T>
bool compare(ScalarOp op, T a, T b) {
  switch (op) {
    case ScalarOp::eq: return a == b;
    case ScalarOp::ne: return a != b;
    case ScalarOp::lt: return a < b;
    case ScalarOp::le: return a <= b;
    case ScalarOp::gt: return a > b;
    default: return a >= b;
  }
}

Status cast_float(DType to, double v, std::uint64_t& out) {
  if (to == DType::f64) {
    out = bits_of(v);
    return Status::ok;
  }
  if (to == DType::boolean) {
    out = v != 0 ? 1 : 0;
    return Status::ok;
  }
  const double t = std::trunc(v);
  if (to == DType::i64) {
    if (!(t >= -0x1p63 && t < 0x1p63)) return Status::cast_range;
    out = bits_of(static_cast<std::int64_t>(t));
  } else {
    if (!(t >= 0 && t < 0x1p64)) return Status::cast_range;
    out = static_cast<std::uint64_t>(t);
  }
  return Status::ok;
}

Status cast(DType from, DType to, bool checked, std::uint64_t bits, std::uint64_t& out) {
  if (from == DType::f64) return cast_float(to, as_f64(bits), out);
  if (to == DType::boolean) {
    out = bits != 0 ? 1 : 0;
  } else if (to == DType::f64) {
    out = bits_of(from == DType::i64 ? static_cast<double>(as_i64(bits)) : static_cast<double>(bits));
  } else {
    out = bits;
    if (checked && from != to && from != DType::boolean && as_i64(bits) < 0) return Status::overflow;
  }
  return Status::ok;
}

// --- elements ---

template <class T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// With 4 bits of exponent there are no infinities.
double f8_value(std::uint8_t x, int exponent_bits) {
  const int fraction_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1, exponent = (x & 0x7f) >> fraction_bits;
  const int fraction = x & ((1 << fraction_bits) - 1);
  const double sign = (x & 0x80) != 0 ? -1.0 : 1.0;
  if (exponent_bits == 4 ? (x & 0x7f) == 0x7f : exponent == 31)
    return exponent_bits == 5 && fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  const int normal = exponent == 0 ? 0 : 1 << fraction_bits;
  return sign * std::ldexp(normal + fraction, (exponent == 0 ? 1 : exponent) - bias - fraction_bits);
}

double f16_value(std::uint16_t h) {
  const double sign = (h & 0x8000) != 0 ? -1 : 1;
  const int exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
  if (exponent == 0x1f) return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25));
}

// In row-major order.
template <class F>
void each(const Elements& e, F&& f) {
  std::array<std::int64_t, max_dims> at{};
  for (std::uint32_t d = 0; d < e.n_dims; ++d)
    if (e.length[d] <= 0) return;
  if (e.n_dims == 0) return f(e.data);
  const std::uint32_t last = e.n_dims - 1;
  const std::byte* row = e.data;
  while (true) {
    for (std::int64_t i = 0; i < e.length[last]; ++i) f(row + i * e.stride[last]);
    std::uint32_t d = last;
    while (d > 0) {
      --d;
      if (++at[d] < e.length[d]) {
        row += e.stride[d];
        break;
      }
      row -= (e.length[d] - 1) * e.stride[d];
      at[d] = 0;
      if (d == 0) return;
    }
    if (last == 0) return;
  }
}

}  // namespace

ScalarStatus compute(ScalarOp op, DType type, DType to, bool checked, const std::uint64_t* x, std::uint64_t& out) noexcept {
  if (op == ScalarOp::where) {
    out = x[0] != 0 ? x[1] : x[2];
    return Status::ok;
  }
  if (op == ScalarOp::cast) return cast(type, to, checked, x[0], out);
  const std::uint64_t second = arity(op) == 2 ? x[1] : 0;
  const bool compares = op >= ScalarOp::eq && op <= ScalarOp::ge;
  if (type == DType::f64) {
    const double a = as_f64(x[0]), b = as_f64(second);
    if (compares) {
      out = compare(op, a, b) ? 1 : 0;
      return Status::ok;
    }
    double v = 0;
    const Status s = floating(op, a, b, v);
    out = bits_of(v);
    return s;
  }
  if (type == DType::i64) {
    if (compares) {
      out = compare(op, as_i64(x[0]), as_i64(second)) ? 1 : 0;
      return Status::ok;
    }
    std::int64_t v = 0;
    const Status s = integer(op, checked, as_i64(x[0]), as_i64(second), v);
    out = bits_of(v);
    return s;
  }
  if (compares) {
    out = compare(op, x[0], second) ? 1 : 0;
    return Status::ok;
  }
  const Status s = integer(op, checked, x[0], second, out);
  if (type == DType::boolean) out &= 1;
  return s;
}

std::uint64_t load_scalar(const std::byte* p, DType dtype) noexcept {
  switch (dtype) {
    case DType::f32: return bits_of(static_cast<double>(load<float>(p)));
    case DType::f16: return bits_of(f16_value(load<std::uint16_t>(p)));
    case DType::bf16: return bits_of(static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(p)) << 16)));
    case DType::i32: return bits_of(std::int64_t{load<std::int32_t>(p)});
    case DType::boolean: return load<std::uint8_t>(p) != 0 ? 1 : 0;
    case DType::i64:
    case DType::u64:
    case DType::f64: return load<std::uint64_t>(p);
    case DType::i8: return bits_of(std::int64_t{load<std::int8_t>(p)});
    case DType::i16: return bits_of(std::int64_t{load<std::int16_t>(p)});
    case DType::u8: return load<std::uint8_t>(p);
    case DType::u16: return load<std::uint16_t>(p);
    case DType::u32: return load<std::uint32_t>(p);
    case DType::f8e4m3: return bits_of(f8_value(load<std::uint8_t>(p), 4));
    case DType::f8e5m2: return bits_of(f8_value(load<std::uint8_t>(p), 5));
  }
  return 0;
}

ScalarStatus reduce(ReadKind kind, const Elements& e, std::uint64_t& out) noexcept {
  const DType type = scalar_of(e.dtype);
  const auto nonzero = [&](std::uint64_t bits) { return type == DType::f64 ? as_f64(bits) != 0 : bits != 0; };
  bool first = true;
  const auto fold = [&](auto&& f) {
    each(e, [&](const std::byte* p) {
      const std::uint64_t v = load_scalar(p, e.dtype);
      out = first ? v : f(out, v);
      first = false;
    });
    return first ? Status::empty : Status::ok;
  };
  switch (kind) {
    case ReadKind::item: out = load_scalar(e.data, e.dtype); return Status::ok;
    case ReadKind::any:
      out = 0;
      each(e, [&](const std::byte* p) { out |= nonzero(load_scalar(p, e.dtype)) ? 1u : 0u; });
      return Status::ok;
    case ReadKind::all:
      out = 1;
      each(e, [&](const std::byte* p) { out &= nonzero(load_scalar(p, e.dtype)) ? 1u : 0u; });
      return Status::ok;
    case ReadKind::sum: {
      out = 0;  // of floats as well
      if (type == DType::f64)
        each(e, [&](const std::byte* p) { out = bits_of(as_f64(out) + as_f64(load_scalar(p, e.dtype))); });
      else
        each(e, [&](const std::byte* p) { out += load_scalar(p, e.dtype); });
      return Status::ok;
    }
    case ReadKind::max:
      if (type == DType::f64) return fold([](std::uint64_t a, std::uint64_t b) { return bits_of(largest(as_f64(a), as_f64(b))); });
      if (type == DType::i64) return fold([](std::uint64_t a, std::uint64_t b) { return as_i64(a) < as_i64(b) ? b : a; });
      return fold([](std::uint64_t a, std::uint64_t b) { return a < b ? b : a; });
    case ReadKind::min:
      if (type == DType::f64) return fold([](std::uint64_t a, std::uint64_t b) { return bits_of(smallest(as_f64(a), as_f64(b))); });
      if (type == DType::i64) return fold([](std::uint64_t a, std::uint64_t b) { return as_i64(b) < as_i64(a) ? b : a; });
      return fold([](std::uint64_t a, std::uint64_t b) { return b < a ? b : a; });
  }
  return Status::ok;
}

namespace {

// magnitude * 2^exponent to `keep` significant bits, ties to even.
double round_bits(std::uint64_t magnitude, int exponent, int keep) {
  const int drop = static_cast<int>(std::bit_width(magnitude)) - keep;
  if (drop <= 0) return std::ldexp(static_cast<double>(magnitude), exponent);
  if (drop > 63) return 0;  // far below half of the last bit
  std::uint64_t q = magnitude >> drop;
  const std::uint64_t rest = magnitude & ((std::uint64_t{1} << drop) - 1), half = std::uint64_t{1} << (drop - 1);
  if (rest > half || (rest == half && (q & 1) != 0)) ++q;
  return std::ldexp(static_cast<double>(q), exponent + drop);
}

// Of the floats of fewer bits than an f64.

}  // namespace

int significand_bits(DType t) noexcept {
  switch (t) {
    case DType::f64: return 53;
    case DType::f32: return 24;
    case DType::f16: return 11;
    case DType::bf16: return 8;
    case DType::f8e4m3: return 4;
    default: return 3;
  }
}

int smallest_exponent(DType t) noexcept {
  switch (t) {
    case DType::f64: return -1022;
    case DType::f16:
    case DType::f8e5m2: return -14;
    case DType::f8e4m3: return -6;
    default: return -126;
  }
}

double largest_of(DType t) noexcept {
  switch (t) {
    case DType::f64: return std::numeric_limits<double>::max();
    case DType::f32: return 0x1.fffffep127;
    case DType::f16: return 65504;
    case DType::bf16: return 0x1.fep127;
    case DType::f8e4m3: return 448;
    default: return 57344;
  }
}

double round_float(double v, DType dtype) noexcept {
  if (v == 0 || !std::isfinite(v) || dtype == DType::f64) return v;
  const int smallest_normal = smallest_exponent(dtype);
  const double limit = largest_of(dtype);
  int exponent = 0;
  const auto magnitude = static_cast<std::uint64_t>(std::ldexp(std::frexp(std::fabs(v), &exponent), 53));
  // Below the smallest normal number there are fewer bits.
  const int keep = significand_bits(dtype) - std::max(0, smallest_normal - (exponent - 1));
  const double rounded = keep < 0 ? 0 : round_bits(magnitude, exponent - 53, keep);
  if (rounded <= limit) return std::copysign(rounded, v);
  return dtype == DType::f8e4m3 ? std::numeric_limits<double>::quiet_NaN() : std::copysign(std::numeric_limits<double>::infinity(), v);
}

namespace {

bool round_integer(bool negative, std::uint64_t magnitude, DType dtype, std::uint64_t& out) {
  const double rounded = round_bits(magnitude, 0, significand_bits(dtype));
  out = bits_of(negative ? -rounded : rounded);
  return rounded <= largest_of(dtype);
}

// Of a value that the type with this many bits of exponent holds exactly: 4 have no infinities, and one NaN.
std::uint8_t f8_bits(double value, int exponent_bits) {
  const int fraction_bits = 7 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const unsigned sign = std::signbit(value) ? 0x80 : 0;
  const double x = std::fabs(value);
  if (std::isnan(x) || (std::isinf(x) && exponent_bits == 4)) return static_cast<std::uint8_t>(sign | (exponent_bits == 4 ? 0x7f : 0x7e));
  if (std::isinf(x)) return static_cast<std::uint8_t>(sign | 0x7c);
  if (x < std::ldexp(1.0, 1 - bias)) return static_cast<std::uint8_t>(sign | static_cast<unsigned>(std::ldexp(x, bias - 1 + fraction_bits)));
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);  // [0.5, 1)
  const auto mantissa = static_cast<unsigned>(std::ldexp(fraction, fraction_bits + 1)) & ((1u << fraction_bits) - 1);
  return static_cast<std::uint8_t>(sign | (static_cast<unsigned>(exponent - 1 + bias) << fraction_bits) | mantissa);
}

// Of a value that f16 holds exactly.
std::uint16_t f16_bits(double value) {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double x = std::fabs(value);
  if (std::isnan(x)) return 0x7e00;
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (x < 0x1p-14) return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(x * 0x1p24));
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);  // [0.5, 1)
  if (exponent > 16) return static_cast<std::uint16_t>(sign | 0x7c00);
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) | (static_cast<int>(fraction * 2048) & 0x3ff));
}

template <class T>
void put(std::byte* p, T v) {
  std::memcpy(p, &v, sizeof v);
}

}  // namespace

void store_scalar(std::uint64_t bits, DType dtype, std::byte* p) noexcept {
  switch (dtype) {
    case DType::f32: return put(p, static_cast<float>(as_f64(bits)));
    case DType::f16: return put(p, f16_bits(as_f64(bits)));
    case DType::bf16: {
      const double v = as_f64(bits);
      return put(p, static_cast<std::uint16_t>(std::isnan(v) ? 0x7fc0 : std::bit_cast<std::uint32_t>(static_cast<float>(v)) >> 16));
    }
    case DType::boolean: return put(p, static_cast<std::uint8_t>(bits != 0));
    case DType::f8e4m3: return put(p, f8_bits(as_f64(bits), 4));
    case DType::f8e5m2: return put(p, f8_bits(as_f64(bits), 5));
    default: std::memcpy(p, &bits, size_of(dtype));  // the low bytes
  }
}

bool fits(std::uint64_t bits, DType dtype) noexcept {
  const DType wide = scalar_of(dtype);
  if (wide == DType::boolean) return bits <= 1;
  const auto unused = static_cast<unsigned>(64 - 8 * size_of(dtype));
  if (wide == DType::u64) return bits << unused >> unused == bits;
  return wide != DType::i64 || as_i64(bits << unused) >> unused == as_i64(bits);
}

bool to_scalar(std::int64_t v, DType dtype, std::uint64_t& out) noexcept {
  if (is_float(dtype)) return round_integer(v < 0, v < 0 ? 0 - bits_of(v) : bits_of(v), dtype, out);
  out = dtype == DType::boolean ? bits_of(std::int64_t{v != 0}) : bits_of(v);
  return fits(out, dtype) && (scalar_of(dtype) != DType::u64 || v >= 0);
}

bool to_scalar(std::uint64_t bits, DType type, DType dtype, std::uint64_t& out) noexcept {
  if (type == DType::f64) {
    out = bits_of(round_float(as_f64(bits), dtype));
    return true;
  }
  if (type != DType::u64 || as_i64(bits) >= 0) return to_scalar(as_i64(bits), dtype, out);
  if (is_float(dtype)) return round_integer(false, bits, dtype, out);
  out = dtype == DType::boolean ? 1 : bits;
  return scalar_of(dtype) != DType::i64 && fits(out, dtype);
}

}  // namespace pto_wsp
