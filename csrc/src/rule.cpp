#include "pto_wsp/rule.hpp"

#include <algorithm>
#include <array>

#include "pto_wsp/scalar.hpp"

namespace pto_wsp {
namespace {

RuleStatus status_of(ScalarStatus s) {
  switch (s) {
    case ScalarStatus::ok: return RuleStatus::ok;
    case ScalarStatus::zero_divisor: return RuleStatus::zero_divisor;
    case ScalarStatus::shift: return RuleStatus::shift;
    case ScalarStatus::cast_range: return RuleStatus::cast_range;
    default: return RuleStatus::overflow;
  }
}

// The output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
std::uint64_t splitmix64(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

bool always(DType) { return true; }
bool integer(DType t) { return t == DType::i64 || t == DType::u64; }
DType to_i64(DType, DType) { return DType::i64; }
DType to_u64(DType, DType) { return DType::u64; }

template <class F>
RuleStatus give(std::uint64_t& out, F&& f) {
  out = f();
  return RuleStatus::ok;
}

constexpr RuleOp asked[] = {
    {"position", 0, always, to_i64, false, false,
     [](const RuleStep&, const RuleInputs& in, const std::uint64_t*, std::uint64_t& out) { return give(out, [&] { return in.memory.position; }); }},
    {"id", 0, always, to_i64, false, false,
     [](const RuleStep&, const RuleInputs& in, const std::uint64_t*, std::uint64_t& out) { return give(out, [&] { return in.id; }); }},
    {"cost", 0, always, to_i64, false, false,
     [](const RuleStep&, const RuleInputs& in, const std::uint64_t*, std::uint64_t& out) { return give(out, [&] { return in.cost; }); }},
    {"least_loaded", 0, always, to_i64, false, false,
     [](const RuleStep&, const RuleInputs& in, const std::uint64_t*, std::uint64_t& out) {
       return give(out, [&] { return in.memory.least_loaded(in.pool, in.lanes); });
     }},
    {"first_appearance", 1, integer, to_i64, false, false,
     [](const RuleStep& step, const RuleInputs& in, const std::uint64_t* operands, std::uint64_t& out) {
       return in.memory.number_of(step.number, operands[0], out) ? RuleStatus::ok : RuleStatus::keys;
     }},
    {"splitmix64", 1, integer, to_u64, false, false,
     [](const RuleStep&, const RuleInputs&, const std::uint64_t* operands, std::uint64_t& out) {
       return give(out, [&] { return splitmix64(operands[0]); });
     }},
};

// Integers that overflow are failures, but for casts.
template <ScalarOp op>
RuleStatus apply_scalar(const RuleStep& step, const RuleInputs&, const std::uint64_t* operands, std::uint64_t& out) {
  return status_of(compute(op, step.type, step.to, op != ScalarOp::cast, operands, out));
}

template <ScalarOp op>
constexpr RuleOp scalar(std::string_view name) {
  return {name, arity(op), [](DType t) { return exists(op, t); },
          [](DType type, DType to) {
            return op >= ScalarOp::eq && op <= ScalarOp::ge ? DType::boolean : op == ScalarOp::cast ? to : type;
          },
          op == ScalarOp::where, true, apply_scalar<op>};
}

constexpr RuleOp scalars[] = {
    scalar<ScalarOp::add>("add"),       scalar<ScalarOp::sub>("sub"),     scalar<ScalarOp::mul>("mul"),
    scalar<ScalarOp::floordiv>("floordiv"), scalar<ScalarOp::mod>("mod"), scalar<ScalarOp::div>("div"),
    scalar<ScalarOp::bit_and>("and"),   scalar<ScalarOp::bit_or>("or"),   scalar<ScalarOp::bit_xor>("xor"),
    scalar<ScalarOp::bit_not>("not"),   scalar<ScalarOp::shl>("shl"),     scalar<ScalarOp::shr>("shr"),
    scalar<ScalarOp::eq>("eq"),         scalar<ScalarOp::ne>("ne"),       scalar<ScalarOp::lt>("lt"),
    scalar<ScalarOp::le>("le"),         scalar<ScalarOp::gt>("gt"),       scalar<ScalarOp::ge>("ge"),
    scalar<ScalarOp::min>("min"),       scalar<ScalarOp::max>("max"),     scalar<ScalarOp::abs>("abs"),
    scalar<ScalarOp::neg>("neg"),       scalar<ScalarOp::where>("where"), scalar<ScalarOp::cast>("cast"),
};

}  // namespace

const RuleOp* find_rule_op(std::string_view name) {
  for (const std::span<const RuleOp> table : {std::span<const RuleOp>(asked), std::span<const RuleOp>(scalars)})
    if (const auto found = std::ranges::find(table, name, &RuleOp::name); found != table.end()) return &*found;
  return nullptr;
}

bool RuleMemory::number_of(std::uint32_t which, std::uint64_t key, std::uint64_t& out) {
  if (keys_.size() <= which) keys_.resize(which + 1);
  auto& keys = keys_[which];
  const auto [at, is_new] = keys.try_emplace(key, keys.size());
  out = at->second;
  return keys.size() <= most_keys;
}

std::uint32_t RuleMemory::least_loaded(std::uint32_t pool, std::uint32_t lanes) {
  if (loads_.size() <= pool) loads_.resize(pool + 1);
  Loads& loads = loads_[pool];
  for (auto lane = static_cast<std::uint32_t>(loads.of.size()); lane < lanes; ++lane) {
    loads.of.push_back(0);
    loads.order.emplace(0, lane);
  }
  return loads.order.begin()->second;
}

void RuleMemory::assign(std::uint32_t pool, std::uint32_t lane, std::uint64_t cycles) {
  if (pool >= loads_.size() || lane >= loads_[pool].of.size()) return;
  Loads& loads = loads_[pool];
  loads.order.erase({loads.of[lane], lane});
  loads.of[lane] += cycles;
  loads.order.emplace(loads.of[lane], lane);
}

RuleStatus RuleRunner::value(const Operand& o, const RuleInputs& in, std::uint64_t& out) const {
  switch (o.kind) {
    case Operand::Kind::reg: out = static_cast<std::uint64_t>(in.regs[o.reg]); break;
    case Operand::Kind::constant: out = o.bits; break;
    case Operand::Kind::step: out = values_[o.reg]; break;
    case Operand::Kind::affine: {
      std::int64_t sum = o.affine.constant;
      for (const Term& t : o.affine.terms) {
        std::int64_t product = 0;
        if (__builtin_mul_overflow(t.coef, in.regs[t.reg], &product) || __builtin_add_overflow(sum, product, &sum)) return RuleStatus::overflow;
      }
      out = static_cast<std::uint64_t>(sum);
      break;
    }
  }
  return RuleStatus::ok;
}

RuleStatus RuleRunner::run(const Rule& rule, const RuleInputs& in, std::uint64_t& out) {
  values_.resize(rule.steps.size());
  std::array<std::uint64_t, 3> operands{};
  for (std::size_t k = 0; k < rule.steps.size(); ++k) {
    const RuleStep& step = rule.steps[k];
    for (std::size_t i = 0; i < step.operands.size(); ++i)
      if (const RuleStatus s = value(step.operands[i], in, operands[i]); s != RuleStatus::ok) return s;
    if (const RuleStatus s = step.op->apply(step, in, operands.data(), values_[k]); s != RuleStatus::ok) return s;
  }
  return value(rule.result, in, out);
}

}  // namespace pto_wsp
