// The equations over registers, and over memory by them.

#include "kernel_decoder.hpp"

namespace pto_wsp {

void KernelDecoder::equation() {
  ScalarEqn e;
  e.kind = static_cast<ScalarEqn::Kind>(in_.u(static_cast<std::uint64_t>(ScalarEqn::Kind::round), "an equation's kind"));
  e.origin = origin();
  switch (e.kind) {
    case ScalarEqn::Kind::compute: compute(e); break;
    case ScalarEqn::Kind::dim:
      e.a = dimref();
      require(e.a.kind != DimRef::Kind::reg, "dim is of a parameter");
      e.reg = new_register(DType::i64);
      break;
    case ScalarEqn::Kind::widen:
      e.param = argument();
      require(p_.params[e.param].is_scalar, "widen takes a scalar parameter");
      e.reg = new_register(scalar_of(p_.params[e.param].dtype));
      break;
    case ScalarEqn::Kind::narrow: narrow(e); break;
    case ScalarEqn::Kind::element: element(e); break;
    case ScalarEqn::Kind::part: return part(e);
    case ScalarEqn::Kind::store_part: store_part(e); break;
    case ScalarEqn::Kind::extent:
      e.reg = register_of(DType::i64);
      e.most = static_cast<std::int32_t>(in_.u(static_cast<std::uint64_t>(most_elements), "an extent"));
      require(e.most >= 1, "an extent is at least 1");
      most_[e.reg] = most_[e.reg] == 0 ? e.most : std::min(most_[e.reg], e.most);
      break;
    case ScalarEqn::Kind::check:
      e.at_least = in_.u(1, "a relation") == 1;
      e.a = dimref();
      e.b = dimref();
      known_.learn({e.at_least, e.a, e.b});
      break;
    case ScalarEqn::Kind::print: print(e); break;
    case ScalarEqn::Kind::round: round(e); break;
  }
  add_equation(std::move(e));
}

void KernelDecoder::add_equation(ScalarEqn e) {
  require(p_.scalars.size() < most_instrs, "too many equations");
  add_item(Block::Item::Kind::scalar, p_.scalars.size());
  p_.scalars.push_back(std::move(e));
}

void KernelDecoder::compute(ScalarEqn& e) {
  e.op = static_cast<ScalarOp>(in_.u(static_cast<std::uint64_t>(ScalarOp::cast), "a scalar operation"));
  e.type = scalar_type();
  e.checked = in_.u(1, "a flag") == 1;
  e.to = scalar_type();
  require(pto_wsp::exists(e.op, e.type), "there is no such scalar operation");
  const std::uint32_t n = arity(e.op);
  for (std::uint32_t i = 0; i < n; ++i) e.operands[i] = scalar(e.op == ScalarOp::where && i == 0 ? DType::boolean : e.type);
  e.reg = new_register(result_of(ScalarSpec{e.op, e.type, e.to, e.checked, {}}));
}

std::uint32_t KernelDecoder::number_of_kind(ScalarEqn& e) {
  e.to = dtype();
  const std::uint64_t reg = in_.u();
  require(reg < types_.size() && regs_[reg] == State::visible && (types_[reg] == DType::boolean) == (e.to == DType::boolean) &&
              (types_[reg] == DType::f64) == is_float(e.to),
          "a dtype takes numbers of its kind");
  e.type = types_[reg];
  return static_cast<std::uint32_t>(reg);
}

void KernelDecoder::round(ScalarEqn& e) {
  e.operands[0] = {.constant = false, .reg = number_of_kind(e)};
  e.reg = new_register(scalar_of(e.to));
}

void KernelDecoder::narrow(ScalarEqn& e) {
  e.reg = number_of_kind(e);
  Param made = {};
  made.is_scalar = true;
  made.dtype = e.to;
  e.param = add_param(made);
}

const Param& KernelDecoder::memory(ScalarEqn& e) {
  e.param = argument();
  require(!p_.params[e.param].is_scalar, "a scalar has no parts");
  return p_.params[e.param];
}

void KernelDecoder::element(ScalarEqn& e) {
  DType of = DType::f32;
  if (in_.u(1, "an element's source") == 1) {
    e.value = static_cast<std::int32_t>(value_index());
    const Value& v = p_.values[static_cast<std::size_t>(e.value)];
    e.a = v.valid_rows;
    e.b = v.valid_cols;
    of = v.dtype;
    indices(e, 2);
  } else {
    const Param& p = memory(e);
    of = p.dtype;
    indices(e, rank(p));
  }
  e.to = of;
  e.reg = new_register(scalar_of(of));
}

void KernelDecoder::part(ScalarEqn& e) {
  const Param from = memory(e);
  indices(e, rank(from));
  const auto dst = static_cast<std::uint32_t>(in_.u(p_.values.empty() ? 0 : p_.values.size() - 1, "a value"));
  require(dst < p_.values.size(), "no such value");
  assign(dst);
  const Value& v = p_.values[dst];
  require(v.dtype == from.dtype, "a part has another dtype than its parameter");
  require(rank(from) > 1 || v.rows == 1, "a part of a vector is one row");
  e.a = v.valid_rows;
  e.b = v.valid_cols;
  e.copied = from.dir != Dir::in;
  e.to = v.dtype;
  e.target = add_param({false, false, Dir::in, v.dtype, v.rows, v.cols, 0, {}}, {v.valid_rows, v.valid_cols});
  const std::uint32_t target = e.target;
  const std::int32_t at = e.origin;
  add_equation(std::move(e));
  add_instr(memory_instr(Op::load, target, dst, at));
}

Instr KernelDecoder::memory_instr(Op op, std::uint32_t param, std::uint32_t value, std::int32_t at) const {
  Instr i = {};
  i.op = op;
  i.origin = at;
  i.operand = p_.values[value].dtype;
  i.src[0] = {Source::Kind::param, param};
  i.n_src = 1;
  if (op == Op::load) {
    i.dst = static_cast<std::int32_t>(value);
  } else {
    i.src[1] = {Source::Kind::value, value};
    i.n_src = 2;
  }
  return i;
}

void KernelDecoder::store_part(ScalarEqn& e) {
  const Param& to = memory(e);
  require(to.dir != Dir::in, "a part is stored to an output");
  e.value = static_cast<std::int32_t>(value_index());
  const Value& v = p_.values[static_cast<std::size_t>(e.value)];
  require(v.dtype == to.dtype && (rank(to) > 1 || v.rows == 1), "a part has another dtype than its parameter, or too many rows");
  e.a = v.valid_rows;
  e.b = v.valid_cols;
  e.to = v.dtype;
  indices(e, rank(to));
}

void KernelDecoder::print(ScalarEqn& e) {
  e.label = in_.str();
  switch (in_.u(2, "what is printed")) {
    case 0: {
      e.value = static_cast<std::int32_t>(value_index());
      const Value& v = p_.values[static_cast<std::size_t>(e.value)];
      e.a = v.valid_rows;
      e.b = v.valid_cols;
      e.to = v.dtype;
      return;
    }
    case 1: {
      e.type = scalar_type();
      e.reg = register_of(e.type);
      e.to = e.type;
      return;
    }
    default:
      require(!p_.params.empty(), "no such scalar");
      e.param = static_cast<std::uint32_t>(in_.u(p_.params.size() - 1, "a parameter"));
      require(p_.params[e.param].is_scalar, "no such scalar");
      e.to = p_.params[e.param].dtype;
      e.copied = true;  // the scalar of a parameter, not a register
  }
}

}  // namespace pto_wsp
