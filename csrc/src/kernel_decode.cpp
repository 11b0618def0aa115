// The head of a kernel, its types, and its segments of tile operations.

#include "kernel_decoder.hpp"

#include <limits>
#include <tuple>

namespace pto_wsp {

Program KernelDecoder::run() {
  p_.name = in_.str();
  try {
    p_.pipes = in_.u(1, "a model of costs") == 1;
    params();
    checks();
    registers();
    values();
    p_.body = block();
    require(p_.cpp < 0 || p_.instrs.size() + p_.scalars.size() + p_.loops.size() + p_.branches.size() == 0, "C++ stands alone in its kernel");
    p_.structured = p_.scalars.size() + p_.loops.size() + p_.branches.size() > 0;
    require(p_.instrs.size() <= most_instrs && p_.params.size() <= most_params, "too many instructions");
  } catch (const PlanError& e) {
    throw PlanError(e.what() + (" (in kernel " + p_.name + ")"));
  }
  return std::move(p_);
}

DType KernelDecoder::scalar_type() {
  const auto t = static_cast<DType>(in_.u(dtype_count - 1, "a dtype"));
  require(scalar_of(t) == t, "a register holds i64, u64, f64 or bool");
  return t;
}

std::pair<std::int32_t, std::int32_t> KernelDecoder::shape() {
  const auto rows = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(most_elements), "a number of rows"));
  const auto cols = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(most_elements), "a number of columns"));
  require(rows >= 1 && cols >= 1 && rows <= most_elements / cols, "a tile is empty or too large");
  return {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(cols)};
}

void KernelDecoder::params() {
  const std::size_t n = in_.count("the number of parameters", 2);
  require(n <= most_args, "too many parameters");
  p_.params.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    Param param = {};
    const std::uint64_t kind = in_.u(2, "a parameter's kind");
    param.is_scalar = kind == 1;
    param.is_region = kind == 2;
    if (!param.is_scalar) param.dir = static_cast<Dir>(in_.u(2, "a direction"));
    param.dtype = dtype();
    if (kind == 0) std::tie(param.rows, param.cols) = shape();
    if (param.is_region) region(param);
    add_param(param);
  }
  p_.n_args = n;
}

void KernelDecoder::region(Param& param) {
  require(param.dir != Dir::out, "a region is In or InOut");
  param.rank = static_cast<std::uint32_t>(in_.u(max_region_dims, "a number of dimensions"));
  require(param.rank >= 1, "a region has no dimensions");
  for (std::uint32_t d = 0; d < param.rank; ++d)
    param.dims[d] = static_cast<std::int32_t>(in_.u(std::numeric_limits<std::int32_t>::max(), "a dimension")) - 1;
}

std::uint32_t KernelDecoder::add_param(const Param& param, std::array<DimRef, 2> valid) {
  const auto index = static_cast<std::uint32_t>(p_.params.size());
  require(index < most_params, "too many parts, loops and scalars");
  p_.params.push_back(param);
  if (!param.is_scalar && !param.is_region && valid[0].value == 0) valid = {tile_dim(index, false), tile_dim(index, true)};
  p_.valid.push_back(valid);
  return index;
}

DimRef KernelDecoder::dimref() {
  const std::uint64_t kind = in_.u(4, "a dimension's kind");
  if (kind == 0) return DimRef::of(static_cast<std::int32_t>(in_.u(std::numeric_limits<std::int32_t>::max(), "a dimension")));
  if (kind == 4) {
    const std::uint32_t reg = register_of(DType::i64);
    return {static_cast<std::int32_t>(reg), std::numeric_limits<std::int32_t>::max(), 0, DimRef::Kind::reg};
  }
  require(!p_.params.empty(), "no such parameter");
  const auto index = static_cast<std::uint32_t>(in_.u(p_.n_args == 0 ? p_.params.size() - 1 : p_.n_args - 1, "a parameter"));
  const Param& param = p_.params[index];
  if (kind == 3) {
    require(param.is_region, "no such region");
    const auto d = static_cast<std::uint8_t>(in_.u(param.rank - 1, "a dimension of a region"));
    if (param.dims[d] >= 0) return DimRef::of(param.dims[d]);
    return {static_cast<std::int32_t>(index), std::numeric_limits<std::int32_t>::max(), d, DimRef::Kind::region};
  }
  require(!param.is_scalar && !param.is_region, "no such tile parameter");
  return tile_dim(index, kind == 2);
}

