// What kernels cost in model pipes: by hand, and random nests of loops and branches beside a walk of every trip.

#include <algorithm>
#include <map>
#include <memory>
#include <random>

#include "check.hpp"
#include "kernel_control_builder.hpp"

using namespace pto_wsp;
using namespace builder;
using End = ControlBuilder::End;

namespace {

constexpr unsigned load = 0, vector = 1, cube = 2, store = 3, none = 4;
using Places = std::vector<std::uint64_t>;

writer::Bytes cycles(std::int64_t n) { return writer::Out().u(1).u(0).s(n).bytes; }
// base + each * register
writer::Bytes cycles(std::int64_t base, std::int64_t each, int r) {
  return writer::Out().u(5).u(1).u(4).u(static_cast<std::uint64_t>(r)).u(0).s(each).u(4).u(0).s(base).u(2).bytes;
}
Places at(std::initializer_list<int> regs) { return Places(regs.begin(), regs.end()); }

// A kernel of no tiles: registers stand for whatever is waited for.
struct Pipes : ControlBuilder {
  Pipes() { pipes = true; }
  int token() { return compute(ScalarOp::add, {number(0), number(0)}); }
  std::int64_t costs(std::vector<Arg> args = {}) const { return decode().cost(args); }
};
End to(int r) { return {-1, held(r)}; }

void by_hand() {
  {
    Pipes b;  // two loads, of which the second runs beside the vector unit
    const int x = b.token(), y = b.token(), z = b.token();
    b.work(load, cycles(10), {}, at({x}));
    b.work(vector, cycles(7), at({x}), at({z}));
    b.work(load, cycles(10), {}, at({y}));
    b.work(vector, cycles(7), at({z, y}), at({z}));
    b.work(none, {}, at({z}), at({y}));
    b.work(store, cycles(3), at({y}), {});
    CHECK_EQ(b.costs(), 10 + 10 + 7 + 3);
  }
  for (const std::int64_t n : {0, 1, 2, 5, 39, 40, 41, 100, 1000000, 2000000000}) {
    // one load a trip, while the product and the sum of trips before go on: the slowest unit counts, and the way of one trip
    for (const auto& [l, c, v] : {std::array<std::int64_t, 3>{10, 4, 3}, {4, 10, 3}, {4, 3, 10}, {5, 5, 5}}) {
      Pipes b;
      const int a = b.reg(), out = b.reg(), start = b.token();
      b.loop(number(0), number(n), {{false, a, out, -1, held(start)}}, [&](int) -> std::vector<End> {
        const int x = b.token(), p = b.token(), next = b.token();
        b.work(load, cycles(l), {}, at({x}));
        b.work(cube, cycles(c), at({x}), at({p}));
        b.work(vector, cycles(v), at({a, p}), at({next}));
        return {to(next)};
      });
      b.work(store, cycles(2), at({out}), {});
      CHECK_EQ(b.costs(), n == 0 ? 2 : l + c + v + (n - 1) * std::max({l, c, v}) + 2);
    }
  }
  {
    // The store is far ahead in the beginning: it decides until the loads, which are slower, have caught up.
    Pipes b;
    const int x = b.token();
    b.work(store, cycles(100000), {}, {});
    b.loop(number(0), number(1000000), {}, [&](int) -> std::vector<End> {
      b.work(load, cycles(3), {}, at({x}));
      b.work(store, cycles(2), at({x}), {});
      return {};
    });
    CHECK_EQ(b.costs(), 3000000 + 2);
  }
  {
    // What is carried goes round, with a time of its own each. There are more trips than are walked one by one.
    for (const int n : {2, 3, 5, 7, 8}) {
      Pipes b;
      constexpr std::int64_t trips = 1000000001, late = 10000000000;
      std::vector<Carried> carried;
      for (int k = 0; k < n; ++k) {
        const int start = b.token();
        b.work(load, cycles(late), {}, at({start}));
        carried.push_back({false, b.reg(), b.reg(), -1, held(start)});
      }
      b.loop(number(0), number(trips), carried, [&](int) {
        b.work(vector, cycles(5), {}, {});
        std::vector<End> ends;
        for (int k = 0; k < n; ++k) ends.push_back(to(carried[static_cast<std::size_t>((k + 1) % n)].inside));
        return ends;
      });
      b.work(store, cycles(20 * late), at({carried[0].out}), {});
      CHECK_EQ(b.costs(), (trips % n + 1 + 20) * late);
    }
  }
  {
    // Trips that cost differently: 1 + 3 i cycles.
    Pipes b;
    b.loop(number(0), number(1000), {}, [&](int i) -> std::vector<End> {
      b.work(vector, cycles(1, 3, i), {}, {});
      return {};
    });
    CHECK_EQ(b.costs(), 1000 + 3 * 999 * 500);
  }
  {
    Pipes b;  // more trips than are walked
    b.loop(number(0), number(300000000), {}, [&](int i) -> std::vector<End> {
      b.work(vector, cycles(0, 1, i), {}, {});
      return {};
    });
    CHECK_THROWS(TripsError, b.costs());
  }
  {
    Pipes b;  // beyond 64 bits
    b.loop(number(0), number(2000000000), {}, [&](int) -> std::vector<End> {
      b.work(vector, cycles(std::int64_t{1} << 40), {}, {});
      return {};
    });
    CHECK_THROWS(CostError, b.costs());
  }
}

// A nest, which is both written into a plan and walked.
struct Node;
using Nodes = std::vector<std::unique_ptr<Node>>;
struct Carry {
  int inside, out, init, yield[2];  // registers; -1: a constant. Branches have one yield for each side
};
struct Node {
  enum Kind { token, work, loop, branch } kind;
  explicit Node(Kind k) : kind(k) {}
  int reg = -1;  // token; loop: its index; branch: the condition
  unsigned unit = none;
  std::int64_t base = 0, each = 0;  // cycles: base + each * `index`
  int index = -1;
  std::vector<int> reads, writes;
  std::int64_t trips = 0;  // or `index`
  std::vector<Carry> carries;
  bool data = false, taken = false;
  Nodes body[2];
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed), small_(seed % 2 == 0) {}
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(n)); }
  bool one_in(std::int64_t n) { return below(n) == 0; }

  Nodes nest(Pipes& b) {
    Nodes out;
    for (int i = 0; i < 4; ++i) out.push_back(token(b));
    block(b, out, 0);
    return out;
  }

 private:
  std::unique_ptr<Node> token(Pipes& b) {
    auto n = std::make_unique<Node>(Node::token);
    n->reg = b.token();
    visible_.push_back(n->reg);
    return n;
  }
  int any() { return visible_[static_cast<std::size_t>(below(static_cast<std::int64_t>(visible_.size())))]; }
  int any_or_constant() { return one_in(6) ? -1 : any(); }

  void block(Pipes& b, Nodes& out, int depth) {
    for (std::int64_t i = 0, n = 1 + below(4); i < n; ++i) {
      const std::int64_t what = below(8);
      if (what == 0 && depth < 3) out.push_back(loop(b, depth));
      else if (what == 1 && depth < 4) out.push_back(branch(b, depth));
      else if (what == 2) out.push_back(token(b));
      else out.push_back(work(b));
    }
    if (depth == 0) out.push_back(loop(b, 0));
  }

  std::unique_ptr<Node> work(Pipes& b) {
    auto n = std::make_unique<Node>(Node::work);
    n->unit = static_cast<unsigned>(below(5));
    n->base = one_in(12) ? below(small_ ? 100 : 4000) : below(small_ ? 3 : 30);  // small: times are often the same
    if (one_in(12) && !indices_.empty()) {
      n->index = indices_.back();
      n->each = below(3);
    }
    for (std::int64_t k = below(3); k > 0; --k) n->reads.push_back(any());
    for (std::int64_t k = below(3); k > 0; --k) n->writes.push_back(any());
    b.work(n->unit, n->index < 0 ? cycles(n->base) : cycles(n->base, n->each, n->index), Places(n->reads.begin(), n->reads.end()),
           Places(n->writes.begin(), n->writes.end()));
    return n;
  }

  std::unique_ptr<Node> loop(Pipes& b, int depth) {
    auto n = std::make_unique<Node>(Node::loop);
    constexpr std::int64_t most[] = {600, 60, 8};
    n->trips = one_in(4) ? below(4) : below(most[depth]);
    const std::size_t before = visible_.size();
    std::vector<Carried> carried;
    for (std::int64_t k = one_in(5) ? 7 : below(4); k > 0; --k) {
      const Carry c{b.reg(), b.reg(), any_or_constant(), {-1, -1}};
      n->carries.push_back(c);
      carried.push_back({false, c.inside, c.out, -1, c.init < 0 ? number(0) : held(c.init)});
    }
    writer::Bytes high = number(n->trips);
    if (depth == 2 && !indices_.empty() && one_in(3)) {
      n->index = indices_.back();
      high = held(n->index);
    }
    b.loop(number(0), high, carried, [&](int i) {
      n->reg = i;
      indices_.push_back(i);
      for (const Carry& c : n->carries) visible_.push_back(c.inside);
      block(b, n->body[0], depth + 1);
      std::vector<End> ends;
      const bool rotates = one_in(2);
      for (std::size_t k = 0; k < n->carries.size(); ++k) {
        const int given = rotates && k != 0 ? n->carries[k - 1].inside : any_or_constant();
        n->carries[k].yield[0] = given;
        ends.push_back(given < 0 ? End{-1, number(0)} : to(given));
      }
      indices_.pop_back();
      return ends;
    });
    visible_.resize(before);
    for (const Carry& c : n->carries) visible_.push_back(c.out);
    return n;
  }

  std::unique_ptr<Node> branch(Pipes& b, int depth) {
    auto n = std::make_unique<Node>(Node::branch);
    n->data = one_in(2);
    n->taken = one_in(2);
    n->reg = n->data ? b.compute(ScalarOp::gt, {held(any()), number(0)}, DType::i64, DType::boolean) : -1;
    const std::size_t before = visible_.size();
    std::vector<Carried> given;
    for (std::int64_t k = below(3); k > 0; --k) {
      n->carries.push_back({-1, b.reg(), -1, {-1, -1}});
      given.push_back({false, -1, n->carries.back().out});
    }
    const auto side = [&](std::size_t which) {
      return [&, which] {
        block(b, n->body[which], depth + 1);
        std::vector<End> ends;
        for (Carry& c : n->carries) {
          c.yield[which] = any_or_constant();
          ends.push_back(c.yield[which] < 0 ? End{-1, number(0)} : to(c.yield[which]));
        }
        visible_.resize(before);
        return ends;
      };
    };
    b.branch(n->reg < 0 ? number(n->taken ? 1 : 0) : held(n->reg), n->data, given, side(0), side(1));
    for (const Carry& c : n->carries) visible_.push_back(c.out);
    return n;
  }

  std::mt19937_64 engine_;
  bool small_;
  std::vector<int> visible_, indices_;
};

