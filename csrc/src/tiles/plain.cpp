// Element types and operations that have no vectors of their own: plain loops, one form for all levels.
//
// Integers wrap. A quotient by 0 is -1 (all ones), a remainder by 0 the dividend, and the smallest number by -1 itself, as in XLA.
// A shift by less than 0 or by as many bits as there are or more leaves nothing but the sign of an arithmetic shift to the right.
// f64 is computed in f64; reductions have the orders of tile_ops.hpp. fmod and rem of f16, bf16, f32 are exact but for the one
// rounding of rem. Functions of f64 are those of the C library; what has no vectors in f16, bf16 and f32 is computed in f64 and rounded
// once.

#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>

#include "levels.hpp"
#include "plain.hpp"

namespace pto_wsp::tiles {
namespace {

template <class E> constexpr int width = 8 * static_cast<int>(sizeof(E));

struct Neg {
  template <std::integral E> static E of(E x) { return wrap<E>(0 - bits(x)); }
  static double of(double x) { return -x; }
};
struct Abs {
  template <std::integral E> static E of(E x) { return x < 0 ? wrap<E>(0 - bits(x)) : x; }
  static double of(double x) { return std::fabs(x); }
};
struct BitNot {
  template <std::integral E> static E of(E x) { return wrap<E>(~bits(x)); }
};
struct Sqrt { static double of(double x) { return std::sqrt(x); } };
struct Reciprocal { static double of(double x) { return 1 / x; } };
struct Floor { static double of(double x) { return std::floor(x); } };
struct Ceil { static double of(double x) { return std::ceil(x); } };
struct Rint { static double of(double x) { return std::nearbyint(x); } };
struct Trunc { static double of(double x) { return std::trunc(x); } };
struct Round { static double of(double x) { return std::round(x); } };
struct Exp { static double of(double x) { return std::exp(x); } };
struct Exp2 { static double of(double x) { return std::exp2(x); } };
struct Expm1 { static double of(double x) { return std::expm1(x); } };
struct Log { static double of(double x) { return std::log(x); } };
struct Log2 { static double of(double x) { return std::log2(x); } };
struct Log1p { static double of(double x) { return std::log1p(x); } };
struct Rsqrt { static double of(double x) { return 1 / std::sqrt(x); } };
struct Tanh { static double of(double x) { return std::tanh(x); } };
struct Erf { static double of(double x) { return std::erf(x); } };
struct Sin { static double of(double x) { return std::sin(x); } };
struct Cos { static double of(double x) { return std::cos(x); } };
struct Pow { static double of(double x, double y) { return std::pow(x, y); } };

struct Add {
  template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) + bits(b)); }
  static double of(double a, double b) { return a + b; }
};
struct Sub {
  template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) - bits(b)); }
  static double of(double a, double b) { return a - b; }
};
struct Mul {
  template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) * bits(b)); }
  static double of(double a, double b) { return a * b; }
};
template <std::integral E> bool overflows(E a, E b) { return std::is_signed_v<E> && a == std::numeric_limits<E>::min() && b == static_cast<E>(-1); }
struct Div {
  template <std::integral E> static E of(E a, E b) { return b == 0 ? static_cast<E>(-1) : overflows(a, b) ? a : static_cast<E>(a / b); }
  static double of(double a, double b) { return a / b; }
};
struct Fmod {
  template <std::integral E> static E of(E a, E b) { return b == 0 ? a : overflows(a, b) ? E{0} : static_cast<E>(a % b); }
  static double of(double a, double b) { return std::fmod(a, b); }
};
struct Rem {
  template <std::integral E> static E of(E a, E b) {
    const E r = Fmod::of(a, b);
    return b != 0 && r != 0 && (r < 0) != (b < 0) ? static_cast<E>(r + b) : r;
  }
  static double of(double a, double b) {
    const double r = std::fmod(a, b);
    if (r == 0) return std::copysign(r, b);
    return std::isfinite(r) && (r < 0) != (b < 0) ? r + b : r;
  }
};
struct FloorDiv {
  template <std::integral E> static E of(E a, E b) {
    const E q = Div::of(a, b), r = Fmod::of(a, b);
    return b != 0 && r != 0 && (r < 0) != (b < 0) ? static_cast<E>(q - 1) : q;
  }
};
struct Maximum {
  template <std::integral E> static E of(E a, E b) { return a < b ? b : a; }
  static double of(double a, double b) {
    if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
    return a == b ? (std::signbit(a) ? b : a) : a < b ? b : a;
  }
};
struct Minimum {
  template <std::integral E> static E of(E a, E b) { return b < a ? b : a; }
  static double of(double a, double b) { return -Maximum::of(-a, -b); }
};
struct BitAnd { template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) & bits(b)); } };
struct BitOr { template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) | bits(b)); } };
struct BitXor { template <std::integral E> static E of(E a, E b) { return wrap<E>(bits(a) ^ bits(b)); } };
template <std::integral E> bool in_width(E n) {
  if constexpr (std::is_signed_v<E>) return n >= 0 && n < width<E>;
  else return n < static_cast<E>(width<E>);
}
struct Shl {
  template <std::integral E> static E of(E a, E n) { return in_width(n) ? wrap<E>(bits(a) << n) : E{0}; }
};
struct Shr {
  template <std::integral E> static E of(E a, E n) { return in_width(n) ? static_cast<E>(a >> n) : a < 0 ? static_cast<E>(-1) : E{0}; }
};
struct Eq { template <class E> static bool of(E a, E b) { return a == b; } };
struct Ne { template <class E> static bool of(E a, E b) { return a != b; } };
struct Lt { template <class E> static bool of(E a, E b) { return a < b; } };
struct Le { template <class E> static bool of(E a, E b) { return a <= b; } };
struct Gt { template <class E> static bool of(E a, E b) { return a > b; } };
struct Ge { template <class E> static bool of(E a, E b) { return a >= b; } };

