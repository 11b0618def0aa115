#include "pto_wsp/bound.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace pto_wsp {
namespace {

// The value of a form over registers that may hold anything: modulo 2^64, for messages only.
std::int64_t wrapped(const Affine& a, const std::int64_t* regs) {
  auto sum = static_cast<std::uint64_t>(a.constant);
  for (const Term& t : a.terms) sum += static_cast<std::uint64_t>(t.coef) * static_cast<std::uint64_t>(regs[t.reg]);
  return static_cast<std::int64_t>(sum);
}

// Sums of products stay far from the end of Wide; what is beyond 64 bits need not be exact.
constexpr Wide far = Wide{1} << 120;

Wide times(Wide a, Wide b) {
  Wide out;
  if (__builtin_mul_overflow(a, b, &out)) return (a < 0) == (b < 0) ? far : -far;
  return std::clamp(out, -far, far);
}

Wide rounded_up(Wide a, Wide b) { return a / b + (a % b != 0 && (a % b > 0) == (b > 0) ? 1 : 0); }

// A condition: the form is above zero.
struct Above {
  Wide constant = 0;
  std::vector<std::pair<std::uint32_t, Wide>> terms;

  Above& add(const Affine& a, Wide factor) {
    constant += factor * a.constant;
    for (const Term& t : a.terms) {
      const auto same = std::ranges::find(terms, t.reg, &std::pair<std::uint32_t, Wide>::first);
      if (same == terms.end())
        terms.emplace_back(t.reg, factor * t.coef);
      else
        same->second += factor * t.coef;
    }
    return *this;
  }
  Above& add(Wide c) {
    constant += c;
    return *this;
  }
};

constexpr std::uint64_t max_data = std::uint64_t{1} << 22;  // elements that binding looks at

// What integer tensors hold that no task writes.
struct Data {
  bool known = false;   // lo .. hi
  bool sorted = false;  // and none below the one before; of one dimension
  std::int64_t lo = 0, hi = 0;
};

template <class Int>
void look_at(const Buffer& b, Data& data) {
  const std::size_t n_dims = b.shape.size();
  const std::int64_t row = n_dims == 0 ? 1 : b.shape.back(), step = n_dims == 0 ? 0 : b.strides.back();
  std::vector<std::int64_t> at(n_dims, 0);
  Int lo = std::numeric_limits<Int>::max(), hi = std::numeric_limits<Int>::min(), last = lo;
  bool sorted = n_dims == 1;
  std::memcpy(&last, b.data, sizeof last);
  const std::byte* p = b.data;
  while (true) {
    for (std::int64_t i = 0; i < row; ++i) {
      Int v;
      std::memcpy(&v, p + i * step, sizeof v);
      lo = std::min(lo, v);
      hi = std::max(hi, v);
      sorted = sorted && last <= v;
      last = v;
    }
    std::size_t d = n_dims == 0 ? 0 : n_dims - 1;
    while (d > 0 && ++at[d - 1] == b.shape[d - 1]) {
      p -= (b.shape[d - 1] - 1) * b.strides[d - 1];
      at[--d] = 0;
    }
    if (d == 0) break;
    p += b.strides[d - 1];
  }
  data = {true, sorted, lo, hi};
}

Data data_in(DType dtype, const Buffer& b) {
  Data data;
  std::uint64_t n = 1;
  for (const std::int64_t extent : b.shape) {
    if (extent == 0 || static_cast<std::uint64_t>(extent) > max_data / n) return data;
    n *= static_cast<std::uint64_t>(extent);
  }
  if (dtype == DType::i32) look_at<std::int32_t>(b, data);
  if (dtype == DType::i64) look_at<std::int64_t>(b, data);
  return data;
}

constexpr Interval everything{INT64_MIN, INT64_MAX};

}  // namespace

/// Walks the plan once, with what is known of each register. Of the failures that are certain it gives the first in
/// program order.
class Binder {
 public:
  Binder(BoundPlan& out, const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
         std::span<const std::uint64_t> slots)
      : out_(out), plan_(plan), symbols_(symbols), buffers_(buffers), slots_(slots) {}

  std::optional<Failure> bind() {
    out_ = BoundPlan();
    out_.plan_ = &plan_;
    out_.regs_.assign(plan_.n_regs(), 0);
    out_.slots_.assign(plan_.slots().size(), 0);
    std::copy_n(slots_.begin(), std::min(slots_.size(), out_.slots_.size()), out_.slots_.begin());
    ranges_.assign(plan_.n_regs(), Range{});
    definitions_.assign(plan_.n_regs(), nullptr);
    for (std::size_t i = 0; i < symbols_.size(); ++i) {
      out_.regs_[i] = symbols_[i];
      ranges_[i] = {symbols_[i], symbols_[i], true};
    }
    check_dims();
    out_.tasks_.resize(plan_.tasks().size());
    if (!failure_) out_.root_ = node(plan_.root(), true);
    return std::move(failure_);
  }

 private:
  void check_dims() {
    for (std::size_t i = 0; i < plan_.tensors().size(); ++i) {
      const auto& dims = plan_.tensors()[i].dims;
      for (std::size_t d = 0; d < dims.size(); ++d) {
        std::int64_t expected = 0;
        const bool fits = evaluate(dims[d], out_.regs_, expected);
        if (fits && expected == buffers_[i].shape[d]) continue;
        Failure f{.kind = fits ? ErrorKind::dim : ErrorKind::overflow};
        f.arg = static_cast<std::int64_t>(i);
        f.dim = static_cast<std::int64_t>(d);
        if (fits) f.values = {expected, buffers_[i].shape[d]};
        failure_ = std::move(f);
        return;
      }
    }
  }

  // A child of a list, or an iteration of a loop.
  struct Step {
    bool iteration;
    std::uint32_t which;  // its place, or the loop's register
  };

