// Reads a kernel from the plan and verifies it. What passes here can run with any arguments of the declared types: every type
// and shape fits its operation, every value is assigned once and before use, and every operand is defined wherever the result is.

#include <cmath>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint64_t max_args = 256;
constexpr std::uint64_t max_params = max_bases - 2;
constexpr std::uint64_t max_registers = 4096;
constexpr std::uint32_t max_depth = 32;
constexpr std::uint64_t max_checks = 256;
constexpr std::uint64_t max_values = 4096;
constexpr std::uint64_t max_instrs = 8192;
constexpr std::int64_t max_elements = (std::int64_t{1} << 31) / 8;

[[noreturn]] void fail(const std::string& what) { throw PlanError("kernel: " + what); }
void require(bool ok, const char* what) {
  if (!ok) fail(what);
}

class Decoder {
 public:
  explicit Decoder(Cursor& in) : in_(in) {}

  Program run() {
    p_.name = in_.str();
    try {
      params();
      checks();
      registers();
      values();
      p_.body = block();
      p_.structured = p_.scalars.size() + p_.loops.size() + p_.branches.size() > 0;
      require(p_.instrs.size() <= max_instrs && p_.params.size() <= max_params, "too many instructions");
    } catch (const PlanError& e) {
      throw PlanError(e.what() + (" (in kernel " + p_.name + ")"));
    }
    return std::move(p_);
  }

 private:
  enum class State : std::uint8_t { unset, visible, gone };

  DType dtype() { return static_cast<DType>(in_.u(tile_dtype_count - 1, "a dtype of tiles")); }
  DType scalar_type() {
    const auto t = static_cast<DType>(in_.u(dtype_count - 1, "a dtype"));
    require(scalar_of(t) == t, "a register holds i64, u64, f64 or bool");
    return t;
  }

