#pragma once
// How each element type gets from memory into lanes and back.

#include "pto_wsp/tile_ops.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {

struct F32 {
  using V = F;
  static constexpr int size = 4;
  static constexpr bool is_float = true;
  PTO_WSP_INLINE static V load(const std::byte* p) { return load_f32(p); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return load_f32(p, n); }
  PTO_WSP_INLINE static void store(std::byte* p, V x) { store_f32(p, x); }
  PTO_WSP_INLINE static void store(std::byte* p, V x, int n) { store_f32(p, x, n); }
  PTO_WSP_INLINE static float scalar(const std::byte* p) {
    float x;
    std::memcpy(&x, p, 4);
    return x;
  }
  PTO_WSP_INLINE static V repeat(const std::byte* p) { return splat(scalar(p)); }
};

struct I32 {
  using V = I;
  static constexpr int size = 4;
  static constexpr bool is_float = false;
  PTO_WSP_INLINE static V load(const std::byte* p) { return load_i32(p); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return load_i32(p, n); }
  PTO_WSP_INLINE static void store(std::byte* p, V x) { store_i32(p, x); }
  PTO_WSP_INLINE static void store(std::byte* p, V x, int n) { store_i32(p, x, n); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) {
    std::int32_t x;
    std::memcpy(&x, p, 4);
    return splat(x);
  }
};

// Integers of a byte as whole floats, for products: those of 256 pairs add up exactly.
struct U8 {
  using V = F;
  static constexpr int size = 1;
  static constexpr bool is_float = false;
  PTO_WSP_INLINE static V load(const std::byte* p) { return to_float(load_u8(p)); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return to_float(load_u8(p, n)); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) { return splat(static_cast<float>(static_cast<std::uint8_t>(*p))); }
};
struct I8 {
  using V = F;
  static constexpr int size = 1;
  static constexpr bool is_float = false;
  PTO_WSP_INLINE static V load(const std::byte* p) { return to_float(sar<24>(shl<24>(load_u8(p)))); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return to_float(sar<24>(shl<24>(load_u8(p, n)))); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) { return splat(static_cast<float>(static_cast<std::int8_t>(*p))); }
};

struct F16 {
  using V = F;
  static constexpr int size = 2;
  static constexpr bool is_float = true;
  PTO_WSP_INLINE static V load(const std::byte* p) { return load_f16(p); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return load_f16(p, n); }
  PTO_WSP_INLINE static void store(std::byte* p, V x) { store_f16(p, x); }
  PTO_WSP_INLINE static void store(std::byte* p, V x, int n) { store_f16(p, x, n); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) {
    std::byte copies[32];
    for (int i = 0; i < 16; ++i) std::memcpy(copies + 2 * i, p, 2);
    return load_f16(copies);
  }
};

// The upper half of an f32. Rounding: half of the last place kept is added, one less where that place is even; a NaN stays one.
struct BF16 {
  using V = F;
  static constexpr int size = 2;
  static constexpr bool is_float = true;
  PTO_WSP_INLINE static V load(const std::byte* p) { return from_bits(shl<16>(load_u16(p))); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return from_bits(shl<16>(load_u16(p, n))); }
  PTO_WSP_INLINE static I round(V x) {
    const I b = bits(x);
    const I up = add(add(b, splat(0x7fff)), bit_and(shr<16>(b), splat(1)));
    return shr<16>(select(unordered(x, x), bit_or(b, splat(0x400000)), up));
  }
  PTO_WSP_INLINE static void store(std::byte* p, V x) { store_u16(p, round(x)); }
  PTO_WSP_INLINE static void store(std::byte* p, V x, int n) { store_u16(p, round(x), n); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) {
    std::uint16_t x;
    std::memcpy(&x, p, 2);
    return from_bits(splat(static_cast<std::int32_t>(static_cast<std::uint32_t>(x) << 16)));
  }
};

struct Bool {
  using V = M;
  static constexpr int size = 1;
  static constexpr bool is_float = false;
  PTO_WSP_INLINE static V load(const std::byte* p) { return load_mask(p); }
  PTO_WSP_INLINE static V load(const std::byte* p, int n) { return load_mask(p, n); }
  PTO_WSP_INLINE static void store(std::byte* p, V x) { store_mask(p, x); }
  PTO_WSP_INLINE static void store(std::byte* p, V x, int n) { store_mask(p, x, n); }
  PTO_WSP_INLINE static V repeat(const std::byte* p) { return splat_mask(*p != std::byte{0}); }
};

}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL
