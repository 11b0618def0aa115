// Integer intervals that cannot overflow: what an affine form can be, given what its registers can be.
#pragma once

#include <cstdint>
#include <span>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

__extension__ typedef __int128 Wide;

/// Closed interval. Sums saturate far outside the 64-bit range, so `fits()` never lies.
struct Interval {
  Wide lo = 0, hi = 0;

  static Interval point(std::int64_t v) { return {v, v}; }
  bool is_point() const { return lo == hi; }
  bool fits() const { return lo >= INT64_MIN && hi <= INT64_MAX; }
};

/// What is known of a register: its range, and whether every value of the range occurs with every
/// combination of the other exact registers (symbols, loops of a constant extent).
struct Range {
  std::int64_t lo = 0, hi = 0;
  bool exact = false;
};

/// The range of `a` over `regs`. Exact when all registers are.
Interval interval_of(const Affine& a, std::span<const Range> regs);

/// The range of `a - b`, taken as one form, so that what both share cancels.
Interval interval_of_difference(const Affine& a, const Affine& b, std::span<const Range> regs);

/// Whether every register of `a` has an exact range.
bool is_exact(const Affine& a, std::span<const Range> regs);

/// The range of an EVAL's result when it is defined.
Interval interval_of(EvalOp op, Interval a, Interval b);

/// The value of `a`, false when it leaves 64 bits.
bool evaluate(const Affine& a, std::span<const std::int64_t> regs, std::int64_t& out);

enum class EvalStatus : std::uint8_t { ok, zero_divisor, overflow };

/// `op` on 64-bit integers: floored division and modulus.
EvalStatus evaluate(EvalOp op, std::int64_t a, std::int64_t b, std::int64_t& out);

}  // namespace pto_wsp