  // Registers at the first iteration where all of `conditions` hold, if there is one that can be found loop by loop.
  std::optional<std::vector<std::int64_t>> earliest(std::span<const Above> conditions) const {
    std::vector<Range> ranges = ranges_;
    for (const Step& s : path_) {
      if (!s.iteration) continue;
      Range& r = ranges[s.which];
      Wide least = r.lo, most = r.hi;
      for (const Above& c : conditions) {
        Wide rest = c.constant, coef = 0;
        for (const auto& [reg, k] : c.terms) {
          if (reg == s.which)
            coef = k;
          else
            rest = std::clamp(rest + std::max(times(k, ranges[reg].lo), times(k, ranges[reg].hi)), -far, far);
        }
        // coef * v >= 1 - rest
        if (coef > 0)
          least = std::max(least, rounded_up(1 - rest, coef));
        else if (coef < 0)
          most = std::min(most, -rounded_up(1 - rest, -coef));
        else if (rest < 1)
          return std::nullopt;
      }
      if (least > most) return std::nullopt;
      r.lo = r.hi = static_cast<std::int64_t>(least);
    }
    std::vector<std::int64_t> at(ranges.size());
    for (std::size_t i = 0; i < at.size(); ++i) at[i] = ranges[i].lo;
    for (const Above& c : conditions) {
      Wide sum = c.constant;
      for (const auto& [reg, k] : c.terms) sum = std::clamp(sum + times(k, at[reg]), -far, far);
      if (sum < 1) return std::nullopt;
    }
    for (const Node* n : evals_) {
      std::int64_t a = 0, b = 0, value = 0;
      if (evaluate(n->a, at, a) && evaluate(n->b, at, b) && evaluate(n->op, a, b, value) == EvalStatus::ok) at[n->reg] = value;
    }
    return at;
  }

  // The place of these registers in program order.
  std::vector<std::int64_t> place(const std::vector<std::int64_t>& at) const {
    std::vector<std::int64_t> out;
    for (const Step& s : path_) out.push_back(s.iteration ? at[s.which] : static_cast<std::int64_t>(s.which));
    return out;
  }

  void fail(const std::vector<std::int64_t>& at, Failure f) {
    std::vector<std::int64_t> here = place(at);
    if (failure_ && place_ <= here) return;
    place_ = std::move(here);
    failure_ = std::move(f);
  }

  // `certain`: this node is reached with every combination of the exact registers.
  std::uint32_t node(std::uint32_t id, bool certain) {
    const Node& n = plan_.nodes()[id];
    BoundNode b;
    b.kind = n.kind;
    b.plan = &n;
    b.reg = n.reg;
    switch (n.kind) {
      case NodeKind::block:
      case NodeKind::seq: children(b, n, certain); break;
      case NodeKind::loop: loop(b, n, certain); break;
      case NodeKind::eval: eval(b, n); break;
      case NodeKind::task:
        b.task = n.id;
        task(n.id, certain);
        break;
      case NodeKind::scalar: scalar(b, n); break;
      case NodeKind::read: read(b, n); break;
      case NodeKind::cond:
        children(b, n, false);
        b.ragged = true;
        break;
      case NodeKind::slot_get: slot_get(b, n); break;
      case NodeKind::slot_set:
      case NodeKind::acquire:
      case NodeKind::release:
      case NodeKind::reset: break;
    }
    out_.nodes_.push_back(b);
    return static_cast<std::uint32_t>(out_.nodes_.size() - 1);
  }

  void children(BoundNode& b, const Node& n, bool certain) {
    std::vector<std::uint32_t> ids;
    const std::size_t known = evals_.size();
    for (std::uint32_t i = 0; i < n.children.size(); ++i) {
      path_.push_back({n.kind == NodeKind::loop, n.kind == NodeKind::loop ? n.reg : i});
      ids.push_back(node(n.children[i], certain));
      path_.pop_back();
    }
    evals_.resize(known);
    b.first_child = static_cast<std::uint32_t>(out_.children_.size());
    b.n_children = static_cast<std::uint32_t>(ids.size());
    b.empty = true;
    for (const std::uint32_t c : ids) {
      b.loops = b.loops || out_.nodes_[c].loops;
      b.ragged = b.ragged || out_.nodes_[c].ragged;
      b.empty = b.empty && out_.nodes_[c].empty;
    }
    out_.children_.insert(out_.children_.end(), ids.begin(), ids.end());
  }

  void loop(BoundNode& b, const Node& n, bool certain) {
    const Interval extent = interval_of(n.a, ranges_);
    const bool exact = certain && is_exact(n.a, ranges_);
    if (exact && (extent.lo < 0 || !extent.fits())) {
      std::optional<std::vector<std::int64_t>> at;
      for (const Above& c : {Above().add(n.a, -1), Above().add(n.a, 1).add(-Wide{INT64_MAX})}) {
        auto found = earliest({&c, 1});
        if (found && (!at || place(*found) < place(*at))) at = std::move(found);
      }
      if (at) {
        std::int64_t value = 0;
        const bool fits = evaluate(n.a, *at, value);
        Failure f = failure_at(plan_, n, fits ? ErrorKind::extent : ErrorKind::overflow, at->data());
        if (fits) f.values = {value};
        fail(*at, std::move(f));
        b.empty = true;
        return;
      }
    }
    b.sequential = n.sequential;
    b.conditional = n.conditional;
    b.loops = true;
    b.checked = (extent.lo < 0 || !extent.fits()) && !(extent.hi <= INT64_MAX && at_least(Above().add(n.a, 1), 0));
    if (b.checked) out_.unproved_ = true;
    b.extent = fold(n.a);
    b.ragged = b.extent.count != 0 || n.conditional;
    b.empty = true;
    definitions_[n.reg] = &n;
    const Wide top = std::clamp<Wide>(extent.hi, 0, INT64_MAX);
    // Where no iteration can be reached there is nothing to prove, and nothing runs.
    if (top > 0) {
      ranges_[n.reg] = {0, static_cast<std::int64_t>(top - 1), extent.is_point() && !b.checked};
      children(b, n, certain && extent.lo >= 1 && !n.conditional);
    }
    b.empty = b.empty && !b.checked && !n.conditional;
    if (b.empty) b.extent = {};  // however often nothing is repeated
  }

