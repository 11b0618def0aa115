// The tile operations in plain C++.
// Everything but the table's entry has internal linkage, so that no other file can end up with this level's code.

#define PTO_WSP_LEVEL level_portable

#include "simd_portable.hpp"

namespace pto_wsp::tiles::PTO_WSP_LEVEL {
namespace {
constexpr int tile_rows = 4;          // of matmul's block: what the registers hold
constexpr int wide_vectors = 4;       // of one or two rows of a product
constexpr int chains = 6;              // of fused multiply-adds that hide their latency
constexpr bool dots_by_four = true;
}  // namespace
}  // namespace pto_wsp::tiles::PTO_WSP_LEVEL

#include "find.hpp"
#include "levels.hpp"
#include "peak.hpp"

namespace pto_wsp::tiles {

OpFn find_portable(Op op, DType src, DType dst) noexcept { return PTO_WSP_LEVEL::find_here(op, src, dst); }

Peak peak_portable() noexcept { return PTO_WSP_LEVEL::peak_here(); }

}  // namespace pto_wsp::tiles
