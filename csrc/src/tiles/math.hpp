#pragma once
// Elementary functions on sixteen f32 lanes, written over the vocabulary of simd_portable.hpp alone, so that every level gives
// the same bits. Polynomials: minimax fits (weighted least squares with Lawson's reweighting, coefficients rounded to f32 one
// after the other and the rest fitted again). Errors: see tile_ops.hpp.

#include "trig_reduce.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

PTO_WSP_INLINE F magnitude(F x) { return from_bits(bit_and(bits(x), splat(INT32_MAX))); }
PTO_WSP_INLINE F negate(F x) { return from_bits(bit_xor(bits(x), splat(INT32_MIN))); }
PTO_WSP_INLINE I sign_of(F x) { return bit_and(bits(x), splat(INT32_MIN)); }
PTO_WSP_INLINE F with_sign(F x, I sign) { return from_bits(bit_xor(bits(x), sign)); }
PTO_WSP_INLINE F quiet_nan() { return from_bits(splat(0x7fc00000)); }

// c[0] + c[1] x + ..., by Horner's rule.
template <int n> PTO_WSP_INLINE F polynomial(F x, const float (&c)[n]) {
  F r = splat(c[n - 1]);
  for (int i = n - 2; i >= 0; --i) r = fma(r, x, splat(c[i]));
  return r;
}

// 2^n for n in [-126, 127].
PTO_WSP_INLINE F power_of_two(I n) { return from_bits(shl<23>(add(n, splat(127)))); }

// 2^n e^r for |r| <= ln2 / 2 and whole n. The scaling is split in two exact or final multiplications: subnormal results round once.
PTO_WSP_INLINE F scaled_exp(F r, F n) {
  static constexpr float c[] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558aep-5f, 0x1.123980p-7f, 0x1.6a4f28p-10f};
  const F y = add(fma(mul(r, r), polynomial(r, c), r), splat(1.0f));
  const I whole = to_int(select(unordered(n, n), splat(0.0f), n));
  const I half = sar<1>(whole);
  return mul(mul(y, power_of_two(half)), power_of_two(sub(whole, half)));
}

// x = n ln2 + r, e^x = 2^n e^r.
PTO_WSP_MATH F exp(F x) {
  x = select(lt(x, splat(-105.0f)), splat(-105.0f), x);  // NaN compares false and stays
  x = select(lt(splat(90.0f), x), splat(90.0f), x);
  const F n = rint(mul(x, splat(0x1.715476p+0f)));
  const F r = fma(n, splat(0x1.05c610p-29f), fma(n, splat(-0x1.62e430p-1f), x));
  return scaled_exp(r, n);
}

// x = n + r, 2^x = 2^n e^(r ln2), with ln2 in two parts.
PTO_WSP_MATH F exp2(F x) {
  x = select(lt(x, splat(-151.0f)), splat(-151.0f), x);  // NaN compares false and stays
  x = select(lt(splat(129.0f), x), splat(129.0f), x);
  const F n = rint(x);
  const F r = sub(x, n);
  return scaled_exp(fma(r, splat(-0x1.05c610p-29f), mul(r, splat(0x1.62e430p-1f))), n);
}

