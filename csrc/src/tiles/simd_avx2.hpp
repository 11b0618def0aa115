#pragma once
// Sixteen lanes in two AVX2 registers (needs FMA and F16C). The interface is that of simd_portable.hpp, which describes it.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define PTO_WSP_INLINE [[gnu::always_inline]] inline
#define PTO_WSP_MATH inline

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

struct F { __m256 lo, hi; };
struct I { __m256i lo, hi; };
struct M { __m256i lo, hi; };  // all bits of a lane, or none

PTO_WSP_INLINE __m256i as_int(__m256 a) { return _mm256_castps_si256(a); }
PTO_WSP_INLINE __m256 as_float(__m256i a) { return _mm256_castsi256_ps(a); }
PTO_WSP_INLINE __m256i ones() { return _mm256_set1_epi32(-1); }

PTO_WSP_INLINE F splat(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
PTO_WSP_INLINE I splat(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
PTO_WSP_INLINE I lane_index() { return {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)}; }
PTO_WSP_INLINE M first_lanes(int n) {
  const I i = lane_index();
  const __m256i count = _mm256_set1_epi32(n);
  return {_mm256_cmpgt_epi32(count, i.lo), _mm256_cmpgt_epi32(count, i.hi)};
}

PTO_WSP_INLINE F load_f32(const std::byte* p) {
  const auto* f = reinterpret_cast<const float*>(p);
  return {_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}
PTO_WSP_INLINE F load_f32(const std::byte* p, int n) {
  const M m = first_lanes(n);
  const auto* f = reinterpret_cast<const float*>(p);
  return {_mm256_maskload_ps(f, m.lo), _mm256_maskload_ps(f + 8, m.hi)};
}
PTO_WSP_INLINE void store_f32(std::byte* p, F x) {
  auto* f = reinterpret_cast<float*>(p);
  _mm256_storeu_ps(f, x.lo);
  _mm256_storeu_ps(f + 8, x.hi);
}
PTO_WSP_INLINE void store_f32(std::byte* p, F x, int n) {
  const M m = first_lanes(n);
  auto* f = reinterpret_cast<float*>(p);
  _mm256_maskstore_ps(f, m.lo, x.lo);
  _mm256_maskstore_ps(f + 8, m.hi, x.hi);
}
PTO_WSP_INLINE I load_i32(const std::byte* p) {
  const auto* i = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(i), _mm256_loadu_si256(i + 1)};
}
PTO_WSP_INLINE I load_i32(const std::byte* p, int n) {
  const F x = load_f32(p, n);
  return {as_int(x.lo), as_int(x.hi)};
}
PTO_WSP_INLINE void store_i32(std::byte* p, I x) {
  auto* i = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(i, x.lo);
  _mm256_storeu_si256(i + 1, x.hi);
}
PTO_WSP_INLINE void store_i32(std::byte* p, I x, int n) { store_f32(p, F{as_float(x.lo), as_float(x.hi)}, n); }

// Sixteen elements of two bytes, and of one; tails go through a copy.
struct U16 { __m128i lo, hi; };
PTO_WSP_INLINE U16 raw_u16(const std::byte* p) {
  const auto* i = reinterpret_cast<const __m128i*>(p);
  return {_mm_loadu_si128(i), _mm_loadu_si128(i + 1)};
}
PTO_WSP_INLINE U16 raw_u16(const std::byte* p, int n) {
  alignas(32) std::byte copy[32] = {};
  std::memcpy(copy, p, 2 * static_cast<std::size_t>(n));
  return raw_u16(copy);
}
PTO_WSP_INLINE void put_u16(std::byte* p, U16 x) {
  auto* i = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(i, x.lo);
  _mm_storeu_si128(i + 1, x.hi);
}
PTO_WSP_INLINE void put_u16(std::byte* p, U16 x, int n) {
  alignas(32) std::byte copy[32];
  put_u16(copy, x);
  std::memcpy(p, copy, 2 * static_cast<std::size_t>(n));
}
PTO_WSP_INLINE I widen(U16 x) { return {_mm256_cvtepu16_epi32(x.lo), _mm256_cvtepu16_epi32(x.hi)}; }
PTO_WSP_INLINE U16 narrow(I x) {  // lanes hold values of 16 bits
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(x.lo, x.hi), 0xd8);
  return {_mm256_castsi256_si128(packed), _mm256_extracti128_si256(packed, 1)};
}
PTO_WSP_INLINE F widen_f16(U16 x) { return {_mm256_cvtph_ps(x.lo), _mm256_cvtph_ps(x.hi)}; }
PTO_WSP_INLINE U16 narrow_f16(F x) {
  return {_mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
PTO_WSP_INLINE I load_u16(const std::byte* p) { return widen(raw_u16(p)); }
PTO_WSP_INLINE I load_u16(const std::byte* p, int n) { return widen(raw_u16(p, n)); }
PTO_WSP_INLINE I load_u8(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
PTO_WSP_INLINE I load_u8(const std::byte* p, int n) {
  std::byte copy[16] = {};
  std::memcpy(copy, p, static_cast<std::size_t>(n));
  return load_u8(copy);
}
PTO_WSP_INLINE void store_u16(std::byte* p, I x) { put_u16(p, narrow(x)); }
PTO_WSP_INLINE void store_u16(std::byte* p, I x, int n) { put_u16(p, narrow(x), n); }
PTO_WSP_INLINE F load_f16(const std::byte* p) { return widen_f16(raw_u16(p)); }
PTO_WSP_INLINE F load_f16(const std::byte* p, int n) { return widen_f16(raw_u16(p, n)); }
PTO_WSP_INLINE void store_f16(std::byte* p, F x) { put_u16(p, narrow_f16(x)); }
PTO_WSP_INLINE void store_f16(std::byte* p, F x, int n) { put_u16(p, narrow_f16(x), n); }

PTO_WSP_INLINE M load_mask(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  const __m256i zero = _mm256_setzero_si256();
  const __m256i lo = _mm256_cvtepi8_epi32(bytes);
  const __m256i hi = _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8));
  return {_mm256_xor_si256(_mm256_cmpeq_epi32(lo, zero), ones()), _mm256_xor_si256(_mm256_cmpeq_epi32(hi, zero), ones())};
}
PTO_WSP_INLINE M load_mask(const std::byte* p, int n) {
  alignas(16) std::byte copy[16] = {};
  std::memcpy(copy, p, static_cast<std::size_t>(n));
  return load_mask(copy);
}
PTO_WSP_INLINE M splat_mask(bool x) { return {_mm256_set1_epi32(x ? -1 : 0), _mm256_set1_epi32(x ? -1 : 0)}; }
PTO_WSP_INLINE void store_mask(std::byte* p, M x) {
  const U16 half = narrow(I{_mm256_srli_epi32(x.lo, 31), _mm256_srli_epi32(x.hi, 31)});
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(half.lo, half.hi));
}
PTO_WSP_INLINE void store_mask(std::byte* p, M x, int n) {
  alignas(16) std::byte copy[16];
  store_mask(copy, x);
  std::memcpy(p, copy, static_cast<std::size_t>(n));
}

