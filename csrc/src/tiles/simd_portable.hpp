#pragma once
// Sixteen lanes in the compiler's generic vectors: what the algorithms of this folder are written over, and the meaning of the other two levels.
//
//   F, I, M               sixteen f32, sixteen i32, sixteen truth values
//   load_x(p[, n])        from memory without alignment; with n (1..15) only n elements are touched, other lanes are 0
//   store_x(p, v[, n])    likewise; store_u16 keeps the low 16 bits, which must hold the lane; masks are bytes 0/1 in memory
//   splat, select         select(m, a, b): a where m holds
//   bits, from_bits       the same 32 bits read as the other type; to_int truncates (out of range: any value)
//   maximum, minimum      propagate NaN, order -0 below +0
//   fold8 .. fold1        lane i of the result is lane i+8 (.. i+1) for the lanes a tree still needs
//   tree_sums(x)          lane i is the tree sum of x[i]: the sixteen lanes by +8, +4, +2, +1

#include <cstddef>
#include <cstdint>
#include <cstring>

#define PTO_WSP_INLINE [[gnu::always_inline]] inline
#define PTO_WSP_MATH [[gnu::noinline]] inline  // here small code counts for more than speed


namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

using Float16 = float __attribute__((vector_size(64)));
using Int16 = std::int32_t __attribute__((vector_size(64)));
using Unsigned16 = std::uint32_t __attribute__((vector_size(64)));

struct F { Float16 v; };
struct I { Int16 v; };
struct M { Int16 v; };  // -1 or 0

PTO_WSP_INLINE Unsigned16 wraps(I a) { return reinterpret_cast<Unsigned16>(a.v); }
PTO_WSP_INLINE I wrapped(Unsigned16 a) { return {reinterpret_cast<Int16>(a)}; }

// Lane by lane, for what has no vector form.
template <class Fn> PTO_WSP_INLINE F each(F a, Fn fn) {
  float lanes[16];
  std::memcpy(lanes, &a.v, sizeof lanes);
  for (float& x : lanes) x = fn(x);
  std::memcpy(&a.v, lanes, sizeof lanes);
  return a;
}

PTO_WSP_INLINE F splat(float x) { return {x - Float16{}}; }
PTO_WSP_INLINE I splat(std::int32_t x) { return {x - Int16{}}; }
PTO_WSP_INLINE I lane_index() { return {Int16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}}; }

PTO_WSP_INLINE F load_f32(const std::byte* p, int n = 16) {
  F r = {};
  std::memcpy(&r.v, p, 4 * static_cast<std::size_t>(n));
  return r;
}
PTO_WSP_INLINE void store_f32(std::byte* p, F x, int n = 16) { std::memcpy(p, &x.v, 4 * static_cast<std::size_t>(n)); }
PTO_WSP_INLINE I load_i32(const std::byte* p, int n = 16) {
  I r = {};
  std::memcpy(&r.v, p, 4 * static_cast<std::size_t>(n));
  return r;
}
PTO_WSP_INLINE void store_i32(std::byte* p, I x, int n = 16) { std::memcpy(p, &x.v, 4 * static_cast<std::size_t>(n)); }
using Short16 = std::uint16_t __attribute__((vector_size(32)));
PTO_WSP_INLINE I load_u16(const std::byte* p, int n = 16) {
  Short16 raw = {};
  std::memcpy(&raw, p, 2 * static_cast<std::size_t>(n));
  return {__builtin_convertvector(raw, Int16)};
}
using UByte16 = std::uint8_t __attribute__((vector_size(16)));
PTO_WSP_INLINE I load_u8(const std::byte* p, int n = 16) {
  UByte16 raw = {};
  std::memcpy(&raw, p, static_cast<std::size_t>(n));
  return {__builtin_convertvector(raw, Int16)};
}
PTO_WSP_INLINE void store_u16(std::byte* p, I x, int n = 16) {
  const Short16 raw = __builtin_convertvector(x.v, Short16);
  std::memcpy(p, &raw, 2 * static_cast<std::size_t>(n));
}

