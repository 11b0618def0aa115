// The tile operations for AVX2 with FMA and F16C; compiled with -mavx2 -mfma -mf16c.
// Everything but the table's entry has internal linkage, so that no other file can end up with this level's code.

#define PTO_WSP_LEVEL level_avx2

#include "simd_avx2.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {
constexpr int tile_rows = 4;          // of matmul's block: what the registers hold
constexpr int wide_vectors = 4;       // of one or two rows of a product
constexpr int chains = 6;              // of fused multiply-adds that hide their latency
constexpr bool dots_by_four = false;
}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL

#include "find.hpp"
#include "levels.hpp"
#include "peak.hpp"

namespace pto_wsp::tiles {

OpFn find_avx2(Op op, DType src, DType dst) noexcept { return PTO_WSP_LEVEL::find_here(op, src, dst); }

Peak peak_avx2() noexcept { return PTO_WSP_LEVEL::peak_here(); }

}  // namespace pto_wsp::tiles
