// What is checked and worked out of a bound plan when a task, or another node, comes.

#include <algorithm>
#include <utility>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {
namespace {

// The value of a form over registers that may hold anything: modulo 2^64, for messages only.
std::int64_t wrapped(const Affine& a, const std::int64_t* regs) {
  auto sum = static_cast<std::uint64_t>(a.constant);
  for (const Term& t : a.terms) sum += static_cast<std::uint64_t>(t.coef) * static_cast<std::uint64_t>(regs[t.reg]);
  return static_cast<std::int64_t>(sum);
}

}  // namespace

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
    else if (a->first_dim != none)
      out[i].region = region(*a, regs);
    else
      out[i].tile = {nullptr, 0, 0, static_cast<std::int32_t>(length(a->rows, regs)), static_cast<std::int32_t>(length(a->cols, regs)), nullptr, nullptr};
  }
  Failure none_told;  // the task itself tells
  if (t.scalars) compute_scalars(t, regs, out, none_told);
}

RegionArg BoundPlan::region(const BoundArg& a, const std::int64_t* regs) const {
  RegionArg out{reinterpret_cast<std::byte*>(value(a.at, regs)), region_strides_.data() + a.first_dim, {}};
  for (std::uint32_t d = 0; d < a.n_dims; ++d) out.length[d] = static_cast<std::int32_t>(length(region_dims_[a.first_dim + d], regs));
  return out;
}

bool BoundPlan::check_bounds(const BoundTask& t, const std::int64_t* regs, Failure& failure) const {
  for (std::uint32_t c = 0; c < t.n_checks; ++c) {
    const BoundsCheck& check = checks_[t.first_check + c];
    const ViewDim& v = t.spec->args[check.arg].dims[check.dim];
    const std::span<const std::int64_t> r(regs, plan_->n_regs());
    const bool limited = v.kind == DimKind::tile || v.kind == DimKind::span;
    std::int64_t start = 0, limit = v.size;
    const bool fits = evaluate(v.start, r, start) && (!limited || evaluate(v.limit, r, limit));
    bool inside = fits && start >= 0;
    if (v.kind == DimKind::tile)
      inside = inside && limit <= check.extent && start < limit;
    else
      inside = inside && limit >= 0 && limit <= std::min(check.extent, max_region_length) && start <= check.extent - limit;
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

bool BoundPlan::gather(const BoundTask& t, const std::int64_t* regs, Arg* out, std::int64_t* indices, Failure& failure,
                       TapeReader* given) const {
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
    std::span<const std::int64_t> numbers;
    const bool reads = given == nullptr || !g.spec->wait;
    if (!reads && n != 0 && (numbers = given->take(static_cast<std::size_t>(n))).empty()) {
      failure = {.kind = ErrorKind::not_given};
      return failed(g);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const auto index = reads ? static_cast<std::int64_t>(load_scalar(p + i * g.stride, g.from.dtype)) : numbers[static_cast<std::size_t>(i)];
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
    case Operand::Kind::step: return false;  // of rules only
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
  for (std::size_t d = 0; d < r.dims->size(); ++d) anything = anything && length(read_dims_[r.first_dim + d].length, regs) != 0;
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
