#pragma once
// Range reduction of sin and cos for arguments too large for subtracting multiples of pi/2.

#include <cstdint>

namespace pto_wsp::tiles {

// A quarter turn's number mod 4 and what is left: x = (4k + quadrant) * pi/2 + rest, |rest| <= pi/4 and a little.
struct Turn {
  float rest;
  std::int32_t quadrant;
};

// Needs x finite and x >= 2. M. Payne and R. Hanek, "Radian reduction for trigonometric functions", SIGNUM 18 (1983).
Turn reduce_huge(float x) noexcept;

}  // namespace pto_wsp::tiles
