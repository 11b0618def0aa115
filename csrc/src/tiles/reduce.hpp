#pragma once
// Reductions of rows and of columns. f16 and bf16 are reduced in f32 and rounded once.

#include "math.hpp"
#include "types.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

struct SumOf {
  PTO_WSP_INLINE static F start(F) { return splat(0.0f); }
  PTO_WSP_INLINE static I start(I) { return splat(0); }
  template <class V> PTO_WSP_INLINE static V join(V a, V b) { return add(a, b); }
};
struct ProductOf {
  PTO_WSP_INLINE static F start(F) { return splat(1.0f); }
  PTO_WSP_INLINE static I start(I) { return splat(1); }
  template <class V> PTO_WSP_INLINE static V join(V a, V b) { return mul(a, b); }
};
struct MaximumOf {
  PTO_WSP_INLINE static F start(F) { return splat(-__builtin_inff()); }
  PTO_WSP_INLINE static I start(I) { return splat(INT32_MIN); }
  template <class V> PTO_WSP_INLINE static V join(V a, V b) { return maximum(a, b); }
};
struct MinimumOf {
  PTO_WSP_INLINE static F start(F) { return splat(__builtin_inff()); }
  PTO_WSP_INLINE static I start(I) { return splat(INT32_MAX); }
  template <class V> PTO_WSP_INLINE static V join(V a, V b) { return minimum(a, b); }
};

PTO_WSP_INLINE I fold8(I a) { return bits(fold8(from_bits(a))); }
PTO_WSP_INLINE I fold4(I a) { return bits(fold4(from_bits(a))); }
PTO_WSP_INLINE I fold2(I a) { return bits(fold2(from_bits(a))); }
PTO_WSP_INLINE I fold1(I a) { return bits(fold1(from_bits(a))); }

// Sixteen accumulators of one row; lanes past the row's end keep theirs.
template <class T, class K> PTO_WSP_INLINE typename T::V accumulate(const std::byte* p, int n) {
  using V = typename T::V;
  const V start = K::start(V{});
  V acc = start;
  int j = 0;
  for (; j + 16 <= n; j += 16) acc = K::join(acc, T::load(p + j * T::size));
  if (j < n) acc = K::join(acc, select(first_lanes(n - j), T::load(p + j * T::size, n - j), start));
  return acc;
}

template <class T, class K> void reduce_rows(const OpArgs& a) {
  for (int r = 0; r < a.rows; ++r) {
    auto x = accumulate<T, K>(a.src[0] + r * a.src_rs[0], a.inner);
    x = K::join(x, fold8(x));
    x = K::join(x, fold4(x));
    x = K::join(x, fold2(x));
    x = K::join(x, fold1(x));
    T::store(a.dst + r * a.dst_rs, x, 1);
  }
}

// Sums of sixteen rows at a time share their tree.
template <class T> void sum_rows(const OpArgs& a) {
  OpArgs rest = a;
  if (a.dst_rs == T::size) {
    for (; rest.rows >= 16; rest.rows -= 16) {
      F x[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) x[i] = accumulate<T, SumOf>(rest.src[0] + i * a.src_rs[0], a.inner);
      T::store(rest.dst, tree_sums(x));
      rest.dst += 16 * a.dst_rs;
      rest.src[0] += 16 * a.src_rs[0];
    }
  }
  reduce_rows<T, SumOf>(rest);
}

// Sixteen columns: row i goes into accumulator i mod 4.
template <class T, class K, class Load> PTO_WSP_INLINE typename T::V down(const OpArgs& a, const std::byte* p, Load load) {
  using V = typename T::V;
  V acc[4] = {K::start(V{}), K::start(V{}), K::start(V{}), K::start(V{})};
  int r = 0;
  for (; r + 4 <= a.inner; r += 4)
    for (int i = 0; i < 4; ++i) acc[i] = K::join(acc[i], load(p + (r + i) * a.src_rs[0]));
  for (int i = 0; r < a.inner; ++r, ++i) acc[i] = K::join(acc[i], load(p + r * a.src_rs[0]));
  return K::join(K::join(acc[0], acc[2]), K::join(acc[1], acc[3]));
}

template <class T, class K> void reduce_cols(const OpArgs& a) {
  int c = 0;
  for (; c + 16 <= a.cols; c += 16)
    T::store(a.dst + c * T::size, down<T, K>(a, a.src[0] + c * T::size, [](const std::byte* p) { return T::load(p); }));
  if (c < a.cols) {
    const int n = a.cols - c;
    T::store(a.dst + c * T::size, down<T, K>(a, a.src[0] + c * T::size, [n](const std::byte* p) { return T::load(p, n); }), n);
  }
}

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