  void eval(BoundNode& out, const Node& n) {
    const Interval a = interval_of(n.a, ranges_), b = interval_of(n.b, ranges_);
    evals_.push_back(&n);
    definitions_[n.reg] = &n;
    Range& r = ranges_[n.reg];
    std::int64_t value = 0;
    if (a.is_point() && b.is_point() && a.fits() && b.fits()) {
      if (evaluate(n.op, static_cast<std::int64_t>(a.lo), static_cast<std::int64_t>(b.lo), value) == EvalStatus::ok) {
        r = {value, value, true};
        out.empty = true;
        return;
      }
    }
    // A result outside 64 bits stops the run there, so what follows sees a 64-bit value.
    const Interval v = interval_of(n.op, a, b);
    const bool divides = n.op == EvalOp::floordiv || n.op == EvalOp::mod;
    if (!a.fits() || !b.fits() || !v.fits() || (divides && b.lo <= 0 && b.hi >= 0)) out_.unproved_ = true;
    r.lo = static_cast<std::int64_t>(std::clamp<Wide>(v.lo, INT64_MIN, INT64_MAX));
    r.hi = static_cast<std::int64_t>(std::clamp<Wide>(v.hi, INT64_MIN, INT64_MAX));
    r.exact = false;
  }

  void define(const Node& n, Interval v, bool exact = false) {
    definitions_[n.reg] = &n;
    ranges_[n.reg] = {static_cast<std::int64_t>(std::clamp<Wide>(v.lo, INT64_MIN, INT64_MAX)),
                      static_cast<std::int64_t>(std::clamp<Wide>(v.hi, INT64_MIN, INT64_MAX)), exact};
  }

  Interval range_of(const Operand& o, DType type) const {
    if (o.kind == Operand::Kind::affine) return interval_of(o.affine, ranges_);
    if (type == DType::boolean) return {0, 1};
    if (type == DType::u64 && o.kind == Operand::Kind::constant) return {o.bits, o.bits};
    if (type != DType::i64) return everything;
    if (o.kind == Operand::Kind::constant) return Interval::point(static_cast<std::int64_t>(o.bits));
    return {ranges_[o.reg].lo, ranges_[o.reg].hi};
  }

  // `sure`: it cannot fail.
  Interval result(const ScalarSpec& s, bool& sure) const {
    const bool signed_numbers = s.type == DType::i64;
    Interval a = range_of(s.operands[0], s.type), b;
    if (s.operands.size() > 1) b = range_of(s.operands[1], s.type);
    for (const Operand& o : s.operands) sure = sure && (o.kind != Operand::Kind::affine || interval_of(o.affine, ranges_).fits());
    Interval v = everything;
    switch (s.op) {
      case ScalarOp::add: v = {a.lo + b.lo, a.hi + b.hi}; break;
      case ScalarOp::sub: v = {a.lo - b.hi, a.hi - b.lo}; break;
      case ScalarOp::mul: v = interval_of(EvalOp::mul, a, b); break;
      case ScalarOp::neg: v = {-a.hi, -a.lo}; break;
      case ScalarOp::abs: v = {a.lo > 0 ? a.lo : a.hi < 0 ? -a.hi : Wide{0}, std::max(-a.lo, a.hi)}; break;
      case ScalarOp::min: v = interval_of(EvalOp::min, a, b); break;
      case ScalarOp::max: v = interval_of(EvalOp::max, a, b); break;
      case ScalarOp::floordiv:
      case ScalarOp::mod:
      case ScalarOp::div: {
        const Operand& by = s.operands[1];
        const bool zero = s.type == DType::f64 ? std::bit_cast<double>(by.bits) == 0 : b.lo <= 0 && b.hi >= 0;
        const bool known = signed_numbers || by.kind == Operand::Kind::constant;
        sure = sure && known && !zero;
        if (s.op != ScalarOp::div) v = interval_of(s.op == ScalarOp::mod ? EvalOp::mod : EvalOp::floordiv, a, b);
        break;
      }
      case ScalarOp::shl:
      case ScalarOp::shr:
        sure = sure && b.lo >= 0 && b.hi <= 63 && (s.op == ScalarOp::shr || !s.checked);
        if (s.op == ScalarOp::shr && b.is_point() && sure) v = {a.lo >> static_cast<int>(b.lo), a.hi >> static_cast<int>(b.lo)};
        break;
      case ScalarOp::bit_and:
        if (a.lo >= 0 || b.lo >= 0) v = {0, a.lo < 0 ? b.hi : b.lo < 0 ? a.hi : std::min(a.hi, b.hi)};
        break;
      case ScalarOp::where: {
        const Interval c = range_of(s.operands[2], s.type);
        return {std::min(b.lo, c.lo), std::max(b.hi, c.hi)};
      }
      case ScalarOp::cast:
        if (s.to == DType::i64 || s.to == DType::u64) {
          const bool changes = s.type != s.to && s.type != DType::boolean;
          sure = sure && s.type != DType::f64 && !(changes && s.checked && !(signed_numbers && a.lo >= 0));
        }
        return s.type == DType::i64 || s.type == DType::boolean ? a : everything;
      default: return everything;
    }
    const bool may_leave = s.checked && !(signed_numbers && v.fits());
    const bool can_leave = s.op <= ScalarOp::floordiv || s.op == ScalarOp::neg || s.op == ScalarOp::abs;
    if (can_leave && may_leave && s.type != DType::f64) sure = false;
    // Beyond 64 bits it wraps, or the run ends there.
    return v.fits() || s.checked ? v : everything;
  }

  void scalar(BoundNode& out, const Node& n) {
    const ScalarSpec& s = plan_.scalars()[n.id];
    bool sure = true;
    const Interval v = result(s, sure);
    define(n, result_of(s) == DType::i64 ? v : everything);
    out.empty = sure;
    if (!sure) out_.unproved_ = true;
  }

  void slot_get(BoundNode& out, const Node& n) {
    const bool known = plan_.slots()[n.id] == DType::i64 && !plan_.writes_slot(n.id);
    define(n, known ? Interval::point(static_cast<std::int64_t>(out_.slots_[n.id])) : everything, known);
    out.empty = true;
  }

