#pragma once
// Sixteen lanes in one AVX-512 register (needs F, BW, DQ, VL). The interface is that of simd_portable.hpp, which describes it.

// GCC's own headers spell "any value" in a way that its warning takes for a mistake.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include <cstddef>
#include <cstdint>
#include <cstring>

#define PTO_WSP_INLINE [[gnu::always_inline]] inline
#define PTO_WSP_MATH inline

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

struct F { __m512 v; };
struct I { __m512i v; };
struct M { __mmask16 v; };

PTO_WSP_INLINE __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1u); }

PTO_WSP_INLINE F splat(float x) { return {_mm512_set1_ps(x)}; }
PTO_WSP_INLINE I splat(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
PTO_WSP_INLINE I lane_index() { return {_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)}; }

PTO_WSP_INLINE F load_f32(const std::byte* p) { return {_mm512_loadu_ps(p)}; }
PTO_WSP_INLINE F load_f32(const std::byte* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
PTO_WSP_INLINE void store_f32(std::byte* p, F x) { _mm512_storeu_ps(p, x.v); }
PTO_WSP_INLINE void store_f32(std::byte* p, F x, int n) { _mm512_mask_storeu_ps(p, first(n), x.v); }
PTO_WSP_INLINE I load_i32(const std::byte* p) { return {_mm512_loadu_si512(p)}; }
PTO_WSP_INLINE I load_i32(const std::byte* p, int n) { return {_mm512_maskz_loadu_epi32(first(n), p)}; }
PTO_WSP_INLINE void store_i32(std::byte* p, I x) { _mm512_storeu_si512(p, x.v); }
PTO_WSP_INLINE void store_i32(std::byte* p, I x, int n) { _mm512_mask_storeu_epi32(p, first(n), x.v); }

PTO_WSP_INLINE __m256i raw_u16(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
PTO_WSP_INLINE I load_u16(const std::byte* p) { return {_mm512_cvtepu16_epi32(raw_u16(p))}; }
PTO_WSP_INLINE I load_u16(const std::byte* p, int n) { return {_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p))}; }
PTO_WSP_INLINE I load_u8(const std::byte* p) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))}; }
PTO_WSP_INLINE I load_u8(const std::byte* p, int n) { return {_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first(n), p))}; }
PTO_WSP_INLINE void store_u16(std::byte* p, I x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.v)); }
PTO_WSP_INLINE void store_u16(std::byte* p, I x, int n) { _mm256_mask_storeu_epi16(p, first(n), _mm512_cvtepi32_epi16(x.v)); }
PTO_WSP_INLINE F load_f16(const std::byte* p) { return {_mm512_cvtph_ps(raw_u16(p))}; }
PTO_WSP_INLINE F load_f16(const std::byte* p, int n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(n), p))}; }
PTO_WSP_INLINE __m256i to_f16(F x) { return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
PTO_WSP_INLINE void store_f16(std::byte* p, F x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_f16(x)); }
PTO_WSP_INLINE void store_f16(std::byte* p, F x, int n) { _mm256_mask_storeu_epi16(p, first(n), to_f16(x)); }

PTO_WSP_INLINE M load_mask(const std::byte* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm_test_epi8_mask(bytes, bytes)};
}
PTO_WSP_INLINE M load_mask(const std::byte* p, int n) {
  const __m128i bytes = _mm_maskz_loadu_epi8(first(n), p);
  return {_mm_test_epi8_mask(bytes, bytes)};
}
PTO_WSP_INLINE M splat_mask(bool x) { return {static_cast<__mmask16>(x ? 0xffff : 0)}; }
PTO_WSP_INLINE void store_mask(std::byte* p, M x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_maskz_set1_epi8(x.v, 1));
}
PTO_WSP_INLINE void store_mask(std::byte* p, M x, int n) { _mm_mask_storeu_epi8(p, first(n), _mm_maskz_set1_epi8(x.v, 1)); }

PTO_WSP_INLINE F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
PTO_WSP_INLINE F sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
PTO_WSP_INLINE F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
PTO_WSP_INLINE F div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
PTO_WSP_INLINE F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
PTO_WSP_INLINE F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
PTO_WSP_INLINE F floor(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)}; }
PTO_WSP_INLINE F ceil(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC)}; }
PTO_WSP_INLINE F rint(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
PTO_WSP_INLINE F trunc(F a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)}; }
PTO_WSP_INLINE I bits(F a) { return {_mm512_castps_si512(a.v)}; }
PTO_WSP_INLINE F from_bits(I a) { return {_mm512_castsi512_ps(a.v)}; }
PTO_WSP_INLINE F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
PTO_WSP_INLINE I to_int(F a) { return {_mm512_cvttps_epi32(a.v)}; }

