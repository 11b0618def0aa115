#include "pto_wsp/bound.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

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

}  // namespace

/// Walks the plan once, with what is known of each register. Of the failures that are certain it gives the first in
/// program order.
class Binder {
 public:
  Binder(BoundPlan& out, const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers)
      : out_(out), plan_(plan), symbols_(symbols), buffers_(buffers) {}

  std::optional<Failure> bind() {
    out_ = BoundPlan();
    out_.plan_ = &plan_;
    out_.regs_.assign(plan_.n_regs(), 0);
    ranges_.assign(plan_.n_regs(), Range{});
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
        Failure f{.kind = fits ? ErrorKind::extent : ErrorKind::overflow};
        f.site = n.site == none ? -1 : static_cast<std::int64_t>(n.site);
        f.coords = coords_at(plan_, n, at->data());
        if (fits) f.values = {value};
        fail(*at, std::move(f));
        b.empty = true;
        return;
      }
    }
    b.sequential = n.sequential;
    b.loops = true;
    b.checked = extent.lo < 0 || !extent.fits();
    b.extent = fold(n.a);
    b.empty = true;
    const Wide top = std::clamp<Wide>(extent.hi, 0, INT64_MAX);
    // Where no iteration can be reached there is nothing to prove, and nothing runs.
    if (top > 0) {
      ranges_[n.reg] = {0, static_cast<std::int64_t>(top - 1), extent.is_point() && !b.checked};
      children(b, n, certain && extent.lo >= 1);
    }
    b.empty = b.empty && !b.checked;
    if (b.empty) b.extent = {};  // however often nothing is repeated
  }

  void eval(BoundNode& out, const Node& n) {
    const Interval a = interval_of(n.a, ranges_), b = interval_of(n.b, ranges_);
    evals_.push_back(&n);
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
    r.lo = static_cast<std::int64_t>(std::clamp<Wide>(v.lo, INT64_MIN, INT64_MAX));
    r.hi = static_cast<std::int64_t>(std::clamp<Wide>(v.hi, INT64_MIN, INT64_MAX));
    r.exact = false;
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
        shapes[i].tile = {nullptr, 0, 0, args[i].rows.size, args[i].cols.size};
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
    if (!spec.constant) t.scalars = true;
    return a;
  }

  BoundArg tile(const BoundTask& t, std::uint32_t i, bool certain) {
    const ArgSpec& spec = t.spec->args[i];
    const Buffer& buffer = buffers_[spec.tensor];
    BoundArg a;
    a.dtype = t.kernel->params()[i].dtype;
    std::vector<LinearTerm> address;
    auto base = reinterpret_cast<std::uint64_t>(buffer.data);
    for (std::uint32_t d = 0; d < spec.dims.size(); ++d) {
      prove(t, i, d, certain);
      add(spec.dims[d].start, static_cast<std::uint64_t>(buffer.strides[d]), base, address);
    }
    a.at = keep(base, address);
    a.row_stride = buffer.strides[spec.row_dim];
    a.col_stride = buffer.strides[spec.col_dim];
    a.rows = extent(spec.dims[spec.row_dim]);
    a.cols = extent(spec.dims[spec.col_dim]);
    if (spec.tracked) track(spec, t.kernel->params()[i].dir != Dir::in);
    return a;
  }

  void prove(const BoundTask& t, std::uint32_t i, std::uint32_t d, bool certain) {
    const ViewDim& v = t.spec->args[i].dims[d];
    const std::int64_t dim = buffers_[t.spec->args[i].tensor].shape[d];
    const Interval start = interval_of(v.start, ranges_);
    bool inside = start.lo >= 0;
    bool exact = certain && is_exact(v.start, ranges_);
    if (v.kind == DimKind::tile) {
      const Interval limit = interval_of(v.limit, ranges_), room = interval_of_difference(v.limit, v.start, ranges_);
      inside = inside && room.lo >= 1 && limit.hi <= dim;
      exact = exact && is_exact(v.limit, ranges_);
    } else {
      inside = inside && start.hi + v.size <= dim;
    }
    if (inside) return;
    if (!exact) {
      out_.checks_.push_back({i, d, dim});
      return;
    }
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
    if (!at) {  // not found loop by loop: the tasks themselves tell
      out_.checks_.push_back({i, d, dim});
      return;
    }
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

  Extent extent(const ViewDim& v) {
    Extent e;
    e.size = v.size;
    if (v.kind != DimKind::tile) return e;
    const Interval room = interval_of_difference(v.limit, v.start, ranges_);
    if (room.lo >= v.size) return e;
    if (room.is_point() && room.lo >= 1) {
      e.size = static_cast<std::int32_t>(room.lo);
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

  void track(const ArgSpec& spec, bool write) {
    TrackedView view{spec.tensor, write, static_cast<std::uint32_t>(out_.view_dims_.size()),
                     static_cast<std::uint32_t>(spec.dims.size())};
    for (std::size_t d = 0; d < spec.dims.size(); ++d)
      out_.view_dims_.push_back({fold(spec.dims[d].start), extent(spec.dims[d]), buffers_[spec.tensor].shape[d]});
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
  std::vector<Range> ranges_;
  std::vector<Step> path_;          // to where the walk is
  std::vector<const Node*> evals_;  // seen on the way, still visible
  std::optional<Failure> failure_;
  std::vector<std::int64_t> place_;  // of the failure
};

std::optional<Failure> BoundPlan::bind(const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers) {
  return Binder(*this, plan, symbols, buffers).bind();
}

std::vector<std::int64_t> coords_at(const Plan& plan, const Node& n, const std::int64_t* regs) {
  std::vector<std::int64_t> out;
  if (!n.placed) return out;
  for (const Affine& c : plan.tasks()[n.next_task].coords) out.push_back(wrapped(c, regs));
  return out;
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
      out[i].tile = {nullptr, 0, 0, length(a->rows, regs), length(a->cols, regs)};
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
    std::int64_t value = 0;
    const bool fits = evaluate(t.spec->args[i].affine, std::span(regs, plan_->n_regs()), value);
    if (fits && to_scalar(value, a.dtype, out[i].scalar)) continue;
    failure = {.kind = fits ? ErrorKind::scalar_range : ErrorKind::overflow};
    failure.site = t.spec->site;
    failure.arg = i;
    failure.coords = coords(*t.spec, regs);
    if (fits) failure.values = {value};
    return false;
  }
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

bool to_scalar(std::int64_t v, DType dtype, double& out) {
  if (dtype == DType::i32) {
    out = static_cast<double>(v);
    return v >= std::numeric_limits<std::int32_t>::min() && v <= std::numeric_limits<std::int32_t>::max();
  }
  if (dtype == DType::boolean) {
    out = v != 0 ? 1 : 0;
    return true;
  }
  const std::uint64_t magnitude = v < 0 ? ~static_cast<std::uint64_t>(v) + 1 : static_cast<std::uint64_t>(v);
  const int keep = dtype == DType::f32 ? 24 : dtype == DType::f16 ? 11 : 8;
  const int drop = static_cast<int>(std::bit_width(magnitude)) - keep;
  double rounded = 0;
  if (drop <= 0) {
    rounded = static_cast<double>(magnitude);
  } else {
    std::uint64_t q = magnitude >> drop;
    const std::uint64_t rest = magnitude & ((std::uint64_t{1} << drop) - 1), half = std::uint64_t{1} << (drop - 1);
    if (rest > half || (rest == half && (q & 1) != 0)) ++q;
    rounded = std::ldexp(static_cast<double>(q), drop);
  }
  out = v < 0 ? -rounded : rounded;
  return dtype != DType::f16 || rounded <= 65504;
}

}  // namespace pto_wsp