PTO_WSP_INLINE F add(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
PTO_WSP_INLINE F sub(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
PTO_WSP_INLINE F mul(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
PTO_WSP_INLINE F div(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
PTO_WSP_INLINE F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
PTO_WSP_INLINE F sqrt(F a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
template <int mode> PTO_WSP_INLINE F rounded(F a) { return {_mm256_round_ps(a.lo, mode | _MM_FROUND_NO_EXC), _mm256_round_ps(a.hi, mode | _MM_FROUND_NO_EXC)}; }
PTO_WSP_INLINE F floor(F a) { return rounded<_MM_FROUND_TO_NEG_INF>(a); }
PTO_WSP_INLINE F ceil(F a) { return rounded<_MM_FROUND_TO_POS_INF>(a); }
PTO_WSP_INLINE F rint(F a) { return rounded<_MM_FROUND_TO_NEAREST_INT>(a); }
PTO_WSP_INLINE F trunc(F a) { return rounded<_MM_FROUND_TO_ZERO>(a); }
PTO_WSP_INLINE I bits(F a) { return {as_int(a.lo), as_int(a.hi)}; }
PTO_WSP_INLINE F from_bits(I a) { return {as_float(a.lo), as_float(a.hi)}; }
PTO_WSP_INLINE F to_float(I a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
PTO_WSP_INLINE I to_int(F a) { return {_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi)}; }

PTO_WSP_INLINE I add(I a, I b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE I sub(I a, I b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE I mul(I a, I b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE I fma(I a, I b, I c) { return add(mul(a, b), c); }
PTO_WSP_INLINE I maximum(I a, I b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE I minimum(I a, I b) { return {_mm256_min_epi32(a.lo, b.lo), _mm256_min_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE I bit_and(I a, I b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
PTO_WSP_INLINE I bit_or(I a, I b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
PTO_WSP_INLINE I bit_xor(I a, I b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
template <int k> PTO_WSP_INLINE I shl(I a) { return {_mm256_slli_epi32(a.lo, k), _mm256_slli_epi32(a.hi, k)}; }
template <int k> PTO_WSP_INLINE I shr(I a) { return {_mm256_srli_epi32(a.lo, k), _mm256_srli_epi32(a.hi, k)}; }
template <int k> PTO_WSP_INLINE I sar(I a) { return {_mm256_srai_epi32(a.lo, k), _mm256_srai_epi32(a.hi, k)}; }

template <int how> PTO_WSP_INLINE M compare(F a, F b) { return {as_int(_mm256_cmp_ps(a.lo, b.lo, how)), as_int(_mm256_cmp_ps(a.hi, b.hi, how))}; }
PTO_WSP_INLINE M eq(F a, F b) { return compare<_CMP_EQ_OQ>(a, b); }
PTO_WSP_INLINE M ne(F a, F b) { return compare<_CMP_NEQ_UQ>(a, b); }
PTO_WSP_INLINE M lt(F a, F b) { return compare<_CMP_LT_OQ>(a, b); }
PTO_WSP_INLINE M le(F a, F b) { return compare<_CMP_LE_OQ>(a, b); }
PTO_WSP_INLINE M unordered(F a, F b) { return compare<_CMP_UNORD_Q>(a, b); }
PTO_WSP_INLINE M mask_and(M a, M b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
PTO_WSP_INLINE M mask_or(M a, M b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
PTO_WSP_INLINE M mask_xor(M a, M b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
PTO_WSP_INLINE M eq(I a, I b) { return {_mm256_cmpeq_epi32(a.lo, b.lo), _mm256_cmpeq_epi32(a.hi, b.hi)}; }
PTO_WSP_INLINE M ne(I a, I b) { return mask_xor(eq(a, b), M{ones(), ones()}); }
PTO_WSP_INLINE M lt(I a, I b) { return {_mm256_cmpgt_epi32(b.lo, a.lo), _mm256_cmpgt_epi32(b.hi, a.hi)}; }
PTO_WSP_INLINE M le(I a, I b) { return mask_xor(lt(b, a), M{ones(), ones()}); }
PTO_WSP_INLINE bool any(M a) { return _mm256_movemask_epi8(_mm256_or_si256(a.lo, a.hi)) != 0; }
PTO_WSP_INLINE bool lane(M a, int i) {
  const unsigned all = static_cast<unsigned>(_mm256_movemask_ps(as_float(a.lo))) | static_cast<unsigned>(_mm256_movemask_ps(as_float(a.hi))) << 8;
  return ((all >> i) & 1) != 0;
}
PTO_WSP_INLINE F select(M m, F a, F b) { return {_mm256_blendv_ps(b.lo, a.lo, as_float(m.lo)), _mm256_blendv_ps(b.hi, a.hi, as_float(m.hi))}; }
PTO_WSP_INLINE I select(M m, I a, I b) { return {_mm256_blendv_epi8(b.lo, a.lo, m.lo), _mm256_blendv_epi8(b.hi, a.hi, m.hi)}; }

// maxps gives its second operand for equal ones and beside a NaN: taken both ways round, the AND has the right zero.
PTO_WSP_INLINE __m256 max8(__m256 a, __m256 b) {
  const __m256 m = _mm256_and_ps(_mm256_max_ps(a, b), _mm256_max_ps(b, a));
  return _mm256_blendv_ps(m, _mm256_add_ps(a, b), _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
PTO_WSP_INLINE __m256 min8(__m256 a, __m256 b) {
  const __m256 m = _mm256_or_ps(_mm256_min_ps(a, b), _mm256_min_ps(b, a));
  return _mm256_blendv_ps(m, _mm256_add_ps(a, b), _mm256_cmp_ps(a, b, _CMP_UNORD_Q));
}
PTO_WSP_INLINE F maximum(F a, F b) { return {max8(a.lo, b.lo), max8(a.hi, b.hi)}; }
PTO_WSP_INLINE F minimum(F a, F b) { return {min8(a.lo, b.lo), min8(a.hi, b.hi)}; }

PTO_WSP_INLINE F fold8(F a) { return {a.hi, a.lo}; }
PTO_WSP_INLINE F fold4(F a) { return {_mm256_permute2f128_ps(a.lo, a.lo, 1), a.hi}; }
PTO_WSP_INLINE F fold2(F a) { return {_mm256_permute_ps(a.lo, 0x4e), a.hi}; }
PTO_WSP_INLINE F fold1(F a) { return {_mm256_permute_ps(a.lo, 0xb1), a.hi}; }
PTO_WSP_INLINE float lane0(F a) { return _mm256_cvtss_f32(a.lo); }

// Eight trees: lane i of the result is the tree sum of x[i].
PTO_WSP_INLINE __m256 eight_sums(const F* x) {
  __m256 s8[8], s4[4], s2[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) s8[i] = _mm256_add_ps(x[i].lo, x[i].hi);
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i)  // i in the lower half, i+4 in the upper
    s4[i] = _mm256_add_ps(_mm256_permute2f128_ps(s8[i], s8[i + 4], 0x20), _mm256_permute2f128_ps(s8[i], s8[i + 4], 0x31));
#pragma GCC unroll 8
  for (int i = 0; i < 2; ++i)
    s2[i] = _mm256_add_ps(_mm256_shuffle_ps(s4[i], s4[i + 2], 0x44), _mm256_shuffle_ps(s4[i], s4[i + 2], 0xee));
  const __m256 s1 = _mm256_add_ps(_mm256_shuffle_ps(s2[0], s2[1], 0x88), _mm256_shuffle_ps(s2[0], s2[1], 0xdd));
  return _mm256_permute_ps(s1, 0xd8);
}
PTO_WSP_INLINE F tree_sums(const F (&x)[16]) { return {eight_sums(x), eight_sums(x + 8)}; }

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