PTO_WSP_INLINE I add(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
PTO_WSP_INLINE I sub(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
PTO_WSP_INLINE I mul(I a, I b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
PTO_WSP_INLINE I fma(I a, I b, I c) { return add(mul(a, b), c); }
PTO_WSP_INLINE I maximum(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
PTO_WSP_INLINE I minimum(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }
PTO_WSP_INLINE I bit_and(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
PTO_WSP_INLINE I bit_or(I a, I b) { return {_mm512_or_si512(a.v, b.v)}; }
PTO_WSP_INLINE I bit_xor(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int k> PTO_WSP_INLINE I shl(I a) { return {_mm512_slli_epi32(a.v, k)}; }
template <int k> PTO_WSP_INLINE I shr(I a) { return {_mm512_srli_epi32(a.v, k)}; }
template <int k> PTO_WSP_INLINE I sar(I a) { return {_mm512_srai_epi32(a.v, k)}; }

PTO_WSP_INLINE M eq(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_EQ_OQ)}; }
PTO_WSP_INLINE M ne(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_NEQ_UQ)}; }
PTO_WSP_INLINE M lt(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
PTO_WSP_INLINE M le(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ)}; }
PTO_WSP_INLINE M unordered(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q)}; }
PTO_WSP_INLINE M eq(I a, I b) { return {_mm512_cmpeq_epi32_mask(a.v, b.v)}; }
PTO_WSP_INLINE M ne(I a, I b) { return {_mm512_cmpneq_epi32_mask(a.v, b.v)}; }
PTO_WSP_INLINE M lt(I a, I b) { return {_mm512_cmplt_epi32_mask(a.v, b.v)}; }
PTO_WSP_INLINE M le(I a, I b) { return {_mm512_cmple_epi32_mask(a.v, b.v)}; }
PTO_WSP_INLINE M mask_and(M a, M b) { return {static_cast<__mmask16>(a.v & b.v)}; }
PTO_WSP_INLINE M mask_or(M a, M b) { return {static_cast<__mmask16>(a.v | b.v)}; }
PTO_WSP_INLINE M mask_xor(M a, M b) { return {static_cast<__mmask16>(a.v ^ b.v)}; }
PTO_WSP_INLINE bool any(M a) { return a.v != 0; }
PTO_WSP_INLINE bool lane(M a, int i) { return ((a.v >> i) & 1) != 0; }
PTO_WSP_INLINE M first_lanes(int n) { return {first(n)}; }
PTO_WSP_INLINE F select(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
PTO_WSP_INLINE I select(M m, I a, I b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }

// vrangeps orders the zeros; it ignores a NaN beside a number, the masked addition brings it back.
PTO_WSP_INLINE F maximum(F a, F b) {
  return {_mm512_mask_add_ps(_mm512_range_ps(a.v, b.v, 0x5), unordered(a, b).v, a.v, b.v)};
}
PTO_WSP_INLINE F minimum(F a, F b) {
  return {_mm512_mask_add_ps(_mm512_range_ps(a.v, b.v, 0x4), unordered(a, b).v, a.v, b.v)};
}

// Lanes i and i+8, i+4, i+2, i+1 exchanged; the lanes that a tree goes on with are the lower ones.
PTO_WSP_INLINE F fold8(F a) { return {_mm512_shuffle_f32x4(a.v, a.v, 0x4e)}; }
PTO_WSP_INLINE F fold4(F a) { return {_mm512_shuffle_f32x4(a.v, a.v, 0xb1)}; }
PTO_WSP_INLINE F fold2(F a) { return {_mm512_permute_ps(a.v, 0x4e)}; }
PTO_WSP_INLINE F fold1(F a) { return {_mm512_permute_ps(a.v, 0xb1)}; }
PTO_WSP_INLINE float lane0(F a) { return _mm512_cvtss_f32(a.v); }

// Lane i of the result is the tree sum of x[i].
PTO_WSP_INLINE F tree_sums(const F (&x)[16]) {
  F s8[8], s4[4], s2[2];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)  // x[i] in the lower half, x[i+8] in the upper
    s8[i] = add(F{_mm512_shuffle_f32x4(x[i].v, x[i + 8].v, 0x44)}, F{_mm512_shuffle_f32x4(x[i].v, x[i + 8].v, 0xee)});
#pragma GCC unroll 8
  for (int i = 0; i < 4; ++i)  // quarters: i, i+4, i+8, i+12
    s4[i] = add(F{_mm512_shuffle_f32x4(s8[i].v, s8[i + 4].v, 0x88)}, F{_mm512_shuffle_f32x4(s8[i].v, s8[i + 4].v, 0xdd)});
#pragma GCC unroll 8
  for (int q = 0; q < 4; ++q) s4[q] = F{_mm512_shuffle_f32x4(s4[q].v, s4[q].v, 0xd8)};
#pragma GCC unroll 8
  for (int i = 0; i < 2; ++i)  // pairs: lanes 0,1 of a quarter from i, lanes 2,3 from i+2
    s2[i] = add(F{_mm512_shuffle_ps(s4[i].v, s4[i + 2].v, 0x44)}, F{_mm512_shuffle_ps(s4[i].v, s4[i + 2].v, 0xee)});
  // even lanes of s2[0] and s2[1]: within a quarter 0, 2, 1, 3
  const F s1 = add(F{_mm512_shuffle_ps(s2[0].v, s2[1].v, 0x88)}, F{_mm512_shuffle_ps(s2[0].v, s2[1].v, 0xdd)});
  return {_mm512_permute_ps(s1.v, 0xd8)};
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
