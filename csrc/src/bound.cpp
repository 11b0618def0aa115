#include "pto_wsp/bound.hpp"

#include <algorithm>
#include <utility>

#include "proofs.hpp"

namespace pto_wsp {
namespace {

Wide rounded_up(Wide a, Wide b) { return a / b + (a % b != 0 && (a % b > 0) == (b > 0) ? 1 : 0); }

}  // namespace

/// Walks the plan once, with what is known of each register. Of the failures that are certain it gives the first in
/// program order.
class Binder : Proofs {
 public:
  Binder(BoundPlan& out, const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
         std::span<const std::uint64_t> slots)
      : Proofs(plan, buffers), out_(out), symbols_(symbols), slots_(slots) {}

  std::optional<Failure> bind() {
    out_ = BoundPlan();
    out_.plan_ = &plan_;
    out_.regs_.assign(plan_.n_regs(), 0);
    out_.slots_.assign(plan_.slots().size(), 0);
    std::copy_n(slots_.begin(), std::min(slots_.size(), out_.slots_.size()), out_.slots_.begin());
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
      case NodeKind::pipeline:
        pipeline(b, n);
        b.loops = b.ragged = true;
        break;
      case NodeKind::consume:
        received(n);
        children(b, n, false);  // it may come to a stop before
        b.loops = b.ragged = true;
        b.empty = false;
        break;
      case NodeKind::receive: received(n); break;
      case NodeKind::try_send: sent(n); [[fallthrough]];
      case NodeKind::query: define(n, everything); break;
      case NodeKind::send: sent(n); break;
      case NodeKind::close:
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

  // Who sends comes before who receives, as far as they do not send to each other: then it is known between which numbers tokens are.
  void pipeline(BoundNode& b, const Node& n) {
    const PipelineInfo& info = plan_.pipelines()[n.id];
    const std::uint32_t outer = std::exchange(first_channel_, info.first_channel);
    for (std::uint32_t c = 0; c < info.n_channels; ++c) begin_tokens(info.first_channel + c);
    for (const auto& produces : info.produces)
      for (const std::uint32_t c : produces) ++tokens_[info.first_channel + c].senders;
    std::vector<std::uint32_t> ids(n.children.size(), none);
    const std::size_t known = evals_.size();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::uint32_t p = next_process(info, ids);
      path_.push_back({false, p});
      ids[p] = node(n.children[p], false);  // it may come to a stop before
      path_.pop_back();
      evals_.resize(known);
      for (const std::uint32_t c : info.produces[p]) --tokens_[info.first_channel + c].senders;
    }
    first_channel_ = outer;
    b.first_child = static_cast<std::uint32_t>(out_.children_.size());
    b.n_children = static_cast<std::uint32_t>(ids.size());
    out_.children_.insert(out_.children_.end(), ids.begin(), ids.end());
  }

  // The first that is not bound, of those that receive only what is known if there is one.
  std::uint32_t next_process(const PipelineInfo& info, const std::vector<std::uint32_t>& ids) const {
    std::vector<bool> waits(ids.size());
    for (std::uint32_t c = 0; c < info.n_channels; ++c)
      for (const std::uint32_t p : info.consumers[c])
        if (tokens_[info.first_channel + c].senders != 0) waits[p] = true;
    std::uint32_t first = none;
    for (std::uint32_t p = 0; p < ids.size(); ++p) {
      if (ids[p] != none) continue;
      if (!waits[p]) return p;
      first = std::min(first, p);
    }
    return first;
  }

  void begin_tokens(std::uint32_t channel) {
    const ChannelInfo& c = plan_.channels()[channel];
    tokens_.resize(plan_.channels().size());
    tokens_[channel] = {std::vector<Interval>(c.fields.size(), {0, static_cast<Wide>(c.initial) - 1}), 0};
  }

  void sent(const Node& n) {
    const PortInfo& p = plan_.ports()[n.id];
    std::vector<Interval>& fields = tokens_[first_channel_ + p.channel].fields;
    for (std::size_t i = 0; i < fields.size(); ++i) {
      const Interval v = field(p.operands[i]);
      fields[i] = fields[i].lo > fields[i].hi ? v : Interval{std::min(fields[i].lo, v.lo), std::max(fields[i].hi, v.hi)};
    }
  }

  Interval field(const Operand& o) const {
    if (o.kind == Operand::Kind::reg) return {ranges_[o.reg].lo, ranges_[o.reg].hi};
    return o.kind == Operand::Kind::constant ? Interval::point(static_cast<std::int64_t>(o.bits)) : interval_of(o.affine, ranges_);
  }

