// Networks of processes and channels: what a source is told and when, limits, what is kept, and what would help a deadlock.
#include <algorithm>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "pto_wsp/network.hpp"
#include "pto_wsp/network_program.hpp"
#include "pto_wsp/network_remedy.hpp"
#include "pto_wsp/plan.hpp"

using namespace pto_wsp;

namespace {

using Status = NetworkResult::Status;
constexpr std::uint64_t plenty = 1'000'000;

Action work(std::uint64_t cycles) { return {Action::Kind::work, 0, cycles}; }
Action send(std::uint32_t c) { return {Action::Kind::send, c, 0}; }
Action receive(std::uint32_t c) { return {Action::Kind::receive, c, 0}; }
Action consume(std::uint32_t c) { return {Action::Kind::consume, c, 0}; }
Action close(std::uint32_t c) { return {Action::Kind::close, c, 0}; }

// Processes that do one thing after another, whatever becomes of it, and a line for each thing that they are told.
struct Script {
  std::vector<std::vector<Action>> todo;
  const Network* network = nullptr;
  std::vector<std::size_t> at = std::vector<std::size_t>(todo.size());
  std::vector<std::string> told = {};

  Action next(std::uint32_t p, const ActionOutcome& o) {
    static const char* const names[] = {"start", "done", "sent", "received", "ended"};
    std::string line = std::to_string(p) + " " + names[static_cast<int>(o.kind)];
    if (o.kind == ActionOutcome::Kind::sent || o.kind == ActionOutcome::Kind::received) line += " " + std::to_string(o.token);
    told.push_back(line + " @" + std::to_string(network->clock(p)));
    return at[p] < todo[p].size() ? todo[p][at[p]++] : Action{};
  }
};

struct Run {
  Network network;
  Script script;
  Network::Status status = Network::Status::running;

