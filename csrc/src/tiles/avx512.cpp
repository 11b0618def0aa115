// The tile operations for AVX-512; compiled with -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c.
// Everything but the table's entry has internal linkage, so that no other file can end up with this level's code.

#define PTO_WSP_LEVEL level_avx512

#include "simd_avx512.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {
constexpr int tile_rows = 12;         // of matmul's block: what the registers hold
constexpr int wide_vectors = 8;       // of one or two rows of a product
constexpr int chains = 12;             // of fused multiply-adds that hide their latency
constexpr bool dots_by_four = true;
}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL

#include "find.hpp"
#include "levels.hpp"
#include "peak.hpp"

namespace pto_wsp::tiles {

OpFn find_avx512(Op op, DType src, DType dst) noexcept { return PTO_WSP_LEVEL::find_here(op, src, dst); }

Peak peak_avx512() noexcept { return PTO_WSP_LEVEL::peak_here(); }

}  // namespace pto_wsp::tiles
