#pragma once
// The instruction set level the tile operations use. All levels give the same bits; the level decides speed alone.

#include <cstdint>

namespace pto_wsp {

enum class Isa : std::uint8_t { portable = 0, avx2 = 1, avx512 = 2 };

inline constexpr int isa_count = 3;

constexpr const char* name_of(Isa isa) noexcept {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "?";
}

// Whether this build has the level and this machine can run it.
bool supports(Isa isa) noexcept;
// The fastest level supported here.
Isa best_isa() noexcept;
// The level kernels use; best_isa() until set_isa is called.
Isa active_isa() noexcept;
// For tests and comparisons; kernels that start later use `isa`. Throws std::invalid_argument if it is not supported.
void set_isa(Isa isa);

// Round to nearest, subnormals kept, exceptions masked, for as long as it lives; then what was there before.
// Threads of other runtimes may come with flush-to-zero set.
class FpEnv {
 public:
  FpEnv() noexcept;
  ~FpEnv();
  FpEnv(const FpEnv&) = delete;
  FpEnv& operator=(const FpEnv&) = delete;

 private:
  std::uint64_t saved_;
};

}  // namespace pto_wsp