void KernelDecoder::checks() {
  const std::size_t n = in_.count("the number of checks", 5);
  require(n <= most_checks, "too many checks");
  for (std::size_t i = 0; i < n; ++i) {
    const bool at_least = in_.u(1, "a relation") == 1;
    const DimRef a = dimref();
    p_.checks.push_back({at_least, a, dimref()});
    known_.learn(p_.checks.back());
  }
}

void KernelDecoder::registers() {
  const std::size_t n = in_.count("the number of registers");
  require(n <= most_registers, "too many registers");
  p_.n_regs = static_cast<std::uint32_t>(n);
  for (std::size_t i = 0; i < n; ++i) types_.push_back(scalar_type());
  regs_.assign(n, State::unset);
  most_.assign(n, 0);
}

std::uint32_t KernelDecoder::register_of(DType type) {
  const std::uint64_t reg = in_.u();
  require(reg < types_.size() && (!in_body_ || regs_[reg] == State::visible), "a register is read where it has no value");
  require(types_[reg] == type, "a register has another type");
  return static_cast<std::uint32_t>(reg);
}

std::uint32_t KernelDecoder::new_register(DType type) {
  const std::uint64_t reg = in_.u();
  require(reg < types_.size() && regs_[reg] == State::unset && types_[reg] == type, "a register gets a value twice, or of another type");
  set(static_cast<std::uint32_t>(reg));
  return static_cast<std::uint32_t>(reg);
}

Scalar KernelDecoder::scalar(DType type) {
  Scalar s;
  s.constant = in_.u(1, "a scalar operand's kind") == 1;
  if (s.constant) {
    s.bits = in_.bits();
    require(type != DType::boolean || s.bits <= 1, "a constant is no bool");
  } else {
    s.reg = register_of(type);
  }
  return s;
}

void KernelDecoder::values() {
  const std::size_t n = in_.count("the number of values", 7);
  require(n <= most_values, "too many values");
  for (std::size_t i = 0; i < n; ++i) {
    Value v = {};
    v.dtype = dtype();
    std::tie(v.rows, v.cols) = shape();
    v.valid_rows = sized(dimref(), v.rows);
    v.valid_cols = sized(dimref(), v.cols);
    p_.values.push_back(v);
    p_.root.push_back(static_cast<std::uint32_t>(i));
  }
  assigned_.assign(n, State::unset);
}

void KernelDecoder::assign(std::uint32_t v) {
  require(assigned_[v] == State::unset, "a value is assigned twice");
  for (const DimRef& d : {p_.values[v].valid_rows, p_.values[v].valid_cols}) {
    require(d.kind != DimRef::Kind::region, "a length of a region is no extent of a value");
    if (d.kind != DimRef::Kind::reg) continue;
    const auto reg = static_cast<std::size_t>(d.param);
    require(regs_[reg] == State::visible && most_[reg] >= 1 && most_[reg] <= d.value, "an extent in a register is not known to be in bounds");
  }
  assigned_[v] = State::visible;
  block_values_.push_back(v);
}

std::uint32_t KernelDecoder::value_index() {
  require(!p_.values.empty(), "no such value");
  const auto index = static_cast<std::uint32_t>(in_.u(p_.values.size() - 1, "a value"));
  require(assigned_[index] == State::visible, "a value is used where it is not assigned");
  return index;
}

void KernelDecoder::item() {
  switch (in_.u(4, "an item's kind")) {
    case 0: return instrs();
    case 1: return equation();
    case 2: return loop();
    case 3: return branch();
    default: return cpp();
  }
}

void KernelDecoder::cpp() {
  require(p_.cpp < 0 && depth_ == 1, "C++ stands alone in its kernel");
  p_.cpp = origin();
}

void KernelDecoder::events() {
  Block& b = p_.blocks[block_];
  std::uint32_t item = 0;
  const auto to_next = [&] {
    while (item < b.items.size() && b.items[item].kind == Block::Item::Kind::segment) ++item;
    return item < b.items.size();
  };
  const std::size_t n = in_.count("the number of events");
  for (std::size_t i = 0; i < n; ++i) {
    if (in_.u(1, "an event's kind") == 1) {
      require(to_next(), "more items in the cost than there are");
      b.events.push_back({false, item++});
      continue;
    }
    Work w;
    w.unit = static_cast<std::uint8_t>(in_.u(core_units, "a unit"));
    if (w.unit < core_units) w.cycles.code = cost();
    w.reads = numbers();
    w.writes = numbers();
    b.events.push_back({true, static_cast<std::uint32_t>(b.works.size())});
    b.works.push_back(std::move(w));
  }
  require(!to_next(), "an item is not in the cost");
}

