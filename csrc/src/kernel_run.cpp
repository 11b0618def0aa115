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

// `Full`: every argument has all its rows and columns, sizes are the static ones. `Strips`: rows in pieces.
template <bool Full, bool Strips> struct Run {
  const KernelImpl& k;
  std::span<const Arg> args;
  const Base* bases;
  std::size_t isa;
  std::byte* work;
  IndexFault* fault;

  std::int32_t size(const DimRef& d) const noexcept { return Full ? d.value : resolve(d, args); }

  std::byte* address(const Place& p, std::int64_t row, std::ptrdiff_t& stride) const noexcept {
    const Base& b = bases[p.base];
    stride = (p.stride + b.stride) & p.stride_mask;
    return b.data + p.offset + (Strips ? (row & p.advance_mask) * stride : 0);
  }

  // Rows from `row` on, at most `strip`.
  void step(const Step& s, std::int32_t row, std::int32_t strip) const noexcept {
    OpArgs a;
    a.rows = size(s.rows);
    if constexpr (Strips) {
      a.rows = std::min(a.rows - row, strip);
      if (a.rows <= 0) return;
    }
    a.cols = size(s.cols);
    a.inner = size(s.inner);
    a.outer = size(s.outer);
    a.row0 = row;
    a.bcast = s.bcast;
    a.imm = s.imm;
    a.at = s.at.data();
    a.work = work;
    a.instr = s.instr;
    a.fault = fault;
    a.dst = address(s.dst, row, a.dst_rs);
    a.src[0] = address(s.src[0], row, a.src_rs[0]);
    a.src[1] = address(s.src[1], row, a.src_rs[1]);
    if (s.n_src > 2) a.src[2] = address(s.src[2], row, a.src_rs[2]);
    s.fn[isa](a);
  }

  void all() const noexcept {
    if constexpr (!Strips) {
      for (const Step& s : k.steps) step(s, 0, 0);
    } else {
      for (const Group& g : k.groups) {
        const std::span<const Step> steps(k.steps.data() + g.first, g.count);
        std::int32_t rows = 0;
        for (const Step& s : steps) rows = std::max(rows, size(s.rows));
        for (std::int32_t row = 0; row < rows; row += g.strip)
          for (const Step& s : steps) step(s, row, g.strip);
      }
    }
  }
};

// Between a gathered argument and its copy, row after row.
template <std::size_t size, bool Out>
void copy_gathered(std::byte* copy, std::int64_t copy_stride, const TileArg& t) noexcept {
  for (std::int32_t r = 0; r < t.rows; ++r) {
    std::byte* const row = t.data + (t.row_index != nullptr ? t.row_index[r] : r) * t.row_stride;
    std::byte* const line = copy + r * copy_stride;
    if (t.col_index == nullptr && t.col_stride == static_cast<std::int64_t>(size)) {
      const std::size_t bytes = size * static_cast<std::size_t>(t.cols);
      std::memcpy(Out ? row : line, Out ? line : row, bytes);
      continue;
    }
    for (std::int32_t c = 0; c < t.cols; ++c) {
      std::byte* const element = row + (t.col_index != nullptr ? t.col_index[c] : c) * t.col_stride;
      std::byte* const place = line + c * static_cast<std::int64_t>(size);
      std::memcpy(Out ? element : place, Out ? place : element, size);
    }
  }
}

template <bool Out>
void copy_gathered(std::int64_t size, std::byte* copy, std::int64_t copy_stride, const TileArg& t) noexcept {
  switch (size) {
    case 1: return copy_gathered<1, Out>(copy, copy_stride, t);
    case 2: return copy_gathered<2, Out>(copy, copy_stride, t);
    default: return copy_gathered<4, Out>(copy, copy_stride, t);
  }
}

template <std::size_t size>
void copy_elements(std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                   std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < cols; ++c) std::memcpy(dst + r * dst_down + c * dst_right, src + r * src_down + c * src_right, size);
}

void copy_strided(std::int64_t size, std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                  std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  switch (size) {
    case 1: return copy_elements<1>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    case 2: return copy_elements<2>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    default: return copy_elements<4>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
  }
}

inline bool gathered(const TileArg& t) noexcept { return t.row_index != nullptr || t.col_index != nullptr; }

inline bool in_place(const TileArg& t, const Staging& s) noexcept {
  return (t.col_stride == s.element_bytes || t.cols == 1) && !gathered(t);
}

}  // namespace

IndexFault Kernel::run(std::span<const Arg> args, std::byte* scratch) const noexcept {
  const KernelImpl& k = *impl_;
  constexpr std::size_t max_bases = 2 + 256;  // as many as decoding allows
  Base bases[max_bases];
  bases[0] = {scratch, 0};
  bases[1] = {const_cast<std::byte*>(k.constants.data()), 0};  // read only
  bool full = true, staged = false;
  for (const Staging& s : k.staging) {
    const TileArg& t = args[s.param].tile;
    full = full && t.rows == s.rows && t.cols == s.cols;
    if (in_place(t, s)) [[likely]] {
      bases[2 + s.param] = {t.data, t.row_stride};
      continue;
    }
    staged = true;
    std::byte* copy = scratch + s.offset;
    bases[2 + s.param] = {copy, s.stride};
    if (!s.read) continue;
    if (gathered(t)) copy_gathered<false>(s.element_bytes, copy, s.stride, t);
    else copy_strided(s.element_bytes, copy, s.stride, s.element_bytes, t.data, t.row_stride, t.col_stride, t.rows, t.cols);
  }
  for (const ScalarSlot& s : k.scalars) encode_scalar(args[s.param].scalar, s.dtype, scratch + s.offset);

  const auto isa = static_cast<std::size_t>(active_isa());
  std::byte* work = scratch + k.work_offset;
  IndexFault fault;
  if (k.one_strip && full) Run<true, false>{k, args, bases, isa, work, &fault}.all();
  else if (k.one_strip) Run<false, false>{k, args, bases, isa, work, &fault}.all();
  else if (full) Run<true, true>{k, args, bases, isa, work, &fault}.all();
  else Run<false, true>{k, args, bases, isa, work, &fault}.all();

  if (!staged) return fault;
  for (const Staging& s : k.staging) {
    const TileArg& t = args[s.param].tile;
    if (!s.written || in_place(t, s)) continue;
    if (gathered(t)) copy_gathered<true>(s.element_bytes, scratch + s.offset, s.stride, t);
    else copy_strided(s.element_bytes, t.data, t.row_stride, t.col_stride, scratch + s.offset, s.stride, s.element_bytes, t.rows, t.cols);
  }
  return fault;
}

}  // namespace pto_wsp
