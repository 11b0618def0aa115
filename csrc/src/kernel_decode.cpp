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

constexpr std::uint64_t max_params = 256;
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
      values();
      instrs();
      cost();
    } catch (const PlanError& e) {
      throw PlanError(e.what() + (" (in kernel " + p_.name + ")"));
    }
    return std::move(p_);
  }

 private:
  DType dtype() { return static_cast<DType>(in_.u(tile_dtype_count - 1, "a dtype of tiles")); }

  std::pair<std::int32_t, std::int32_t> shape() {
    const auto rows = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(max_elements), "a number of rows"));
    const auto cols = static_cast<std::int64_t>(in_.u(static_cast<std::uint64_t>(max_elements), "a number of columns"));
    require(rows >= 1 && cols >= 1 && rows <= max_elements / cols, "a tile is empty or too large");
    return {static_cast<std::int32_t>(rows), static_cast<std::int32_t>(cols)};
  }

  void params() {
    const std::size_t n = in_.count("the number of parameters", 2);
    require(n <= max_params, "too many parameters");
    p_.params.reserve(n);
    for (std::size_t i = 0; i < n; ++i) {
      Param param = {};
      param.is_scalar = in_.u(1, "a parameter's kind") == 1;
      if (!param.is_scalar) param.dir = static_cast<Dir>(in_.u(2, "a direction"));
      param.dtype = dtype();
      if (!param.is_scalar) std::tie(param.rows, param.cols) = shape();
      p_.params.push_back(param);
    }
  }

  std::uint32_t tile_param(std::uint64_t index) {
    require(index < p_.params.size() && !p_.params[index].is_scalar, "no such tile parameter");
    return static_cast<std::uint32_t>(index);
  }

  DimRef dimref() {
    const std::uint64_t kind = in_.u(2, "a dimension's kind");
    if (kind == 0) return {-1, static_cast<std::int32_t>(in_.u(std::numeric_limits<std::int32_t>::max(), "a dimension")), false};
    const std::uint32_t index = tile_param(in_.u());
    const bool is_cols = kind == 2;
    const std::int32_t size = is_cols ? p_.params[index].cols : p_.params[index].rows;
    if (size == 1) return {-1, 1, false};
    return {static_cast<std::int32_t>(index), size, is_cols};
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

  void values() {
    const std::size_t n = in_.count("the number of values", 7);
    require(n <= max_values, "too many values");
    for (std::size_t i = 0; i < n; ++i) {
      Value v = {};
      v.dtype = dtype();
      std::tie(v.rows, v.cols) = shape();
      v.valid_rows = dimref();
      v.valid_cols = dimref();
      require(v.valid_rows.value == v.rows && v.valid_cols.value == v.cols, "a value's valid shape is not of its size");
      p_.values.push_back(v);
    }
    assigned_.assign(n, false);
  }

  void instrs() {
    const std::size_t n = in_.count("the number of instructions", 4);
    require(n <= max_instrs, "too many instructions");
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
      verify(instr);
      if (instr.dst >= 0) assigned_[static_cast<std::size_t>(instr.dst)] = true;
      p_.instrs.push_back(instr);
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
      case 0: {
        require(!p_.values.empty(), "no such value");
        const auto index = static_cast<std::uint32_t>(in_.u(p_.values.size() - 1, "a value"));
        require(assigned_[index], "a value is used before it is assigned");
        return {Source::Kind::value, index};
      }
      case 1: return {Source::Kind::literal, 0, in_.f64()};
      default:
        require(!p_.params.empty(), "no such parameter");
        return {Source::Kind::param, static_cast<std::uint32_t>(in_.u(p_.params.size() - 1, "a parameter"))};
    }
  }

  // Whether a size of `have` is at least `need` for all arguments that pass the checks: along the checks' arrows.
  bool covers(const DimRef& have, const DimRef& need) const {
    if (have == need || (have.param < 0 && have.value >= need.value)) return true;
    const auto key = std::make_tuple(have.param, have.is_cols, need.param, need.is_cols, need.value);
    const auto known = covered_.find(key);
    if (known != covered_.end()) return known->second;
    return covered_[key] = covers_by_checks(have, need);
  }
  bool covers_by_checks(const DimRef& have, const DimRef& need) const {
    std::vector<DimRef> reached = {have};
    for (std::size_t next = 0; next < reached.size(); ++next) {
      const DimRef at = reached[next];
      if (at == need || (at.param < 0 && at.value >= need.value)) return true;
      const auto reach = [&](const DimRef& d) {
        for (const DimRef& r : reached)
          if (r == d) return;
        reached.push_back(d);
      };
      for (const Check& c : p_.checks) {
        if (c.a == at) reach(c.b);
        if (c.b == at && !c.at_least) reach(c.a);
      }
    }
    return false;
  }

  const Value& value(const Source& s) const {
    require(s.kind == Source::Kind::value, "an operand must be a value");
    return p_.values[s.index];
  }
  const Value& result(const Instr& i) const { return p_.values[static_cast<std::size_t>(i.dst)]; }
  const Param& tile_of(const Source& s) const {
    require(s.kind == Source::Kind::param && !p_.params[s.index].is_scalar, "load and store need a tile parameter");
    return p_.params[s.index];
  }
  DimRef rows_of(std::uint32_t param) const {
    const std::int32_t n = p_.params[param].rows;
    return n == 1 ? DimRef{-1, 1, false} : DimRef{static_cast<std::int32_t>(param), n, false};
  }
  DimRef cols_of(std::uint32_t param) const {
    const std::int32_t n = p_.params[param].cols;
    return n == 1 ? DimRef{-1, 1, false} : DimRef{static_cast<std::int32_t>(param), n, true};
  }

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
    if (i.dst >= 0) require(!assigned_[static_cast<std::size_t>(i.dst)], "a value is assigned twice");
    if (i.op != Op::slice) {
      require(i.at[0] <= 1 && i.at[1] <= 1, "an immediate is neither 0 nor 1");
      i.imm = static_cast<std::uint8_t>(i.at[0] | (i.at[1] << 1));
    }

    switch (i.op) {
      case Op::load: sources(1); return load(i);
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
    return n <= size(v, is_cols) && covers(valid(v, is_cols), {-1, static_cast<std::int32_t>(n), false});
  }
  static bool all_valid(const Value& r, bool is_cols) { return valid(r, is_cols).param < 0; }
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
    i.inner = {-1, size(a, along), false};
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
    i.inner = {-1, v.cols, false};
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

  void cost() {
    const std::size_t n = in_.count("the number of cost operations");
    require(n >= 1 && n <= 65536, "the cost has no or too many operations");
    std::size_t depth = 0;
    for (std::size_t k = 0; k < n; ++k) {
      CostOp op = {};
      op.code = static_cast<std::uint8_t>(in_.u(9, "a cost operation"));
      if (op.code == 0) op.constant = in_.s();
      if (op.code == 1) op.dim = dimref();
      require(op.code <= 1 || depth >= 2, "the cost takes from an empty stack");
      depth = op.code <= 1 ? depth + 1 : depth - 1;
      require(depth <= 64, "the cost's stack is too deep");
      p_.cost.push_back(op);
    }
    require(depth == 1, "the cost does not leave one value");
  }

  Cursor& in_;
  Program p_;
  std::vector<bool> assigned_;
  mutable std::map<std::tuple<std::int32_t, bool, std::int32_t, bool, std::int32_t>, bool> covered_;
};

}  // namespace

Program decode_program(Cursor& in) { return Decoder(in).run(); }

}  // namespace pto_wsp