std::vector<std::uint32_t> KernelDecoder::numbers() {
  const std::size_t n = in_.count("the number of values");
  const std::size_t most = p_.values.size() + p_.n_regs + p_.n_args;
  std::vector<std::uint32_t> out;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint64_t x = in_.u();
    require(x < most, "no such value");
    out.push_back(static_cast<std::uint32_t>(x));
  }
  return out;
}

Segment& KernelDecoder::segment() {
  auto& items = p_.blocks[block_].items;
  if (items.empty() || items.back().kind != Block::Item::Kind::segment || items.back().index + 1 != p_.segments.size()) {
    add_item(Block::Item::Kind::segment, p_.segments.size());
    p_.segments.push_back({static_cast<std::uint32_t>(p_.instrs.size()), 0});
  }
  return p_.segments.back();
}

void KernelDecoder::instrs() {
  const std::size_t n = in_.count("the number of instructions", 5);
  for (std::size_t i = 0; i < n; ++i) {
    Instr instr = {};
    const std::uint64_t code = in_.u(255, "an operation");
    instr.op = static_cast<Op>(code);
    instr.dst = static_cast<std::int32_t>(in_.u(p_.values.size(), "a value")) - 1;
    const std::uint64_t n_src = in_.u(3, "the number of sources");
    for (std::uint64_t s = 0; s < n_src; ++s) instr.src[instr.n_src++] = source();
    immediates(instr);
    instr.origin = origin();
    verify(instr, p_, known_);
    if (instr.dst >= 0) assign(static_cast<std::uint32_t>(instr.dst));
    if (instr.op == Op::restrict) {
      p_.root[static_cast<std::size_t>(instr.dst)] = p_.root[instr.src[0].index];
      continue;
    }
    add_instr(instr);
  }
}

void KernelDecoder::immediates(Instr& instr) {
  const std::uint64_t n = in_.u(3, "the number of immediates");
  unsigned shift = 0;
  for (std::uint64_t k = 0; k < 3; ++k) {
    const unsigned bits = traits(instr.op).immediates[k];
    require((k < n) == (bits != 0), "wrong number of immediates");
    if (bits == 0) return;
    const std::int64_t x = in_.s();
    require(x >= 0 && x <= (bits == 32 ? most_elements : (std::int64_t{1} << bits) - 1), "an immediate is negative or too large");
    if (bits == 32) {
      instr.at[k] = static_cast<std::int32_t>(x);
    } else {
      instr.imm = static_cast<std::uint8_t>(instr.imm | (static_cast<std::uint64_t>(x) << shift));
      shift += bits;
    }
  }
}

Source KernelDecoder::source() {
  switch (in_.u(2, "a source's kind")) {
    case 0: return {Source::Kind::value, value_index()};
    case 1: return {Source::Kind::literal, 0, in_.bits()};
    default: {
      require(!p_.params.empty(), "no such parameter");
      const auto index = static_cast<std::uint32_t>(in_.u(p_.params.size() - 1, "a parameter"));
      require(index < p_.n_args || p_.params[index].is_scalar, "no such parameter");
      return {Source::Kind::param, index};
    }
  }
}

std::vector<CostOp> KernelDecoder::cost() {
  const std::size_t n = in_.count("the number of cost operations");
  require(n >= 1 && n <= 65536, "the cost has no or too many operations");
  std::vector<CostOp> out;
  std::size_t depth = 0;
  for (std::size_t k = 0; k < n; ++k) {
    CostOp op = {};
    op.code = static_cast<std::uint8_t>(in_.u(9, "a cost operation"));
    if (op.code == 0) op.constant = in_.s();
    if (op.code == 1) op.dim = dimref();
    require(op.code <= 1 || depth >= 2, "the cost takes from an empty stack");
    depth = op.code <= 1 ? depth + 1 : depth - 1;
    require(depth <= 64, "the cost's stack is too deep");
    out.push_back(op);
  }
  require(depth == 1, "the cost does not leave one value");
  return out;
}

Program decode_program(Cursor& in) { return KernelDecoder(in).run(); }

}  // namespace pto_wsp
