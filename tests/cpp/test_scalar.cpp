// Scalar operations and reads, at the edges of their types.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "check.hpp"
#include "pto_wsp/isa.hpp"
#include "pto_wsp/scalar.hpp"

using namespace pto_wsp;
using Status = ScalarStatus;

namespace {

constexpr std::int64_t low = INT64_MIN, high = INT64_MAX;
constexpr std::uint64_t top = UINT64_MAX;
const double nan_ = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();

template <class T>
constexpr DType type_of() {
  if (std::is_same_v<T, double>) return DType::f64;
  if (std::is_same_v<T, bool>) return DType::boolean;
  return std::is_same_v<T, std::int64_t> ? DType::i64 : DType::u64;
}

template <class T>
std::uint64_t bits(T v) {
  if constexpr (std::is_same_v<T, double>) return std::bit_cast<std::uint64_t>(v);
  else return static_cast<std::uint64_t>(v);
}

// Any NaN is NaN.
bool same(DType type, std::uint64_t a, std::uint64_t b) {
  if (type == DType::f64 && std::isnan(std::bit_cast<double>(a))) return std::isnan(std::bit_cast<double>(b));
  return a == b;
}

template <class T, class R>
void gives(ScalarOp op, std::vector<T> operands, R expected, bool checked = false) {
  std::vector<std::uint64_t> x;
  for (const T v : operands) x.push_back(bits(v));
  std::uint64_t out = 0;
  CHECK(exists(op, type_of<T>()));
  CHECK_EQ(arity(op), operands.size());
  CHECK(compute(op, type_of<T>(), type_of<R>(), checked, x.data(), out) == Status::ok);
  CHECK(same(type_of<R>(), out, bits(expected)));
}

template <class T>
void fails(ScalarOp op, std::vector<T> operands, Status expected, bool checked = false, DType to = type_of<T>()) {
  std::vector<std::uint64_t> x;
  for (const T v : operands) x.push_back(bits(v));
  std::uint64_t out = 0;
  CHECK(compute(op, type_of<T>(), to, checked, x.data(), out) == expected);
}

// Wraps unchecked, fails checked.
template <class T>
void wraps(ScalarOp op, std::vector<T> operands, T expected) {
  gives(op, operands, expected);
  fails(op, operands, Status::overflow, true);
}

using I = std::int64_t;
using U = std::uint64_t;
using D = double;

void integers() {
  for (const bool checked : {false, true}) {
    gives<I>(ScalarOp::add, {high - 1, 1}, high, checked);
    gives<I>(ScalarOp::sub, {low + 1, 1}, low, checked);
    gives<I>(ScalarOp::mul, {low / 2, 2}, low, checked);
    gives<U>(ScalarOp::add, {top - 1, 1}, top, checked);
    gives<U>(ScalarOp::sub, {5, 5}, U{0}, checked);
    gives<U>(ScalarOp::neg, {0}, U{0}, checked);
    gives<U>(ScalarOp::abs, {top}, top, checked);
    gives<I>(ScalarOp::abs, {-7}, I{7}, checked);
    gives<I>(ScalarOp::shl, {-1, 63}, low, checked);
    gives<U>(ScalarOp::shl, {1, 63}, U{1} << 63, checked);
  }
  wraps<I>(ScalarOp::add, {high, 1}, low);
  wraps<I>(ScalarOp::sub, {low, 1}, high);
  wraps<I>(ScalarOp::mul, {high, 2}, -2);
  wraps<I>(ScalarOp::neg, {low}, low);
  wraps<I>(ScalarOp::abs, {low}, low);
  wraps<I>(ScalarOp::floordiv, {low, -1}, low);
  wraps<I>(ScalarOp::shl, {1, 63}, low);
  wraps<I>(ScalarOp::shl, {low, 1}, 0);
  wraps<U>(ScalarOp::add, {top, 1}, 0);
  wraps<U>(ScalarOp::sub, {0, 1}, top);
  wraps<U>(ScalarOp::mul, {U{1} << 63, 2}, 0);
  wraps<U>(ScalarOp::neg, {1}, top);
  wraps<U>(ScalarOp::shl, {3, 63}, U{1} << 63);

  gives<I>(ScalarOp::floordiv, {-7, 2}, I{-4});
  gives<I>(ScalarOp::floordiv, {7, -2}, I{-4});
  gives<I>(ScalarOp::floordiv, {-7, -2}, I{3});
  gives<I>(ScalarOp::mod, {-7, 2}, I{1});
  gives<I>(ScalarOp::mod, {7, -2}, I{-1});
  gives<I>(ScalarOp::mod, {-7, -2}, I{-1});
  gives<I>(ScalarOp::mod, {low, -1}, I{0}, true);
  gives<I>(ScalarOp::mod, {-8, 2}, I{0});
  gives<U>(ScalarOp::floordiv, {top, 2}, top / 2);
  gives<U>(ScalarOp::mod, {top, 10}, U{5});
  for (const ScalarOp op : {ScalarOp::floordiv, ScalarOp::mod}) {
    fails<I>(op, {0, 0}, Status::zero_divisor);
    fails<U>(op, {top, 0}, Status::zero_divisor);
  }

  gives<I>(ScalarOp::shr, {-1, 63}, I{-1});
  gives<I>(ScalarOp::shr, {low, 62}, I{-2});
  gives<U>(ScalarOp::shr, {top, 63}, U{1});
  for (const ScalarOp op : {ScalarOp::shl, ScalarOp::shr}) {
    gives<I>(op, {5, 0}, I{5}, true);
    fails<I>(op, {1, 64}, Status::shift);
    fails<I>(op, {1, -1}, Status::shift);
    fails<U>(op, {1, 64}, Status::shift);
    fails<U>(op, {1, top}, Status::shift);
  }
  gives<I>(ScalarOp::bit_and, {-1, 6}, I{6});
  gives<I>(ScalarOp::bit_or, {-8, 7}, I{-1});
  gives<I>(ScalarOp::bit_xor, {-1, 5}, I{-6});
  gives<I>(ScalarOp::bit_not, {0}, I{-1});
  gives<U>(ScalarOp::bit_not, {0}, top);

  gives<I>(ScalarOp::lt, {low, high}, true);
  gives<U>(ScalarOp::lt, {U{1} << 63, 1}, false);
  gives<U>(ScalarOp::max, {U{1} << 63, 1}, U{1} << 63);
  gives<I>(ScalarOp::max, {low, 1}, I{1});
  gives<I>(ScalarOp::min, {low, 1}, low);
  gives<I>(ScalarOp::eq, {3, 3}, true);
  gives<I>(ScalarOp::ne, {3, 3}, false);
  gives<I>(ScalarOp::ge, {3, 3}, true);
  gives<I>(ScalarOp::gt, {3, 3}, false);
  gives<I>(ScalarOp::le, {3, 2}, false);
}

void bools() {
  for (const bool a : {false, true}) {
    gives<bool>(ScalarOp::bit_not, {a}, !a);
    for (const bool b : {false, true}) {
      gives<bool>(ScalarOp::bit_and, {a, b}, a && b);
      gives<bool>(ScalarOp::bit_or, {a, b}, a || b);
      gives<bool>(ScalarOp::bit_xor, {a, b}, a != b);
      gives<bool>(ScalarOp::eq, {a, b}, a == b);
      gives<bool>(ScalarOp::ne, {a, b}, a != b);
    }
  }
  for (const ScalarOp op : {ScalarOp::add, ScalarOp::lt, ScalarOp::min, ScalarOp::shl, ScalarOp::neg, ScalarOp::div})
    CHECK(!exists(op, DType::boolean));
  CHECK(!exists(ScalarOp::div, DType::i64) && !exists(ScalarOp::bit_and, DType::f64) && !exists(ScalarOp::shl, DType::f64));
}

void floats() {
  gives<D>(ScalarOp::floordiv, {7.5, 2}, 3.0);
  gives<D>(ScalarOp::floordiv, {-7.5, 2}, -4.0);
  gives<D>(ScalarOp::floordiv, {1, 0.1}, 9.0);  // 1 % 0.1 is 0.0999...
  gives<D>(ScalarOp::mod, {1, 0.1}, 0.09999999999999995);
  gives<D>(ScalarOp::mod, {-7.5, 2}, 0.5);
  gives<D>(ScalarOp::mod, {7.5, -2}, -0.5);
  gives<D>(ScalarOp::mod, {4, -2}, -0.0);
  gives<D>(ScalarOp::mod, {-4, 2}, 0.0);
  gives<D>(ScalarOp::floordiv, {0, -2}, -0.0);
  gives<D>(ScalarOp::floordiv, {-0.0, 2}, -0.0);
  gives<D>(ScalarOp::floordiv, {-1, inf}, -1.0);
  gives<D>(ScalarOp::mod, {-1, inf}, inf);
  gives<D>(ScalarOp::mod, {1, inf}, 1.0);
  gives<D>(ScalarOp::floordiv, {inf, 2}, nan_);
  gives<D>(ScalarOp::mod, {inf, 2}, nan_);
  gives<D>(ScalarOp::mod, {1, nan_}, nan_);
  gives<D>(ScalarOp::floordiv, {5e-324, 2}, 0.0);
  gives<D>(ScalarOp::div, {1, 3}, 1.0 / 3);
  gives<D>(ScalarOp::mul, {5e-324, 0.75}, 5e-324);  // subnormal numbers are kept
  for (const ScalarOp op : {ScalarOp::div, ScalarOp::floordiv, ScalarOp::mod})
    for (const double zero : {0.0, -0.0}) fails<D>(op, {nan_, zero}, Status::zero_divisor);
  gives<D>(ScalarOp::add, {1e308, 1e308}, inf, true);  // checked is about integers

  for (const bool first : {false, true}) {
    const double a = first ? 0.0 : -0.0, b = first ? -0.0 : 0.0;
    gives<D>(ScalarOp::max, {a, b}, 0.0);
    gives<D>(ScalarOp::min, {a, b}, -0.0);
  }
  for (const ScalarOp op : {ScalarOp::max, ScalarOp::min}) {
    gives<D>(op, {nan_, 1}, nan_);
    gives<D>(op, {1, nan_}, nan_);
  }
  gives<D>(ScalarOp::eq, {nan_, nan_}, false);
  gives<D>(ScalarOp::ne, {nan_, nan_}, true);
  for (const ScalarOp op : {ScalarOp::lt, ScalarOp::le, ScalarOp::gt, ScalarOp::ge}) gives<D>(op, {nan_, 1}, false);
  gives<D>(ScalarOp::eq, {0.0, -0.0}, true);
  gives<D>(ScalarOp::neg, {0}, -0.0);
  gives<D>(ScalarOp::abs, {-0.0}, 0.0);
}

void casts() {
  gives<D>(ScalarOp::cast, {-1.9}, I{-1});
  gives<D>(ScalarOp::cast, {-0x1p63}, low);
  gives<D>(ScalarOp::cast, {-0.9}, U{0});
  gives<D>(ScalarOp::cast, {0x1p63}, U{1} << 63);
  gives<D>(ScalarOp::cast, {0x1.fffffffffffffp63}, top - 2047);
  for (const double v : {nan_, inf, -inf, 0x1p63, -0x1.0000000000001p63}) fails<D>(ScalarOp::cast, {v}, Status::cast_range, false, DType::i64);
  for (const double v : {nan_, inf, 0x1p64, -1.0}) fails<D>(ScalarOp::cast, {v}, Status::cast_range, false, DType::u64);
  gives<D>(ScalarOp::cast, {nan_}, true);
  gives<D>(ScalarOp::cast, {-0.0}, false);
  gives<D>(ScalarOp::cast, {5e-324}, true);
  gives<D>(ScalarOp::cast, {-0.0}, -0.0);
  gives<I>(ScalarOp::cast, {-1}, top);
  gives<U>(ScalarOp::cast, {top}, I{-1});
  fails<I>(ScalarOp::cast, {-1}, Status::overflow, true, DType::u64);
  fails<U>(ScalarOp::cast, {top}, Status::overflow, true, DType::i64);
  gives<I>(ScalarOp::cast, {-1}, I{-1}, true);
  gives<U>(ScalarOp::cast, {top}, top, true);
  gives<I>(ScalarOp::cast, {high}, 0x1p63);
  gives<I>(ScalarOp::cast, {(I{1} << 53) + 1}, 0x1p53);
  gives<U>(ScalarOp::cast, {top}, 0x1p64);
  gives<I>(ScalarOp::cast, {low}, true);
  gives<bool>(ScalarOp::cast, {true}, 1.0);
  gives<bool>(ScalarOp::cast, {true}, U{1});
  const std::uint64_t x[] = {1, bits(nan_), bits(2.0)};
  std::uint64_t out = 0;
  CHECK(compute(ScalarOp::where, DType::f64, DType::f64, false, x, out) == Status::ok && out == bits(nan_));
}

void arguments_are_rounded_once() {
  std::uint64_t x = 0;
  const auto from = [&](double v, DType to) {
    CHECK(to_scalar(bits(v), DType::f64, to, x));
    return std::bit_cast<double>(x);
  };
  CHECK_EQ(from(0.1, DType::f32), static_cast<double>(0.1f));
  CHECK_EQ(from(1e300, DType::f32), inf);
  CHECK_EQ(from(-1e300, DType::bf16), -inf);
  CHECK_EQ(from(0x1.fffffefp127, DType::f32), 0x1.fffffep127);
  CHECK_EQ(from(0x1.ffffffp127, DType::f32), inf);  // half of the last bit: to even
  CHECK(std::isnan(from(nan_, DType::f16)));
  CHECK(std::signbit(from(-0.0, DType::f16)) && x << 1 == 0);
  CHECK_EQ(from(0.1, DType::f64), 0.1);
  // Through f32 it would become 1 + 2^-10, as the first rounding loses what lies beyond the half.
  CHECK_EQ(from(1 + 0x1p-11 + 0x1p-40, DType::f16), 1 + 0x1p-10);
  CHECK_EQ(from(1 + 0x1p-11, DType::f16), 1.0);
  CHECK_EQ(from(1 + 0x1p-8 + 0x1p-40, DType::bf16), 1 + 0x1p-7);
  CHECK_EQ(from(65519.99, DType::f16), 65504.0);
  CHECK_EQ(from(65520, DType::f16), inf);
  CHECK_EQ(from(0x1p-25, DType::f16), 0.0);
  CHECK_EQ(from(0x1.8p-25, DType::f16), 0x1p-24);
  CHECK_EQ(from(0x1.8p-24, DType::f16), 0x1p-23);
  CHECK_EQ(from(-0x1p-149, DType::f32), -0x1p-149);
  CHECK_EQ(from(0x1.0000000001p-150, DType::f32), 0x1p-149);
  CHECK_EQ(from(5e-324, DType::f32), 0.0);
  CHECK(to_scalar(top, DType::u64, DType::f32, x) && x == bits(0x1p64));
  CHECK(to_scalar(top, DType::u64, DType::u64, x) && x == top);
  CHECK(!to_scalar(top, DType::u64, DType::i64, x) && to_scalar(high, DType::u64, DType::u64, x) && x == high);
  CHECK(!to_scalar(top, DType::u64, DType::i32, x) && !to_scalar(top, DType::u64, DType::f16, x));
  CHECK(to_scalar(top, DType::u64, DType::boolean, x) && x == 1);
  CHECK(to_scalar(U{2147483647}, DType::u64, DType::i32, x) && x == 2147483647);
  CHECK(to_scalar(U{1}, DType::boolean, DType::boolean, x) && x == 1);
}

template <class T>
Elements elements(const std::vector<T>& v, DType dtype) {
  Elements e;
  e.data = reinterpret_cast<const std::byte*>(v.data());
  e.dtype = dtype;
  e.n_dims = 1;
  e.length[0] = static_cast<std::int64_t>(v.size());
  e.stride[0] = sizeof(T);
  return e;
}

std::uint64_t of(ReadKind kind, const Elements& e) {
  std::uint64_t out = 0;
  CHECK(reduce(kind, e, out) == Status::ok);
  return out;
}
double float_of(ReadKind kind, const Elements& e) { return std::bit_cast<double>(of(kind, e)); }

void reads() {
  const std::vector<std::uint16_t> halves{0x3c00, 0xfbff, 0x0001, 0x7c00, 0x8000, 0x7e00};
  const double as_f16[] = {1, -65504, 0x1p-24, inf, -0.0, nan_};
  for (std::size_t i = 0; i < halves.size(); ++i)
    CHECK(same(DType::f64, load_scalar(reinterpret_cast<const std::byte*>(&halves[i]), DType::f16), bits(as_f16[i])));
  const std::uint16_t bf = 0xbf80;
  CHECK_EQ(std::bit_cast<double>(load_scalar(reinterpret_cast<const std::byte*>(&bf), DType::bf16)), -1.0);
  const std::vector<std::uint8_t> odd{0, 2, 0};
  CHECK_EQ(load_scalar(reinterpret_cast<const std::byte*>(&odd[1]), DType::boolean), 1);
  CHECK(of(ReadKind::any, elements(odd, DType::boolean)) == 1 && of(ReadKind::all, elements(odd, DType::boolean)) == 0);

  const std::vector<std::int32_t> ints{5, -3, 7};
  const Elements e = elements(ints, DType::i32);
  CHECK_EQ(static_cast<I>(of(ReadKind::sum, e)), 9);
  CHECK_EQ(static_cast<I>(of(ReadKind::min, e)), -3);
  CHECK_EQ(static_cast<I>(of(ReadKind::max, e)), 7);
  CHECK_EQ(static_cast<I>(of(ReadKind::item, e)), 5);
  CHECK(of(ReadKind::all, e) == 1);
  const std::vector<std::int64_t> edges{high, 1};
  CHECK_EQ(static_cast<I>(of(ReadKind::sum, elements(edges, DType::i64))), low);
  const std::vector<std::uint64_t> large{top, 1};
  CHECK_EQ(of(ReadKind::max, elements(large, DType::u64)), top);
  CHECK_EQ(of(ReadKind::min, elements(large, DType::u64)), 1);

  // In f64, in order: 1e16 + 1 + ... would be exact only with more bits.
  const std::vector<double> f{1e16, 1, 1, -1e16};
  CHECK_EQ(float_of(ReadKind::sum, elements(f, DType::f64)), ((1e16 + 1) + 1) - 1e16);
  const std::vector<float> zeros{-0.0f, 0.0f};
  CHECK(!std::signbit(float_of(ReadKind::max, elements(zeros, DType::f32))));
  CHECK(std::signbit(float_of(ReadKind::min, elements(zeros, DType::f32))));
  const std::vector<float> with_nan{1, std::numeric_limits<float>::quiet_NaN(), 3};
  for (const ReadKind k : {ReadKind::sum, ReadKind::max, ReadKind::min}) CHECK(std::isnan(float_of(k, elements(with_nan, DType::f32))));
  CHECK(of(ReadKind::any, elements(with_nan, DType::f32)) == 1);

  // 2 x 3 of a 4 x 5 matrix, transposed, backwards.
  std::vector<std::int32_t> m(20);
  for (std::size_t i = 0; i < m.size(); ++i) m[i] = static_cast<std::int32_t>(i);
  Elements box;
  box.dtype = DType::i32;
  box.data = reinterpret_cast<const std::byte*>(&m[13]);
  box.n_dims = 2;
  box.length = {3, 2};
  box.stride = {-20, -4};
  CHECK_EQ(of(ReadKind::sum, box), 13 + 12 + 8 + 7 + 3 + 2);
  box.length = {3, 0};
  CHECK_EQ(of(ReadKind::sum, box), 0);
  CHECK_EQ(of(ReadKind::all, box), 1);
  CHECK_EQ(of(ReadKind::any, box), 0);
  std::uint64_t out = 0;
  CHECK(reduce(ReadKind::max, box, out) == Status::empty && reduce(ReadKind::min, box, out) == Status::empty);
}

}  // namespace

int main() {
  const FpEnv environment;
  integers();
  bools();
  floats();
  casts();
  arguments_are_rounded_once();
  reads();
  return check::result();
}
