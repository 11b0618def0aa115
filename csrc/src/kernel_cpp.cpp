// Kernels that are C++: what their compiled functions are given.

#include "pto_wsp/cpp_kernel.hpp"

#include <array>
#include <cstdint>

#include "kernel_steps.hpp"

namespace pto_wsp {
namespace {

constexpr std::size_t text_bytes = 1024;

Argument argument(const Machine& m, std::uint32_t i) noexcept {
  const Param& p = m.k.program.params[i];
  Argument a = {};
  if (p.is_scalar) {
    store_scalar(m.args[i].scalar, p.dtype, a.scalar);
  } else if (p.is_region) {
    const RegionArg& r = m.args[i].region;
    a.data = r.data;
    for (std::uint32_t d = 0; d < p.rank; ++d) {
      a.strides[d] = r.strides[d];
      a.sizes[d] = r.length[d];
    }
  } else {
    const TileArg& t = m.args[i].tile;
    a.data = m.bases[2 + i].data;
    a.strides[0] = m.bases[2 + i].stride;
    a.strides[1] = static_cast<std::int64_t>(size_of(p.dtype));
    a.sizes[0] = t.rows;
    a.sizes[1] = t.cols;
  }
  return a;
}

bool aligned(const Argument& a, const Param& p) noexcept {
  auto bits = reinterpret_cast<std::intptr_t>(a.data);
  for (std::uint32_t d = 0; d < p.rank; ++d)
    if (a.sizes[d] > 1) bits |= a.strides[d];
  return (bits & (static_cast<std::int64_t>(size_of(p.dtype)) - 1)) == 0;
}

}  // namespace

void run_cpp(const Machine& m) noexcept {
  const Program& p = m.k.program;
  std::array<Argument, most_args> args;
  for (std::uint32_t i = 0; i < p.n_args; ++i) {
    args[i] = argument(m, i);
    if (!p.params[i].is_region || aligned(args[i], p.params[i])) continue;
    *m.fault = {p.cpp, FaultKind::unaligned, i, static_cast<std::int64_t>(size_of(p.params[i].dtype))};
    return;
  }
  thread_local char text[text_bytes];
  const CppEntry entry = m.k.cpp.load(std::memory_order_acquire);
  if (entry == nullptr) {
    *m.fault = {p.cpp, FaultKind::cpp, 0, 0, "it was not compiled"};
    return;
  }
  if (entry(args.data(), text, sizeof text) != 0) *m.fault = {p.cpp, FaultKind::cpp, 0, 0, text};
}

void Kernel::link_cpp(CppEntry entry) const {
  if (impl_->program.cpp < 0 || entry == nullptr) throw PlanError("kernel " + name() + ": it is no C++");
  impl_->cpp.store(entry, std::memory_order_release);
}

}  // namespace pto_wsp
