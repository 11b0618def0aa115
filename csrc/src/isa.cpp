#include "pto_wsp/isa.hpp"

#include <atomic>
#include <stdexcept>
#include <string>

#include "pto_wsp/tile_ops.hpp"
#include "tiles/levels.hpp"

// PTO_WSP_X86_64 is set by the build where it compiles tiles/avx2.cpp and tiles/avx512.cpp.
#ifdef PTO_WSP_X86_64
#include <immintrin.h>
#else
#include <cfenv>
#endif

namespace pto_wsp {
namespace {

#ifdef PTO_WSP_X86_64
bool detect(Isa isa) noexcept {
  switch (isa) {
    case Isa::portable: return true;
    case Isa::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return detect(Isa::avx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
  return false;
}
#else
bool detect(Isa isa) noexcept { return isa == Isa::portable; }
#endif

std::atomic<Isa> chosen{best_isa()};

}  // namespace

bool supports(Isa isa) noexcept { return detect(isa); }

Isa best_isa() noexcept {
  static const Isa best = detect(Isa::avx512) ? Isa::avx512 : detect(Isa::avx2) ? Isa::avx2 : Isa::portable;
  return best;
}

Isa active_isa() noexcept { return chosen.load(std::memory_order_relaxed); }

void set_isa(Isa isa) {
  if (!supports(isa)) throw std::invalid_argument(std::string("this machine or build has no ") + name_of(isa));
  chosen.store(isa, std::memory_order_relaxed);
}

OpFn find_op(Isa isa, Op op, DType src, DType dst) noexcept {
  if (const OpFn shared = tiles::find_move(op, src, dst)) return shared;
  if (const OpFn shared = tiles::find_order(op, src, dst)) return shared;
  if (const OpFn shared = tiles::find_convert(op, src, dst)) return shared;
  if (const OpFn shared = tiles::find_plain(op, src, dst)) return shared;
  switch (isa) {
    case Isa::portable: return tiles::find_portable(op, src, dst);
#ifdef PTO_WSP_X86_64
    case Isa::avx2: return tiles::find_avx2(op, src, dst);
    case Isa::avx512: return tiles::find_avx512(op, src, dst);
#else
    case Isa::avx2:
    case Isa::avx512: break;
#endif
  }
  return nullptr;
}

std::size_t matmul_work_bytes(std::int32_t m, std::int32_t n, std::int32_t k) noexcept {
  const auto up = [](std::int32_t x, std::int32_t limit, std::int32_t multiple) {
    return static_cast<std::size_t>(((x < limit ? x : limit) + multiple - 1) / multiple * multiple);
  };
  const std::size_t depth = up(k, tiles::piece_k, 1), rows = up(m, tiles::piece_m, 1), gap = tiles::line_gap;
  return (4 * (depth * up(n, tiles::piece_n, tiles::panel) + (depth + gap) * (rows + gap)) + 63) / 64 * 64;
}

// The control word with all exceptions masked, rounding to nearest, no flushing.
#ifdef PTO_WSP_X86_64
FpEnv::FpEnv() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
FpEnv::~FpEnv() { _mm_setcsr(static_cast<unsigned>(saved_)); }
#else
static_assert(sizeof(std::uint64_t) >= sizeof(int));
FpEnv::FpEnv() noexcept : saved_(static_cast<std::uint64_t>(std::fegetround())) { std::fesetround(FE_TONEAREST); }
FpEnv::~FpEnv() { std::fesetround(static_cast<int>(saved_)); }
#endif

}  // namespace pto_wsp
