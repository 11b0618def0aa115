// Runs a planned kernel. Small kernels are the common case: what a step needs is worked out with a few additions, no table is
// built but the one of bases.

#include <algorithm>
#include <cstring>

#include "kernel_impl.hpp"
#include "kernel_steps.hpp"

namespace pto_wsp {
namespace {

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
    case 4: return copy_gathered<4, Out>(copy, copy_stride, t);
    default: return copy_gathered<8, Out>(copy, copy_stride, t);
  }
}

inline bool gathered(const TileArg& t) noexcept { return t.row_index != nullptr || t.col_index != nullptr; }

inline bool in_place(const TileArg& t, const Staging& s) noexcept {
  if ((t.col_stride != s.element_bytes && t.cols != 1) || gathered(t)) return false;
  return ((reinterpret_cast<std::intptr_t>(t.data) | t.row_stride) & s.misaligned) == 0;
}

}  // namespace

Fault Kernel::run(std::span<const Arg> args, std::byte* scratch, const std::atomic<bool>* stop) const noexcept {
  const KernelImpl& k = *impl_;
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
  for (const ScalarSlot& s : k.scalars) store_scalar(args[s.param].scalar, s.dtype, scratch + s.offset);

  Fault fault;
  const Machine machine = {k, args, bases, scratch, static_cast<std::size_t>(active_isa()), &fault, stop};
  if (k.program.cpp >= 0) run_cpp(machine);
  else if (k.program.structured) run_structured(machine);
  else if (const Native* native = k.native.load(std::memory_order_acquire)) {
    if (full) Run<true, true>{machine, nullptr}.linked(*native, k.groups);
    else Run<false, true>{machine, nullptr}.linked(*native, k.groups);
  } else if (k.one_strip && full) Run<true, false>{machine, nullptr}.all();
  else if (k.one_strip) Run<false, false>{machine, nullptr}.all();
  else if (full) Run<true, true>{machine, nullptr}.all();
  else Run<false, true>{machine, nullptr}.all();

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