// x = 2^e (1 + f), 1 + f in [sqrt(1/2), sqrt(2)).
struct Split {
  F exponent, fraction;
};
PTO_WSP_INLINE Split split(F x) {
  const M small = lt(x, splat(0x1p-126f));
  const F scaled = select(small, mul(x, splat(0x1p25f)), x);
  // Subtracting the bits of sqrt(1/2) makes the exponent field the one wanted.
  const I offset = sub(bits(scaled), splat(0x3f3504f3));
  const I mantissa = add(bit_and(offset, splat(0x7fffff)), splat(0x3f3504f3));
  return {to_float(sub(sar<23>(offset), select(small, splat(25), splat(0)))), sub(from_bits(mantissa), splat(1.0f))};
}
// f^3 P(f) of log(1 + f) = f - f^2/2 + f^3 P(f).
PTO_WSP_INLINE F log_tail(F f) {
  static constexpr float c[] = {0x1.555548p-2f,  -0x1.000006p-2f, 0x1.99a476p-3f,  -0x1.555c46p-3f, 0x1.233ba8p-3f,
                                -0x1.fc2886p-4f, 0x1.e6bf3ap-4f,  -0x1.de02bep-4f, 0x1.147610p-4f};
  return mul(mul(mul(f, f), f), polynomial(f, c));
}
// A logarithm of x, which is `r` where x is positive and finite.
PTO_WSP_INLINE F log_of(F x, F r) {
  r = select(lt(x, splat(__builtin_inff())), r, x);  // +inf and NaN
  r = select(eq(x, splat(0.0f)), splat(-__builtin_inff()), r);
  return select(lt(x, splat(0.0f)), quiet_nan(), r);
}

// log x = e ln2 + log(1 + f).
PTO_WSP_MATH F log(F x) {
  const Split s = split(x);
  F r = fma(s.exponent, splat(0x1.7f7d1cp-20f), log_tail(s.fraction));
  r = fma(splat(-0.5f), mul(s.fraction, s.fraction), r);
  r = add(s.fraction, r);
  return log_of(x, fma(s.exponent, splat(0x1.62e4p-1f), r));
}

// log2 x = e + log(1 + f) / ln2, with log(1 + f) and 1 / ln2 in two parts.
PTO_WSP_MATH F log2(F x) {
  const Split s = split(x);
  const F f = s.fraction, half_square = mul(splat(0.5f), mul(f, f));
  const F rest = log_tail(f);
  const F high = from_bits(bit_and(bits(sub(f, half_square)), splat(-0x1000)));
  const F low = add(sub(sub(f, high), half_square), rest);
  const F r = fma(high, splat(0x1.1d94aep-14f), mul(low, splat(0x1.715476p+0f)));
  return log_of(x, add(fma(high, splat(0x1.715p+0f), r), s.exponent));
}

PTO_WSP_MATH F rsqrt(F x) { return div(splat(1.0f), sqrt(x)); }
PTO_WSP_MATH F reciprocal(F x) { return div(splat(1.0f), x); }

// Odd polynomial below 0.625; above, 1 - 2 / (e^2|x| + 1).
PTO_WSP_MATH F tanh(F x) {
  static constexpr float c[] = {-0x1.555532p-2f, 0x1.1106fcp-3f, -0x1.b83738p-5f, 0x1.5207b8p-6f, -0x1.75619ap-8f};
  const F t = magnitude(x);
  const F t2 = mul(t, t);
  const F near = fma(mul(t2, t), polynomial(t2, c), t);
  const F far = sub(splat(1.0f), div(splat(2.0f), add(exp(add(t, t)), splat(1.0f))));
  return with_sign(select(lt(t, splat(0.625f)), near, far), sign_of(x));
}

// x + x P(x^2) up to 1; above, 1 - e^Q(|x|) with Q a fit of log erfc, which is below half a unit of 1 from 4 on.
PTO_WSP_MATH F erf(F x) {
  static constexpr float p[] = {0x1.06eba8p-3f, -0x1.81273ep-2f, 0x1.ce2ce6p-4f, -0x1.b7f71ap-6f,
                                0x1.53f224p-8f, -0x1.a3515ep-11f, 0x1.4771fcp-14f};
  static constexpr float q[] = {0x1.8b3fe2p-13f, -0x1.212c2ep+0f, -0x1.4434e8p-1f, -0x1.bc193ep-4f,
                                0x1.9d0d4cp-6f,  -0x1.139bbcp-8f, 0x1.cef5cep-12f, -0x1.6c1822p-16f};
  const F t = magnitude(x);
  const F near = fma(polynomial(mul(t, t), p), t, t);
  const F bounded = select(lt(splat(3.95f), t), splat(3.95f), t);
  const F far = sub(splat(1.0f), exp(polynomial(bounded, q)));
  return with_sign(select(lt(t, splat(1.0f)), near, far), sign_of(x));
}

