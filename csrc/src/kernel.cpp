#include "pto_wsp/kernel.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

// f16 and bf16 hold the value exactly: its f32 bits lose nothing when cut.
std::uint16_t f16_bits(double value) noexcept {
  const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000 : 0);
  const double x = std::fabs(value);
  if (std::isnan(x)) return 0x7e00;
  if (std::isinf(x)) return static_cast<std::uint16_t>(sign | 0x7c00);
  if (x < 0x1p-14) return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(x * 0x1p24));
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);  // [0.5, 1)
  if (exponent > 16) return static_cast<std::uint16_t>(sign | 0x7c00);
  return static_cast<std::uint16_t>(sign | ((exponent + 14) << 10) | (static_cast<int>(fraction * 2048) & 0x3ff));
}

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

}  // namespace

void encode_scalar(double value, DType dtype, std::byte* out) noexcept {
  switch (dtype) {
    case DType::f32: {
      const auto x = static_cast<float>(value);
      std::memcpy(out, &x, 4);
      return;
    }
    case DType::f16: {
      const std::uint16_t x = f16_bits(value);
      std::memcpy(out, &x, 2);
      return;
    }
    case DType::bf16: {
      const auto x = static_cast<std::uint16_t>(std::isnan(value) ? 0x7fc0 : std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16);
      std::memcpy(out, &x, 2);
      return;
    }
    case DType::i32: {
      const std::int32_t x = value >= -2147483648.0 && value <= 2147483647.0 ? static_cast<std::int32_t>(value) : 0;
      std::memcpy(out, &x, 4);
      return;
    }
    case DType::boolean: *out = value != 0 ? std::byte{1} : std::byte{0}; return;
    default: return;  // kernels have no others
  }
}

std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args) {
  std::int64_t stack[64];
  std::size_t depth = 0;
  for (const CostOp& op : program.cost) {
    if (op.code == 0) {
      stack[depth++] = op.constant;
    } else if (op.code == 1) {
      stack[depth++] = resolve(op.dim, args);
    } else {
      --depth;
      stack[depth - 1] = apply(op.code, stack[depth - 1], stack[depth]);
    }
  }
  if (stack[0] < 0) throw CostError("the cost is negative");
  return stack[0];
}

Kernel Kernel::decode(Cursor& in) {
  auto impl = std::make_unique<KernelImpl>();
  impl->program = decode_program(in);
  plan_kernel(*impl);
  std::vector<Arg> full(impl->program.params.size());
  for (std::size_t i = 0; i < full.size(); ++i) {
    const Param& p = impl->program.params[i];
    if (p.is_scalar) full[i].scalar = 0;
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
std::span<const Param> Kernel::params() const noexcept { return impl_->program.params; }
std::size_t Kernel::scratch_bytes() const noexcept { return impl_->scratch_bytes; }

bool Kernel::may_fault() const noexcept {
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
    const std::int32_t a = resolve(checks[i].a, args);
    const std::int32_t b = resolve(checks[i].b, args);
    if (checks[i].at_least ? a < b : a != b) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace pto_wsp