PTO_WSP_INLINE F add(F a, F b) { return {a.v + b.v}; }
PTO_WSP_INLINE F sub(F a, F b) { return {a.v - b.v}; }
PTO_WSP_INLINE F mul(F a, F b) { return {a.v * b.v}; }
PTO_WSP_INLINE F div(F a, F b) { return {a.v / b.v}; }
PTO_WSP_MATH F sqrt(F a) { return each(a, [](float x) { return __builtin_sqrtf(x); }); }
PTO_WSP_MATH F floor(F a) { return each(a, [](float x) { return __builtin_floorf(x); }); }
PTO_WSP_MATH F ceil(F a) { return each(a, [](float x) { return __builtin_ceilf(x); }); }
PTO_WSP_MATH F rint(F a) { return each(a, [](float x) { return __builtin_rintf(x); }); }
PTO_WSP_MATH F trunc(F a) { return each(a, [](float x) { return __builtin_truncf(x); }); }
// One function for all uses: sixteen library calls are too many to inline everywhere.
PTO_WSP_MATH void fma_lanes(const float* a, const float* b, float* c) {
  for (int i = 0; i < 16; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
}
PTO_WSP_INLINE F fma(F a, F b, F c) {
  float x[16], y[16], z[16];
  std::memcpy(x, &a.v, sizeof x);
  std::memcpy(y, &b.v, sizeof y);
  std::memcpy(z, &c.v, sizeof z);
  fma_lanes(x, y, z);
  std::memcpy(&c.v, z, sizeof z);
  return c;
}
PTO_WSP_INLINE I bits(F a) { return {reinterpret_cast<Int16>(a.v)}; }
PTO_WSP_INLINE F from_bits(I a) { return {reinterpret_cast<Float16>(a.v)}; }
PTO_WSP_INLINE F to_float(I a) { return {__builtin_convertvector(a.v, Float16)}; }

PTO_WSP_INLINE I add(I a, I b) { return wrapped(wraps(a) + wraps(b)); }
PTO_WSP_INLINE I sub(I a, I b) { return wrapped(wraps(a) - wraps(b)); }
PTO_WSP_INLINE I mul(I a, I b) { return wrapped(wraps(a) * wraps(b)); }
PTO_WSP_INLINE I fma(I a, I b, I c) { return add(mul(a, b), c); }
PTO_WSP_INLINE I bit_and(I a, I b) { return {a.v & b.v}; }
PTO_WSP_INLINE I bit_or(I a, I b) { return {a.v | b.v}; }
PTO_WSP_INLINE I bit_xor(I a, I b) { return {a.v ^ b.v}; }
template <int k> PTO_WSP_INLINE I shl(I a) { return wrapped(wraps(a) << k); }
template <int k> PTO_WSP_INLINE I shr(I a) { return wrapped(wraps(a) >> k); }
template <int k> PTO_WSP_INLINE I sar(I a) { return {a.v >> k}; }

PTO_WSP_INLINE M eq(F a, F b) { return {a.v == b.v}; }
PTO_WSP_INLINE M ne(F a, F b) { return {a.v != b.v}; }
PTO_WSP_INLINE M lt(F a, F b) { return {a.v < b.v}; }
PTO_WSP_INLINE M le(F a, F b) { return {a.v <= b.v}; }
PTO_WSP_INLINE M unordered(F a, F b) { return {(a.v != a.v) | (b.v != b.v)}; }
PTO_WSP_INLINE M eq(I a, I b) { return {a.v == b.v}; }
PTO_WSP_INLINE M ne(I a, I b) { return {a.v != b.v}; }
PTO_WSP_INLINE M lt(I a, I b) { return {a.v < b.v}; }
PTO_WSP_INLINE M le(I a, I b) { return {a.v <= b.v}; }
PTO_WSP_INLINE M mask_and(M a, M b) { return {a.v & b.v}; }
PTO_WSP_INLINE M mask_or(M a, M b) { return {a.v | b.v}; }
PTO_WSP_INLINE M mask_xor(M a, M b) { return {a.v ^ b.v}; }
PTO_WSP_INLINE bool any(M a) {
  std::int64_t words[8], all = 0;
  std::memcpy(words, &a.v, sizeof words);
  for (const std::int64_t w : words) all |= w;
  return all != 0;
}
PTO_WSP_INLINE bool lane(M a, int i) { return a.v[i] != 0; }
PTO_WSP_INLINE M first_lanes(int n) { return {lane_index().v < n}; }
PTO_WSP_INLINE I select(M m, I a, I b) { return {(a.v & m.v) | (b.v & ~m.v)}; }
PTO_WSP_INLINE F select(M m, F a, F b) { return from_bits(select(m, bits(a), bits(b))); }
PTO_WSP_INLINE I maximum(I a, I b) { return select(lt(a, b), b, a); }
PTO_WSP_INLINE I minimum(I a, I b) { return select(lt(a, b), a, b); }
PTO_WSP_INLINE I to_int(F a) {
  const M fits = mask_and(le(splat(-0x1p31f), a), lt(a, splat(0x1p31f)));
  return select(fits, I{__builtin_convertvector(select(fits, a, splat(0.0f)).v, Int16)}, splat(INT32_MIN));
}
using Byte16 = std::int8_t __attribute__((vector_size(16)));
PTO_WSP_INLINE M load_mask(const std::byte* p, int n = 16) {
  Byte16 raw = {};
  std::memcpy(&raw, p, static_cast<std::size_t>(n));
  return {__builtin_convertvector(raw != 0, Int16)};
}
PTO_WSP_INLINE M splat_mask(bool x) { return {splat(x ? -1 : 0).v}; }
PTO_WSP_INLINE void store_mask(std::byte* p, M x, int n = 16) {
  const Byte16 raw = __builtin_convertvector(x.v & 1, Byte16);
  std::memcpy(p, &raw, static_cast<std::size_t>(n));
}

PTO_WSP_MATH F maximum(F a, F b) {
  const F m = select(eq(a, b), from_bits(bit_and(bits(a), bits(b))), select(lt(a, b), b, a));
  return select(unordered(a, b), add(a, b), m);
}
PTO_WSP_MATH F minimum(F a, F b) {
  const F m = select(eq(a, b), from_bits(bit_or(bits(a), bits(b))), select(lt(a, b), a, b));
  return select(unordered(a, b), add(a, b), m);
}

// f16 by integer arithmetic, as the hardware of the other levels does it (round to nearest even).
PTO_WSP_MATH F load_f16(const std::byte* p, int n = 16) {
  const I h = load_u16(p, n);
  const I sign = shl<16>(bit_and(h, splat(0x8000)));
  const I magnitude = bit_and(h, splat(0x7fff));
  // Exponent and fraction moved into place, then rescaled: exact, subnormals included.
  const F scaled = mul(from_bits(shl<13>(magnitude)), splat(0x1p112f));
  const I special = bit_or(shl<13>(magnitude), splat(0x7f800000));
  return from_bits(bit_or(sign, select(lt(splat(0x7bff), magnitude), special, bits(scaled))));
}
PTO_WSP_MATH void store_f16(std::byte* p, F x, int n = 16) {
  const I all = bits(x);
  const I sign = bit_and(shr<16>(all), splat(0x8000));
  const I magnitude = bit_and(all, splat(0x7fffffff));
  // Normal results: rebias, add half of what is cut off (ties to even) and cut; a carry runs into the exponent, up to infinity.
  const I odd = bit_and(shr<13>(magnitude), splat(1));
  const I normal = shr<13>(add(magnitude, add(odd, splat(0xfff - (112 << 23)))));
  // Subnormal results: an addition with a unit in the last place of 2^-24 rounds in hardware.
  const I tiny = sub(bits(add(from_bits(magnitude), splat(0.5f))), bits(splat(0.5f)));
  I h = select(lt(magnitude, splat(113 << 23)), tiny, normal);
  h = select(le(splat(0x477ff000), magnitude), splat(0x7c00), h);
  h = select(lt(splat(0x7f800000), magnitude), splat(0x7e00), h);
  store_u16(p, bit_or(sign, h), n);
}

template <int k> PTO_WSP_INLINE F fold(F a) { return {__builtin_shuffle(a.v, (lane_index().v + k) & 15)}; }
PTO_WSP_INLINE F fold8(F a) { return fold<8>(a); }
PTO_WSP_INLINE F fold4(F a) { return fold<4>(a); }
PTO_WSP_INLINE F fold2(F a) { return fold<2>(a); }
PTO_WSP_INLINE F fold1(F a) { return fold<1>(a); }
PTO_WSP_INLINE float lane0(F a) { return a.v[0]; }
PTO_WSP_MATH F tree_sums(const F (&x)[16]) {
  F r;
  for (int i = 0; i < 16; ++i) {
    float s[16];
    std::memcpy(s, &x[i].v, sizeof s);
    for (int half = 8; half != 0; half /= 2)
      for (int l = 0; l < half; ++l) s[l] += s[l + half];
    r.v[i] = s[0];
  }
  return r;
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