  void received(const Node& n) {
    const PortInfo& p = plan_.ports()[n.id];
    const std::uint32_t channel = first_channel_ + p.channel;
    for (std::size_t i = 0; i < p.regs.size(); ++i) {
      const Interval v = tokens_[channel].fields[i];
      const bool known = tokens_[channel].senders == 0 && plan_.channels()[channel].fields[i] == DType::i64 && v.lo <= v.hi && v.fits();
      definitions_[p.regs[i]] = &n;
      ranges_[p.regs[i]] = known ? Range{static_cast<std::int64_t>(v.lo), static_cast<std::int64_t>(v.hi), false} : Range{INT64_MIN, INT64_MAX, false};
    }
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
      const ArgSpec& arg = spec.args[i];
      args.push_back(arg.is_scalar ? scalar(t, i) : arg.is_region ? region(t, i, certain) : tile(t, i, certain));
      t.shaped = t.shaped || varies(*t.kernel, args.back());
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

  // Whether what the cost and the valid shapes depend on is not the same for all tasks.
  bool varies(const Kernel& kernel, const BoundArg& a) const {
    if (a.is_scalar) return !a.constant && kernel.varied();
    return a.rows.tail || a.cols.tail || std::ranges::any_of(out_.region_dims(a), &Extent::tail);
  }

  void fix_shapes(BoundTask& t, std::span<const BoundArg> args) const {
    std::vector<Arg> shapes(args.size());
    for (std::size_t i = 0; i < args.size(); ++i) {
      if (args[i].is_scalar)
        shapes[i].scalar = args[i].value;
      else if (args[i].first_dim != none) {
        shapes[i].region = {};
        std::ranges::transform(out_.region_dims(args[i]), shapes[i].region.length, [](const Extent& e) { return static_cast<std::int32_t>(e.size); });
      }
      else
        shapes[i].tile = {nullptr, 0, 0, static_cast<std::int32_t>(args[i].rows.size), static_cast<std::int32_t>(args[i].cols.size), nullptr, nullptr};
    }
    t.failed_check = t.kernel->failed_check(shapes);
    try {
      t.cost = t.kernel->cost(shapes);
    } catch (const TripsError&) {  // an error of the first such task, if there ever is one
      t.cost.reset();
      t.cost_error = ErrorKind::trips;
    } catch (const CostError&) {
      t.cost.reset();
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
    a.tensor = spec.tensor;
    a.at = keep(base, address);
    a.row_stride = buffer.strides[spec.row_dim];
    a.col_stride = buffer.strides[spec.col_dim];
    a.rows = extent(spec.dims[spec.row_dim], buffer.shape[spec.row_dim]);
    a.cols = extent(spec.dims[spec.col_dim], buffer.shape[spec.col_dim]);
    if (spec.tracked) track(t, i);
    return a;
  }

  BoundArg region(BoundTask& t, std::uint32_t i, bool certain) {
    const ArgSpec& spec = t.spec->args[i];
    const Buffer& buffer = buffers_[spec.tensor];
    BoundArg a;
    a.dtype = t.kernel->params()[i].dtype;
    std::vector<LinearTerm> address;
    auto base = reinterpret_cast<std::uint64_t>(buffer.data);
    for (std::uint32_t d = 0; d < spec.dims.size(); ++d) {
      if (spec.dims[d].kind == DimKind::span && buffer.shape[d] > max_region_length)
        check(i, d, buffer.shape[d]);
      else
        prove(t, i, d, certain);
      add(spec.dims[d].start, static_cast<std::uint64_t>(buffer.strides[d]), base, address);
    }
    a.tensor = spec.tensor;
    a.at = keep(base, address);
    a.first_dim = static_cast<std::uint32_t>(out_.region_dims_.size());
    a.n_dims = static_cast<std::uint32_t>(spec.kept.size());
    for (const std::uint32_t d : spec.kept) {
      out_.region_dims_.push_back(extent(spec.dims[d], buffer.shape[d]));
      out_.region_strides_.push_back(buffer.strides[d]);
    }
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
    const bool limited = v.kind == DimKind::tile || v.kind == DimKind::span;
    const bool exact = certain && is_exact(v.start, ranges_) && (!limited || is_exact(v.limit, ranges_));
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
    if (v.kind == DimKind::span) {
      look({Above().add(v.limit, -1)});
      look({Above().add(v.start, 1).add(v.limit, 1).add(-Wide{dim})});
    } else if (v.kind != DimKind::tile) {
      look({beyond});
    } else {
      look({Above().add(v.start, 1).add(v.limit, -1).add(1)});
      const Above past = Above().add(v.limit, 1).add(-Wide{dim});
      if (!look({past, beyond})) look({past});  // rather a tile whose own elements are not there
    }
    if (!at) return check(i, d, dim);  // not found loop by loop: the tasks themselves tell
    std::int64_t first = 0, second = v.size;
    const bool fits = evaluate(v.start, *at, first) && (!limited || evaluate(v.limit, *at, second));
    Failure f{.kind = fits ? ErrorKind::bounds : ErrorKind::overflow};
    f.site = t.spec->site;
    f.arg = i;
    f.dim = d;
    f.coords = out_.coords(*t.spec, at->data());
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
      const Interval length = interval_of(v.limit, ranges_);
      e.tail = e.may_be_empty = !length.is_point() || length.lo < 0 || length.lo > dim;
      e.size = e.tail ? dim : static_cast<std::int64_t>(length.lo);
      if (e.tail) e.room = fold(v.limit);
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
  std::span<const std::int64_t> symbols_;
  std::span<const std::uint64_t> slots_;
  std::vector<Step> path_;          // to where the walk is
  std::vector<const Node*> evals_;  // seen on the way, still visible
  // What is known of the tokens of a channel, and how many processes that may send are not bound.
  struct Tokens {
    std::vector<Interval> fields;   // none: from 0 to -1
    std::uint32_t senders = 0;
  };
  std::vector<Tokens> tokens_;
  std::uint32_t first_channel_ = 0;  // of the innermost pipeline around
  std::optional<Failure> failure_;
  std::vector<std::int64_t> place_;  // of the failure
};

void BoundPlan::move(std::span<const std::uint64_t> tensors) {
  for (BoundArg& a : args_)
    if (a.tensor != none) a.at.constant += tensors[a.tensor];
}

void BoundPlan::leave_out(const Node& n) {
  for (BoundNode& b : nodes_)
    if (b.plan == &n) b.kind = NodeKind::block;  // of nothing
}

std::optional<Failure> BoundPlan::bind(const Plan& plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
                                       std::span<const std::uint64_t> slots) {
  return Binder(*this, plan, symbols, buffers, slots).bind();
}

}  // namespace pto_wsp