  Run(std::vector<ChannelSpec> channels, std::vector<std::vector<Action>> todo, std::uint64_t at_once = plenty, const NetworkLimits& limits = {})
      : network(channels, limits), script{std::move(todo)} {
    script.network = &network;
    for (const std::vector<Action>& list : script.todo) {
      std::vector<std::uint32_t> produces;
      for (const Action& a : list)
        if (a.kind == Action::Kind::send && std::ranges::count(produces, a.channel) == 0) produces.push_back(a.channel);
      network.add_process(produces);
    }
    while (status == Network::Status::running) status = network.run(script, at_once);
  }
};

using Lines = std::vector<std::string>;

void sources_are_told_in_order() {
  // The receiver comes first, then the sender; the sender of a token is told before who gets it.
  const Run late({{.capacity = 1, .latency = 2}}, {{receive(0)}, {work(5), send(0)}});
  CHECK(late.status == Network::Status::done);
  CHECK(late.script.told == Lines({"0 start @0", "1 start @0", "1 done @5", "1 sent 0 @5", "0 received 0 @7"}));
  // A token leaves the channel before the next takes its place.
  const Run full({{.capacity = 1, .response = 3}}, {{send(0), send(0)}, {work(4), receive(0), receive(0)}});
  CHECK(full.script.told == Lines({"0 start @0", "1 start @0", "0 sent 0 @0", "1 done @4", "1 received 0 @4", "0 sent 1 @7", "1 received 1 @7"}));
  for (const bool sender_first : {false, true}) {
    const std::vector<Action> s{work(sender_first ? 1 : 6), send(0)}, r{work(sender_first ? 6 : 1), receive(0)};
    const Run met({{.capacity = 0, .latency = 1}}, {r, s});
    CHECK((Lines{met.script.told.end() - 2, met.script.told.end()}) == Lines({"1 sent 0 @7", "0 received 0 @7"}));
  }
}

void consumers_are_told_the_end() {
  const Run ends({{.capacity = 2, .initial = 1}}, {{work(9), send(0), work(1)}, {consume(0), consume(0), consume(0), close(0), work(1)}});
  CHECK(ends.status == Network::Status::done);
  CHECK((Lines{ends.script.told.begin() + 2, ends.script.told.end()}) ==
        Lines({"0 done @9", "1 received 0 @0", "0 sent 1 @9", "1 received 1 @9", "0 done @10", "1 ended @9", "1 done @10", "1 done @11"}));
  // Nobody produces for it: closed from the start.
  const Run never({{}}, {{consume(0), work(3)}});
  CHECK(never.script.told == Lines({"0 start @0", "0 ended @0", "0 done @3"}));
  const Run closed({{}}, {{send(0), close(0), close(0), send(0)}, {receive(0)}});
  CHECK(closed.status == Network::Status::closed && closed.network.offender() == 0);
  CHECK(!closed.network.may_send(0, 0) && !closed.network.may_send(1, 0));
}

// Payloads in as many places as the channel has: each token finds its own.
void payloads_need_no_more_room_than_the_channel() {
  struct Payloads {
    std::uint64_t depth, n;
    std::vector<std::uint64_t> places = std::vector<std::uint64_t>(depth), done = {0, 0};

    Action next(std::uint32_t p, const ActionOutcome& o) {
      if (o.kind == ActionOutcome::Kind::sent) places[o.token % depth] = o.token;
      if (o.kind == ActionOutcome::Kind::received) CHECK_EQ(places[o.token % depth], o.token);
      if (o.kind == ActionOutcome::Kind::started || o.kind == ActionOutcome::Kind::done) return p == 0 ? send(0) : receive(0);
      return ++done[p] == n ? Action{} : work(o.token * (p + 3) % 5);
    }
  };
  for (const std::uint64_t depth : {1, 2, 5}) {
    const std::vector<ChannelSpec> channels{{.capacity = depth}};
    const std::vector<std::uint32_t> produces{0};
    Network network(channels);
    network.add_process(produces);
    network.add_process({});
    Payloads source{depth, 1000};
    CHECK(network.run(source, plenty) == Network::Status::done);
    CHECK(network.sent(0) == 1000 && network.received(0) == 1000);
  }
}

void runs_go_on_where_they_stopped() {
  const std::vector<std::vector<Action>> todo{{work(2), send(0), send(1), close(0), work(1)}, {consume(0), receive(1), consume(0), work(4)}};
  const Run whole({{}, {.capacity = 0}}, todo);
  for (const std::uint64_t at_once : {1, 2, 3}) {
    const Run parts({{}, {.capacity = 0}}, todo, at_once);
    CHECK(parts.script.told == whole.script.told && parts.status == Network::Status::done);
  }
  Network network({});
  Script nothing{{}};
  CHECK(network.run(nothing, 0) == Network::Status::running);
  CHECK(network.run(nothing, 1) == Network::Status::done && network.latest() == 0);
}

// Processes at one cycle act in order of their numbers, waiting requests are granted in order of (clock, process).
void requests_in_order() {
  const Run run({{.capacity = 1}}, {{work(3), receive(0)}, {work(1), receive(0)}, {work(1), receive(0)}, {work(9), send(0), send(0), send(0)}});
  CHECK((Lines{run.script.told.begin() + 8, run.script.told.end()}) ==
        Lines({"3 sent 0 @9", "1 received 0 @9", "3 sent 1 @9", "2 received 1 @9", "3 sent 2 @9", "0 received 2 @9"}));
}

void a_blocked_network_says_who_waits() {
  Run run({{.capacity = 2}, {.capacity = 0}}, {{work(1), send(0), send(0), send(0), send(1)}, {receive(1), receive(0)}, {}});
  const Network& n = run.network;
  CHECK(run.status == Network::Status::blocked);
  CHECK(!n.ended(0) && !n.ended(1) && n.ended(2) && n.clock(0) == 1);
  CHECK(n.senders_wait(0) && n.waiting(0) == 1 && !n.senders_wait(1) && n.waiting(1) == 1);
  CHECK(n.action(0).kind == Action::Kind::send && n.action(0).channel == 0 && n.sent(0) - n.received(0) == n.capacity(0));
  const std::vector<std::vector<std::uint32_t>> produces{{0, 1}, {}, {}}, consumers{{1}, {1}};
  CHECK(channel_to_raise(n, produces, consumers, {}) == 0u);
  run.network.raise(run.script, 0);
  CHECK(run.network.run(run.script, plenty) == Network::Status::done);
  CHECK(n.capacity(0) == 3 && n.sent(0) == 3 && n.received(0) == 1);
}

void a_raised_rendezvous_holds_a_token() {
  Run run({{.capacity = 0}, {}}, {{send(0), send(0), send(1)}, {receive(1), receive(0), receive(0)}});
  const std::vector<std::vector<std::uint32_t>> produces{{0, 1}, {}}, consumers{{1}, {1}};
  for (int raises = 0; raises < 2; ++raises) {
    CHECK(run.network.run(run.script, plenty) == Network::Status::blocked);
    CHECK(channel_to_raise(run.network, produces, consumers, {}) == 0u);
    run.network.raise(run.script, 0);
  }
  CHECK(run.network.run(run.script, plenty) == Network::Status::done && run.network.capacity(0) == 2);
}

// Numbers of buffers go round in channel 1; two are held before the first comes back.
void a_channel_with_buffers_is_raised_for_who_waits_for_one() {
  Run run({{.capacity = 0}, {.capacity = 1, .initial = 1}}, {{receive(1), send(0), receive(1), work(3), send(0)}, {receive(0), receive(0), send(1), send(1)}});
  const Network& n = run.network;
  const std::vector<std::vector<std::uint32_t>> produces{{0}, {1}}, consumers{{1}, {0}};
  const std::vector<std::uint32_t> buffers{1, none};
  CHECK(run.status == Network::Status::blocked && n.action(0).channel == 1);
  CHECK(!channel_to_raise(n, produces, consumers, {}));
  CHECK(channel_to_raise(n, produces, consumers, buffers) == 0u);
  run.network.raise(run.script, 0);
  CHECK(run.network.run(run.script, plenty) == Network::Status::blocked && n.capacity(0) == 1);
  run.network.raise_with_token(run.script, 1);
  CHECK(n.clock(0) == 0 && run.script.told.back() == "0 received 1 @0");
  CHECK(run.network.run(run.script, plenty) == Network::Status::done);
  CHECK(n.capacity(1) == 2 && n.initial(1) == 1 && n.sent(1) - n.received(1) == 2);
}

// What comes behind tokens that are there is received behind them, and who waits to send goes on waiting.
void a_token_more_comes_last() {
  Run run({{.capacity = 1}, {}}, {{work(5), send(0), send(0), send(1)}, {receive(1), receive(0), receive(0), receive(0)}});
  CHECK(run.status == Network::Status::blocked && run.network.senders_wait(0));
  run.network.raise_with_token(run.script, 0);
  CHECK(run.network.waiting(0) == 1 && run.network.sent(0) == 2);
  run.network.raise(run.script, 0);
  CHECK(run.network.run(run.script, plenty) == Network::Status::done);
  CHECK((Lines{run.script.told.end() - 3, run.script.told.end()}) == Lines({"1 received 0 @5", "1 received 1 @5", "1 received 2 @5"}));
}

void limits_of_cycles_and_actions() {
  const std::vector<std::vector<Action>> idle{std::vector<Action>(10, work(0)), {work(7)}};
  NetworkLimits limits;
  limits.idle_actions = 11;
  CHECK(Run({}, idle, 1, limits).status == Network::Status::done);
  limits.idle_actions = 10;  // process 1 does not get its turn
  CHECK(Run({}, idle, 1, limits).status == Network::Status::limit);
  limits = {.cycles = 7};
  CHECK(Run({}, idle, plenty, limits).status == Network::Status::done);
  limits.cycles = 6;
  const Run beyond({}, idle, plenty, limits);
  CHECK(beyond.status == Network::Status::limit && beyond.network.latest() == 7);
}

void time_does_not_wrap_around() {
  constexpr std::uint64_t most = end_of_time - 1;
  CHECK(Run({}, {{work(most)}}).status == Network::Status::done);
  CHECK(Run({}, {{work(most), work(1)}}).status == Network::Status::overflow);
  CHECK(Run({}, {{work(most), work(most)}}).status == Network::Status::overflow);
  CHECK(Run({{.capacity = 1, .latency = most}}, {{work(most), send(0)}}).status == Network::Status::done);
  CHECK(Run({{.capacity = 1, .latency = most}}, {{work(most), send(0)}, {receive(0)}}).status == Network::Status::overflow);
  CHECK(Run({{.capacity = 1, .response = most}}, {{send(0), send(0)}, {work(most), receive(0)}}).status == Network::Status::overflow);
  CHECK(Run({{.capacity = 0, .latency = most}}, {{work(most), send(0)}, {receive(0)}}).status == Network::Status::overflow);
}

struct Lists {
  std::vector<std::uint64_t> first{0}, codes, values;