  void read(BoundNode& out, const Node& n) {
    const ReadSpec& spec = plan_.reads()[n.id];
    BoundScalarRead r;
    r.spec = &spec;
    r.from = reading(spec.dims, spec.tensor, spec.wait);
    Interval v = everything;
    const bool elements = spec.kind == ReadKind::item || spec.kind == ReadKind::max || spec.kind == ReadKind::min;
    if (elements && scalar_of(r.from.dtype) == DType::i64) {
      if (const Data& d = data(spec.tensor); d.known) {
        v = {d.lo, d.hi};
        r.ranged = true;
        r.lo = d.lo;
        r.hi = d.hi;
      }
    }
    define(n, v);
    const bool of_nothing = (spec.kind == ReadKind::max || spec.kind == ReadKind::min) && may_be_empty(spec.dims);
    if (of_nothing) out_.unproved_ = true;
    out.empty = r.from.proved && !of_nothing && !spec.wait;
    out.task = static_cast<std::uint32_t>(out_.reads_.size());
    out_.reads_.push_back(std::move(r));
  }

  static bool may_be_empty(const std::vector<ViewDim>& dims) {
    return std::ranges::any_of(dims, [](const ViewDim& v) { return v.kind == DimKind::span || v.size == 0; });
  }

  const Data& data(std::uint32_t tensor) {
    if (data_.empty()) data_.resize(plan_.tensors().size());
    std::optional<Data>& d = data_[tensor];
    const TensorInfo& t = plan_.tensors()[tensor];
    if (!d) d = t.written || t.temporary ? Data{} : data_in(t.dtype, buffers_[tensor]);
    return *d;
  }

  BoundRead reading(const std::vector<ViewDim>& dims, std::uint32_t tensor, bool wait) {
    const Buffer& buffer = buffers_[tensor];
    BoundRead r;
    r.dims = &dims;
    r.dtype = plan_.tensors()[tensor].dtype;
    r.proved = true;
    r.first_dim = static_cast<std::uint32_t>(out_.read_dims_.size());
    r.view = {tensor, false, static_cast<std::uint32_t>(out_.view_dims_.size()), wait ? static_cast<std::uint32_t>(dims.size()) : 0};
    std::vector<LinearTerm> address;
    auto base = reinterpret_cast<std::uint64_t>(buffer.data);
    for (std::size_t d = 0; d < dims.size(); ++d) {
      r.proved = r.proved && proved_inside(dims[d], buffer.shape[d]);
      add(dims[d].start, static_cast<std::uint64_t>(buffer.strides[d]), base, address);
      const ReadDim dim{buffer.shape[d], buffer.strides[d], extent(dims[d], buffer.shape[d])};
      if (wait) out_.view_dims_.push_back({fold(dims[d].start), dim.length, dim.extent});
      out_.read_dims_.push_back(dim);
    }
    r.at = keep(base, address);
    if (!r.proved) out_.unproved_ = true;
    return r;
  }

  bool proved_inside(const ViewDim& v, std::int64_t dim) {
    const Interval start = interval_of(v.start, ranges_);
    if (start.lo < 0 && !at_least(Above().add(v.start, 1), 0)) return false;
    if (v.kind == DimKind::tile) {
      const Interval limit = interval_of(v.limit, ranges_), room = interval_of_difference(v.limit, v.start, ranges_);
      return (room.lo >= 1 || at_least(Above().add(v.limit, 1).add(v.start, -1), 1)) &&
             (limit.hi <= dim || at_least(Above().add(v.limit, -1).add(dim), 0));
    }
    if (v.kind == DimKind::span) {
      const Interval length = interval_of(v.limit, ranges_);
      return (length.lo >= 0 || at_least(Above().add(v.limit, 1), 0)) && at_least(Above().add(v.start, -1).add(v.limit, -1).add(dim), 0);
    }
    return start.hi + v.size <= dim || at_least(Above().add(v.start, -1).add(Wide{dim} - v.size), 0);
  }

  // Whether a form is proved to be at least `bound`, from the ranges of registers and from what defines them.
  bool at_least(const Above& form, Wide bound) {
    int budget = 256;
    return least(form, 4, budget) >= bound;
  }

  Wide least(const Above& form, int depth, int& budget) const {
    Wide sum = form.constant;
    for (const auto& [reg, k] : form.terms) {
      const Wide low = std::min(times(k, ranges_[reg].lo), times(k, ranges_[reg].hi));
      sum = sum == -far || low == -far ? -far : std::clamp(sum + low, -far, far);
    }
    if (depth == 0) return sum;
    for (std::size_t i = 0; i < form.terms.size(); ++i) {
      const auto [reg, k] = form.terms[i];
      const Node* by = definitions_[reg];
      // Products of larger ones might not fit.
      if (by == nullptr || k == 0 || k > (Wide{1} << 31) || k < -(Wide{1} << 31) || ranges_[reg].lo == ranges_[reg].hi || --budget < 0) continue;
      Above rest = form;
      rest.terms[i].second = 0;
      const auto with = [&](const Affine& a, Wide factor, Wide extra) {
        Above other = rest;
        if (std::ranges::any_of(other.terms, [](const auto& t) { return t.second > (Wide{1} << 80) || t.second < -(Wide{1} << 80); })) return;
        sum = std::max(sum, least(other.add(a, factor).add(extra), depth - 1, budget));
      };
      if (by->kind == NodeKind::loop && k < 0) with(by->a, k, -k);  // at most its extent - 1
      if (by->kind == NodeKind::read) {
        for (std::size_t j = 0; j < form.terms.size(); ++j) {
          if (k < 0 || form.terms[j].second != -k || !ordered(*by, definitions_[form.terms[j].first])) continue;
          Above both = rest;
          both.terms[j].second = 0;
          sum = std::max(sum, least(both, depth - 1, budget));
        }
      }
      if (by->kind != NodeKind::eval) continue;
      if ((by->op == EvalOp::min && k < 0) || (by->op == EvalOp::max && k > 0)) {
        with(by->a, k, 0);
        with(by->b, k, 0);
      }
      const Wide divisor = by->b.constant;
      if (by->op == EvalOp::floordiv && by->b.terms.empty() && divisor > 0 && k % divisor == 0)
        with(by->a, k / divisor, k > 0 ? -(k / divisor) * (divisor - 1) : Wide{0});
    }
    return sum;
  }

