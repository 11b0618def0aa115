#include "pto_wsp/interval.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

// Far above 2^64 and far below the end of Wide: two of them still add without overflow.
constexpr Wide far = Wide{1} << 120;

Wide clamp(Wide v) { return std::clamp(v, -far, far); }

// A product of two 64-bit numbers fits into Wide; clamping keeps sums of products inside as well.
Wide times(Wide a, Wide b) {
  Wide out;
  if (__builtin_mul_overflow(a, b, &out)) return (a < 0) == (b < 0) ? far : -far;
  return clamp(out);
}

// A bound that was cut off stays so: what is added to it later must not bring it back.
void add_term(Interval& sum, Wide coef, const Range& r) {
  const Wide at_lo = times(coef, r.lo), at_hi = times(coef, r.hi);
  const Wide least = std::min(at_lo, at_hi), most = std::max(at_lo, at_hi);
  sum.lo = sum.lo == -far || least == -far ? -far : clamp(sum.lo + least);
  sum.hi = sum.hi == far || most == far ? far : clamp(sum.hi + most);
}

Interval hull(std::initializer_list<Wide> values) {
  return {std::min(values), std::max(values)};
}

Wide floor_div(Wide a, Wide b) {
  const Wide q = a / b;
  return (a % b != 0 && (a % b < 0) != (b < 0)) ? q - 1 : q;
}

// The divisors 1 and -1 give the extremes, then the ends of the interval.
Interval divided(Interval a, Interval b) {
  Interval out{far, -far};
  const auto with = [&](Wide d) {
    if (d == 0 || d < b.lo || d > b.hi) return;
    for (const Wide n : {a.lo, a.hi}) {
      out.lo = std::min(out.lo, floor_div(n, d));
      out.hi = std::max(out.hi, floor_div(n, d));
    }
  };
  for (const Wide d : {b.lo, b.hi, Wide{1}, Wide{-1}}) with(d);
  return out.lo > out.hi ? Interval{0, 0} : out;
}

}  // namespace

Interval interval_of(const Affine& a, std::span<const Range> regs) {
  Interval sum = Interval::point(a.constant);
  for (const Term& t : a.terms) add_term(sum, t.coef, regs[t.reg]);
  return sum;
}

Interval interval_of_difference(const Affine& a, const Affine& b, std::span<const Range> regs) {
  Interval sum{Wide{a.constant} - b.constant, Wide{a.constant} - b.constant};
  const auto coef_in = [](const Affine& f, std::uint32_t reg) -> Wide {
    for (const Term& t : f.terms)
      if (t.reg == reg) return t.coef;
    return 0;
  };
  for (const Term& t : a.terms) add_term(sum, Wide{t.coef} - coef_in(b, t.reg), regs[t.reg]);
  for (const Term& t : b.terms)
    if (coef_in(a, t.reg) == 0) add_term(sum, -Wide{t.coef}, regs[t.reg]);
  return sum;
}

bool is_exact(const Affine& a, std::span<const Range> regs) {
  return std::ranges::all_of(a.terms, [&](const Term& t) { return regs[t.reg].exact; });
}

Interval interval_of(EvalOp op, Interval a, Interval b) {
  switch (op) {
    case EvalOp::mul:
      return hull({times(a.lo, b.lo), times(a.lo, b.hi), times(a.hi, b.lo), times(a.hi, b.hi)});
    case EvalOp::floordiv:
      return divided(a, b);
    case EvalOp::mod:
      return {std::min(b.lo < 0 ? b.lo + 1 : Wide{0}, Wide{0}), std::max(b.hi > 0 ? b.hi - 1 : Wide{0}, Wide{0})};
    case EvalOp::min:
      return {std::min(a.lo, b.lo), std::min(a.hi, b.hi)};
    case EvalOp::max:
      return {std::max(a.lo, b.lo), std::max(a.hi, b.hi)};
  }
  return {-far, far};
}

bool evaluate(const Affine& a, std::span<const std::int64_t> regs, std::int64_t& out) {
  Wide sum = a.constant;
  for (const Term& t : a.terms) {
    // A sum beyond 64 bits may still come back in; only the final value counts.
    if (__builtin_add_overflow(sum, Wide{t.coef} * regs[t.reg], &sum)) return false;
  }
  if (sum < INT64_MIN || sum > INT64_MAX) return false;
  out = static_cast<std::int64_t>(sum);
  return true;
}

EvalStatus evaluate(EvalOp op, std::int64_t a, std::int64_t b, std::int64_t& out) {
  Wide value = 0;
  switch (op) {
    case EvalOp::mul:
      value = Wide{a} * b;
      break;
    case EvalOp::floordiv:
      if (b == 0) return EvalStatus::zero_divisor;
      value = floor_div(a, b);
      break;
    case EvalOp::mod:
      if (b == 0) return EvalStatus::zero_divisor;
      value = a - floor_div(a, b) * b;
      break;
    case EvalOp::min:
      value = std::min(a, b);
      break;
    case EvalOp::max:
      value = std::max(a, b);
      break;
  }
  if (value < INT64_MIN || value > INT64_MAX) return EvalStatus::overflow;
  out = static_cast<std::int64_t>(value);
  return EvalStatus::ok;
}

}  // namespace pto_wsp