  std::pair<std::int32_t, std::int32_t> shape() {
    const auto rows = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(max_elements), "a number of rows"));
    const auto cols = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(max_elements), "a number of columns"));
    require(rows >= 1 && cols >= 1 && rows <= max_elements / cols, "a tile is empty or too large");
    return {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(cols)};
  }

  void params() {
    const std::size_t n = in_.count("the number of parameters", 2);
    require(n <= max_args, "too many parameters");
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

  void region(Param& param) {
    require(param.dir != Dir::out, "a region is In or InOut");
    param.rank = static_cast<std::uint32_t>(in_.u(max_region_dims, "a number of dimensions"));
    require(param.rank >= 1, "a region has no dimensions");
    for (std::uint32_t d = 0; d < param.rank; ++d)
      param.dims[d] = static_cast<std::int32_t>(in_.u(std::numeric_limits<std::int32_t>::max(), "a dimension")) - 1;
  }

  std::uint32_t add_param(const Param& param, std::array<DimRef, 2> valid = {}) {
    const auto index = static_cast<std::uint32_t>(p_.params.size());
    require(index < max_params, "too many parts, loops and scalars");
    p_.params.push_back(param);
    if (!param.is_scalar && !param.is_region && valid[0].value == 0) valid = {tile_dim(index, false), tile_dim(index, true)};
    p_.valid.push_back(valid);
    return index;
  }

  DimRef tile_dim(std::uint32_t param, bool is_cols) const {
    const std::int32_t n = is_cols ? p_.params[param].cols : p_.params[param].rows;
    return n == 1 ? DimRef::of(1) : DimRef::tile(param, n, is_cols);
  }

  DimRef dimref() {
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

  void checks() {
    const std::size_t n = in_.count("the number of checks", 5);
    require(n <= max_checks, "too many checks");
    for (std::size_t i = 0; i < n; ++i) {
      const bool at_least = in_.u(1, "a relation") == 1;
      const DimRef a = dimref();
      p_.checks.push_back({at_least, a, dimref()});
    }
  }

  void registers() {
    const std::size_t n = in_.count("the number of registers");
    require(n <= max_registers, "too many registers");
    p_.n_regs = static_cast<std::uint32_t>(n);
    for (std::size_t i = 0; i < n; ++i) types_.push_back(scalar_type());
    regs_.assign(n, State::unset);
    most_.assign(n, 0);
  }

  // A register that has a value here.
  std::uint32_t register_of(DType type) {
    const std::uint64_t reg = in_.u();
    require(reg < types_.size() && (!in_body_ || regs_[reg] == State::visible), "a register is read where it has no value");
    require(types_[reg] == type, "a register has another type");
    return static_cast<std::uint32_t>(reg);
  }

  std::uint32_t new_register(DType type) {
    const std::uint64_t reg = in_.u();
    require(reg < types_.size() && regs_[reg] == State::unset && types_[reg] == type, "a register gets a value twice, or of another type");
    set(static_cast<std::uint32_t>(reg));
    return static_cast<std::uint32_t>(reg);
  }
  void set(std::uint32_t reg) {
    regs_[reg] = State::visible;
    block_regs_.push_back(reg);
  }

  Scalar scalar(DType type) {
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

  void values() {
    const std::size_t n = in_.count("the number of values", 7);
    require(n <= max_values, "too many values");
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

  // An extent of a value of this static size. Those in registers and regions are bounded where the value is made.
  static DimRef sized(DimRef d, std::int32_t size) {
    if (d.kind == DimRef::Kind::reg || d.kind == DimRef::Kind::region) d.value = size;
    require(d.value == size, "a value's valid shape is not of its size");
    return d;
  }

  void assign(std::uint32_t v) {
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

  std::uint32_t value_index() {
    require(!p_.values.empty(), "no such value");
    const auto index = static_cast<std::uint32_t>(in_.u(p_.values.size() - 1, "a value"));
    require(assigned_[index] == State::visible, "a value is used where it is not assigned");
    return index;
  }

  // What is made inside is not visible after.
  template <class Fn> void scope(Fn inside) {
    require(++depth_ <= max_depth, "nested too deeply");
    std::vector<std::uint32_t> regs, values;
    std::swap(regs, block_regs_);
    std::swap(values, block_values_);
    const std::size_t n_checks = body_checks_.size();
    const std::vector<std::int32_t> most = most_;
    inside();
    most_ = most;
    for (const std::uint32_t r : block_regs_) regs_[r] = State::gone;
    for (const std::uint32_t v : block_values_) assigned_[v] = State::gone;
    body_checks_.resize(n_checks);
    covered_.clear();
    std::swap(regs, block_regs_);
    std::swap(values, block_values_);
    --depth_;
  }

  std::uint32_t block() { return block([] {}, [] {}); }

  // `before` and `after` stand at its beginning and end, `after` behind what the plan says comes then.
  template <class Before, class After> std::uint32_t block(Before before, After after) {
    const auto index = static_cast<std::uint32_t>(p_.blocks.size());
    p_.blocks.emplace_back();
    const std::uint32_t outer = std::exchange(block_, index);
    in_body_ = true;
    scope([&] {
      before();
      const std::size_t n = in_.count("the number of items", 2);
      for (std::size_t i = 0; i < n; ++i) item();
      p_.blocks[index].cost = cost();
      after();
    });
    block_ = outer;
    return index;
  }

  void item() {
    switch (in_.u(3, "an item's kind")) {
      case 0: return instrs();
      case 1: return equation();
      case 2: return loop();
      default: return branch();
    }
  }

  void add_item(Block::Item::Kind kind, std::size_t index) { p_.blocks[block_].items.push_back({kind, static_cast<std::uint32_t>(index)}); }

  // The segment that ends here, to which instructions are added.
  Segment& segment() {
    auto& items = p_.blocks[block_].items;
    if (items.empty() || items.back().kind != Block::Item::Kind::segment || items.back().index + 1 != p_.segments.size()) {
      add_item(Block::Item::Kind::segment, p_.segments.size());
      p_.segments.push_back({static_cast<std::uint32_t>(p_.instrs.size()), 0});
    }
    return p_.segments.back();
  }
  void add_instr(const Instr& i) {
    ++segment().count;
    p_.instrs.push_back(i);
  }

  std::int32_t origin() { return static_cast<std::int32_t>(in_.u(max_instrs, "an equation's number")); }

  void instrs() {
    const std::size_t n = in_.count("the number of instructions", 5);
    for (std::size_t i = 0; i < n; ++i) {
      Instr instr = {};
      const std::uint64_t code = in_.u(255, "an operation");
      instr.op = static_cast<Op>(code);
      instr.dst = static_cast<std::int32_t>(in_.u(p_.values.size(), "a value")) - 1;
      const std::uint64_t n_src = in_.u(3, "the number of sources");
      for (std::uint64_t s = 0; s < n_src; ++s) instr.src[instr.n_src++] = source();
      const std::uint64_t n_imm = in_.u(3, "the number of immediates");
      require(n_imm == immediates(instr.op), "wrong number of immediates");
      for (std::uint64_t k = 0; k < n_imm; ++k) instr.at[k] = immediate();
      instr.origin = origin();
      verify(instr);
      if (instr.dst >= 0) assign(static_cast<std::uint32_t>(instr.dst));
      if (instr.op == Op::restrict) {
        p_.root[static_cast<std::size_t>(instr.dst)] = p_.root[instr.src[0].index];
        continue;
      }
      add_instr(instr);
    }
  }

  static std::uint64_t immediates(Op op) {
    switch (op) {
      case Op::iota:
      case Op::concat:
      case Op::gather:
      case Op::scatter:
      case Op::cumsum: return 1;
      case Op::matmul: return 2;
      case Op::slice: return 3;
      default: return 0;
    }
  }
  std::int32_t immediate() {
    const std::int64_t x = in_.s();
    require(x >= 0 && x <= max_elements, "an immediate is negative or too large");
    return static_cast<std::int32_t>(x);
  }

  Source source() {
    switch (in_.u(2, "a source's kind")) {
      case 0: return {Source::Kind::value, value_index()};
      case 1: return {Source::Kind::literal, 0, in_.f64()};
      default: {
        require(!p_.params.empty(), "no such parameter");
        const auto index = static_cast<std::uint32_t>(in_.u(p_.params.size() - 1, "a parameter"));
        require(index < p_.n_args || p_.params[index].is_scalar, "no such parameter");
        return {Source::Kind::param, index};
      }
    }
  }

  // Equations over registers.

  void equation() {
    ScalarEqn e;
    e.kind = static_cast<ScalarEqn::Kind>(in_.u(static_cast<std::uint64_t>(ScalarEqn::Kind::print), "an equation's kind"));
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
        e.most = static_cast<std::int32_t>(in_.u(static_cast<std::uint64_t>(max_elements), "an extent"));
        require(e.most >= 1, "an extent is at least 1");
        most_[e.reg] = most_[e.reg] == 0 ? e.most : std::min(most_[e.reg], e.most);
        break;
      case ScalarEqn::Kind::check:
        e.at_least = in_.u(1, "a relation") == 1;
        e.a = dimref();
        e.b = dimref();
        body_checks_.push_back({e.at_least, unsized(e.a), unsized(e.b)});
        covered_.clear();
        break;
      case ScalarEqn::Kind::print: print(e); break;
    }
    add_equation(std::move(e));
  }

  void add_equation(ScalarEqn e) {
    require(p_.scalars.size() < max_instrs, "too many equations");
    add_item(Block::Item::Kind::scalar, p_.scalars.size());
    p_.scalars.push_back(std::move(e));
  }

  std::uint32_t argument() {
    require(p_.n_args != 0, "no such parameter");
    return static_cast<std::uint32_t>(in_.u(p_.n_args - 1, "a parameter"));
  }

  void compute(ScalarEqn& e) {
    e.op = static_cast<ScalarOp>(in_.u(static_cast<std::uint64_t>(ScalarOp::cast), "a scalar operation"));
    e.type = scalar_type();
    e.checked = in_.u(1, "a flag") == 1;
    e.to = scalar_type();
    require(pto_wsp::exists(e.op, e.type), "there is no such scalar operation");
    const std::uint32_t n = arity(e.op);
    for (std::uint32_t i = 0; i < n; ++i) e.operands[i] = scalar(e.op == ScalarOp::where && i == 0 ? DType::boolean : e.type);
    e.reg = new_register(result_of(ScalarSpec{e.op, e.type, e.to, e.checked, {}}));
  }

  void narrow(ScalarEqn& e) {
    e.to = dtype();
    e.type = scalar_of(e.to) == DType::u64 ? DType::u64 : is_float(e.to) ? DType::f64 : DType::i64;
    const std::uint64_t reg = in_.u();
    require(reg < types_.size() && regs_[reg] == State::visible && types_[reg] != DType::boolean && (types_[reg] == DType::f64) == is_float(e.to) && e.to != DType::boolean,
            "narrow takes a number of its kind");
    e.reg = static_cast<std::uint32_t>(reg);
    e.type = types_[reg];
    Param made = {};
    made.is_scalar = true;
    made.dtype = e.to;
    e.param = add_param(made);
  }

  void indices(ScalarEqn& e, std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) e.operands[i] = scalar(DType::i64);
  }

  static std::uint32_t rank(const Param& p) { return p.is_region ? p.rank : 2; }

  // The memory of a parameter that has an argument.
  const Param& memory(ScalarEqn& e) {
    e.param = argument();
    require(!p_.params[e.param].is_scalar, "a scalar has no parts");
    return p_.params[e.param];
  }

  void element(ScalarEqn& e) {
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

  void part(ScalarEqn& e) {
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

  Instr memory_instr(Op op, std::uint32_t param, std::uint32_t value, std::int32_t at) const {
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

  void store_part(ScalarEqn& e) {
    const Param& to = memory(e);
    require(to.dir == Dir::inout, "a part is stored to an InOut parameter");
    e.value = static_cast<std::int32_t>(value_index());
    const Value& v = p_.values[static_cast<std::size_t>(e.value)];
    require(v.dtype == to.dtype && (rank(to) > 1 || v.rows == 1), "a part has another dtype than its parameter, or too many rows");
    e.a = v.valid_rows;
    e.b = v.valid_cols;
    e.to = v.dtype;
    indices(e, rank(to));
  }

  void print(ScalarEqn& e) {
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

  // Loops and branches. A tile that is carried lies in memory of its own: it is stored there before, loaded at the beginning of
  // each trip, stored again at its end, and loaded after.

  struct Place { std::uint32_t param = 0, value = 0; };

  std::uint32_t memory_for(std::uint32_t value) {
    const Value& v = p_.values[value];
    return add_param({false, false, Dir::inout, v.dtype, v.rows, v.cols, 0, {}}, {v.valid_rows, v.valid_cols});
  }
  void put(std::uint32_t param, std::uint32_t value, std::int32_t at) {
    const Param& p = p_.params[param];
    const Value& v = p_.values[value];
    require(v.dtype == p.dtype && v.rows == p.rows && v.cols == p.cols && covers(v.valid_rows, p_.valid[param][0]) &&
                covers(v.valid_cols, p_.valid[param][1]),
            "a carried value does not fit");
    add_instr(memory_instr(Op::store, param, value, at));
  }
  void take(std::uint32_t param, std::uint32_t value, std::int32_t at) {
    const Param& p = p_.params[param];
    assign(value);
    const Value& v = p_.values[value];
    require(v.dtype == p.dtype && v.rows == p.rows && v.cols == p.cols && v.valid_rows == p_.valid[param][0] && v.valid_cols == p_.valid[param][1],
            "a carried value does not fit");
    add_instr(memory_instr(Op::load, param, value, at));
  }
  std::uint32_t any_value() {
    require(!p_.values.empty(), "no such value");
    return static_cast<std::uint32_t>(in_.u(p_.values.size() - 1, "a value"));
  }

  void loop() {
    Loop l;
    l.origin = origin();
    l.lo = scalar(DType::i64);
    l.hi = scalar(DType::i64);
    const std::size_t n = in_.count("the number of carried values", 2);
    std::vector<Place> tiles;
    std::vector<int> order;  // of each carried value: a tile's number, or -1
    std::vector<std::uint64_t> carried_regs;
    for (std::size_t i = 0; i < n; ++i) {
      if (in_.u(1, "a carried value's kind") == 0) {
        const std::uint32_t init = value_index(), carry = any_value();
        tiles.push_back({memory_for(carry), carry});
        put(tiles.back().param, init, l.origin);
        order.push_back(static_cast<int>(tiles.size()) - 1);
      } else {
        Carry c;
        const std::uint64_t reg = in_.u();
        require(reg < types_.size() && regs_[reg] == State::unset, "a register gets a value twice");
        c.reg = static_cast<std::uint32_t>(reg);
        c.init = scalar(types_[reg]);
        l.carries.push_back(c);
        order.push_back(-1);
      }
    }
    const std::uint64_t index = in_.u();
    require(index < types_.size() && regs_[index] == State::unset && types_[index] == DType::i64, "a loop's index is an i64 of its own");
    l.index = static_cast<std::uint32_t>(index);
    const std::size_t from = p_.instrs.size();
    l.body = block(
        [&] {
          set(l.index);
          for (const Carry& c : l.carries) {
            require(regs_[c.reg] == State::unset, "a register gets a value twice");
            set(c.reg);
          }
          for (const Place& t : tiles) take(t.param, t.value, l.origin);
        },
        [&] {
          std::size_t scalar_number = 0;
          for (const int t : order) {
            if (t >= 0) {
              put(tiles[static_cast<std::size_t>(t)].param, value_index(), l.origin);
            } else {
              Carry& c = l.carries[scalar_number++];
              c.yield = scalar(types_[c.reg]);
            }
          }
        });
    p_.extents.push_back({from, p_.instrs.size()});
    l.uniform = in_.u(1, "a flag") == 1;
    add_item(Block::Item::Kind::loop, p_.loops.size());
    std::size_t scalar_number = 0;
    for (const int t : order) {
      if (t >= 0) {
        take(tiles[static_cast<std::size_t>(t)].param, any_value(), l.origin);
      } else {
        Carry& c = l.carries[scalar_number++];
        c.out = new_register(types_[c.reg]);
      }
    }
    p_.loops.push_back(std::move(l));
  }

  void branch() {
    Branch b;
    const std::int32_t at = origin();
    b.condition = scalar(DType::boolean);
    b.data = in_.u(1, "a flag") == 1;
    const std::size_t n = in_.count("the number of results", 2);
    std::vector<Place> tiles;
    std::vector<int> order;
    std::vector<std::uint32_t> regs;
    for (std::size_t i = 0; i < n; ++i) {
      if (in_.u(1, "a result's kind") == 0) {
        const std::uint32_t out = any_value();
        tiles.push_back({memory_for(out), out});
        order.push_back(static_cast<int>(tiles.size()) - 1);
      } else {
        const std::uint64_t reg = in_.u();
        require(reg < types_.size() && regs_[reg] == State::unset, "a register gets a value twice");
        regs.push_back(static_cast<std::uint32_t>(reg));
        order.push_back(-1);
      }
    }
    b.outs.resize(regs.size());
    for (std::size_t side = 0; side < 2; ++side)
      b.blocks[side] = block([] {},
                             [&] {
                               std::size_t k = 0;
                               for (const int t : order) {
                                 if (t >= 0) {
                                   put(tiles[static_cast<std::size_t>(t)].param, value_index(), at);
                                 } else {
                                   b.outs[k][side].out = regs[k];
                                   b.outs[k][side].yield = scalar(types_[regs[k]]);
                                   ++k;
                                 }
                               }
                             });
    add_item(Block::Item::Kind::branch, p_.branches.size());
    for (const std::uint32_t reg : regs) {
      require(regs_[reg] == State::unset, "a register gets a value twice");
      set(reg);
    }
    for (const Place& t : tiles) take(t.param, t.value, at);
    p_.branches.push_back(std::move(b));
  }

  static DimRef unsized(DimRef d) {
    if (d.kind == DimRef::Kind::reg || d.kind == DimRef::Kind::region) d.value = 0;
    return d;
  }

  // Whether a size of `have` is at least `need` for all arguments that pass the checks: along the checks' arrows.
  bool covers(const DimRef& have, const DimRef& need) const {
    if (have == need || (have.is_constant() && have.value >= need.value)) return true;
    const auto id = [](const DimRef& d) { return std::make_tuple(d.param, d.dim, static_cast<int>(d.kind)); };
    const auto key = std::make_tuple(id(have), id(need), need.value);
    const auto known = covered_.find(key);
    if (known != covered_.end()) return known->second;
    return covered_[key] = covers_by_checks(have, need);
  }
  bool covers_by_checks(const DimRef& have, const DimRef& need) const {
    std::vector<DimRef> reached = {have};
    for (std::size_t next = 0; next < reached.size(); ++next) {
      const DimRef at = reached[next];
      if (same(at, need) || (at.is_constant() && at.value >= need.value)) return true;
      const auto reach = [&](const DimRef& d) {
        for (const DimRef& r : reached)
          if (same(r, d)) return;
        reached.push_back(d);
      };
      for (const std::vector<Check>* checks : {&p_.checks, &body_checks_})
        for (const Check& c : *checks) {
          if (same(c.a, at)) reach(c.b);
          if (same(c.b, at) && !c.at_least) reach(c.a);
        }
    }
    return false;
  }
  // Of what is not a constant the size is not told everywhere.
  static bool same(const DimRef& a, const DimRef& b) {
    return a.kind == b.kind && a.param == b.param && a.dim == b.dim && (!a.is_constant() || a.value == b.value);
  }

  const Value& value(const Source& s) const {
    require(s.kind == Source::Kind::value, "an operand must be a value");
    return p_.values[s.index];
  }
  const Value& result(const Instr& i) const { return p_.values[static_cast<std::size_t>(i.dst)]; }
  const Param& tile_of(const Source& s) const {
    require(s.kind == Source::Kind::param && !p_.params[s.index].is_scalar && !p_.params[s.index].is_region, "load and store need a tile parameter");
    return p_.params[s.index];
  }
  DimRef rows_of(std::uint32_t param) const { return p_.valid[param][0]; }
  DimRef cols_of(std::uint32_t param) const { return p_.valid[param][1]; }

  // An elementwise operand: of type t, its sizes the result's or 1, defined where the result is.
  void operand(const Source& s, DType t, const Value& r, bool may_repeat) const {
    if (s.kind == Source::Kind::value) {
      const Value& v = p_.values[s.index];
      require(v.dtype == t, "an operand has the wrong dtype");
      require(v.rows == r.rows || (may_repeat && v.rows == 1), "an operand's rows do not fit the result");
      require(v.cols == r.cols || (may_repeat && v.cols == 1), "an operand's columns do not fit the result");
      require(v.rows != r.rows || covers(v.valid_rows, r.valid_rows), "an operand's valid rows do not cover the result's");
      require(v.cols != r.cols || covers(v.valid_cols, r.valid_cols), "an operand's valid columns do not cover the result's");
    } else if (s.kind == Source::Kind::literal) {
      require(may_repeat, "an operand must be a value");
      literal(s.literal, t);
    } else {
      const Param& param = p_.params[s.index];
      require(may_repeat && param.is_scalar && param.dtype == t, "an operand is no scalar parameter of the right dtype");
    }
  }

  static void literal(double x, DType t) {
    if (t == DType::i32) require(x >= -2147483648.0 && x <= 2147483647.0 && x == std::trunc(x), "a literal is no i32");
    if (t == DType::boolean) require(x == 0 || x == 1, "a literal is no bool");
  }

  void verify(Instr& i) const {
    const auto code = static_cast<int>(i.op);
    const auto sources = [&](unsigned n) { require(i.n_src == n, "wrong number of operands"); };
    require((i.dst < 0) == (i.op == Op::store), "a result is missing or superfluous");
    if (i.op != Op::slice) {
      require(i.at[0] <= 1 && i.at[1] <= 1, "an immediate is neither 0 nor 1");
      i.imm = static_cast<std::uint8_t>(i.at[0] | (i.at[1] << 1));
    }

    switch (i.op) {
      case Op::load: sources(1); return load(i);
      case Op::restrict: sources(1); return restricted(i);
      case Op::store: sources(2); return store(i);
      case Op::full:
        sources(1);
        require(i.src[0].kind != Source::Kind::value, "full needs a literal or a scalar");
        i.operand = result(i).dtype;
        return operand(i.src[0], i.operand, result(i), true);
      case Op::iota:
        sources(0);
        i.operand = DType::i32;
        return require(result(i).dtype == DType::i32, "iota gives i32");
      case Op::broadcast:
        sources(1);
        static_cast<void>(value(i.src[0]));
        i.operand = result(i).dtype;
        return operand(i.src[0], i.operand, result(i), true);
      case Op::matmul: return matmul(i);
      case Op::slice: sources(1); return slice(i);
      case Op::concat: sources(2); return concat(i);
      case Op::transpose: sources(1); return transpose(i);
      case Op::reshape: sources(1); return reshape(i);
      case Op::interleave: sources(2); return interleave(i);
      case Op::gather: sources(2); return gather(i);
      case Op::scatter: sources(3); return scatter(i);
      case Op::bincount: sources(1); return bincount(i);
      case Op::cumsum:
        sources(1);
        i.operand = value(i.src[0]).dtype;
        i.whole = i.imm == 0;
        exists(i);
        return operand(i.src[0], result(i).dtype, result(i), false);
      case Op::rowargmax:
      case Op::rowargmin:
      case Op::extract_topk_indices: sources(1); return ranks(i);
      case Op::topk_values: sources(2); return topk_values(i);
      case Op::where: sources(3); return elementwise(i, result(i).dtype, 1);
      case Op::fma: sources(3); break;
      case Op::cast:
        sources(1);
        i.operand = value(i.src[0]).dtype;
        return operand(i.src[0], i.operand, result(i), false);
      default: break;
    }
    if (code >= 10 && code <= 25) {
      sources(1);
      static_cast<void>(value(i.src[0]));
    } else if ((code >= 30 && code <= 37) || (code >= 40 && code <= 45)) {
      sources(2);
    } else if (code >= 50 && code <= 59) {
      sources(1);
      return reduction(i);
    } else {
      require(i.op == Op::fma, "unknown operation");
    }
    DType t = result(i).dtype;
    if (code >= 40) {  // compare: the operands' type is that of the first value
      for (unsigned s = i.n_src; s-- > 0;)
        if (i.src[s].kind == Source::Kind::value) t = p_.values[i.src[s].index].dtype;
    }
    elementwise(i, t, 0);
  }

  void exists(const Instr& i) const {
    require(find_op(Isa::portable, i.op, i.operand, result(i).dtype) != nullptr, "an operation does not exist for its dtypes");
  }

  void elementwise(Instr& i, DType t, unsigned first) const {
    const Value& r = result(i);
    i.operand = t;
    exists(i);
    bool any_value = false;
    const bool may_repeat = i.n_src > 1;
    for (unsigned s = 0; s < i.n_src; ++s) {
      operand(i.src[s], s < first ? DType::boolean : t, r, may_repeat);
      any_value = any_value || i.src[s].kind == Source::Kind::value;
    }
    require(any_value, "an operation has no tile operand");
  }

  // The extents of the result are known to be those of the operand or less.
  void restricted(Instr& i) const {
    const Value& v = value(i.src[0]);
    const Value& r = result(i);
    i.operand = v.dtype;
    require(v.dtype == r.dtype && v.rows == r.rows && v.cols == r.cols, "restrict: the result is not of the operand's type");
    require(covers(v.valid_rows, r.valid_rows) && covers(v.valid_cols, r.valid_cols), "restrict: the operand is not known to cover the result");
  }

  void load(Instr& i) const {
    const Param& param = tile_of(i.src[0]);
    const Value& r = result(i);
    require(r.dtype == param.dtype && r.rows == param.rows && r.cols == param.cols, "load: the value is not of the parameter's type");
    require(covers(rows_of(i.src[0].index), r.valid_rows) && covers(cols_of(i.src[0].index), r.valid_cols), "load: not all of the value is valid");
    i.operand = r.dtype;
  }

  void store(Instr& i) const {
    const Param& param = tile_of(i.src[0]);
    const Value& v = value(i.src[1]);
    require(param.dir != Dir::in, "store: the parameter is In");
    require(v.dtype == param.dtype && v.rows == param.rows && v.cols == param.cols, "store: the value is not of the parameter's type");
    require(covers(v.valid_rows, rows_of(i.src[0].index)) && covers(v.valid_cols, cols_of(i.src[0].index)), "store: the value does not cover the parameter");
    i.operand = v.dtype;
  }

  void reduction(Instr& i) const {
    const Value& v = value(i.src[0]);
    const Value& r = result(i);
    i.operand = v.dtype;
    exists(i);
    i.whole = static_cast<int>(i.op) >= 54 && i.op != Op::count_cols;
    if (!i.whole) {
      require(r.cols == 1 && r.rows == v.rows && covers(v.valid_rows, r.valid_rows), "a row reduction's result does not fit");
      i.inner = v.valid_cols;
    } else {
      require(r.rows == 1 && r.cols == v.cols && covers(v.valid_cols, r.valid_cols), "a column reduction's result does not fit");
      i.inner = v.valid_rows;
    }
  }

  void matmul(Instr& i) const {
    require(i.n_src == 2 || i.n_src == 3, "matmul needs two or three operands");
    const Value& a = value(i.src[0]);
    const Value& b = value(i.src[1]);
    const Value& r = result(i);
    i.operand = a.dtype;
    i.whole = true;
    require(a.dtype == b.dtype && find_op(Isa::portable, i.op, a.dtype, r.dtype) != nullptr, "matmul does not exist for its dtypes");
    const bool ta = (i.imm & 1) != 0, tb = (i.imm & 2) != 0;
    require((ta ? a.cols : a.rows) == r.rows && (tb ? b.rows : b.cols) == r.cols && (ta ? a.rows : a.cols) == (tb ? b.cols : b.rows), "matmul: the shapes do not fit");
    require(covers(ta ? a.valid_cols : a.valid_rows, r.valid_rows) && covers(tb ? b.valid_rows : b.valid_cols, r.valid_cols), "matmul: the operands do not cover the result");
    const DimRef ka = ta ? a.valid_rows : a.valid_cols;
    const DimRef kb = tb ? b.valid_cols : b.valid_rows;
    require(covers(ka, kb) || covers(kb, ka), "matmul: valid columns of a and rows of b are not known to agree");
    i.inner = covers(ka, kb) ? kb : ka;
    if (i.n_src == 3) {
      static_cast<void>(value(i.src[2]));
      operand(i.src[2], r.dtype, r, false);
      i.imm |= 4;
    }
  }

  // An operand that moves: all of `n` of its rows (columns) from the first are there.
  static std::int32_t size(const Value& v, bool is_cols) { return is_cols ? v.cols : v.rows; }
  static const DimRef& valid(const Value& v, bool is_cols) { return is_cols ? v.valid_cols : v.valid_rows; }
  bool has(const Value& v, bool is_cols, std::int64_t n) const {
    return n <= size(v, is_cols) && covers(valid(v, is_cols), DimRef::of(static_cast<std::int32_t>(n)));
  }
  static bool all_valid(const Value& r, bool is_cols) { return valid(r, is_cols).is_constant(); }
  // The same rows (columns) as the result's, or one that is repeated.
  bool aligned(const Value& v, const Value& r, bool is_cols, bool may_repeat) const {
    if (size(v, is_cols) != size(r, is_cols)) return may_repeat && size(v, is_cols) == 1;
    return covers(valid(v, is_cols), valid(r, is_cols));
  }
  const Value& moved(Instr& i, unsigned s) const {
    const Value& v = value(i.src[s]);
    require(v.dtype == result(i).dtype, "an operand has the wrong dtype");
    i.operand = v.dtype;
    exists(i);
    return v;
  }
  const Value& indices(const Source& s) const {
    const Value& v = value(s);
    require(v.dtype == DType::i32, "indices are no i32");
    return v;
  }

  void slice(Instr& i) const {
    const Value& v = moved(i, 0);
    const Value& r = result(i);
    require(i.at[2] >= 1, "slice: the step is not positive");
    i.whole = r.rows != v.rows;
    for (const bool is_cols : {false, true}) {
      const std::int64_t start = i.at[is_cols ? 1 : 0], step = is_cols ? i.at[2] : 1;
      if (start == 0 && step == 1 && size(r, is_cols) == size(v, is_cols)) {
        require(aligned(v, r, is_cols, false), "slice: the operand does not cover the result");
      } else {
        require(all_valid(r, is_cols) && has(v, is_cols, start + (std::int64_t{size(r, is_cols)} - 1) * step + 1), "slice: the operand has fewer elements");
      }
    }
  }

  void concat(Instr& i) const {
    const Value& a = moved(i, 0);
    const Value& b = moved(i, 1);
    const Value& r = result(i);
    const bool along = i.imm == 1;
    i.whole = !along;
    require(std::int64_t{size(a, along)} + size(b, along) == size(r, along), "concat: the sizes do not add up");
    require(all_valid(r, along) && has(a, along, size(a, along)) && has(b, along, size(b, along)), "concat: the operands are not whole");
    require(aligned(a, r, !along, false) && aligned(b, r, !along, false), "concat: the operands do not fit side by side");
    i.inner = DimRef::of(size(a, along));
  }

  void transpose(Instr& i) const {
    const Value& v = moved(i, 0);
    const Value& r = result(i);
    i.whole = true;
    require(v.rows == r.cols && v.cols == r.rows && covers(v.valid_rows, r.valid_cols) && covers(v.valid_cols, r.valid_rows), "transpose: the result does not fit");
  }

  void reshape(Instr& i) const {
    const Value& v = moved(i, 0);
    const Value& r = result(i);
    i.whole = true;
    require(std::int64_t{v.rows} * v.cols == std::int64_t{r.rows} * r.cols, "reshape: the sizes differ");
    require(has(v, false, v.rows) && has(v, true, v.cols) && all_valid(r, false) && all_valid(r, true), "reshape: the operand is not whole");
    i.inner = DimRef::of(v.cols);
  }

  void interleave(Instr& i) const {
    const Value& r = result(i);
    for (const unsigned s : {0u, 1u}) {
      const Value& v = moved(i, s);
      require(2 * std::int64_t{v.cols} == r.cols && has(v, true, v.cols) && aligned(v, r, false, false), "interleave: the operands do not fit the result");
    }
    require(all_valid(r, true), "interleave: not all columns are there");
  }

  void gather(Instr& i) const {
    const Value& x = moved(i, 0);
    const Value& index = indices(i.src[1]);
    const Value& r = result(i);
    const bool along = i.imm == 1;
    i.whole = !along;
    require(aligned(index, r, false, true) && aligned(index, r, true, true), "gather: the indices do not fit the result");
    require(aligned(x, r, !along, true), "gather: the operand does not fit the result");
    i.inner = valid(x, along);
  }

  void scatter(Instr& i) const {
    const Value& x = moved(i, 0);
    const Value& index = indices(i.src[1]);
    const Value& from = moved(i, 2);
    const Value& r = result(i);
    const bool along = i.imm == 1;
    i.whole = !along;
    require(aligned(x, r, false, false) && aligned(x, r, true, false), "scatter: the operand does not fit the result");
    require(aligned(from, r, !along, false) && aligned(index, r, !along, true), "scatter: the elements do not fit the result");
    require(size(index, along) == size(from, along), "scatter: not as many indices as elements");
    const DimRef& n = valid(index, along);
    const DimRef& m = valid(from, along);
    require(covers(n, m) || covers(m, n), "scatter: valid indices and elements are not known to agree");
    i.inner = valid(r, along);
    i.outer = covers(n, m) ? m : n;
  }

  void bincount(Instr& i) const {
    const Value& x = indices(i.src[0]);
    const Value& r = result(i);
    i.operand = DType::i32;
    exists(i);
    i.whole = true;
    require(r.rows == 1 && all_valid(r, true), "bincount gives one row");
    i.inner = x.valid_cols;
    i.outer = x.valid_rows;
  }

  // Indices of columns: one for each row, or the first k.
  void ranks(Instr& i) const {
    const Value& v = value(i.src[0]);
    const Value& r = result(i);
    i.operand = v.dtype;
    exists(i);
    require(aligned(v, r, false, false), "a row operation's result does not fit");
    require(all_valid(r, true) && (i.op == Op::extract_topk_indices ? r.cols <= v.cols : r.cols == 1), "more indices than columns");
    i.inner = v.valid_cols;
  }

  void topk_values(Instr& i) const {
    const Value& x = moved(i, 0);
    const Value& index = indices(i.src[1]);
    const Value& r = result(i);
    require(aligned(x, r, false, false) && aligned(index, r, false, false) && aligned(index, r, true, false), "topk: the operands do not fit the result");
    i.inner = x.valid_cols;
  }

  std::vector<CostOp> cost() {
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

  Cursor& in_;
  Program p_;
  std::vector<State> assigned_, regs_;
  std::vector<DType> types_;               // of registers
  std::vector<std::int32_t> most_;         // of registers that are known to be 1 up to it; 0: not known
  std::vector<std::uint32_t> block_regs_, block_values_;
  std::vector<Check> body_checks_;         // that hold here
  std::uint32_t block_ = 0, depth_ = 0;
  bool in_body_ = false;                   // before, registers are named that get their values later
  mutable std::map<std::tuple<std::tuple<std::int32_t, std::uint8_t, int>, std::tuple<std::int32_t, std::uint8_t, int>, std::int32_t>, bool> covered_;
};

}  // namespace

Program decode_program(Cursor& in) { return Decoder(in).run(); }

}  // namespace pto_wsp
