// Operations on the scalars of workloads, and the elements of tensors as scalars. A scalar is 64 bits: an i64, a u64, an
// f64, or a bool as 0 or 1. f64 arithmetic needs an FpEnv alive in the thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// zero_divisor: the dividend is operand 0. shift: operand 1 is outside 0 .. 63. cast_range: a float that is NaN or whose integer
/// part the type does not have. overflow: of a checked operation. empty: the largest or smallest of nothing.
enum class ScalarStatus : std::uint8_t { ok, overflow, zero_divisor, shift, cast_range, empty };

constexpr const char* name_of(ScalarStatus s) noexcept {
  constexpr const char* names[] = {"ok", "overflow", "zero_divisor", "shift", "cast_range", "empty"};
  return names[static_cast<std::size_t>(s)];
}

/// `op` on arity(op) operands of `type` (where: a bool and two of `type`), for which it exists. Integers wrap unless `checked`.
/// Division is floored: of floats as Python's float // and %. `to` is of a cast.
ScalarStatus compute(ScalarOp op, DType type, DType to, bool checked, const std::uint64_t* operands, std::uint64_t& out) noexcept;

/// The element at `p`, which needs no alignment, as a scalar of scalar_of(dtype).
std::uint64_t load_scalar(const std::byte* p, DType dtype) noexcept;

/// Writes a value of `dtype`, given as 64 bits of scalar_of(dtype), as an element at `p`, which needs no alignment. Integers wrap.
void store_scalar(std::uint64_t bits, DType dtype, std::byte* p) noexcept;

/// Of a type of floats: the bits of its significand, the exponent of its smallest normal number, its largest number.
int significand_bits(DType t) noexcept;
int smallest_exponent(DType t) noexcept;
double largest_of(DType t) noexcept;
/// `v` rounded once, to nearest even, to a type of floats: as a number that it holds. What is too large is infinite, of f8e4m3 NaN.
double round_float(double v, DType dtype) noexcept;

/// A box of elements of any strides, in bytes.
struct Elements {
  const std::byte* data = nullptr;
  DType dtype{};
  std::uint32_t n_dims = 0;
  std::array<std::int64_t, max_dims> length{}, stride{};
};

/// Sums wrap, those of floats are f64 from 0 in row-major order; max and min propagate NaN, max(-0, +0) = +0 and min = -0.
ScalarStatus reduce(ReadKind kind, const Elements& elements, std::uint64_t& out) noexcept;

/// A scalar of `type` rounded once, to nearest even, to the `dtype` of a kernel's parameter, as 64 bits of scalar_of(dtype). False:
/// an integer that does not fit; a float that is too large becomes infinite. Floats do not become integers.
bool to_scalar(std::uint64_t bits, DType type, DType dtype, std::uint64_t& out) noexcept;
bool to_scalar(std::int64_t v, DType dtype, std::uint64_t& out) noexcept;
/// Whether 64 bits of scalar_of(dtype) are a value of an integer or boolean `dtype`.
bool fits(std::uint64_t bits, DType dtype) noexcept;

}  // namespace pto_wsp
