// What a kernel costs: its control flow is walked with the cycles of operations in the place of what they do. See
// pto_wsp/arch/cost.py for the recurrence; model serial is the one where a single unit takes everything.

#include <algorithm>
#include <limits>

#include "kernel_impl.hpp"

namespace pto_wsp {
namespace {

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
  const std::int64_t q = a / b;
  return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

std::int64_t apply(std::uint8_t code, std::int64_t a, std::int64_t b) {
  std::int64_t r = 0;
  bool overflow = false;
  switch (code) {
    case 2: overflow = __builtin_add_overflow(a, b, &r); break;
    case 3: overflow = __builtin_sub_overflow(a, b, &r); break;
    case 4: overflow = __builtin_mul_overflow(a, b, &r); break;
    case 7: return a < b ? a : b;
    case 8: return a < b ? b : a;
    default: {  // 5 floordiv, 6 mod, 9 ceildiv
      if (b == 0) throw CostError("the cost divides by zero");
      if (b == -1 && a == INT64_MIN) {
        if (code == 6) return 0;
        throw CostError("the cost overflows");
      }
      const std::int64_t q = floor_div(a, b);
      return code == 5 ? q : code == 6 ? a - q * b : q + (q * b != a ? 1 : 0);
    }
  }
  if (overflow) throw CostError("the cost overflows");
  return r;
}
std::int64_t plus(std::int64_t a, std::int64_t b) { return apply(2, a, b); }

std::int64_t evaluate(const std::vector<CostOp>& code, std::span<const Arg> args, const std::int64_t* regs) {
  std::int64_t stack[64];
  std::size_t depth = 0;
  for (const CostOp& op : code) {
    if (op.code == 0) {
      stack[depth++] = op.constant;
    } else if (op.code == 1) {
      stack[depth++] = resolve(op.dim, args, regs);
    } else {
      --depth;
      stack[depth - 1] = apply(op.code, stack[depth - 1], stack[depth]);
    }
  }
  if (stack[0] < 0) throw CostError("the cost is negative");
  return stack[0];
}

constexpr std::uint64_t most_walked = std::uint64_t{1} << 28;

// What a cost names of a parameter or register.
template <class Fn> void each_dim(const Block& b, Fn fn) {
  for (const CostOp& op : b.cost)
    if (op.code == 1) fn(op.dim);
  for (const Work& w : b.works)
    for (const CostOp& op : w.cycles)
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

  void spread() {
    for (const ScalarEqn& e : p_.scalars)
      if (e.kind == ScalarEqn::Kind::compute && needed_[e.reg])
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
    e.counts = (e.kind == Kind::compute || e.kind == Kind::dim || e.kind == Kind::widen) && needed_[e.reg];
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
        if (e.counts && e.kind == ScalarEqn::Kind::compute && std::ranges::any_of(e.operands, [&](const Scalar& s) { return varies(s); })) varies_[e.reg] = true;
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

// Scalars that depend on elements of tensors have any value: nothing that costs depends on them but conditions, of which the dearer
// side counts.
class CostWalk {
 public:
  CostWalk(const Program& p, std::span<const Arg> args) : p_(p), args_(args), memo_(p.blocks.size()) {
    regs_ = few_;
    if (p.n_regs > std::size(few_)) {
      many_.assign(p.n_regs, 0);
      regs_ = many_.data();
    }
    if (p.pipes) now_.ready.assign(p.values.size() + p.n_regs + p.n_args, 0);
  }

  std::int64_t run() {
    block(p_.body);
    return *std::ranges::max_element(now_.free);
  }

 private:
  struct State {
    std::array<std::int64_t, core_units> free = {};  // when each unit is done
    std::vector<std::int64_t> ready;                 // when each value is there
  };
  // What a block's own operations cost, for the registers that this depends on.
  struct Memo {
    std::array<std::int64_t, 4> key = {};
    std::int64_t cost = -1;
  };

  void block(std::uint32_t index) {
    const Block& b = p_.blocks[index];
    if (!p_.pipes) {
      for (const Block::Item& i : b.items) item(i);
      now_.free[0] = plus(now_.free[0], own(index));
      return;
    }
    for (const Block::Event& e : b.events) {
      if (e.is_work) work(b.works[e.index]);
      else item(b.items[e.index]);
    }
  }

  void item(const Block::Item& i) {
    switch (i.kind) {
      case Block::Item::Kind::segment: return;
      case Block::Item::Kind::scalar: {
        Fault fault;  // the run tells
        if (p_.scalars[i.index].counts) step_registers(p_.scalars[i.index], args_, regs_, fault);
        return;
      }
      case Block::Item::Kind::loop: return loop(p_.loops[i.index]);
      case Block::Item::Kind::branch: return branch(p_.branches[i.index]);
    }
  }

  std::int64_t own(std::uint32_t index) {
    const Block& b = p_.blocks[index];
    if (b.cost_regs.size() > std::tuple_size_v<decltype(Memo::key)>) return evaluate(b.cost, args_, regs_);
    Memo& m = memo_[index];
    bool same = m.cost >= 0;
    for (std::size_t i = 0; i < b.cost_regs.size(); ++i) {
      same = same && m.key[i] == regs_[b.cost_regs[i]];
      m.key[i] = regs_[b.cost_regs[i]];
    }
    if (!same) m.cost = evaluate(b.cost, args_, regs_);
    return m.cost;
  }

  void work(const Work& w) {
    std::int64_t start = 0;
    for (const std::uint32_t id : w.reads) start = std::max(start, now_.ready[id]);
    if (w.unit < core_units) {
      start = plus(std::max(start, now_.free[w.unit]), evaluate(w.cycles, args_, regs_));
      now_.free[w.unit] = start;
    }
    for (const std::uint32_t id : w.writes) now_.ready[id] = start;
  }

  std::int64_t ready(std::uint32_t id) const { return id == no_value ? 0 : now_.ready[id]; }

  void loop(const Loop& l) {
    const auto lo = static_cast<std::int64_t>(value_of(l.lo, regs_)), hi = static_cast<std::int64_t>(value_of(l.hi, regs_));
    std::uint64_t trips = lo < hi ? static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) : 0;
    if (trips > most_trips) trips = 0;  // the run refuses it
    const bool multiplied = l.uniform && !p_.pipes;
    walked_ += multiplied ? 0 : trips;
    if (walked_ > most_walked) throw CostError("loops whose trips cost differently have too many of them");
    std::vector<std::uint64_t> next;
    std::vector<std::int64_t> later;
    next.reserve(l.carries.size());
    for (const Carry& c : l.carries) next.push_back(value_of(c.init, regs_));
    for (const Flow& f : l.flows) later.push_back(ready(f.init));
    for (std::uint64_t i = 0; i < (multiplied ? std::min<std::uint64_t>(trips, 1) : trips); ++i) {
      const std::int64_t before = now_.free[0];
      regs_[l.index] = lo + static_cast<std::int64_t>(i);
      for (std::size_t c = 0; c < next.size(); ++c) regs_[l.carries[c].reg] = static_cast<std::int64_t>(next[c]);
      for (std::size_t f = 0; f < later.size(); ++f) now_.ready[l.flows[f].inside] = later[f];
      block(l.body);
      for (std::size_t c = 0; c < next.size(); ++c) next[c] = value_of(l.carries[c].yield, regs_);
      for (std::size_t f = 0; f < later.size(); ++f) later[f] = ready(l.flows[f].yield);
      if (multiplied) now_.free[0] = plus(before, apply(4, now_.free[0] - before, static_cast<std::int64_t>(trips)));
    }
    for (std::size_t c = 0; c < next.size(); ++c) regs_[l.carries[c].out] = static_cast<std::int64_t>(next[c]);
    for (std::size_t f = 0; f < later.size(); ++f) now_.ready[l.flows[f].out] = later[f];
  }

  void branch(const Branch& b) {
    if (p_.pipes && !b.condition.constant)
      for (std::int64_t& f : now_.free) f = std::max(f, now_.ready[p_.values.size() + b.condition.reg]);
    if (!b.data) return side(b, value_of(b.condition, regs_) != 0 ? 0 : 1);
    const State before = now_;
    side(b, 0);
    State first = std::move(now_);
    now_ = before;
    side(b, 1);
    for (std::size_t u = 0; u < core_units; ++u) now_.free[u] = std::max(now_.free[u], first.free[u]);
    for (std::size_t id = 0; id < first.ready.size(); ++id) now_.ready[id] = std::max(now_.ready[id], first.ready[id]);
  }

  void side(const Branch& b, std::size_t which) {
    block(b.blocks[which]);
    for (const std::array<Carry, 2>& out : b.outs) regs_[out[which].out] = static_cast<std::int64_t>(value_of(out[which].yield, regs_));
    for (const std::array<std::uint32_t, 3>& f : b.flows) now_.ready[f[2]] = ready(f[which]);
  }

  const Program& p_;
  std::span<const Arg> args_;
  std::int64_t few_[64] = {};
  std::vector<std::int64_t> many_;
  std::int64_t* regs_ = nullptr;
  State now_;
  std::uint64_t walked_ = 0;  // trips
  std::vector<Memo> memo_;
};

}  // namespace

void analyse_cost(Program& program) {
  Analysis(program).run();
  for (Block& b : program.blocks)
    for (const CostOp& op : b.cost) {
      if (op.code != 1 || op.dim.kind != DimRef::Kind::reg) continue;
      const auto reg = static_cast<std::uint32_t>(op.dim.param);
      if (std::ranges::find(b.cost_regs, reg) == b.cost_regs.end()) b.cost_regs.push_back(reg);
    }
}

std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args) {
  if (!program.structured && !program.pipes) return evaluate(program.blocks[program.body].cost, args, nullptr);
  return CostWalk(program, args).run();
}

}  // namespace pto_wsp