  Lists& add(OpCode code, std::uint64_t value = 0) {
    codes.push_back(static_cast<std::uint64_t>(code));
    values.push_back(value);
    return *this;
  }
  Lists& process() {
    first.push_back(codes.size());
    return *this;
  }
  ProcessLists lists() const { return {first, codes, values}; }
};

Lists pipeline(std::uint64_t n, std::uint64_t made_in, std::uint64_t used_in) {
  Lists l;
  l.add(OpCode::repeat, n).add(OpCode::work, made_in).add(OpCode::send, 0).add(OpCode::end).process();
  return l.add(OpCode::consume, 0).add(OpCode::work, used_in).add(OpCode::end).process();
}

NetworkResult simulated(const Lists& lists, const std::vector<ChannelSpec>& channels, const NetworkOptions& options = {}) {
  return simulate(NetworkProgram(lists.lists(), channels), options);
}

void programs_run() {
  const NetworkResult r = simulated(pipeline(4, 10, 30), {{}});
  CHECK(r.status == Status::done && r.latest == 130);
  CHECK(r.clocks == std::vector<std::uint64_t>({70, 130}));
  CHECK(r.sent_at[0] == std::vector<std::uint64_t>({10, 20, 40, 70}) && r.received_at[0] == std::vector<std::uint64_t>({10, 40, 70, 100}));
  CHECK(r.sent == std::vector<std::uint64_t>({4}) && r.received == r.sent);
  Lists nested;
  nested.add(OpCode::repeat, 3).add(OpCode::repeat, 0).add(OpCode::work, 9).add(OpCode::end).add(OpCode::repeat, 5).add(OpCode::end);
  nested.add(OpCode::repeat, 2).add(OpCode::work, 1).add(OpCode::end).add(OpCode::work, 4).add(OpCode::end).process();
  CHECK_EQ(simulated(nested, {}).latest, 3 * (2 + 4));
}

// What is kept does not grow with the rounds, where times are left out; without a bound, the tokens that nobody has received yet do.
void memory_is_for_what_is_in_channels() {
  NetworkOptions options;
  options.times = false;
  options.limits.times = 32;
  for (const std::uint64_t capacity : {1, 8}) CHECK(simulated(pipeline(100'000, 2, 3), {{.capacity = capacity}}, options).latest == 300'002);
  CHECK(simulated(pipeline(100'000, 3, 2), {{.capacity = no_limit}}, options).status == Status::done);
  CHECK(simulated(pipeline(100'000, 1, 9), {{.capacity = no_limit}}, options).status == Status::full);
  CHECK(simulated(pipeline(1, 1, 9), {{.capacity = end_of_time - 1, .initial = end_of_time - 2}}, options).status == Status::full);
  options.times = true;
  CHECK(simulated(pipeline(16, 1, 1), {{}}, options).status == Status::done);
  CHECK(simulated(pipeline(17, 1, 1), {{}}, options).status == Status::full);
  CHECK(simulated({}, {{.capacity = 40, .initial = 33}}, options).status == Status::full);
}

void simulations_are_given_up() {
  NetworkOptions options;
  options.times = false;
  int asked = 0;
  options.go_on = [&] { return ++asked < 3; };
  CHECK(simulated(pipeline(end_of_time, 1, 1), {{}}, options).status == Status::stopped);
  CHECK_EQ(asked, 3);
  options.go_on = [] { return false; };
  CHECK(find_remedy(NetworkProgram(pipeline(end_of_time, 1, 1).lists(), std::vector<ChannelSpec>(1)), options).status == Status::stopped);
  for (const Status s : {Status::done, Status::blocked, Status::closed, Status::limit, Status::overflow, Status::full, Status::stopped})
    CHECK(!std::string(name_of(s)).empty());
}

void remedies() {
  Lists crossed;
  crossed.add(OpCode::repeat, 6).add(OpCode::send, 0).add(OpCode::end).add(OpCode::send, 1).process();
  crossed.add(OpCode::receive, 1).add(OpCode::repeat, 6).add(OpCode::receive, 0).add(OpCode::end).process();
  const auto remedy = [](const Lists& l, const std::vector<ChannelSpec>& channels) { return find_remedy(NetworkProgram(l.lists(), channels), {}); };
  NetworkRemedy found = remedy(crossed, {{}, {.capacity = 0}});
  CHECK(found.status == Status::done && found.capacities == std::vector<std::uint64_t>({6, 0}));
  found = remedy(crossed, {{.capacity = no_limit}, {}});
  CHECK(found.status == Status::done && found.capacities == std::vector<std::uint64_t>({no_limit, 1}));
  Lists waits;
  waits.add(OpCode::receive, 0).process();
  CHECK(remedy(waits, {{}}).status == Status::blocked);
  // Two tokens that go round for ever, once there is room for both.
  Lists round;
  round.add(OpCode::repeat, 2).add(OpCode::send, 0).add(OpCode::end).add(OpCode::consume, 1).add(OpCode::work, 5).add(OpCode::send, 0).add(OpCode::end).process();
  round.add(OpCode::send, 1).add(OpCode::consume, 0).add(OpCode::work, 6).add(OpCode::send, 1).add(OpCode::end).process();
  NetworkOptions bounded;
  bounded.actions = 1000;
  const std::vector<ChannelSpec> ring{{}, {.initial = 1}};
  CHECK(find_remedy(NetworkProgram(round.lists(), ring), bounded).status == Status::limit);
  bounded.actions = 0;
  CHECK(find_remedy(NetworkProgram(crossed.lists(), std::vector<ChannelSpec>(2)), bounded).status == Status::limit);
}

void wrong_lists_are_refused() {
  const std::vector<ChannelSpec> one(1);
  const auto refused = [&](const Lists& l, const std::vector<ChannelSpec>& channels) {
    CHECK_THROWS(std::invalid_argument, NetworkProgram(l.lists(), channels));
  };
  refused(Lists().add(OpCode::send, 1).process(), one);
  refused(Lists().add(OpCode::receive, 1).process(), one);
  refused(Lists().add(OpCode::close, end_of_time).process(), one);
  refused(Lists().add(OpCode::consume, 1).add(OpCode::end).process(), one);
  refused(Lists().add(OpCode::consume, 0).process(), one);
  refused(Lists().add(OpCode::repeat, 2).process().add(OpCode::end).process(), one);
  refused(Lists().add(OpCode::end).process(), one);
  refused(Lists().add(OpCode::work, end_of_time).process(), one);
  refused(Lists().add(static_cast<OpCode>(7)).process(), one);
  Lists l = Lists().add(OpCode::work, 1).process();
  l.first = {0, 2};
  refused(l, one);
  l.first = {1, 0};
  refused(l, one);
  l.first = {0, 1};
  l.values.clear();
  refused(l, one);
  refused({}, {{.capacity = 1, .initial = 2}});
  refused({}, {{.latency = end_of_time}});
  refused({}, {{.response = end_of_time}});
  refused({}, {{.capacity = no_limit, .initial = end_of_time}});
}

// Whatever lists there are: no memory but their own is touched, and pieces give what the whole does.
void random_lists() {
  std::mt19937_64 random(5);
  const auto below = [&](std::uint64_t n) { return random() % n; };
  std::vector<int> seen(7);
  for (int round = 0; round < 3000; ++round) {
    std::vector<ChannelSpec> channels;
    for (std::uint64_t c = 0, n = 1 + below(3); c < n; ++c) {
      const std::uint64_t capacity = below(5) == 0 ? no_limit : below(4);
      channels.push_back({capacity, below(3), below(3), capacity == 0 ? 0 : below(2)});
    }
    Lists l;
    for (std::uint64_t p = 0, n = below(5); p < n; ++p) {
      std::uint64_t depth = 0;
      for (std::uint64_t i = 0, size = below(9); i < size; ++i) {
        const auto code = static_cast<OpCode>(below(7));
        if (code == OpCode::end && depth == 0) continue;
        depth += code == OpCode::repeat || code == OpCode::consume;
        depth -= code == OpCode::end;
        l.add(code, code == OpCode::work || code == OpCode::repeat ? below(4) : below(channels.size()));
      }
      for (; depth != 0; --depth) l.add(OpCode::end);
      l.process();
    }
    NetworkOptions options;
    options.limits.idle_actions = 100;
    options.limits.cycles = 1000;
    const NetworkResult r = simulated(l, channels, options);
    ++seen[static_cast<std::size_t>(r.status)];
    for (std::size_t c = 0; c < channels.size(); ++c) {
      CHECK(r.received[c] <= r.sent[c] && r.sent[c] - r.received[c] <= channels[c].capacity);
      if (r.status != Status::limit) CHECK(r.sent_at[c].size() == r.sent[c] && r.received_at[c].size() == r.received[c]);
    }
    const NetworkRemedy found = find_remedy(NetworkProgram(l.lists(), channels), options);
    if (found.status != Status::done) continue;
    for (std::size_t c = 0; c < channels.size(); ++c) channels[c].capacity = found.capacities[c];
    CHECK(simulated(l, channels, options).status != Status::blocked);
  }
  for (const Status s : {Status::done, Status::blocked, Status::closed, Status::limit}) CHECK(seen[static_cast<std::size_t>(s)] > 0);
}

}  // namespace

int main() {
  sources_are_told_in_order();
  consumers_are_told_the_end();
  payloads_need_no_more_room_than_the_channel();
  runs_go_on_where_they_stopped();
  requests_in_order();
  a_blocked_network_says_who_waits();
  a_raised_rendezvous_holds_a_token();
  a_channel_with_buffers_is_raised_for_who_waits_for_one();
  a_token_more_comes_last();
  limits_of_cycles_and_actions();
  time_does_not_wrap_around();
  programs_run();
  memory_is_for_what_is_in_channels();
  simulations_are_given_up();
  remedies();
  wrong_lists_are_refused();
  random_lists();
  return check::result();
}
