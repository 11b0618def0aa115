#pragma once
// Element types of tiles, with the codes the plan format uses.

#include <cstddef>
#include <cstdint>

namespace pto_wsp {

enum class DType : std::uint8_t { f32 = 0, f16 = 1, bf16 = 2, i32 = 3, boolean = 4 };

inline constexpr std::uint32_t dtype_count = 5;

constexpr std::size_t size_of(DType t) noexcept {
  switch (t) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::f16:
    case DType::bf16: return 2;
    case DType::boolean: return 1;
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
  }
  return "?";
}

constexpr bool is_float(DType t) noexcept { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

}  // namespace pto_wsp