// f64, in the orders of tile_ops.hpp.
void matmul(const OpArgs& a) {
  const bool ta = (a.imm & 1) != 0, tb = (a.imm & 2) != 0, accumulates = (a.imm & 4) != 0, dots = tb && !ta;
  constexpr std::ptrdiff_t size = sizeof(double);
  const std::ptrdiff_t a_down = ta ? size : a.src_rs[0], a_right = ta ? a.src_rs[0] : size;
  const std::ptrdiff_t b_down = tb ? size : a.src_rs[1], b_right = tb ? a.src_rs[1] : size;
  for (std::int32_t i = 0; i < a.rows; ++i)
    for (std::int32_t j = 0; j < a.cols; ++j) {
      const std::byte *x = a.src[0] + i * a_down, *y = a.src[1] + j * b_right;
      const double start = accumulates ? get<double>(a.src[2] + i * a.src_rs[2] + j * size) : 0;
      double sum = start;
      if (dots) {
        double acc[16] = {};
        for (std::int32_t k = 0; k < a.inner; ++k, x += a_right, y += b_down) acc[k % 16] = std::fma(get<double>(x), get<double>(y), acc[k % 16]);
        for (int half = 8; half > 0; half /= 2)
          for (int n = 0; n < half; ++n) acc[n] += acc[n + half];
        sum = accumulates ? acc[0] + start : acc[0];
      } else {
        for (std::int32_t k = 0; k < a.inner; ++k, x += a_right, y += b_down) sum = std::fma(get<double>(x), get<double>(y), sum);
      }
      put<double>(a.dst + i * a.dst_rs + j * size, sum);
    }
}

template <class E> void select(const OpArgs& a) {
  const std::ptrdiff_t mask = (a.bcast & 1) != 0 ? 0 : 1, next1 = step<E>(a, 1), next2 = step<E>(a, 2);
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte *m = a.src[0] + r * a.src_rs[0], *x = a.src[1] + r * a.src_rs[1], *y = a.src[2] + r * a.src_rs[2];
    std::byte* d = a.dst + r * a.dst_rs;
    for (std::int32_t c = 0; c < a.cols; ++c, d += sizeof(E), m += mask, x += next1, y += next2) put<E>(d, *m != std::byte{0} ? get<E>(x) : get<E>(y));
  }
}

void fused(const OpArgs& a) {
  const std::ptrdiff_t n0 = step<double>(a, 0), n1 = step<double>(a, 1), n2 = step<double>(a, 2);
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c)
      put<double>(a.dst + r * a.dst_rs + 8 * std::ptrdiff_t{c},
                  std::fma(get<double>(a.src[0] + r * a.src_rs[0] + c * n0), get<double>(a.src[1] + r * a.src_rs[1] + c * n1),
                           get<double>(a.src[2] + r * a.src_rs[2] + c * n2)));
}

template <class E> struct Begin {
  static E of(Add) { return E{0}; }
  static E of(Mul) { return E{1}; }
  static E of(Maximum) {
    if constexpr (std::is_same_v<E, double>) return -std::numeric_limits<double>::infinity();
    else return std::numeric_limits<E>::min();
  }
  static E of(Minimum) {
    if constexpr (std::is_same_v<E, double>) return std::numeric_limits<double>::infinity();
    else return std::numeric_limits<E>::max();
  }
};

