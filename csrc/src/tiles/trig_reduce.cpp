#include "trig_reduce.hpp"

#include <bit>

namespace pto_wsp::tiles {

Turn reduce_huge(float x) noexcept {
  // The binary digits of 2/pi, with two words of zeros in front: bit b counted from the left is worth 2^(63 - b).
  static constexpr std::uint32_t two_over_pi[] = {0,          0,          0xa2f9836e, 0x4e441529, 0xfc2757d1,
                                                  0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint64_t mantissa = (bits & 0x7fffff) | 0x800000;
  const unsigned first = (bits >> 23) - 150 + 32;  // x = mantissa * 2^(first - 32), first in [10, 136]

  // Four words of digits from the one that x's exponent makes worth 2^31 mantissas: those before add multiples of 2^32 quarter
  // turns, those after less than 2^-72.
  const unsigned word = first / 32;
  const unsigned shift = first % 32;
  auto digits = [&](unsigned i) -> std::uint64_t {
    const std::uint64_t pair = (std::uint64_t{two_over_pi[word + i]} << 32) | two_over_pi[word + i + 1];
    return static_cast<std::uint32_t>(pair >> (32 - shift));
  };
  const std::uint64_t last = mantissa * digits(3);
  const std::uint64_t low = mantissa * digits(2) + (last >> 32);
  const std::uint64_t mid = mantissa * digits(1) + (low >> 32);
  const std::uint64_t high = mantissa * digits(0) + (mid >> 32);
  const std::uint64_t fraction = (mid << 32) | (low & 0xffffffff);  // of a quarter turn, in units of 2^-64

  // To the nearest quarter turn: the fraction as a signed number.
  const auto quarter_turns = static_cast<std::uint32_t>(high) + static_cast<std::uint32_t>(fraction >> 63);
  const double rest = static_cast<double>(static_cast<std::int64_t>(fraction)) * (0x1p-64 * 1.5707963267948966);
  return {static_cast<float>(rest), static_cast<std::int32_t>(quarter_turns & 3)};
}

}  // namespace pto_wsp::tiles
