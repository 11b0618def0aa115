#pragma once
// One table a level; isa.cpp asks only for those the build has.

#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp::tiles {

// matmul works on pieces of at most piece_m x piece_n outputs and piece_k products; b's panels are `panel` columns wide,
// copied lines of a end in a gap.
inline constexpr int panel = 32;
inline constexpr int piece_k = 256;
inline constexpr int piece_n = 1024;
inline constexpr int piece_m = 128;
inline constexpr int line_gap = 16;

OpFn find_portable(Op op, DType src, DType dst) noexcept;
OpFn find_avx2(Op op, DType src, DType dst) noexcept;
OpFn find_avx512(Op op, DType src, DType dst) noexcept;

// Loops that measure the machine (limits.hpp). fma: `n` rounds of `flops` operations each; read, copy: `n` bytes. `sink` has 64
// bytes, which fma also reads.
struct PeakArgs {
  std::size_t n;
  const std::byte* from;
  std::byte* to;
  std::byte* sink;
};
struct Peak {
  void (*fma)(const PeakArgs&);
  void (*read)(const PeakArgs&);
  void (*copy)(const PeakArgs&);
  std::uint64_t flops;
};
Peak peak_portable() noexcept;
Peak peak_avx2() noexcept;
Peak peak_avx512() noexcept;

// What all levels share: moves.cpp, order.cpp, convert.cpp, plain.cpp.
OpFn find_move(Op op, DType src, DType dst) noexcept;
OpFn find_order(Op op, DType src, DType dst) noexcept;
OpFn find_convert(Op op, DType src, DType dst) noexcept;
OpFn find_plain(Op op, DType src, DType dst) noexcept;

}  // namespace pto_wsp::tiles
