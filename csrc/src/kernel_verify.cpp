// The rules of the operations: an instruction that passes can run with any arguments of the declared types that pass the checks.

#include "kernel_verify.hpp"

#include <string>

namespace pto_wsp {

void refuse_kernel(const char* what) { throw PlanError(std::string("kernel: ") + what); }

namespace {

// Of what is not a constant the size is not told everywhere.
bool same(const DimRef& a, const DimRef& b) {
  return a.kind == b.kind && a.param == b.param && a.dim == b.dim && (!a.is_constant() || a.value == b.value);
}

}  // namespace

void Extents::learn(const Check& c) {
  checks_.push_back(c);
  known_.clear();
}

void Extents::forget(std::size_t all_but) {
  if (all_but == checks_.size()) return;
  checks_.resize(all_but);
  known_.clear();
}

bool Extents::cover(const DimRef& have, const DimRef& need) const {
  if (have == need || (have.is_constant() && have.value >= need.value)) return true;
  const auto id = [](const DimRef& d) { return Id(d.param, d.dim, static_cast<int>(d.kind)); };
  const auto key = std::make_tuple(id(have), id(need), need.value);
  const auto known = known_.find(key);
  if (known != known_.end()) return known->second;
  return known_[key] = reaches(have, need);
}

bool Extents::reaches(const DimRef& have, const DimRef& need) const {
  std::vector<DimRef> reached = {have};
  for (std::size_t next = 0; next < reached.size(); ++next) {
    const DimRef at = reached[next];
    if (same(at, need) || (at.is_constant() && at.value >= need.value)) return true;
    const auto reach = [&](const DimRef& d) {
      for (const DimRef& r : reached)
        if (same(r, d)) return;
      reached.push_back(d);
    };
    for (const Check& c : checks_) {
      if (same(c.a, at)) reach(c.b);
      if (same(c.b, at) && !c.at_least) reach(c.a);
    }
  }
  return false;
}

namespace {

class Rules {
 public:
  Rules(const Program& p, const Extents& known) : p_(p), known_(known) {}

  void verify(Instr& i) const {
    const OpTraits& t = traits(i.op);
    require(t.name != nullptr, "unknown operation");
    require(i.n_src >= t.min_sources && i.n_src <= t.max_sources, "wrong number of operands");
    require((i.dst < 0) == (i.op == Op::store), "a result is missing or superfluous");
    switch (t.kind) {
      case OpKind::memory: return i.op == Op::load ? load(i) : store(i);
      case OpKind::make: return i.op == Op::full ? full(i) : iota(i);
      case OpKind::repeat: return repeat(i);
      case OpKind::cast: return cast(i);
      case OpKind::unary:
      case OpKind::binary:
      case OpKind::fused: return elementwise(i, result(i).dtype, 0);
      case OpKind::select: return elementwise(i, result(i).dtype, 1);
      case OpKind::compare: return compare(i);
      case OpKind::matmul: return matmul(i);
      case OpKind::row_reduce: return row_reduction(i);
      case OpKind::col_reduce: return col_reduction(i);
      case OpKind::view: return restricted(i);
      case OpKind::move:
      case OpKind::order: return rule_of_its_own(i);
      case OpKind::between: refuse_kernel("unknown operation");
    }
  }

 private:
  bool covers(const DimRef& have, const DimRef& need) const { return known_.cover(have, need); }

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
      require(fits(s.literal, t), "a literal is no value of its dtype");
    } else {
      const Param& param = p_.params[s.index];
      require(may_repeat && param.is_scalar && param.dtype == t, "an operand is no scalar parameter of the right dtype");
    }
  }

  void rule_of_its_own(Instr& i) const {
    switch (i.op) {
      case Op::slice: return slice(i);
      case Op::concat: return concat(i);
      case Op::transpose: return transpose(i);
      case Op::reshape: return reshape(i);
      case Op::interleave: return interleave(i);
      case Op::gather: return gather(i);
      case Op::scatter: return scatter(i);
      case Op::bincount: return bincount(i);
      case Op::fill_pad: return fill_pad(i);
      case Op::cumsum: return cumsum(i);
      case Op::rowargmax:
      case Op::rowargmin:
      case Op::extract_topk_indices: return ranks(i);
      case Op::topk_values: return topk_values(i);
      default: refuse_kernel("an operation has no rule");
    }
  }

  void full(Instr& i) const {
    require(i.src[0].kind != Source::Kind::value, "full needs a literal or a scalar");
    i.operand = result(i).dtype;
    operand(i.src[0], i.operand, result(i), true);
  }

  void iota(Instr& i) const {
    i.operand = result(i).dtype;
    exists(i);
  }

  void repeat(Instr& i) const {
    static_cast<void>(value(i.src[0]));
    i.operand = result(i).dtype;
    operand(i.src[0], i.operand, result(i), true);
  }

  void cast(Instr& i) const {
    i.operand = value(i.src[0]).dtype;
    exists(i);
    operand(i.src[0], i.operand, result(i), false);
  }

  // The operands' type is that of the first value.
  void compare(Instr& i) const {
    DType t = result(i).dtype;
    for (unsigned s = i.n_src; s-- > 0;)
      if (i.src[s].kind == Source::Kind::value) t = p_.values[i.src[s].index].dtype;
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

  void row_reduction(Instr& i) const {
    const Value& v = value(i.src[0]);
    const Value& r = result(i);
    i.operand = v.dtype;
    exists(i);
    require(r.cols == 1 && r.rows == v.rows && covers(v.valid_rows, r.valid_rows), "a row reduction's result does not fit");
    i.inner = v.valid_cols;
  }

  void col_reduction(Instr& i) const {
    const Value& v = value(i.src[0]);
    const Value& r = result(i);
    i.operand = v.dtype;
    exists(i);
    i.whole = true;
    require(r.rows == 1 && r.cols == v.cols && covers(v.valid_cols, r.valid_cols), "a column reduction's result does not fit");
    i.inner = v.valid_rows;
  }

  void matmul(Instr& i) const {
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

  void fill_pad(Instr& i) const {
    const Value& x = moved(i, 0);
    const Value& r = result(i);
    i.whole = true;
    require(i.src[1].kind != Source::Kind::value, "fill_pad fills with one scalar");
    operand(i.src[1], r.dtype, r, true);
    require(x.rows <= r.rows && x.cols <= r.cols && all_valid(r, false) && all_valid(r, true), "fill_pad: the result is not whole, or smaller");
    i.inner = x.valid_cols;
    i.outer = x.valid_rows;
  }

  void cumsum(Instr& i) const {
    i.operand = value(i.src[0]).dtype;
    i.whole = i.imm == 0;
    exists(i);
    operand(i.src[0], result(i).dtype, result(i), false);
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

  const Program& p_;
  const Extents& known_;
};

}  // namespace

void verify(Instr& i, const Program& p, const Extents& known) { Rules(p, known).verify(i); }

}  // namespace pto_wsp
