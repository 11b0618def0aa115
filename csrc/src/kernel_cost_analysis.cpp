// What the cost of a kernel depends on, and which loops cost the same in each trip.

#include <algorithm>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

// What a cost names of a parameter or register.
template <class Fn> void each_dim(const Block& b, Fn fn) {
  for (const CostOp& op : b.cost.code)
    if (op.code == 1) fn(op.dim);
  for (const Work& w : b.works)
    for (const CostOp& op : w.cycles.code)
      if (op.code == 1) fn(op.dim);
}

// Finds what the cost depends on.
class Analysis {
 public:
  explicit Analysis(Program& p) : p_(p), needed_(p.n_regs, false) {
    p_.cost_scalars.assign(p_.n_args, false);
    p_.cost_extents.assign(p_.n_args, false);
  }

  void run() {
    for (const Block& b : p_.blocks) each_dim(b, [&](const DimRef& d) { need(d); });
    for (const Loop& l : p_.loops) {
      need(l.lo);
      need(l.hi);
    }
    for (const Branch& b : p_.branches)
      if (!b.data) need(b.condition);
    for (bool more = true; more;) {
      changed_ = false;
      spread();
      more = changed_;
    }
    for (ScalarEqn& e : p_.scalars) mark(e);
    for (Loop& l : p_.loops) {
      varies_.assign(p_.n_regs, false);
      varies_[l.index] = true;
      l.uniform = std::ranges::none_of(l.carries, [&](const Carry& c) { return needed_[c.reg]; }) && uniform(l.body);
    }
  }

 private:
  void need(const DimRef& d) {
    if (d.param < 0) return;
    if (d.kind == DimRef::Kind::reg) need(static_cast<std::uint32_t>(d.param));
    else p_.cost_extents[static_cast<std::size_t>(d.param)] = true;
  }
  void need(std::uint32_t reg) {
    changed_ = changed_ || !needed_[reg];
    needed_[reg] = true;
  }
  void need(const Scalar& s) {
    if (!s.constant) need(s.reg);
  }

  // Of registers alone.
  static bool computed(const ScalarEqn& e) { return e.kind == ScalarEqn::Kind::compute || e.kind == ScalarEqn::Kind::round; }

  void spread() {
    for (const ScalarEqn& e : p_.scalars)
      if (computed(e) && needed_[e.reg])
        for (const Scalar& s : e.operands) need(s);
    for (const Loop& l : p_.loops)
      for (const Carry& c : l.carries) {
        if (!needed_[c.reg] && !needed_[c.out]) continue;
        need(c.reg);
        need(c.init);
        need(c.yield);
      }
    for (const Branch& b : p_.branches)
      for (const std::array<Carry, 2>& out : b.outs) {
        if (!needed_[out[0].out]) continue;
        need(out[0].yield);
        need(out[1].yield);
        need(b.condition);
      }
  }

  void mark(ScalarEqn& e) {
    using Kind = ScalarEqn::Kind;
    e.counts = (computed(e) || e.kind == Kind::dim || e.kind == Kind::widen) && needed_[e.reg];
    if (!e.counts) return;
    if (e.kind == Kind::dim) need(e.a);
    if (e.kind == Kind::widen) p_.cost_scalars[e.param] = true;
  }

  bool varies(const Scalar& s) const { return !s.constant && varies_[s.reg]; }

  // Whether a block costs the same in each trip of the loop whose registers vary; more of them are found on the way.
  bool uniform(std::uint32_t index) {
    const Block& b = p_.blocks[index];
    for (const Block::Item& item : b.items)
      if (!uniform(item)) return false;
    bool same = true;
    each_dim(b, [&](const DimRef& d) { same = same && (d.kind != DimRef::Kind::reg || !varies_[static_cast<std::size_t>(d.param)]); });
    return same;
  }

  bool uniform(const Block::Item& item) {
    switch (item.kind) {
      case Block::Item::Kind::segment: return true;
      case Block::Item::Kind::scalar: {
        const ScalarEqn& e = p_.scalars[item.index];
        if (e.counts && computed(e) && std::ranges::any_of(e.operands, [&](const Scalar& s) { return varies(s); })) varies_[e.reg] = true;
        return true;
      }
      case Block::Item::Kind::loop: {
        const Loop& l = p_.loops[item.index];
        if (varies(l.lo) || varies(l.hi)) return false;
        // A scalar that this loop carries is another one in each of its trips, but the same ones in each trip of the outer loop,
        // unless it begins otherwise.
        for (const Carry& c : l.carries) {
          if (!needed_[c.reg]) continue;
          if (varies(c.init)) return false;
        }
        if (!uniform(l.body)) return false;
        for (const Carry& c : l.carries)
          if (needed_[c.reg] && varies(c.yield)) return false;
        return true;
      }
      default: {
        const Branch& b = p_.branches[item.index];
        if (!b.data && varies(b.condition)) return false;
        if (!uniform(b.blocks[0]) || !uniform(b.blocks[1])) return false;
        for (const std::array<Carry, 2>& out : b.outs)
          if (needed_[out[0].out] && (varies(out[0].yield) || varies(out[1].yield))) varies_[out[0].out] = true;
        return true;
      }
    }
  }

  Program& p_;
  std::vector<bool> needed_, varies_;
  bool changed_ = false;
};

// The registers that a cost names.
void find_registers(Cycles& c) {
  for (const CostOp& op : c.code) {
    if (op.code != 1 || op.dim.kind != DimRef::Kind::reg) continue;
    const auto reg = static_cast<std::uint32_t>(op.dim.param);
    if (std::ranges::find(c.regs, reg) == c.regs.end()) c.regs.push_back(reg);
  }
}

}  // namespace

void analyse_cost(Program& program) {
  Analysis(program).run();
  for (Block& b : program.blocks) {
    find_registers(b.cost);
    b.cost.number = program.n_cycles++;
    for (Work& w : b.works) {
      find_registers(w.cycles);
      w.cycles.number = program.n_cycles++;
    }
  }
}

}  // namespace pto_wsp
