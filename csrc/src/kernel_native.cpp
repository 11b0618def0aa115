// Compiled functions in the place of steps: what they must do, and where they are linked.

#include <memory>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

void require(bool ok, const KernelImpl& k, const char* what) {
  if (!ok) throw PlanError("kernel " + k.program.name + ": " + what);
}

class Describe {
 public:
  explicit Describe(const KernelImpl& k) : k_(k), p_(k.program) {}

  StepInfo step(const Step& s) const {
    const Instr& in = p_.instrs[s.instr];
    StepInfo info;
    info.op = in.op;
    info.operand = in.operand;
    info.immediate = s.imm;
    info.extents = {extent(s.rows), extent(s.cols), extent(s.inner)};
    info.result = place(s.dst);
    if (in.op == Op::store) {
      info.kept = true;
      info.result.dtype = in.operand;
      info.result.cols = p_.params[in.src[0].index].cols;
      info.sources = {value(in.src[1].index, s.src[0])};
      return info;
    }
    info.result = value(static_cast<std::uint32_t>(in.dst), s.dst);
    info.kept = k_.kept[static_cast<std::size_t>(in.dst)];
    for (unsigned i = 0; i < s.n_src; ++i) {
      if (in.op != Op::load && in.src[i].kind == Source::Kind::value) {
        info.sources.push_back(value(in.src[i].index, s.src[i]));
        continue;
      }
      OperandInfo o = place(s.src[i]);
      o.dtype = in.op == Op::where && i == 0 ? DType::boolean : in.operand;
      if (in.op == Op::load) o.cols = p_.params[in.src[0].index].cols;
      else o.kind = OperandInfo::Kind::constant;
      info.sources.push_back(o);
    }
    return info;
  }

 private:
  static OperandInfo place(const Place& p) {
    OperandInfo o;
    o.base = p.base;
    o.offset = p.offset;
    o.stride = p.stride;
    o.one_row = p.stride_mask == 0;
    o.of_strip = p.advance_mask == 0 && p.stride_mask != 0;
    return o;
  }

  OperandInfo value(std::uint32_t index, const Place& p) const {
    OperandInfo o = place(p);
    o.value = static_cast<std::int32_t>(p_.root[index]);
    o.dtype = p_.values[index].dtype;
    o.cols = p_.values[index].cols;
    return o;
  }

  ExtentInfo extent(const DimRef& d) const {
    switch (d.kind) {
      case DimRef::Kind::constant: return {'c', d.value};
      case DimRef::Kind::tile: return {'t', static_cast<std::int64_t>(k_.same_size[2 * static_cast<std::size_t>(d.param) + d.dim])};
      case DimRef::Kind::region: return {'g', static_cast<std::int64_t>(d.param) * max_region_dims + d.dim};
      default: return {'r', d.param};
    }
  }

  const KernelImpl& k_;
  const Program& p_;
};

const DimRef& extent_of(const KernelImpl& k, NativePiece::Size size) {
  const auto [step, which] = size;
  require(step < k.steps.size() && which < 3, k, "a compiled piece asks for an extent that is not there");
  const Step& s = k.steps[step];
  return which == 0 ? s.rows : which == 1 ? s.cols : s.inner;
}

LinkedPiece link_piece(const KernelImpl& k, const NativePiece& p) {
  require(p.run != nullptr && p.sizes.size() <= most_sizes, k, "a compiled piece is no function");
  LinkedPiece out;
  out.run = p.run;
  out.rows = k.steps[p.first].rows;
  for (const NativePiece::Size& size : p.sizes) out.sizes.push_back(extent_of(k, size));
  return out;
}

}  // namespace

KernelImpl::~KernelImpl() { delete native.load(std::memory_order_acquire); }

std::vector<GroupInfo> Kernel::groups() const {
  const Describe describe(*impl_);
  std::vector<GroupInfo> out;
  for (const Group& g : impl_->groups) {
    GroupInfo& info = out.emplace_back();
    info.first = g.first;
    info.whole = g.whole;
    for (std::uint32_t i = 0; i < g.count; ++i) info.steps.push_back(describe.step(impl_->steps[g.first + i]));
  }
  return out;
}

void Kernel::link_native(std::vector<NativePiece> pieces) const {
  const KernelImpl& k = *impl_;
  auto native = std::make_unique<Native>();
  std::size_t next = 0;  // piece
  for (const Group& g : k.groups) {
    NativeGroup& group = native->groups.emplace_back();
    group.strip = g.strip;
    for (std::uint32_t i = g.first; i < g.first + g.count;) {
      if (next < pieces.size() && pieces[next].first == i) {
        const NativePiece& p = pieces[next];
        require(p.count > 0 && p.count <= g.first + g.count - i && !g.whole, k, "a compiled piece has steps of other groups");
        group.entries.push_back({true, static_cast<std::uint32_t>(next++)});
        native->pieces.push_back(link_piece(k, p));
        for (const auto& [a, b] : p.equal) group.equal.push_back({extent_of(k, a), extent_of(k, b)});
        i += p.count;
      } else {
        group.entries.push_back({false, i++});
      }
    }
    // what a strip keeps out of memory is in the piece's registers
    if (group.entries.size() == 1) group.strip = g.rows;
  }
  require(next == pieces.size(), k, "compiled pieces are not its own");
  const Native* before = nullptr;
  if (k.native.compare_exchange_strong(before, native.get(), std::memory_order_acq_rel)) static_cast<void>(native.release());
}

}  // namespace pto_wsp
