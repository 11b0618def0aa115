#include "pto_wsp/kernel.hpp"

#include <algorithm>
#include <utility>

#include "kernel_impl.hpp"

namespace pto_wsp {

Kernel Kernel::decode(Cursor& in) {
  auto impl = std::make_unique<KernelImpl>();
  impl->program = decode_program(in);
  analyse_cost(impl->program);
  plan_kernel(*impl);
  const Program& p = impl->program;
  const auto of_region = [](const DimRef& d) { return d.kind == DimRef::Kind::region; };
  impl->varied = std::ranges::any_of(p.checks, [&](const Check& c) { return of_region(c.a) || of_region(c.b); });
  for (std::size_t i = 0; i < p.n_args; ++i) impl->varied = impl->varied || p.cost_scalars[i] || (p.cost_extents[i] && p.params[i].is_region);
  return Kernel(std::move(impl));
}

Kernel::Kernel(std::unique_ptr<const KernelImpl> impl) noexcept : impl_(std::move(impl)) {}
Kernel::Kernel(Kernel&&) noexcept = default;
Kernel& Kernel::operator=(Kernel&&) noexcept = default;
Kernel::~Kernel() = default;

const std::string& Kernel::name() const noexcept { return impl_->program.name; }
std::span<const Param> Kernel::params() const noexcept { return std::span(impl_->program.params).first(impl_->program.n_args); }
bool Kernel::varied() const noexcept { return impl_->varied; }
std::size_t Kernel::scratch_bytes() const noexcept { return impl_->scratch_bytes; }

bool Kernel::may_be_long() const noexcept { return !impl_->program.loops.empty() || impl_->program.cpp >= 0; }

bool Kernel::may_fault() const noexcept {
  if (impl_->program.structured || impl_->program.cpp >= 0) return true;
  return std::ranges::any_of(impl_->program.instrs, [](const Instr& i) { return i.op == Op::gather || i.op == Op::scatter || i.op == Op::bincount; });
}

std::int64_t Kernel::cost(std::span<const Arg> args) const { return evaluate_cost(impl_->program, args); }

bool Kernel::costs_scalar(std::size_t arg) const noexcept { return impl_->program.cost_scalars[arg]; }
bool Kernel::costs_extents(std::size_t arg) const noexcept { return impl_->program.cost_extents[arg]; }

int Kernel::failed_check(std::span<const Arg> args) const noexcept {
  const auto& checks = impl_->program.checks;
  for (std::size_t i = 0; i < checks.size(); ++i) {
    const std::int32_t a = resolve(checks[i].a, args, nullptr);
    const std::int32_t b = resolve(checks[i].b, args, nullptr);
    if (checks[i].at_least ? a < b : a != b) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace pto_wsp
