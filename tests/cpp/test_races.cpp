// What is before what in a pipeline: steps of processes by hand, and of random networks against paths in the graph of all they do.
#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "check.hpp"
#include "pto_wsp/network.hpp"
#include "pto_wsp/races.hpp"

using namespace pto_wsp;

namespace {

using Kind = ActionOutcome::Kind;

void what_was_handed_on_is_before() {
  Past a, b;
  CHECK_EQ(a.steps(3), 0u);
  a.raise(3, 2);
  a.raise(1, 5);
  a.raise(3, 1);
  b.raise(0, 1);
  b.raise(1, 4);
  b.raise(3, 7);
  a.join(b);
  CHECK_EQ(a.steps(0), 1u);
  CHECK_EQ(a.steps(1), 5u);
  CHECK_EQ(a.steps(2), 0u);
  CHECK_EQ(a.steps(3), 7u);
  CHECK_EQ(a.size(), 3u);
  CHECK_EQ(b.steps(1), 4u);
}

void a_token_orders_what_came_before_it() {
  Steps s(std::vector<ChannelSpec>{{.capacity = 2}}, std::vector<std::vector<std::uint32_t>>{{0}, {}});
  CHECK(s.before(0, 0, 0) && !s.before(0, 0, 1));
  s.sent(0, {Kind::sent, 0, 0});
  CHECK_EQ(s.step(0), 1u);
  s.sent(0, {Kind::sent, 0, 1});
  s.received(1, {Kind::received, 0, 0});
  CHECK(s.before(0, 0, 1) && !s.before(0, 1, 1) && !s.before(0, 2, 1));
  CHECK(!s.before(1, 0, 0));
  s.received(1, {Kind::received, 0, 1});
  CHECK(s.before(0, 1, 1) && !s.before(0, 2, 1));
  s.sent(0, {Kind::sent, 0, 2});  // into the place that the first has left
  CHECK(s.before(1, 0, 0) && !s.before(1, 1, 0));
}

void a_rendezvous_orders_both_ways() {
  Steps s(std::vector<ChannelSpec>{{.capacity = 0}}, std::vector<std::vector<std::uint32_t>>{{0}, {}});
  s.sent(0, {Kind::sent, 0, 0});
  s.received(1, {Kind::received, 0, 0});
  CHECK(s.before(0, 0, 1) && s.before(1, 0, 0));
  CHECK(!s.before(0, s.step(0), 1) && !s.before(1, s.step(1), 0));
}

void a_token_of_the_beginning_orders_nothing() {
  Steps s(std::vector<ChannelSpec>{{.capacity = 1, .initial = 1}}, std::vector<std::vector<std::uint32_t>>{{0}, {}});
  s.received(1, {Kind::received, 0, 0});
  CHECK(!s.before(0, 0, 1));
  s.sent(0, {Kind::sent, 0, 1});
  CHECK(s.before(1, 0, 0));
  s.received(1, {Kind::received, 0, 1});
  CHECK(s.before(0, 0, 1));
}

// A close orders what came before it, the end of a process all of it; of what is drained every producer.
void an_end_orders_all() {
  Steps s(std::vector<ChannelSpec>{{.capacity = no_limit}}, std::vector<std::vector<std::uint32_t>>{{0}, {0}, {}});
  s.closed(0, 0);
  s.ended(1);
  s.drained(2, 0);
  CHECK(s.before(0, 0, 2) && !s.before(0, 1, 2) && s.before(1, 0, 2));
  CHECK(!s.before(2, 0, 0));
  s.ended(0);
  const std::vector<std::uint64_t> settled = s.settled();
  CHECK_EQ(settled[0], 1u);
  CHECK_EQ(settled[2], no_limit);
}

// Processes that do one thing after another. What each does is a node of a graph, with those that it comes directly after; at work it
// is looked at which earlier work there is a path to.
struct Graph {
  std::vector<std::vector<Action>> todo;
  std::vector<ChannelSpec> channels;
  std::vector<std::vector<std::uint32_t>> produces;
  Steps steps{channels, produces};
  std::vector<std::size_t> at = std::vector<std::size_t>(todo.size()), last = {};      // by process
  std::vector<std::vector<std::size_t>> before = {};
  std::vector<std::vector<std::size_t>> sent = {}, received = {};                      // by channel and number
  std::vector<std::map<std::uint32_t, std::size_t>> closed = {};                       // by channel and producer
  struct Work {
    std::uint32_t process;
    std::uint64_t step;
    std::size_t node;
  };
  std::vector<Work> works = {};
  std::size_t ordered = 0, unordered = 0;

  void begin() {
    for (std::size_t p = 0; p < todo.size(); ++p) last.push_back(node({}));
    received.resize(channels.size());
    closed.resize(channels.size());
    for (const ChannelSpec& c : channels) sent.emplace_back(c.initial, node({}));
  }
  std::size_t node(std::vector<std::size_t> behind) {
    before.push_back(std::move(behind));
    return before.size() - 1;
  }
  std::vector<bool> past(std::size_t from) const {
    std::vector<bool> seen(before.size(), false);
    for (std::vector<std::size_t> next{from}; !next.empty();) {
      const std::size_t n = next.back();
      next.pop_back();
      if (seen[n]) continue;
      seen[n] = true;
      next.insert(next.end(), before[n].begin(), before[n].end());
    }
    return seen;
  }

