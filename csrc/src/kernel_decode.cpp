// Reads a kernel from the plan and verifies it. What passes here can run with any arguments of the declared types: every type
// and shape fits its operation (kernel_verify.cpp), every value is assigned once and before use, and every operand is defined
// wherever the result is.

#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "kernel_impl.hpp"
#include "kernel_verify.hpp"

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

class Decoder {
 public:
  explicit Decoder(Cursor& in) : in_(in) {}

  Program run() {
    p_.name = in_.str();
    try {
      p_.pipes = in_.u(1, "a model of costs") == 1;
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
      known_.learn(p_.checks.back());
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
    const std::size_t n_checks = known_.size();
    const std::vector<std::int32_t> most = most_;
    inside();
    most_ = most;
    for (const std::uint32_t r : block_regs_) regs_[r] = State::gone;
    for (const std::uint32_t v : block_values_) assigned_[v] = State::gone;
    known_.forget(n_checks);
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
      if (p_.pipes) events();
      else p_.blocks[block_].cost = cost();
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

  // Model pipes: each equation that takes a unit or hands on what does, between the items that are no segments.
  void events() {
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
      if (w.unit < core_units) w.cycles = cost();
      w.reads = numbers();
      w.writes = numbers();
      b.events.push_back({true, static_cast<std::uint32_t>(b.works.size())});
      b.works.push_back(std::move(w));
    }
    require(!to_next(), "an item is not in the cost");
  }

  std::vector<std::uint32_t> numbers() {
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
  std::uint32_t number_of(const Scalar& s) const { return s.constant ? no_value : static_cast<std::uint32_t>(p_.values.size()) + s.reg; }
  std::uint32_t number_of(std::uint32_t reg) const { return static_cast<std::uint32_t>(p_.values.size()) + reg; }

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

  // Small ones in `imm`, the first lowest; others in `at`.
  void immediates(Instr& instr) {
    const std::uint64_t n = in_.u(3, "the number of immediates");
    unsigned shift = 0;
    for (std::uint64_t k = 0; k < 3; ++k) {
      const unsigned bits = traits(instr.op).immediates[k];
      require((k < n) == (bits != 0), "wrong number of immediates");
      if (bits == 0) return;
      const std::int64_t x = in_.s();
      require(x >= 0 && x <= (bits == 32 ? max_elements : (std::int64_t{1} << bits) - 1), "an immediate is negative or too large");
      if (bits == 32) {
        instr.at[k] = static_cast<std::int32_t>(x);
      } else {
        instr.imm = static_cast<std::uint8_t>(instr.imm | (static_cast<std::uint64_t>(x) << shift));
        shift += bits;
      }
    }
  }

  Source source() {
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
        known_.learn({e.at_least, e.a, e.b});
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
    require(to.dir != Dir::in, "a part is stored to an output");
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
    require(v.dtype == p.dtype && v.rows == p.rows && v.cols == p.cols && known_.cover(v.valid_rows, p_.valid[param][0]) &&
                known_.cover(v.valid_cols, p_.valid[param][1]),
            "a carried value does not fit");
    const Instr i = memory_instr(Op::store, param, value, at);
    if (!lies_in(param, value)) add_instr(i);
  }
  // Whether a value is what the loop carries: nothing else is stored there before the trip's end.
  bool lies_in(std::uint32_t param, std::uint32_t value) const {
    const auto carried = carried_.find(param);
    return carried != carried_.end() && p_.root[value] == carried->second;
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
    for (std::size_t i = 0; i < n; ++i) {
      if (in_.u(1, "a carried value's kind") == 0) {
        const std::uint32_t init = value_index(), carry = any_value();
        tiles.push_back({memory_for(carry), carry});
        put(tiles.back().param, init, l.origin);
        l.flows.push_back({init, carry, no_value, no_value});
        order.push_back(static_cast<int>(tiles.size()) - 1);
      } else {
        Carry c;
        const std::uint64_t reg = in_.u();
        require(reg < types_.size() && regs_[reg] == State::unset, "a register gets a value twice");
        c.reg = static_cast<std::uint32_t>(reg);
        c.init = scalar(types_[reg]);
        l.carries.push_back(c);
        l.flows.push_back({number_of(c.init), number_of(c.reg), no_value, no_value});
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
          for (const Place& t : tiles) {
            take(t.param, t.value, l.origin);
            carried_.emplace(t.param, t.value);
          }
        },
        [&] {
          std::size_t scalar_number = 0;
          for (std::size_t i = 0; i < order.size(); ++i) {
            if (order[i] >= 0) {
              const Place& t = tiles[static_cast<std::size_t>(order[i])];
              const std::uint32_t value = value_index();
              l.flows[i].yield = value;
              put(t.param, value, l.origin);
            } else {
              Carry& c = l.carries[scalar_number++];
              c.yield = scalar(types_[c.reg]);
              l.flows[i].yield = number_of(c.yield);
            }
          }
        });
    p_.extents.push_back({from, p_.instrs.size()});
    add_item(Block::Item::Kind::loop, p_.loops.size());
    std::size_t scalar_number = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (order[i] >= 0) {
        l.flows[i].out = any_value();
        take(tiles[static_cast<std::size_t>(order[i])].param, l.flows[i].out, l.origin);
      } else {
        Carry& c = l.carries[scalar_number++];
        c.out = new_register(types_[c.reg]);
        l.flows[i].out = number_of(c.out);
      }
    }
    if (!p_.pipes) l.flows.clear();
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
    b.flows.resize(n);
    for (std::size_t side = 0; side < 2; ++side)
      b.blocks[side] = block([] {},
                             [&] {
                               std::size_t k = 0;
                               for (std::size_t i = 0; i < order.size(); ++i) {
                                 if (order[i] >= 0) {
                                   const Place& t = tiles[static_cast<std::size_t>(order[i])];
                                   const std::uint32_t value = value_index();
                                   put(t.param, value, at);
                                   b.flows[i][side] = value;
                                   b.flows[i][2] = t.value;
                                 } else {
                                   b.outs[k][side].out = regs[k];
                                   b.outs[k][side].yield = scalar(types_[regs[k]]);
                                   b.flows[i][side] = number_of(b.outs[k][side].yield);
                                   b.flows[i][2] = number_of(regs[k]);
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
    if (!p_.pipes) b.flows.clear();
    p_.branches.push_back(std::move(b));
  }

  static DimRef unsized(DimRef d) {
    if (d.kind == DimRef::Kind::reg || d.kind == DimRef::Kind::region) d.value = 0;
    return d;
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
  Extents known_;                          // here
  std::map<std::uint32_t, std::uint32_t> carried_;  // by the memory of loops: the value that each trip begins with
  std::uint32_t block_ = 0, depth_ = 0;
  bool in_body_ = false;                   // before, registers are named that get their values later
};

}  // namespace

Program decode_program(Cursor& in) { return Decoder(in).run(); }

}  // namespace pto_wsp