// Sixteen accumulators, element j into j mod 16; then i with i + 8, + 4, + 2, + 1.
template <class E, class Fn> void reduce_rows(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r) {
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    E acc[16];
    for (E& x : acc) x = Begin<E>::of(Fn{});
    for (std::int32_t j = 0; j < a.inner; ++j) acc[j % 16] = Fn::of(acc[j % 16], get<E>(s + j * static_cast<std::ptrdiff_t>(sizeof(E))));
    for (int half = 8; half > 0; half /= 2)
      for (int i = 0; i < half; ++i) acc[i] = Fn::of(acc[i], acc[i + half]);
    put<E>(a.dst + r * a.dst_rs, acc[0]);
  }
}

// Four accumulators, row i into i mod 4; then (0 + 2) + (1 + 3).
template <class E, class Fn> void reduce_cols(const OpArgs& a) {
  for (std::int32_t c = 0; c < a.cols; ++c) {
    const std::byte* s = a.src[0] + c * static_cast<std::ptrdiff_t>(sizeof(E));
    E acc[4];
    for (E& x : acc) x = Begin<E>::of(Fn{});
    for (std::int32_t i = 0; i < a.inner; ++i) acc[i % 4] = Fn::of(acc[i % 4], get<E>(s + i * a.src_rs[0]));
    put<E>(a.dst + c * static_cast<std::ptrdiff_t>(sizeof(E)), Fn::of(Fn::of(acc[0], acc[2]), Fn::of(acc[1], acc[3])));
  }
}

template <class E> void cumsum(const OpArgs& a) {
  const auto size = static_cast<std::ptrdiff_t>(sizeof(E));
  const std::int32_t chains = a.imm == 1 ? a.rows : a.cols, length = a.imm == 1 ? a.cols : a.rows;
  const std::ptrdiff_t src_chain = a.imm == 1 ? a.src_rs[0] : size, src_next = a.imm == 1 ? size : a.src_rs[0];
  const std::ptrdiff_t dst_chain = a.imm == 1 ? a.dst_rs : size, dst_next = a.imm == 1 ? size : a.dst_rs;
  for (std::int32_t k = 0; k < chains; ++k) {
    E sum{0};
    for (std::int32_t i = 0; i < length; ++i) {
      sum = Add::of(sum, get<E>(a.src[0] + k * src_chain + i * src_next));
      put<E>(a.dst + k * dst_chain + i * dst_next, sum);
    }
  }
}

void count(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c) put<double>(a.dst + r * a.dst_rs + 8 * std::ptrdiff_t{c}, a.inner);
}

template <class E> void iota(const OpArgs& a) {
  for (std::int32_t r = 0; r < a.rows; ++r)
    for (std::int32_t c = 0; c < a.cols; ++c)
      put<E>(a.dst + r * a.dst_rs + c * static_cast<std::ptrdiff_t>(sizeof(E)), static_cast<E>(a.imm == 0 ? a.row0 + r : c));
}

// What integers and f64 have in common.
template <class E> OpFn number_of(Op op, DType src, DType dst) {
  if (dst == DType::boolean) {
    switch (op) {
      case Op::eq: return map2<E, bool, Eq>;
      case Op::ne: return map2<E, bool, Ne>;
      case Op::lt: return map2<E, bool, Lt>;
      case Op::le: return map2<E, bool, Le>;
      case Op::gt: return map2<E, bool, Gt>;
      case Op::ge: return map2<E, bool, Ge>;
      default: return nullptr;
    }
  }
  if (src != dst) return nullptr;
  switch (op) {
    case Op::neg: return map1<E, Neg>;
    case Op::abs: return map1<E, Abs>;
    case Op::add: return map2<E, E, Add>;
    case Op::sub: return map2<E, E, Sub>;
    case Op::mul: return map2<E, E, Mul>;
    case Op::div: return map2<E, E, Div>;
    case Op::fmod: return map2<E, E, Fmod>;
    case Op::rem: return map2<E, E, Rem>;
    case Op::maximum: return map2<E, E, Maximum>;
    case Op::minimum: return map2<E, E, Minimum>;
    case Op::where: return select<E>;
    case Op::rowsum: return reduce_rows<E, Add>;
    case Op::rowprod: return reduce_rows<E, Mul>;
    case Op::rowmax: return reduce_rows<E, Maximum>;
    case Op::rowmin: return reduce_rows<E, Minimum>;
    case Op::colsum: return reduce_cols<E, Add>;
    case Op::colprod: return reduce_cols<E, Mul>;
    case Op::colmax: return reduce_cols<E, Maximum>;
    case Op::colmin: return reduce_cols<E, Minimum>;
    case Op::cumsum: return cumsum<E>;
    default: return nullptr;
  }
}

