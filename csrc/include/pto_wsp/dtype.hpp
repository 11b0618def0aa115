#pragma once
// Element types of tensors, with the codes the plan format uses.

#include <cstddef>
#include <cstdint>

namespace pto_wsp {

enum class DType : std::uint8_t {
  f32 = 0, f16 = 1, bf16 = 2, i32 = 3, boolean = 4, i64 = 5, u64 = 6, f64 = 7, i8 = 8, i16 = 9, u8 = 10, u16 = 11, u32 = 12,
  f8e4m3 = 13, f8e5m2 = 14,  // four bits of exponent without infinities, and five with
};

inline constexpr std::uint32_t dtype_count = 15;

constexpr std::size_t size_of(DType t) noexcept {
  constexpr std::size_t sizes[dtype_count] = {4, 2, 2, 4, 1, 8, 8, 8, 1, 2, 1, 2, 4, 1, 1};
  return sizes[static_cast<std::size_t>(t)];
}

constexpr const char* name_of(DType t) noexcept {
  constexpr const char* names[dtype_count] = {"f32", "f16", "bf16", "i32", "bool", "i64", "u64", "f64",
                                              "i8", "i16", "u8", "u16", "u32", "f8e4m3", "f8e5m2"};
  return names[static_cast<std::size_t>(t)];
}

constexpr bool is_float(DType t) noexcept {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::f64 || t == DType::f8e4m3 || t == DType::f8e5m2;
}

constexpr bool is_unsigned(DType t) noexcept { return t == DType::u8 || t == DType::u16 || t == DType::u32 || t == DType::u64; }

/// The type of a scalar read from a tensor: i64, u64, f64 or boolean.
constexpr DType scalar_of(DType t) noexcept {
  if (t == DType::boolean) return t;
  if (is_unsigned(t)) return DType::u64;
  return is_float(t) ? DType::f64 : DType::i64;
}

}  // namespace pto_wsp