struct Reduced {
  F rest;
  I quadrant;
};

// Lanes of at least `limit` one by one; infinities and NaN give NaN.
[[gnu::noinline]] inline Reduced reduce_large_lanes(F x, Reduced so_far, M large) {
  alignas(64) float rest[16];
  alignas(64) std::int32_t quadrant[16];
  alignas(64) float input[16];
  store_f32(reinterpret_cast<std::byte*>(rest), so_far.rest);
  store_i32(reinterpret_cast<std::byte*>(quadrant), so_far.quadrant);
  store_f32(reinterpret_cast<std::byte*>(input), x);
  for (int i = 0; i < 16; ++i) {
    if (!lane(large, i)) continue;
    if (input[i] < __builtin_inff()) {
      const Turn turn = reduce_huge(input[i]);
      rest[i] = turn.rest;
      quadrant[i] = turn.quadrant;
    } else {
      rest[i] = __builtin_nanf("");
      quadrant[i] = 0;
    }
  }
  return {load_f32(reinterpret_cast<const std::byte*>(rest)), load_i32(reinterpret_cast<const std::byte*>(quadrant))};
}

// For x >= 0 (or NaN): x - n pi/2 with pi/2 in three parts (W. Cody, W. Waite, 1980); fused, the first step is exact.
PTO_WSP_MATH Reduced reduce_quarter_turns(F x) {
  const F limit = splat(65536.0f);
  const M fits = lt(x, limit);
  const F n = rint(mul(select(fits, x, splat(0.0f)), splat(0x1.45f306p-1f)));
  F r = fma(n, splat(-0x1.921fb6p+0f), x);
  r = fma(n, splat(0x1.777a5cp-25f), r);
  r = fma(n, splat(0x1.ee59dap-50f), r);
  const Reduced reduced = {r, to_int(n)};
  const M large = mask_xor(fits, splat_mask(true));
  return any(large) ? reduce_large_lanes(x, reduced, large) : reduced;
}

PTO_WSP_MATH F sin_core(F r) {
  static constexpr float c[] = {-0x1.555556p-3f, 0x1.111174p-7f, -0x1.a05960p-13f, 0x1.7c33b0p-19f};
  const F r2 = mul(r, r);
  return fma(mul(r2, r), polynomial(r2, c), r);
}
PTO_WSP_MATH F cos_core(F r) {
  static constexpr float c[] = {0x1.55554ap-5f, -0x1.6c0c2ap-10f, 0x1.99e904p-16f};
  const F r2 = mul(r, r);
  return fma(mul(r2, r2), polynomial(r2, c), fma(splat(-0.5f), r2, splat(1.0f)));
}
// Sine of the turn `quadrant` quarters on from `rest`.
PTO_WSP_INLINE F sin_of(Reduced x) {
  const M swap = ne(bit_and(x.quadrant, splat(1)), splat(0));
  return with_sign(select(swap, cos_core(x.rest), sin_core(x.rest)), shl<30>(bit_and(x.quadrant, splat(2))));
}
PTO_WSP_MATH F sin(F x) { return with_sign(sin_of(reduce_quarter_turns(magnitude(x))), sign_of(x)); }
PTO_WSP_MATH F cos(F x) {
  const Reduced r = reduce_quarter_turns(magnitude(x));
  return sin_of(Reduced{r.rest, add(r.quadrant, splat(1))});
}

// Truncates, saturates, NaN gives 0.
PTO_WSP_MATH I saturating_int(F x) {
  const I in_range = select(le(splat(0x1p31f), x), splat(INT32_MAX), to_int(x));  // to_int gives INT32_MIN below
  return select(unordered(x, x), splat(0), in_range);
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
