#pragma once
// How the steps of a planned kernel are run. Shared by kernel_run.cpp and kernel_control.cpp only.

#include <algorithm>
#include <cstring>

#include "kernel_impl.hpp"

namespace pto_wsp {

// A run of a kernel.
struct Machine {
  const KernelImpl& k;
  std::span<const Arg> args;
  Base* bases;
  std::byte* scratch;
  std::size_t isa;
  Fault* fault;
  const std::atomic<bool>* stop;
};

// `Full`: every argument has all its rows and columns, sizes are the static ones. `Strips`: rows in pieces.
template <bool Full, bool Strips> struct Run {
  const Machine& m;
  const std::int64_t* regs;

  std::int32_t size(const DimRef& d) const noexcept { return Full ? d.value : resolve(d, m.args, regs); }

  std::byte* address(const Place& p, std::int64_t row, std::ptrdiff_t& stride) const noexcept {
    const Base& b = m.bases[p.base];
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
    a.work = m.scratch + m.k.work_offset;
    a.origin = s.origin;
    a.fault = m.fault;
    a.dst = address(s.dst, row, a.dst_rs);
    a.src[0] = address(s.src[0], row, a.src_rs[0]);
    a.src[1] = address(s.src[1], row, a.src_rs[1]);
    a.ahead = s.ahead >= 0 && m.bases[s.ahead].stride == a.src_rs[1] ? m.bases[s.ahead].data : nullptr;
    if (s.n_src > 2) a.src[2] = address(s.src[2], row, a.src_rs[2]);
    s.fn[m.isa](a);
  }

  void piece(const LinkedPiece& p, std::int32_t row, std::int32_t strip) const noexcept {
    const std::int32_t rows = std::min(size(p.rows) - row, strip);
    if (rows <= 0) return;
    std::int32_t sizes[most_sizes];
    for (std::size_t i = 0; i < p.sizes.size(); ++i) sizes[i] = size(p.sizes[i]);
    p.run(m.bases, sizes, row, rows);
  }

  // With compiled functions in the place of steps: `some` of the kernel's groups.
  void linked(const Native& native, std::span<const Group> some) const noexcept {
    static_assert(Strips);
    for (const Group& g : some) {
      const NativeGroup& n = native.groups[static_cast<std::size_t>(&g - m.k.groups.data())];
      if (std::ranges::any_of(n.equal, [&](const auto& e) { return size(e[0]) != size(e[1]); })) {
        groups({&g, 1});
        continue;
      }
      if (n.strip >= g.rows) {
        for (const NativeGroup::Entry& e : n.entries) {
          if (e.piece) piece(native.pieces[e.index], 0, g.rows);
          else Run<Full, false>{m, regs}.step(m.k.steps[e.index], 0, 0);
        }
        continue;
      }
      std::int32_t rows = 0;
      for (std::uint32_t i = 0; i < g.count; ++i) rows = std::max(rows, size(m.k.steps[g.first + i].rows));
      for (std::int32_t row = 0; row < rows; row += n.strip)
        for (const NativeGroup::Entry& e : n.entries) {
          if (e.piece) piece(native.pieces[e.index], row, n.strip);
          else step(m.k.steps[e.index], row, n.strip);
        }
    }
  }

  void all() const noexcept {
    if constexpr (!Strips) {
      for (const Step& s : m.k.steps) step(s, 0, 0);
    } else {
      groups(m.k.groups);
    }
  }

  void groups(std::span<const Group> some) const noexcept {
    for (const Group& g : some) {
      const std::span<const Step> steps(m.k.steps.data() + g.first, g.count);
      if constexpr (!Strips) {
        for (const Step& s : steps) step(s, 0, 0);
        continue;
      }
      std::int32_t rows = 0;
      for (const Step& s : steps) rows = std::max(rows, size(s.rows));
      for (std::int32_t row = 0; row < rows; row += g.strip)
        for (const Step& s : steps) step(s, row, g.strip);
    }
  }
};

template <std::size_t size>
inline void copy_elements(std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                   std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  for (std::int32_t r = 0; r < rows; ++r)
    for (std::int32_t c = 0; c < cols; ++c) std::memcpy(dst + r * dst_down + c * dst_right, src + r * src_down + c * src_right, size);
}

inline void copy_strided(std::int64_t size, std::byte* dst, std::int64_t dst_down, std::int64_t dst_right, const std::byte* src, std::int64_t src_down,
                  std::int64_t src_right, std::int32_t rows, std::int32_t cols) noexcept {
  switch (size) {
    case 1: return copy_elements<1>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    case 2: return copy_elements<2>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    case 4: return copy_elements<4>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
    default: return copy_elements<8>(dst, dst_down, dst_right, src, src_down, src_right, rows, cols);
  }
}

// kernel_cpp.cpp: a kernel that is C++.
void run_cpp(const Machine& m) noexcept;
// kernel_control.cpp: loops, branches and equations over scalars.
void run_structured(const Machine& m) noexcept;

}  // namespace pto_wsp
