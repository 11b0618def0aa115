#include "proofs.hpp"

#include <bit>
#include <cstring>
#include <limits>

namespace pto_wsp {
namespace {

constexpr std::uint64_t max_data = std::uint64_t{1} << 22;  // elements that binding looks at

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

}  // namespace

Wide times(Wide a, Wide b) {
  Wide out;
  if (__builtin_mul_overflow(a, b, &out)) return (a < 0) == (b < 0) ? far : -far;
  return std::clamp(out, -far, far);
}

Interval Proofs::range_of(const Operand& o, DType type) const {
  if (o.kind == Operand::Kind::affine) return interval_of(o.affine, ranges_);
  if (type == DType::boolean) return {0, 1};
  if (type == DType::u64 && o.kind == Operand::Kind::constant) return {o.bits, o.bits};
  if (type != DType::i64) return everything;
  if (o.kind == Operand::Kind::constant) return Interval::point(static_cast<std::int64_t>(o.bits));
  return {ranges_[o.reg].lo, ranges_[o.reg].hi};
}

Interval Proofs::result(const ScalarSpec& s, bool& sure) const {
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

const Data& Proofs::data(std::uint32_t tensor) {
  if (data_.empty()) data_.resize(plan_.tensors().size());
  std::optional<Data>& d = data_[tensor];
  const TensorInfo& t = plan_.tensors()[tensor];
  if (!d) d = t.written || t.temporary || buffers_[tensor].data == nullptr ? Data{} : data_in(t.dtype, buffers_[tensor]);
  return *d;
}

bool Proofs::proved_inside(const ViewDim& v, std::int64_t dim) const {
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

bool Proofs::at_least(const Above& form, Wide bound) const {
  int budget = 256;
  return least(form, 4, budget) >= bound;
}

Wide Proofs::least(const Above& form, int depth, int& budget) const {
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

bool Proofs::ordered(const Node& a, const Node* b) const {
  if (b == nullptr || b->kind != NodeKind::read) return false;
  const ReadSpec &x = plan_.reads()[a.id], &y = plan_.reads()[b->id];
  if (x.kind != ReadKind::item || y.kind != ReadKind::item || x.tensor != y.tensor || x.dims.size() != 1) return false;
  if (data_.empty() || !data_[x.tensor] || !data_[x.tensor]->sorted) return false;
  const Above apart = Above().add(x.dims[0].start, 1).add(y.dims[0].start, -1);
  return apart.constant >= 0 && std::ranges::all_of(apart.terms, [](const auto& t) { return t.second == 0; });
}

bool Proofs::surely_fits(const ArgSpec& spec, DType dtype) const {
  if (spec.reg_type == DType::f64) return true;
  Interval v{0, 1};
  if (spec.reg == none)
    v = interval_of(spec.affine, ranges_);
  else if (spec.reg_type == DType::u64)
    v = {0, UINT64_MAX};
  else if (spec.reg_type == DType::i64)
    v = {ranges_[spec.reg].lo, ranges_[spec.reg].hi};
  if (spec.reg == none && !v.fits()) return false;
  if (dtype == DType::f16) return v.lo >= -65504 && v.hi <= 65504;
  if (is_float(dtype) || dtype == DType::boolean) return true;
  const bool has_sign = scalar_of(dtype) == DType::i64;
  const Wide most = (Wide{1} << (8 * size_of(dtype) - (has_sign ? 1 : 0))) - 1;
  return v.lo >= (has_sign ? -most - 1 : 0) && v.hi <= most;
}

}  // namespace pto_wsp
