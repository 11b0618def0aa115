#include "pto_wsp/kernel.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

std::int64_t apply(std::uint8_t code, std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  bool overflow = false;
  switch (code) {
    case 2: overflow = __builtin_add_overflow(a, b, &r); break;
    case 3: overflow = __builtin_sub_overflow(a, b, &r); break;
    case 4: overflow = __builtin_mul_overflow(a, b, &r); break;
    case 7: return a < b ? a : b;
    case 8: return a < b ? b : a;
    default: {  // 5 floordiv, 6 mod, 9 ceildiv
      if (b == 0) throw CostError("the cost divides by zero");
      if (b == -1 && a == INT64_MIN) {
        if (code == 6) return 0;
        throw CostError("the cost overflows");
      }
      const std::int64_t q = floor_div(a, b);
      return code == 5 ? q : code == 6 ? a - q * b : q + (q * b != a ? 1 : 0);
    }
  }
  if (overflow) throw CostError("the cost overflows");
  return r;
}

std::int64_t evaluate(const std::vector<CostOp>& code, std::span<const Arg> args, const std::int64_t* regs) {
  std::int64_t stack[64];
  std::size_t depth = 0;
  for (const CostOp& op : code) {
    if (op.code == 0) {
      stack[depth++] = op.constant;
    } else if (op.code == 1) {
      stack[depth++] = resolve(op.dim, args, regs);
    } else {
      --depth;
      stack[depth - 1] = apply(op.code, stack[depth - 1], stack[depth]);
    }
  }
  if (stack[0] < 0) throw CostError("the cost is negative");
  return stack[0];
}

// The control flow of a kernel with what its operations cost in the place of what they do. Scalars that depend on elements of
// tensors have any value: nothing that costs depends on them but conditions, of which the dearer side counts.
class CostWalk {
 public:
  CostWalk(const Program& p, std::span<const Arg> args) : p_(p), args_(args), regs_(p.n_regs, 0) {}

  std::int64_t block(std::uint32_t index) {
    const Block& b = p_.blocks[index];
    // The extents that the block's own cost names are known when all its equations are.
    std::int64_t sum = 0;
    for (const Block::Item& item : b.items) {
      if (item.kind == Block::Item::Kind::scalar) equation(p_.scalars[item.index]);
      else if (item.kind == Block::Item::Kind::loop) sum = apply(2, sum, loop(p_.loops[item.index]));
      else if (item.kind == Block::Item::Kind::branch) sum = apply(2, sum, branch(p_.branches[item.index]));
    }
    return apply(2, sum, evaluate(b.cost, args_, regs_.data()));
  }

 private:
  void equation(const ScalarEqn& e) {
    Fault fault;  // the run tells
    step_registers(e, args_, regs_.data(), fault);
  }

  std::int64_t loop(const Loop& l) {
    const auto lo = static_cast<std::int64_t>(value_of(l.lo, regs_.data())), hi = static_cast<std::int64_t>(value_of(l.hi, regs_.data()));
    if (lo >= hi) {
      for (const Carry& c : l.carries) regs_[c.out] = static_cast<std::int64_t>(value_of(c.init, regs_.data()));
      return 0;
    }
    const std::uint64_t trips = static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo);
    if (trips > INT32_MAX) throw CostError("a loop has too many trips");  // as the run says
    std::vector<std::uint64_t> next;
    for (const Carry& c : l.carries) next.push_back(value_of(c.init, regs_.data()));
    std::int64_t sum = 0;
    const std::int64_t last = l.uniform ? lo + 1 : hi;
    for (std::int64_t i = lo; i < last; ++i) {
      regs_[l.index] = i;
      for (std::size_t c = 0; c < next.size(); ++c) regs_[l.carries[c].reg] = static_cast<std::int64_t>(next[c]);
      sum = apply(2, sum, block(l.body));
      for (std::size_t c = 0; c < next.size(); ++c) next[c] = value_of(l.carries[c].yield, regs_.data());
    }
    for (std::size_t c = 0; c < next.size(); ++c) regs_[l.carries[c].out] = static_cast<std::int64_t>(next[c]);
    return l.uniform ? apply(4, sum, static_cast<std::int64_t>(trips)) : sum;
  }

  std::int64_t branch(const Branch& b) {
    if (b.data) {
      const std::int64_t first = block(b.blocks[0]);
      return std::max(first, block(b.blocks[1]));
    }
    const std::size_t side = value_of(b.condition, regs_.data()) != 0 ? 0 : 1;
    const std::int64_t cost = block(b.blocks[side]);
    for (const std::array<Carry, 2>& out : b.outs) regs_[out[side].out] = static_cast<std::int64_t>(value_of(out[side].yield, regs_.data()));
    return cost;
  }

  const Program& p_;
  std::span<const Arg> args_;
  std::vector<std::int64_t> regs_;
};

}  // namespace

std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args) {
  if (!program.structured) return evaluate(program.blocks[program.body].cost, args, nullptr);
  return CostWalk(program, args).block(program.body);
}

Kernel Kernel::decode(Cursor& in) {
  auto impl = std::make_unique<KernelImpl>();
  impl->program = decode_program(in);
  plan_kernel(*impl);
  if (impl->program.structured) return Kernel(std::move(impl));
  std::vector<Arg> full(impl->program.n_args);
  for (std::size_t i = 0; i < full.size(); ++i) {
    const Param& p = impl->program.params[i];
    if (p.is_region) full[i].region = {};
    else if (p.is_scalar) full[i].scalar = 0;
    else full[i].tile = {nullptr, 0, 0, p.rows, p.cols, nullptr, nullptr};
  }
  try {
    impl->full_cost = evaluate_cost(impl->program, full);
  } catch (const CostError& e) {
    impl->full_cost_error = e.what();  // thrown to whoever asks
  }
  return Kernel(std::move(impl));
}

Kernel::Kernel(std::unique_ptr<const KernelImpl> impl) noexcept : impl_(std::move(impl)) {}
Kernel::Kernel(Kernel&&) noexcept = default;
Kernel& Kernel::operator=(Kernel&&) noexcept = default;
Kernel::~Kernel() = default;

const std::string& Kernel::name() const noexcept { return impl_->program.name; }
std::span<const Param> Kernel::params() const noexcept { return std::span(impl_->program.params).first(impl_->program.n_args); }
bool Kernel::varied() const noexcept { return impl_->program.structured; }
std::size_t Kernel::scratch_bytes() const noexcept { return impl_->scratch_bytes; }

bool Kernel::may_fault() const noexcept {
  if (impl_->program.structured) return true;
  return std::ranges::any_of(impl_->program.instrs, [](const Instr& i) { return i.op == Op::gather || i.op == Op::scatter || i.op == Op::bincount; });
}

std::int64_t Kernel::cost(std::span<const Arg> args) const { return evaluate_cost(impl_->program, args); }

std::int64_t Kernel::full_cost() const {
  if (!impl_->full_cost) throw CostError(impl_->full_cost_error);
  return *impl_->full_cost;
}

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