// The recurrence as it is written down.
struct Walk {
  std::map<int, std::int64_t> ready, index;
  std::array<std::int64_t, 4> free = {};
  std::uint64_t trips = 0;

  std::int64_t of(int reg) { return reg < 0 ? 0 : ready[reg]; }
  void run(const Nodes& nodes) {
    for (const auto& n : nodes) run(*n);
  }
  void run(const Node& n) {
    switch (n.kind) {
      case Node::token: return;
      case Node::work: {
        std::int64_t t = 0;
        for (const int r : n.reads) t = std::max(t, ready[r]);
        if (n.unit != none) t = free[n.unit] = std::max(t, free[n.unit]) + n.base + (n.index < 0 ? 0 : n.each * index[n.index]);
        for (const int r : n.writes) ready[r] = t;
        return;
      }
      case Node::loop: {
        std::vector<std::int64_t> given;
        for (const Carry& c : n.carries) given.push_back(of(c.init));
        const auto bind = [&](int Carry::*to) {
          for (std::size_t k = 0; k < given.size(); ++k) ready[n.carries[k].*to] = given[k];
        };
        for (std::int64_t i = 0, end = n.index < 0 ? n.trips : index[n.index]; i < end; ++i, ++trips) {
          index[n.reg] = i;
          bind(&Carry::inside);
          run(n.body[0]);
          given.clear();
          for (const Carry& c : n.carries) given.push_back(of(c.yield[0]));
        }
        bind(&Carry::out);
        return;
      }
      case Node::branch:
        if (n.reg >= 0)
          for (std::int64_t& f : free) f = std::max(f, ready[n.reg]);
        if (!n.data) return side(n, n.taken ? 0 : 1);
        Walk other = *this;
        side(n, 1);
        other.side(n, 0);
        trips = std::max(trips, other.trips);
        for (std::size_t u = 0; u < 4; ++u) free[u] = std::max(free[u], other.free[u]);
        for (const auto& [r, t] : other.ready) ready[r] = std::max(ready[r], t);
    }
  }
  void side(const Node& n, std::size_t which) {
    run(n.body[which]);
    std::vector<std::int64_t> given;
    for (const Carry& c : n.carries) given.push_back(of(c.yield[which]));
    for (std::size_t k = 0; k < given.size(); ++k) ready[n.carries[k].out] = given[k];
  }
};

void random_nests(std::uint64_t first, std::uint64_t count) {
  std::uint64_t trips = 0;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    Pipes b;
    const Nodes nodes = Random(seed).nest(b);
    Walk walk;
    walk.run(nodes);
    trips += walk.trips;
    const std::int64_t want = *std::ranges::max_element(walk.free), got = b.costs();
    if (got != want) check::fail("seed " + std::to_string(seed) + ": " + std::to_string(got) + " cycles, not " + std::to_string(want), std::source_location::current());
  }
  CHECK(count < 100 || trips > 100 * count);
}

}  // namespace

int main(int argc, char** argv) {
  by_hand();
  const auto number_of = [&](int i, std::uint64_t otherwise) { return argc > i ? std::strtoull(argv[i], nullptr, 10) : otherwise; };
  random_nests(number_of(2, 1), number_of(1, 300));
  return check::result();
}