template <class E> OpFn integer_of(Op op, DType src, DType dst) {
  if (const OpFn shared = number_of<E>(op, src, dst)) return shared;
  if (src != dst) return nullptr;
  switch (op) {
    case Op::bit_not: return map1<E, BitNot>;
    case Op::floordiv: return map2<E, E, FloorDiv>;
    case Op::bit_and: return map2<E, E, BitAnd>;
    case Op::bit_or: return map2<E, E, BitOr>;
    case Op::bit_xor: return map2<E, E, BitXor>;
    case Op::shl: return map2<E, E, Shl>;
    case Op::shr: return map2<E, E, Shr>;
    case Op::iota: return iota<E>;
    default: return nullptr;
  }
}

OpFn f64_of(Op op, DType src, DType dst) {
  using E = double;
  if (const OpFn shared = number_of<E>(op, src, dst)) return shared;
  if (src != dst) return nullptr;
  switch (op) {
    case Op::sqrt: return map1<E, Sqrt>;
    case Op::reciprocal: return map1<E, Reciprocal>;
    case Op::floor: return map1<E, Floor>;
    case Op::ceil: return map1<E, Ceil>;
    case Op::rint: return map1<E, Rint>;
    case Op::trunc: return map1<E, Trunc>;
    case Op::round: return map1<E, Round>;
    case Op::exp: return map1<E, Exp>;
    case Op::exp2: return map1<E, Exp2>;
    case Op::expm1: return map1<E, Expm1>;
    case Op::log: return map1<E, Log>;
    case Op::log2: return map1<E, Log2>;
    case Op::log1p: return map1<E, Log1p>;
    case Op::rsqrt: return map1<E, Rsqrt>;
    case Op::tanh: return map1<E, Tanh>;
    case Op::erf: return map1<E, Erf>;
    case Op::sin: return map1<E, Sin>;
    case Op::cos: return map1<E, Cos>;
    case Op::pow: return map2<E, E, Pow>;
    case Op::fma: return fused;
    case Op::count_cols:
    case Op::count_rows: return count;
    default: return nullptr;
  }
}

// Of i32 what has no vectors.
OpFn i32_of(Op op, DType src, DType dst) {
  switch (op) {
    case Op::bit_not: case Op::div: case Op::fmod: case Op::rem: case Op::floordiv: case Op::bit_and: case Op::bit_or: case Op::bit_xor:
    case Op::shl: case Op::shr:
      return integer_of<std::int32_t>(op, src, dst);
    default: return nullptr;
  }
}

template <DType t> OpFn narrow_float_of(Op op) {
  switch (op) {
    case Op::round: return widened1<t, Round>;
    case Op::expm1: return widened1<t, Expm1>;
    case Op::log1p: return widened1<t, Log1p>;
    case Op::pow: return widened2<t, Pow>;
    case Op::fmod: return widened2<t, Fmod>;
    case Op::rem: return widened2<t, Rem>;
    default: return nullptr;
  }
}

}  // namespace

OpFn find_plain(Op op, DType src, DType dst) noexcept {
  if (op == Op::matmul) return src == DType::f64 && dst == DType::f64 ? matmul : nullptr;
  switch (src) {
    case DType::i8: return integer_of<std::int8_t>(op, src, dst);
    case DType::i16: return integer_of<std::int16_t>(op, src, dst);
    case DType::i32: return i32_of(op, src, dst);
    case DType::i64: return integer_of<std::int64_t>(op, src, dst);
    case DType::u8: return integer_of<std::uint8_t>(op, src, dst);
    case DType::u16: return integer_of<std::uint16_t>(op, src, dst);
    case DType::u32: return integer_of<std::uint32_t>(op, src, dst);
    case DType::u64: return integer_of<std::uint64_t>(op, src, dst);
    case DType::f64: return f64_of(op, src, dst);
    case DType::f32: return src == dst ? narrow_float_of<DType::f32>(op) : nullptr;
    case DType::f16: return src == dst ? narrow_float_of<DType::f16>(op) : nullptr;
    case DType::bf16: return src == dst ? narrow_float_of<DType::bf16>(op) : nullptr;
    case DType::boolean: return op == Op::logical_xor && src == dst ? map2<bool, bool, Ne> : nullptr;
    case DType::f8e4m3:
    case DType::f8e5m2: return nullptr;
  }
  return nullptr;
}

}  // namespace pto_wsp::tiles
