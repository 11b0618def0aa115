#pragma once
// Running sums along rows or columns: one chain of additions from +0. f16 and bf16 are added up in f32, each sum rounded once.

#include "math.hpp"
#include "types.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

PTO_WSP_INLINE float add_one(float a, float b) { return a + b; }
PTO_WSP_INLINE std::int32_t add_one(std::int32_t a, std::int32_t b) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(a) + static_cast<std::uint32_t>(b)); }

// Lanes 0 .. n - 1 become the sums up to each of them, starting from `sum`, which goes on.
template <class V, class Number> PTO_WSP_INLINE V chain(V x, int n, Number& sum) {
  Number lanes[16];
  std::memcpy(lanes, &x, sizeof lanes);
  for (int i = 0; i < n; ++i) lanes[i] = sum = add_one(sum, lanes[i]);
  std::memcpy(&x, lanes, sizeof lanes);
  return x;
}

PTO_WSP_INLINE float zero_of(F) { return 0.0f; }
PTO_WSP_INLINE std::int32_t zero_of(I) { return 0; }

template <class T> void sums_along_rows(const OpArgs& a) {
  for (int r = 0; r < a.rows; ++r) {
    std::byte* d = a.dst + r * a.dst_rs;
    const std::byte* s = a.src[0] + r * a.src_rs[0];
    auto sum = zero_of(typename T::V{});
    int c = 0;
    for (; c + 16 <= a.cols; c += 16) T::store(d + c * T::size, chain(T::load(s + c * T::size), 16, sum));
    if (c < a.cols) T::store(d + c * T::size, chain(T::load(s + c * T::size, a.cols - c), a.cols - c, sum), a.cols - c);
  }
}

template <class T> void sums_down_columns(const OpArgs& a) {
  for (int c = 0; c < a.cols; c += 16) {
    const int n = a.cols - c < 16 ? a.cols - c : 16;
    auto sum = splat(zero_of(typename T::V{}));
    for (int r = 0; r < a.rows; ++r) {
      std::byte* d = a.dst + r * a.dst_rs + c * T::size;
      const std::byte* s = a.src[0] + r * a.src_rs[0] + c * T::size;
      if (n == 16) T::store(d, sum = add(sum, T::load(s)));
      else T::store(d, sum = add(sum, T::load(s, n)), n);
    }
  }
}

template <class T> void cumsum(const OpArgs& a) { a.imm == 1 ? sums_along_rows<T>(a) : sums_down_columns<T>(a); }

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