  Action next(std::uint32_t p, const ActionOutcome& o) {
    if (o.kind != Kind::started && o.kind != Kind::refused) last[p] = node({last[p]});
    follow(p, o);
    if (at[p] < todo[p].size()) return todo[p][at[p]++];
    steps.ended(p);
    for (const std::uint32_t c : produces[p]) closed[c].try_emplace(p, last[p]);
    return {};
  }

  void follow(std::uint32_t p, const ActionOutcome& o) {
    const ChannelSpec& c = channels[o.channel];
    std::vector<std::size_t>& behind = before[last[p]];
    switch (o.kind) {
      case Kind::sent:
        steps.sent(p, o);
        if (c.capacity != 0 && o.token >= c.capacity) behind.push_back(received[o.channel][o.token - c.capacity]);
        sent[o.channel].push_back(last[p]);
        break;
      case Kind::received:
        steps.received(p, o);
        behind.push_back(sent[o.channel][o.token]);
        if (c.capacity == 0) before[sent[o.channel][o.token]].push_back(last[p]);  // both at once
        received[o.channel].push_back(last[p]);
        break;
      case Kind::ended:
        steps.drained(p, o.channel);
        for (const auto& [producer, n] : closed[o.channel]) behind.push_back(n);
        break;
      case Kind::done:
        if (todo[p][at[p] - 1].kind == Action::Kind::close) {
          steps.closed(p, o.channel);
          if (std::ranges::count(produces[p], o.channel) != 0) closed[o.channel].insert_or_assign(p, last[p]);
        } else {
          work(p);
        }
        break;
      default: break;
    }
  }

  void work(std::uint32_t p) {
    const std::vector<bool> seen = past(last[p]);
    const std::vector<std::uint64_t> settled = steps.settled();
    for (const Work& w : works) {
      CHECK_EQ(steps.before(w.process, w.step, p), static_cast<bool>(seen[w.node]));
      CHECK(seen[w.node] || settled[w.process] <= w.step);
      ++(seen[w.node] ? ordered : unordered);
    }
    works.push_back({p, steps.step(p), last[p]});
  }
};

std::vector<Action> some_actions(std::mt19937& rng, std::uint32_t channels, std::size_t n) {
  std::vector<Action> out;
  for (std::size_t i = 0; i < n; ++i) {
    const auto c = static_cast<std::uint32_t>(rng() % channels);
    switch (rng() % 16) {
      case 0: out.push_back({Action::Kind::close, c, 0}); break;
      case 1: out.push_back({Action::Kind::consume, c, 0}); break;
      case 2: out.push_back({Action::Kind::try_send, c, 0}); break;
      case 3:
      case 4:
      case 5: out.push_back({Action::Kind::receive, c, 0}); break;
      case 6:
      case 7:
      case 8: out.push_back({Action::Kind::send, c, 0}); break;
      default: out.push_back({Action::Kind::work, 0, rng() % 4}); break;
    }
  }
  return out;
}

void random_networks_are_ordered_as_their_graphs() {
  std::size_t ordered = 0, unordered = 0, blocked = 0;
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 rng(seed);
    std::vector<ChannelSpec> channels(1 + rng() % 4);
    for (ChannelSpec& c : channels) {
      c = {.capacity = rng() % 4, .latency = rng() % 3, .response = rng() % 3};
      if (rng() % 8 == 0) c.capacity = no_limit;
      c.initial = rng() % (std::min<std::uint64_t>(c.capacity, 2) + 1);
    }
    std::vector<std::vector<Action>> todo(2 + rng() % 4);
    std::vector<std::vector<std::uint32_t>> produces;
    for (auto& list : todo) {
      list = some_actions(rng, static_cast<std::uint32_t>(channels.size()), rng() % 40);
      std::vector<std::uint32_t>& to = produces.emplace_back();
      for (const Action& a : list)
        if ((a.kind == Action::Kind::send || a.kind == Action::Kind::try_send) && std::ranges::count(to, a.channel) == 0) to.push_back(a.channel);
    }
    Network network(channels);
    for (const auto& to : produces) network.add_process(to);
    Graph graph{.todo = std::move(todo), .channels = channels, .produces = produces};
    graph.begin();
    blocked += network.run(graph, 10'000) == Network::Status::blocked;
    ordered += graph.ordered;
    unordered += graph.unordered;
  }
  CHECK(ordered > 20'000 && unordered > 20'000 && blocked < 2000);
}

}  // namespace

int main() {
  what_was_handed_on_is_before();
  a_token_orders_what_came_before_it();
  a_rendezvous_orders_both_ways();
  a_token_of_the_beginning_orders_nothing();
  an_end_orders_all();
  random_networks_are_ordered_as_their_graphs();
  return check::result();
}