  // Whether `a` reads an element at or after that of `b`, of a tensor whose elements never decrease.
  bool ordered(const Node& a, const Node* b) const {
    if (b == nullptr || b->kind != NodeKind::read) return false;
    const ReadSpec &x = plan_.reads()[a.id], &y = plan_.reads()[b->id];
    if (x.kind != ReadKind::item || y.kind != ReadKind::item || x.tensor != y.tensor || x.dims.size() != 1) return false;
    if (data_.empty() || !data_[x.tensor] || !data_[x.tensor]->sorted) return false;
    const Above apart = Above().add(x.dims[0].start, 1).add(y.dims[0].start, -1);
    return apart.constant >= 0 && std::ranges::all_of(apart.terms, [](const auto& t) { return t.second == 0; });
  }

  void task(std::uint32_t id, bool certain) {
    const TaskSpec& spec = plan_.tasks()[id];
    BoundTask t;
    t.spec = &spec;
    t.kernel = &plan_.kernels()[spec.kernel];
    t.reachable = true;
    t.n_args = static_cast<std::uint32_t>(spec.args.size());
    t.first_check = static_cast<std::uint32_t>(out_.checks_.size());
    t.first_view = static_cast<std::uint32_t>(out_.views_.size());
    t.first_gather = static_cast<std::uint32_t>(out_.gathers_.size());
    std::vector<BoundArg> args;
    for (std::uint32_t i = 0; i < t.n_args; ++i) {
      args.push_back(spec.args[i].is_scalar ? scalar(t, i) : tile(t, i, certain));
      t.shaped = t.shaped || args.back().rows.tail || args.back().cols.tail;
    }
    t.first_arg = static_cast<std::uint32_t>(out_.args_.size());
    out_.args_.insert(out_.args_.end(), args.begin(), args.end());
    t.n_checks = static_cast<std::uint32_t>(out_.checks_.size()) - t.first_check;
    t.n_views = static_cast<std::uint32_t>(out_.views_.size()) - t.first_view;
    if (!t.shaped) fix_shapes(t, args);
    out_.scratch_ = std::max(out_.scratch_, t.kernel->scratch_bytes());
    out_.max_args_ = std::max(out_.max_args_, args.size());
    out_.tasks_[id] = t;
  }

  static void fix_shapes(BoundTask& t, std::span<const BoundArg> args) {
    std::vector<Arg> shapes(args.size());
    for (std::size_t i = 0; i < args.size(); ++i) {
      if (args[i].is_scalar)
        shapes[i].scalar = args[i].value;
      else
        shapes[i].tile = {nullptr, 0, 0, static_cast<std::int32_t>(args[i].rows.size), static_cast<std::int32_t>(args[i].cols.size), nullptr, nullptr};
    }
    t.failed_check = t.kernel->failed_check(shapes);
    try {
      t.cost = t.kernel->cost(shapes);
    } catch (const CostError&) {
      t.cost.reset();  // an error of the first such task, if there ever is one
    }
  }

  BoundArg scalar(BoundTask& t, std::uint32_t i) {
    const ArgSpec& spec = t.spec->args[i];
    BoundArg a;
    a.is_scalar = true;
    a.dtype = t.kernel->params()[i].dtype;
    a.constant = spec.constant;
    a.value = spec.value;
    if (!spec.constant) {
      t.scalars = true;
      if (!surely_fits(spec, a.dtype)) out_.unproved_ = true;
    }
    return a;
  }

  bool surely_fits(const ArgSpec& spec, DType dtype) const {
    if (spec.reg_type == DType::f64) return true;
    Interval v{0, 1};
    if (spec.reg == none)
      v = interval_of(spec.affine, ranges_);
    else if (spec.reg_type == DType::u64)
      v = {0, UINT64_MAX};
    else if (spec.reg_type == DType::i64)
      v = {ranges_[spec.reg].lo, ranges_[spec.reg].hi};
    if (dtype == DType::i32) return v.lo >= std::numeric_limits<std::int32_t>::min() && v.hi <= std::numeric_limits<std::int32_t>::max();
    if (dtype == DType::f16) return v.lo >= -65504 && v.hi <= 65504;
    return spec.reg != none || v.fits();
  }

  BoundArg tile(BoundTask& t, std::uint32_t i, bool certain) {
    const ArgSpec& spec = t.spec->args[i];
    const Buffer& buffer = buffers_[spec.tensor];
    BoundArg a;
    a.dtype = t.kernel->params()[i].dtype;
    std::vector<LinearTerm> address;
    auto base = reinterpret_cast<std::uint64_t>(buffer.data);
    for (std::uint32_t d = 0; d < spec.dims.size(); ++d) {
      if (spec.dims[d].kind == DimKind::gather) {
        gather(t, i, d);
        continue;
      }
      prove(t, i, d, certain);
      add(spec.dims[d].start, static_cast<std::uint64_t>(buffer.strides[d]), base, address);
    }
    a.at = keep(base, address);
    a.row_stride = buffer.strides[spec.row_dim];
    a.col_stride = buffer.strides[spec.col_dim];
    a.rows = extent(spec.dims[spec.row_dim], buffer.shape[spec.row_dim]);
    a.cols = extent(spec.dims[spec.col_dim], buffer.shape[spec.col_dim]);
    if (spec.tracked) track(t, i);
    return a;
  }

  void gather(BoundTask& t, std::uint32_t i, std::uint32_t d) {
    const ArgSpec& arg = t.spec->args[i];
    const GatherSpec& spec = plan_.gathers()[arg.dims[d].gather];
    BoundGather g;
    g.spec = &spec;
    g.from = reading(spec.dims, spec.tensor, spec.wait);
    g.stride = buffers_[spec.tensor].strides[spec.kept];
    g.extent = buffers_[arg.tensor].shape[d];
    g.length = extent(spec.dims[spec.kept], buffers_[spec.tensor].shape[spec.kept]);
    g.arg = i;
    g.dim = d;
    g.of_rows = d == arg.row_dim;
    g.first = t.n_indices;
    t.n_indices += static_cast<std::uint32_t>(spec.size);
    ++t.n_gathers;
    if (const Data& values = data(spec.tensor); !values.known || values.lo < 0 || values.hi >= g.extent) out_.unproved_ = true;
    out_.gathers_.push_back(std::move(g));
  }

