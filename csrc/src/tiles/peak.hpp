#pragma once
// The fastest loops of a level that compute nothing of use: what its registers, and what memory, can do.

#include "levels.hpp"
#include "types.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

// `n` rounds of `chains` fused multiply-adds that do not wait for each other.
inline void peak_fma(const PeakArgs& a) {
  F sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = splat(static_cast<float>(i));
  const F x = load_f32(a.sink), y = load_f32(a.sink);  // unknown to the compiler
  for (std::size_t k = 0; k < a.n; ++k)
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) sum[i] = fma(x, sum[i], y);
  for (int i = 1; i < chains; ++i) sum[0] = add(sum[0], sum[i]);
  store_f32(a.sink, sum[0]);
}

inline void peak_read(const PeakArgs& a) {
  I sum[4] = {splat(0), splat(0), splat(0), splat(0)};
  std::size_t k = 0;
  for (; k + 256 <= a.n; k += 256)
    for (int i = 0; i < 4; ++i) sum[i] = bit_or(sum[i], load_i32(a.from + k + 64 * static_cast<std::size_t>(i)));
  store_i32(a.sink, bit_or(bit_or(sum[0], sum[1]), bit_or(sum[2], sum[3])));
  for (; k < a.n; ++k) *a.sink |= a.from[k];
}

inline void peak_copy(const PeakArgs& a) {
  std::size_t k = 0;
  for (; k + 128 <= a.n; k += 128) {
    const I x = load_i32(a.from + k), y = load_i32(a.from + k + 64);
    store_i32(a.to + k, x);
    store_i32(a.to + k + 64, y);
  }
  for (; k < a.n; ++k) a.to[k] = a.from[k];
}

inline Peak peak_here() { return {peak_fma, peak_read, peak_copy, 2 * 16 * chains}; }

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
