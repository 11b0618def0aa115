#pragma once
// What pieces of kernels that are compiled on the machine are written with: the level that the compiler's target has, and the
// same maps and reductions as the tile operations, chunk by chunk of sixteen columns.

#define PTO_WSP_LEVEL level_native

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "simd_avx512.hpp"
#define PTO_WSP_THROUGH_F16(x) {_mm512_cvtph_ps(to_f16(x))}
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "simd_avx2.hpp"
#define PTO_WSP_THROUGH_F16(x) widen_f16(narrow_f16(x))
#else
#include "simd_portable.hpp"
#endif

#include "elementwise.hpp"
#include "pto_wsp/native.hpp"
#include "reduce.hpp"

#define PTO_WSP_PIECE extern "C" [[gnu::visibility("default")]]
#define PTO_WSP_ALWAYS __attribute__((always_inline))

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

// A whole chunk of columns; the first `n` of one are given as the number.
struct Whole {};

template <class T> PTO_WSP_INLINE typename T::V get(const std::byte* p, Whole) { return T::load(p); }
template <class T> PTO_WSP_INLINE typename T::V get(const std::byte* p, int n) { return T::load(p, n); }
template <class T> PTO_WSP_INLINE void put(std::byte* p, typename T::V x, Whole) { T::store(p, x); }
template <class T> PTO_WSP_INLINE void put(std::byte* p, typename T::V x, int n) { T::store(p, x, n); }

template <class K, class V> PTO_WSP_INLINE V joined(V sum, V x, Whole) { return K::join(sum, x); }
template <class K, class V> PTO_WSP_INLINE V joined(V sum, V x, int n) { return K::join(sum, select(first_lanes(n), x, K::start(x))); }

// What is left of x in memory as a T.
template <class T> PTO_WSP_INLINE typename T::V rounded(typename T::V x) {
  if constexpr (T::size == 2 && T::is_float) {
    alignas(64) std::byte there[16 * T::size];
    T::store(there, x);
    return T::load(there);
  } else {
    return x;
  }
}
template <> PTO_WSP_INLINE F rounded<BF16>(F x) { return from_bits(shl<16>(BF16::round(x))); }
#ifdef PTO_WSP_THROUGH_F16
template <> PTO_WSP_INLINE F rounded<F16>(F x) { return PTO_WSP_THROUGH_F16(x); }
#endif

// Of what is a T's value already.
template <class T> PTO_WSP_INLINE void put_exact(std::byte* p, typename T::V x, auto lanes) { put<T>(p, x, lanes); }
template <> PTO_WSP_INLINE void put_exact<BF16>(std::byte* p, F x, Whole) { store_u16(p, shr<16>(bits(x))); }
template <> PTO_WSP_INLINE void put_exact<BF16>(std::byte* p, F x, int n) { store_u16(p, shr<16>(bits(x)), n); }

// One element of each of m rows, row i in lane i.
template <class T> PTO_WSP_INLINE typename T::V column(const std::byte* p, std::ptrdiff_t stride, int m) {
  if (stride == T::size) return m == 16 ? T::load(p) : T::load(p, m);
  alignas(64) std::byte there[16 * T::size] = {};
  for (int i = 0; i < m; ++i) std::memcpy(there + i * T::size, p + i * stride, T::size);
  return T::load(there);
}
template <class T> PTO_WSP_INLINE void put_column(std::byte* p, std::ptrdiff_t stride, typename T::V x, int m) {
  if (stride == T::size) return T::store(p, x, m);
  alignas(64) std::byte there[16 * T::size];
  T::store(there, x);
  for (int i = 0; i < m; ++i) std::memcpy(p + i * stride, there + i * T::size, T::size);
}

// Lane i is what the accumulators of row i come to; of those from m on nothing is known.
template <class T, class K> PTO_WSP_INLINE typename T::V trees(const typename T::V (&sums)[16], int m) {
  const auto tree = [](typename T::V x) PTO_WSP_ALWAYS {
    x = K::join(x, fold8(x));
    x = K::join(x, fold4(x));
    x = K::join(x, fold2(x));
    return K::join(x, fold1(x));
  };
  if (m == 1) return rounded<T>(tree(sums[0]));
  if constexpr (T::is_float && __is_same(K, SumOf)) return rounded<T>(tree_sums(sums));
  alignas(64) std::byte there[16 * T::size] = {};
  for (int i = 0; i < m; ++i) T::store(there + i * T::size, tree(sums[i]), 1);
  return T::load(there);
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