  void prove(const BoundTask& t, std::uint32_t i, std::uint32_t d, bool certain) {
    const ViewDim& v = t.spec->args[i].dims[d];
    const std::int64_t dim = buffers_[t.spec->args[i].tensor].shape[d];
    if (proved_inside(v, dim)) return;
    const bool exact = certain && is_exact(v.start, ranges_) && (v.kind != DimKind::tile || is_exact(v.limit, ranges_));
    if (!exact) return check(i, d, dim);
    std::optional<std::vector<std::int64_t>> at;
    const auto look = [&](std::initializer_list<Above> conditions) {
      auto found = earliest(conditions);
      if (!found) return false;
      if (!at || place(*found) < place(*at)) at = std::move(found);
      return true;
    };
    look({Above().add(v.start, -1)});
    const Above beyond = Above().add(v.start, 1).add(Wide{v.size} - dim);
    if (v.kind != DimKind::tile) {
      look({beyond});
    } else {
      look({Above().add(v.start, 1).add(v.limit, -1).add(1)});
      const Above past = Above().add(v.limit, 1).add(-Wide{dim});
      if (!look({past, beyond})) look({past});  // rather a tile whose own elements are not there
    }
    if (!at) return check(i, d, dim);  // not found loop by loop: the tasks themselves tell
    std::int64_t first = 0, second = v.size;
    const bool fits = evaluate(v.start, *at, first) && (v.kind != DimKind::tile || evaluate(v.limit, *at, second));
    Failure f{.kind = fits ? ErrorKind::bounds : ErrorKind::overflow};
    f.site = t.spec->site;
    f.arg = i;
    f.dim = d;
    for (const Affine& c : t.spec->coords) f.coords.push_back(wrapped(c, at->data()));
    if (fits) f.values = {first, second, dim};
    fail(*at, std::move(f));
  }

  void check(std::uint32_t arg, std::uint32_t dim, std::int64_t size) {
    out_.checks_.push_back({arg, dim, size});
    out_.unproved_ = true;
  }

  // Of a tensor's dimension that has `dim` elements.
  Extent extent(const ViewDim& v, std::int64_t dim) {
    if (v.kind == DimKind::gather) {
      const GatherSpec& g = plan_.gathers()[v.gather];
      return extent(g.dims[g.kept], buffers_[g.tensor].shape[g.kept]);
    }
    Extent e;
    e.size = v.size;
    if (v.kind == DimKind::span) {
      e.size = dim;
      e.tail = true;
      e.room = fold(v.limit);
    }
    if (v.kind != DimKind::tile) return e;
    const Interval room = interval_of_difference(v.limit, v.start, ranges_);
    if (room.lo >= v.size) return e;
    if (room.is_point() && room.lo >= 1) {
      e.size = static_cast<std::int64_t>(room.lo);
      return e;
    }
    e.tail = true;
    std::vector<LinearTerm> terms;
    std::uint64_t constant = 0;
    add(v.limit, 1, constant, terms);
    add(v.start, ~std::uint64_t{0}, constant, terms);
    e.room = keep(constant, terms);
    return e;
  }

  void track(const BoundTask& t, std::uint32_t i) {
    const ArgSpec& spec = t.spec->args[i];
    TrackedView view{spec.tensor, t.kernel->params()[i].dir != Dir::in, static_cast<std::uint32_t>(out_.view_dims_.size()),
                     static_cast<std::uint32_t>(spec.dims.size())};
    for (std::uint32_t d = 0; d < spec.dims.size(); ++d) {
      TrackedDim dim{fold(spec.dims[d].start), extent(spec.dims[d], buffers_[spec.tensor].shape[d]), buffers_[spec.tensor].shape[d]};
      for (std::uint32_t g = 0; g < t.n_gathers; ++g)
        if (const BoundGather& b = out_.gathers_[t.first_gather + g]; b.arg == i && b.dim == d) dim.gather = g;
      out_.view_dims_.push_back(dim);
    }
    out_.views_.push_back(view);
  }

  Linear fold(const Affine& a) {
    std::vector<LinearTerm> terms;
    std::uint64_t constant = 0;
    add(a, 1, constant, terms);
    return keep(constant, terms);
  }

  // constant + terms += factor * a, with registers of one possible value folded in.
  void add(const Affine& a, std::uint64_t factor, std::uint64_t& constant, std::vector<LinearTerm>& terms) const {
    constant += factor * static_cast<std::uint64_t>(a.constant);
    for (const Term& t : a.terms) {
      const std::uint64_t coef = factor * static_cast<std::uint64_t>(t.coef);
      const Range& r = ranges_[t.reg];
      if (r.lo == r.hi) {
        constant += coef * static_cast<std::uint64_t>(r.lo);
        continue;
      }
      const auto same = std::ranges::find(terms, t.reg, &LinearTerm::reg);
      if (same == terms.end())
        terms.push_back({coef, t.reg});
      else
        same->coef += coef;
    }
  }

  Linear keep(std::uint64_t constant, std::vector<LinearTerm>& terms) {
    std::erase_if(terms, [](const LinearTerm& t) { return t.coef == 0; });
    const Linear a{constant, static_cast<std::uint32_t>(out_.terms_.size()), static_cast<std::uint32_t>(terms.size())};
    out_.terms_.insert(out_.terms_.end(), terms.begin(), terms.end());
    return a;
  }

  BoundPlan& out_;
  const Plan& plan_;
  std::span<const std::int64_t> symbols_;
  std::span<const Buffer> buffers_;
  std::span<const std::uint64_t> slots_;
  std::vector<Range> ranges_;
  std::vector<const Node*> definitions_;   // of registers that are not symbols
  std::vector<std::optional<Data>> data_;  // of tensors, once asked for
  std::vector<Step> path_;          // to where the walk is
  std::vector<const Node*> evals_;  // seen on the way, still visible
  std::optional<Failure> failure_;
  std::vector<std::int64_t> place_;  // of the failure
};

std::optional<Failure> BoundPlan::bind(const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
                                       std::span<const std::uint64_t> slots) {
  return Binder(*this, plan, symbols, buffers, slots).bind();
}

