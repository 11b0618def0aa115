// What a kernel costs: its control flow is walked with the cycles of operations in the place of what they do. See
// pto_wsp/arch/cost.py for the recurrence; model serial is the one where a single unit takes everything.

#include <algorithm>
#include <deque>
#include <limits>
#include <type_traits>

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

std::int64_t evaluate(std::span<const CostOp> code, std::span<const Arg> args, const std::int64_t* regs) {
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

constexpr std::uint64_t most_walked = std::uint64_t{1} << 28;  // trips

// What walks of one kernel share: arguments, registers, and costs that were worked out before.
//
// Scalars that depend on elements of tensors have any value: nothing that costs depends on them but conditions, of which the
// dearer side counts.
class Known {
 public:
  Known(const Program& p, std::span<const Arg> args) : args_(args), memo_(p.n_cycles) {
    if (p.n_regs > std::size(few_)) {
      many_.assign(p.n_regs, 0);
      regs = many_.data();
    }
  }
  Known(const Known&) = delete;
  Known& operator=(const Known&) = delete;

  std::int64_t cycles(const Cycles& c) {
    if (c.regs.size() > std::tuple_size_v<decltype(Memo::key)>) return evaluate(c.code, args_, regs);
    Memo& m = memo_[c.number];
    bool same = m.cost >= 0;
    for (std::size_t i = 0; i < c.regs.size(); ++i) {
      same = same && m.key[i] == regs[c.regs[i]];
      m.key[i] = regs[c.regs[i]];
    }
    if (!same) {
      m.cost = -1;
      m.cost = evaluate(c.code, args_, regs);
    }
    return m.cost;
  }

  void step(const ScalarEqn& e) {
    Fault fault;  // the run tells
    if (e.counts) step_registers(e, args_, regs, fault);
  }

  void walk(std::uint64_t trips) {
    walked += trips;
    if (walked > most_walked) throw TripsError("loops whose trips cost differently have too many of them");
  }

  std::int64_t* regs = few_;
  std::uint64_t walked = 0;  // trips

 private:
  // What an expression gave, for the registers that it names.
  struct Memo {
    std::array<std::int64_t, 4> key = {};
    std::int64_t cost = -1;
  };
  std::span<const Arg> args_;
  std::int64_t few_[64] = {};
  std::vector<std::int64_t> many_;
  std::vector<Memo> memo_;
};

// A time in each period k = 0, 1, 2, .. of a loop: at + each * k.
struct Line {
  std::int64_t at = 0, each = 0;
};

Line plus(Line a, std::int64_t b) { return {plus(a.at, b), a.each}; }

// Times are numbers, or lines.
template <class Time> struct Times {
  std::array<Time, core_units> free = {};  // when each unit is done
  std::vector<Time> ready;                 // when each value is there
};

// Trips that a walk tries to leap over repeat after some number of trips: one for each count of tiles that change places, below.
constexpr std::uint64_t periods[] = {12, 60, 840};
constexpr std::uint64_t first_try = 4;

template <class Time> class CostWalk {
  static constexpr bool is_line = std::is_same_v<Time, Line>;

 public:
  CostWalk(const Program& p, Known& known) : p_(p), known_(known) {
    if (p.pipes) now_.ready.resize(p.values.size() + p.n_regs + p.n_args);
  }

  std::int64_t run() {
    block(p_.body);
    return *std::ranges::max_element(now_.free);
  }

  // One trip of a loop.
  void trip(const Loop& l, std::int64_t index) {
    turns_ += 1;
    known_.regs[l.index] = index;
    block(l.body);
    registers_.clear();
    for (const Carry& c : l.carries) registers_.push_back(value_of(c.yield, known_.regs));
    moved_.clear();
    for (const Flow& f : l.flows) moved_.push_back(ready(f.yield));
    carry(l);
  }

  Times<Time>& times() { return now_; }
  // Periods for which every choice of the later time was that of period 0; after them another one may be right.
  std::int64_t holds() const { return holds_; }

 private:
  void block(std::uint32_t index) {
    const Block& b = p_.blocks[index];
    if (!p_.pipes) {
      for (const Block::Item& i : b.items) item(i);
      now_.free[0] = plus(now_.free[0], known_.cycles(b.cost));
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
      case Block::Item::Kind::scalar: return known_.step(p_.scalars[i.index]);
      case Block::Item::Kind::loop: return loop(p_.loops[i.index]);
      case Block::Item::Kind::branch: return branch(p_.branches[i.index]);
    }
  }

  Time later(Time a, Time b) {
    if constexpr (is_line) {
      if (a.at < b.at || (a.at == b.at && a.each < b.each)) std::swap(a, b);
      if (b.each > a.each) holds_ = std::min(holds_, (a.at - b.at) / (b.each - a.each));
      return a;
    } else {
      return std::max(a, b);
    }
  }

  void work(const Work& w) {
    Time start = {};
    for (const std::uint32_t id : w.reads) start = later(start, now_.ready[id]);
    if (w.unit < core_units) {
      start = plus(later(start, now_.free[w.unit]), known_.cycles(w.cycles));
      now_.free[w.unit] = start;
    }
    for (const std::uint32_t id : w.writes) now_.ready[id] = start;
  }

  Time ready(std::uint32_t id) const { return id == no_value ? Time{} : now_.ready[id]; }

  // What the next trip begins with.
  void carry(const Loop& l) {
    for (std::size_t c = 0; c < l.carries.size(); ++c) known_.regs[l.carries[c].reg] = static_cast<std::int64_t>(registers_[c]);
    for (std::size_t f = 0; f < l.flows.size(); ++f) now_.ready[l.flows[f].inside] = moved_[f];
  }

  void loop(const Loop& l) {
    const auto lo = static_cast<std::int64_t>(value_of(l.lo, known_.regs)), hi = static_cast<std::int64_t>(value_of(l.hi, known_.regs));
    std::uint64_t trips = lo < hi ? static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) : 0;
    if (trips > most_trips) trips = 0;  // the run refuses it
    registers_.clear();
    for (const Carry& c : l.carries) registers_.push_back(value_of(c.init, known_.regs));
    moved_.clear();
    for (const Flow& f : l.flows) moved_.push_back(ready(f.init));
    carry(l);
    if constexpr (is_line) {
      walk(l, lo, trips);
    } else if (!l.uniform) {
      walk(l, lo, trips);
    } else if (p_.pipes) {
      leap(l, lo, trips);
    } else if (trips != 0) {
      const std::int64_t before = now_.free[0];
      trip(l, lo);
      now_.free[0] = plus(before, apply(4, now_.free[0] - before, static_cast<std::int64_t>(trips)));
    }
    for (const Carry& c : l.carries) known_.regs[c.out] = known_.regs[c.reg];
    for (const Flow& f : l.flows) now_.ready[f.out] = now_.ready[f.inside];
  }

  void walk(const Loop& l, std::int64_t from, std::uint64_t trips) {
    known_.walk(trips);
    for (std::uint64_t i = 0; i < trips; ++i) trip(l, from + static_cast<std::int64_t>(i));
  }

  // All trips of a loop whose trips take the same cycles each. Sooner or later all times grow by the same in each period, and
  // what is left of the trips follows from that.
  void leap(const Loop& l, std::int64_t lo, std::uint64_t trips) {
    std::uint64_t i = 0;
    for (std::uint64_t next = first_try; i < trips;) {
      std::uint64_t period = periods[0];
      for (const std::uint64_t p : periods)
        if (p <= next / 4) period = p;
      if (trips < next + 3 * period) break;
      walk(l, lo + static_cast<std::int64_t>(i), next - i);
      i = next;
      const std::uint64_t over = leap_from(l, lo + static_cast<std::int64_t>(i), trips - i, period);
      i += over;
      next = over > 8 * period ? i + first_try : 2 * i;
    }
    walk(l, lo + static_cast<std::int64_t>(i), trips - i);
  }

  // Walks one period, and another one with the times as lines that grow as they did in the first. If they end as they should
  // have, by the same lines one period later, then so do the periods behind it, as long as no maximum is another one's. Gives
  // how many trips it went.
  std::uint64_t leap_from(const Loop& l, std::int64_t from, std::uint64_t trips, std::uint64_t period) {
    const std::uint64_t walked = known_.walked;
    const double turns = turns_;
    const Times<Time> before = now_;
    walk(l, from, period);
    // Of loops inside, lines are walked trip by trip.
    const double gain = static_cast<double>(known_.walked - walked) * static_cast<double>(trips / period);
    const double one = turns_ - turns;
    if (2 * one > gain) return period;

    CostWalk<Line> lines(p_, known_);
    each_time(before, now_, lines.times(), [](std::int64_t a, std::int64_t b, Line& line) { line = {b, b - a}; });
    const Times<Line> start = lines.times();
    lines.walk(l, from + static_cast<std::int64_t>(period), period);
    turns_ += one;
    bool same = true;
    each_time(start, lines.times(), now_, [&](Line a, Line b, std::int64_t& now) {
      same = same && a.each >= 0 && b.each == a.each && b.at - a.at == a.each;
      now = b.at;
    });
    if (!same) return 2 * period;
    const std::uint64_t more = std::min(trips / period - 2, static_cast<std::uint64_t>(lines.holds()));
    each_time(start, lines.times(), now_, [&](Line, Line b, std::int64_t& now) { now = plus(b.at, apply(4, b.each, static_cast<std::int64_t>(more))); });
    turns_ += one * static_cast<double>(more);
    return (2 + more) * period;
  }

  template <class A, class B, class C, class Fn> static void each_time(const Times<A>& a, const Times<B>& b, Times<C>& c, Fn fn) {
    for (std::size_t u = 0; u < core_units; ++u) fn(a.free[u], b.free[u], c.free[u]);
    for (std::size_t id = 0; id < a.ready.size(); ++id) fn(a.ready[id], b.ready[id], c.ready[id]);
  }

  void branch(const Branch& b) {
    if (p_.pipes && !b.condition.constant)
      for (Time& f : now_.free) f = later(f, now_.ready[p_.values.size() + b.condition.reg]);
    if (!b.data) return side(b, value_of(b.condition, known_.regs) != 0 ? 0 : 1);
    if (depth_ == kept_.size()) kept_.emplace_back();
    Times<Time>& kept = kept_[depth_++];
    kept = now_;
    side(b, 0);
    std::swap(kept, now_);
    side(b, 1);
    each_time(kept, kept, now_, [&](Time a, Time, Time& now) { now = later(now, a); });
    --depth_;
  }

  void side(const Branch& b, std::size_t which) {
    block(b.blocks[which]);
    for (const std::array<Carry, 2>& out : b.outs) known_.regs[out[which].out] = static_cast<std::int64_t>(value_of(out[which].yield, known_.regs));
    for (const std::array<std::uint32_t, 3>& f : b.flows) now_.ready[f[2]] = ready(f[which]);
  }

  template <class> friend class CostWalk;

  const Program& p_;
  Known& known_;
  Times<Time> now_;
  std::int64_t holds_ = std::numeric_limits<std::int64_t>::max();
  double turns_ = 0;                     // trips that a walk without leaps goes
  std::deque<Times<Time>> kept_;         // one for each branch around
  std::size_t depth_ = 0;
  std::vector<std::uint64_t> registers_; // on their way from one trip to the next
  std::vector<Time> moved_;
};

}  // namespace

std::int64_t evaluate_cost(const Program& program, std::span<const Arg> args) {
  if (!program.structured && !program.pipes) return evaluate(program.blocks[program.body].cost.code, args, nullptr);
  Known known(program, args);
  return CostWalk<std::int64_t>(program, known).run();
}

}  // namespace pto_wsp
