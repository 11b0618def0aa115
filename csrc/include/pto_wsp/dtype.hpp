#pragma once
// Element types of tensors, with the codes the plan format uses.

#include <cstddef>
#include <cstdint>

namespace pto_wsp {

enum class DType : std::uint8_t { f32 = 0, f16 = 1, bf16 = 2, i32 = 3, boolean = 4, i64 = 5, u64 = 6, f64 = 7 };

inline constexpr std::uint32_t dtype_count = 8;
/// Tiles have the first of them; the others are of tensors that scalars are read from, and of scalars.
inline constexpr std::uint32_t tile_dtype_count = 5;

constexpr std::size_t size_of(DType t) noexcept {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::boolean: return 1;
    case DType::i64:
    case DType::u64:
    case DType::f64: return 8;
  }
  return 0;
}

constexpr const char* name_of(DType t) noexcept {
  switch (t) {
    case DType::f32: return "f32";
    case DType::f16: return "f16";
    case DType::bf16: return "bf16";
    case DType::i32: return "i32";
    case DType::boolean: return "bool";
    case DType::i64: return "i64";
    case DType::u64: return "u64";
    case DType::f64: return "f64";
  }
  return "?";
}

constexpr bool is_float(DType t) noexcept {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::f64;
}

/// The type of a scalar read from a tensor: i64, u64, f64 or boolean.
constexpr DType scalar_of(DType t) noexcept {
  if (t == DType::boolean || t == DType::u64) return t;
  return is_float(t) ? DType::f64 : DType::i64;
}

}  // namespace pto_wsp