Failure failure_at(const Plan& plan, const Node& n, ErrorKind kind, const std::int64_t* regs) {
  Failure f{.kind = kind};
  if (n.origin != none) f.origin = n.origin;
  for (const std::uint32_t reg : plan.loops_around(n)) f.coords.push_back(regs[reg]);
  return f;
}

std::vector<std::int64_t> BoundPlan::coords(const TaskSpec& t, const std::int64_t* regs) const {
  std::vector<std::int64_t> out;
  for (const Affine& c : t.coords) out.push_back(wrapped(c, regs));
  return out;
}

void BoundPlan::shapes(const BoundTask& t, const std::int64_t* regs, Arg* out) const {
  const BoundArg* a = args_.data() + t.first_arg;
  for (std::uint32_t i = 0; i < t.n_args; ++i, ++a) {
    if (a->is_scalar)
      out[i].scalar = a->value;
    else
      out[i].tile = {nullptr, 0, 0, static_cast<std::int32_t>(length(a->rows, regs)), static_cast<std::int32_t>(length(a->cols, regs)), nullptr, nullptr};
  }
}

bool BoundPlan::check_bounds(const BoundTask& t, const std::int64_t* regs, Failure& failure) const {
  for (std::uint32_t c = 0; c < t.n_checks; ++c) {
    const BoundsCheck& check = checks_[t.first_check + c];
    const ViewDim& v = t.spec->args[check.arg].dims[check.dim];
    const std::span<const std::int64_t> r(regs, plan_->n_regs());
    std::int64_t start = 0, limit = v.size;
    const bool fits = evaluate(v.start, r, start) && (v.kind != DimKind::tile || evaluate(v.limit, r, limit));
    bool inside = fits && start >= 0;
    if (v.kind == DimKind::tile)
      inside = inside && limit <= check.extent && start < limit;
    else
      inside = inside && start <= check.extent - v.size;
    if (inside) continue;
    failure = {.kind = fits ? ErrorKind::bounds : ErrorKind::overflow};
    failure.site = t.spec->site;
    failure.arg = check.arg;
    failure.dim = check.dim;
    failure.coords = coords(*t.spec, regs);
    if (fits) failure.values = {start, limit, check.extent};
    return false;
  }
  return true;
}

bool BoundPlan::compute_scalars(const BoundTask& t, const std::int64_t* regs, Arg* out, Failure& failure) const {
  for (std::uint32_t i = 0; i < t.n_args; ++i) {
    const BoundArg& a = args_[t.first_arg + i];
    if (!a.is_scalar || a.constant) continue;
    const ArgSpec& spec = t.spec->args[i];
    std::int64_t value = 0;
    bool fits = true;
    if (spec.reg == none) {
      fits = evaluate(spec.affine, std::span(regs, plan_->n_regs()), value);
      if (fits && to_scalar(value, a.dtype, out[i].scalar)) continue;
    } else {
      value = regs[spec.reg];
      if (to_scalar(static_cast<std::uint64_t>(value), spec.reg_type, a.dtype, out[i].scalar)) continue;
    }
    failure = {.kind = fits ? ErrorKind::scalar_range : ErrorKind::overflow};
    failure.site = t.spec->site;
    failure.arg = i;
    failure.coords = coords(*t.spec, regs);
    if (fits && (spec.reg_type != DType::u64 || value >= 0)) failure.values = {value};
    return false;
  }
  return true;
}

bool BoundPlan::check_dims(const BoundRead& r, const std::int64_t* regs, Failure& failure) const {
  const std::span<const std::int64_t> at(regs, plan_->n_regs());
  for (std::size_t d = 0; d < r.dims->size(); ++d) {
    const ViewDim& v = (*r.dims)[d];
    const std::int64_t extent = read_dims_[r.first_dim + d].extent;
    const bool limited = v.kind == DimKind::tile || v.kind == DimKind::span;
    std::int64_t start = 0, limit = v.size;
    const bool fits = evaluate(v.start, at, start) && (!limited || evaluate(v.limit, at, limit));
    bool inside = fits && start >= 0;
    if (v.kind == DimKind::tile)
      inside = inside && limit <= extent && start < limit;
    else
      inside = inside && limit >= 0 && limit <= extent && start <= extent - limit;
    if (inside) continue;
    failure = {.kind = fits ? ErrorKind::read_bounds : ErrorKind::overflow};
    failure.dim = static_cast<std::int64_t>(d);
    const std::int64_t length = v.kind == DimKind::tile ? static_cast<std::int64_t>(static_cast<std::uint64_t>(limit) - static_cast<std::uint64_t>(start)) : limit;
    if (fits) failure.values = {start, length, extent};
    return false;
  }
  return true;
}

bool BoundPlan::gather(const BoundTask& t, const std::int64_t* regs, Arg* out, std::int64_t* indices, Failure& failure) const {
  const auto failed = [&](const BoundGather& g) {
    failure.site = t.spec->site;
    failure.arg = g.arg;
    failure.coords = coords(*t.spec, regs);
    return false;
  };
  for (const BoundGather& g : gathers(t)) {
    if (!g.from.proved && !check_dims(g.from, regs, failure)) return failed(g);
    const auto* p = reinterpret_cast<const std::byte*>(value(g.from.at, regs));
    const std::int64_t n = length(g.length, regs);
    std::int64_t* const to = indices + g.first;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto index = static_cast<std::int64_t>(load_scalar(p + i * g.stride, g.from.dtype));
      if (index < 0 || index >= g.extent) [[unlikely]] {
        failure = {.kind = ErrorKind::gather_bounds};
        failure.dim = g.dim;
        failure.values = {index, g.extent, i};
        return failed(g);
      }
      to[i] = index;
    }
    (g.of_rows ? out[g.arg].tile.row_index : out[g.arg].tile.col_index) = to;
  }
  return true;
}

void BoundPlan::move_indices(const BoundTask& t, Arg* args, std::int64_t* to) const {
  for (const BoundGather& g : gathers(t)) (g.of_rows ? args[g.arg].tile.row_index : args[g.arg].tile.col_index) = to + g.first;
}

bool BoundPlan::failed(const BoundNode& n, ErrorKind kind, const std::int64_t* regs, Failure& failure) const {
  failure = failure_at(*plan_, *n.plan, kind, regs);
  return false;
}

