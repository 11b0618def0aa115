// Runs a planned kernel. Small kernels are the common case: what a step needs is worked out with a few additions, no table is
// built but the one of bases.

#include <algorithm>
#include <cstring>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

struct Base {
  std::byte* data;
  std::int64_t stride;
};

inline std::byte* address(const Place& p, const Base* bases, std::int64_t row, std::ptrdiff_t& stride) noexcept {
  const Base& b = bases[p.base];
  stride = (p.stride + b.stride) & p.stride_mask;
  return b.data + p.offset + (row & p.advance_mask) * stride;
}

struct Run {
  const KernelImpl& k;
  std::span<const Arg> args;
  const Base* bases;
  std::size_t isa;
  std::byte* work;
  bool full;

  std::int32_t size(const DimRef& d) const noexcept { return full ? d.value : resolve(d, args); }

  // Rows from `row` on, at most `strip`.
  void step(const Step& s, std::int32_t row, std::int32_t strip) const noexcept {
    OpArgs a;
    const std::int32_t left = size(s.rows) - row;
    a.rows = left < strip ? left : strip;
    if (a.rows <= 0) return;
    a.cols = size(s.cols);
    a.inner = size(s.inner);
    a.row0 = row;
    a.bcast = s.bcast;
    a.imm = s.imm;
    a.work = work;
    a.dst = address(s.dst, bases, row, a.dst_rs);
    for (unsigned i = 0; i < s.n_src; ++i) a.src[i] = address(s.src[i], bases, row, a.src_rs[i]);
    s.fn[isa](a);
  }

  void all() const noexcept {
    if (k.one_strip) {
      for (const Step& s : k.steps) step(s, 0, INT32_MAX);
      return;
    }
    for (const Group& g : k.groups) {
      const std::span<const Step> steps(k.steps.data() + g.first, g.count);
      std::int32_t rows = 0;
      for (const Step& s : steps) rows = std::max(rows, size(s.rows));
      for (std::int32_t row = 0; row < rows; row += g.strip)
        for (const Step& s : steps) step(s, row, g.strip);
    }
  }
};

template <class T> void copy_elements(std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                                      std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < cols; ++c) std::memcpy(dst + r * dst_down + c * dst_right, src + r * src_down + c * src_right, sizeof(T));
}

void copy_strided(std::size_t size, std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                  std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  switch (size) {
    case 1: return copy_elements<std::uint8_t>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    case 2: return copy_elements<std::uint16_t>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    default: return copy_elements<std::uint32_t>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
  }
}

bool side_by_side(const TileArg& t, DType dtype) noexcept { return t.cols == 1 || t.col_stride == static_cast<std::int64_t>(size_of(dtype)); }

}  // namespace

void Kernel::run(std::span<const Arg> args, std::byte* scratch) const noexcept {
  const KernelImpl& k = *impl_;
  constexpr std::size_t max_bases = 2 + 256;  // as many as decoding allows
  Base bases[max_bases];
  bases[0] = {scratch, 0};
  bases[1] = {const_cast<std::byte*>(k.constants.data()), 0};  // read only
  bool full = true, staged = false;
  for (const Staging& s : k.staging) {
    const TileArg& t = args[s.param].tile;
    const Param& p = k.program.params[s.param];
    full = full && t.rows == p.rows && t.cols == p.cols;
    if (side_by_side(t, p.dtype)) {
      bases[2 + s.param] = {t.data, t.row_stride};
      continue;
    }
    staged = true;
    std::byte* copy = scratch + s.offset;
    bases[2 + s.param] = {copy, s.stride};
    const auto size = size_of(p.dtype);
    if (s.read) copy_strided(size, copy, s.stride, static_cast<std::int64_t>(size), t.data, t.row_stride, t.col_stride, t.rows, t.cols);
  }
  for (const ScalarSlot& s : k.scalars) encode_scalar(args[s.param].scalar, s.dtype, scratch + s.offset);

  Run{k, args, bases, static_cast<std::size_t>(active_isa()), scratch + k.work_offset, full}.all();

  if (!staged) return;
  for (const Staging& s : k.staging) {
    const TileArg& t = args[s.param].tile;
    const auto size = size_of(k.program.params[s.param].dtype);
    if (!s.written || side_by_side(t, k.program.params[s.param].dtype)) continue;
    copy_strided(size, t.data, t.row_stride, t.col_stride, scratch + s.offset, s.stride, static_cast<std::int64_t>(size), t.rows, t.cols);
  }
}

}  // namespace pto_wsp