bool BoundPlan::operand(const BoundNode& n, const Operand& o, const std::int64_t* regs, std::uint64_t& out, Failure& failure) const {
  switch (o.kind) {
    case Operand::Kind::reg: out = static_cast<std::uint64_t>(regs[o.reg]); return true;
    case Operand::Kind::constant: out = o.bits; return true;
    case Operand::Kind::affine: break;
  }
  std::int64_t v = 0;
  if (!evaluate(o.affine, std::span(regs, plan_->n_regs()), v)) return failed(n, ErrorKind::overflow, regs, failure);
  out = static_cast<std::uint64_t>(v);
  return true;
}

bool BoundPlan::extent(const BoundNode& n, const std::int64_t* regs, std::uint64_t& out, Failure& failure) const {
  out = value(n.extent, regs);
  // What was proved holds for the data as they were.
  if (!n.checked && out <= INT64_MAX) [[likely]] return true;
  std::int64_t v = 0;
  if (!evaluate(n.plan->a, std::span(regs, plan_->n_regs()), v)) return failed(n, ErrorKind::overflow, regs, failure);
  out = static_cast<std::uint64_t>(v);
  if (v >= 0) return true;
  failed(n, ErrorKind::extent, regs, failure);
  failure.values = {v};
  return false;
}

bool BoundPlan::compute(const BoundNode& n, std::int64_t* regs, const std::uint64_t* slots, Failure& failure) const {
  if (n.kind == NodeKind::read) return read(n, regs, failure);
  if (n.kind == NodeKind::slot_get) {
    regs[n.reg] = static_cast<std::int64_t>(slots[n.plan->id]);
    return true;
  }
  if (n.kind == NodeKind::eval) {
    const std::span<const std::int64_t> at(regs, plan_->n_regs());
    std::int64_t a = 0, b = 0;
    EvalStatus status = EvalStatus::overflow;
    if (evaluate(n.plan->a, at, a) && evaluate(n.plan->b, at, b)) status = evaluate(n.plan->op, a, b, regs[n.reg]);
    if (status == EvalStatus::ok) return true;
    failed(n, status == EvalStatus::zero_divisor ? ErrorKind::zero_divisor : ErrorKind::overflow, regs, failure);
    if (status == EvalStatus::zero_divisor) failure.values = {a};
    return false;
  }
  const ScalarSpec& s = plan_->scalars()[n.plan->id];
  std::uint64_t x[3] = {}, v = 0;
  for (std::size_t i = 0; i < s.operands.size(); ++i)
    if (!operand(n, s.operands[i], regs, x[i], failure)) return false;
  const ScalarStatus status = pto_wsp::compute(s.op, s.type, s.to, s.checked, x, v);
  if (status == ScalarStatus::ok) [[likely]] {
    regs[n.reg] = static_cast<std::int64_t>(v);
    return true;
  }
  constexpr ErrorKind kinds[] = {ErrorKind::overflow, ErrorKind::overflow, ErrorKind::zero_divisor,
                                 ErrorKind::shift, ErrorKind::cast_range, ErrorKind::empty_reduce};
  failed(n, kinds[static_cast<std::size_t>(status)], regs, failure);
  const bool shift = status == ScalarStatus::shift;
  const auto shown = static_cast<std::int64_t>(shift ? x[1] : x[0]);
  const bool number = s.type == DType::i64 || (s.type == DType::u64 && shown >= 0);
  if (number && (shift || status == ScalarStatus::zero_divisor)) failure.values = {shown};
  return false;
}

bool BoundPlan::check_read(const BoundNode& n, const std::int64_t* regs, bool& anything, Failure& failure) const {
  const BoundRead& r = reads_[n.task].from;
  if (!r.proved && !check_dims(r, regs, failure)) {
    Failure there = failure_at(*plan_, *n.plan, failure.kind, regs);
    there.dim = failure.dim;
    there.values = std::move(failure.values);
    failure = std::move(there);
    return false;
  }
  anything = true;
  for (std::size_t d = 0; d < r.dims->size(); ++d) {
    const ViewDim& v = (*r.dims)[d];
    const bool none_here = v.kind == DimKind::span ? value(read_dims_[r.first_dim + d].length.room, regs) == 0 : v.size == 0;
    anything = anything && !none_here;
  }
  return true;
}

bool BoundPlan::read(const BoundNode& n, std::int64_t* regs, Failure& failure) const {
  const BoundScalarRead& r = reads_[n.task];
  bool anything = true;
  const bool item = r.spec->kind == ReadKind::item;
  if ((!item || !r.from.proved) && !check_read(n, regs, anything, failure)) return false;
  Elements e;
  e.data = reinterpret_cast<const std::byte*>(value(r.from.at, regs));
  e.dtype = r.from.dtype;
  std::uint64_t v = 0;
  if (item) {
    v = load_scalar(e.data, e.dtype);
  } else {
    for (std::size_t d = 0; d < r.from.dims->size(); ++d) {
      const ViewDim& dim = (*r.from.dims)[d];
      if (dim.kind == DimKind::index) continue;
      const ReadDim& memory = read_dims_[r.from.first_dim + d];
      e.length[e.n_dims] = anything ? length(memory.length, regs) : 0;
      e.stride[e.n_dims++] = memory.stride;
    }
    if (reduce(r.spec->kind, e, v) != ScalarStatus::ok) return failed(n, ErrorKind::empty_reduce, regs, failure);
  }
  const auto shown = static_cast<std::int64_t>(v);
  if (r.ranged && (shown < r.lo || shown > r.hi)) return failed(n, ErrorKind::changed, regs, failure);
  regs[n.reg] = shown;
  return true;
}

bool BoundPlan::check_shapes(const BoundTask& t, const std::int64_t* regs, const Arg* args, Failure& failure) const {
  const int failed = t.shaped ? t.kernel->failed_check(std::span(args, t.n_args)) : t.failed_check;
  if (failed < 0) return true;
  failure = {.kind = ErrorKind::valid_shape};
  failure.site = t.spec->site;
  failure.check = failed;
  failure.coords = coords(*t.spec, regs);
  return false;
}

}  // namespace pto_wsp
