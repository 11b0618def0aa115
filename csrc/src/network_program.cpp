#include "pto_wsp/network_program.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "pto_wsp/network_remedy.hpp"

namespace pto_wsp {

using Status = NetworkResult::Status;

namespace {

// Processes come in order.
void add_once(std::vector<std::uint32_t>& processes, std::uint32_t process) {
  if (processes.empty() || processes.back() != process) processes.push_back(process);
}

}  // namespace

const char* name_of(Status status) {
  switch (status) {
    case Status::done: return "done";
    case Status::blocked: return "blocked";
    case Status::closed: return "closed";
    case Status::limit: return "limit";
    case Status::overflow: return "overflow";
    case Status::full: return "full";
    case Status::stopped: return "stopped";
  }
  return "";
}

NetworkProgram::NetworkProgram(const ProcessLists& lists, std::span<const ChannelSpec> channels)
    : channels_(channels.begin(), channels.end()), consumers_(channels.size()) {
  const std::size_t n = lists.first.empty() ? 0 : lists.first.size() - 1;
  if (lists.codes.size() != lists.values.size()) throw std::invalid_argument("there must be one value for each code");
  for (const ChannelSpec& c : channels_)
    if (c.initial > c.capacity || c.latency >= end_of_time || c.response >= end_of_time || c.initial >= end_of_time)
      throw std::invalid_argument("a channel has more initial tokens than it holds, or takes too long");
  produces_.resize(n);
  for (std::size_t p = 0; p < n; ++p) {
    const std::uint64_t first = lists.first[p], last = lists.first[p + 1];
    if (first > last || last > lists.codes.size()) throw std::invalid_argument("the lists are not divided among the processes");
    compile(static_cast<std::uint32_t>(p), lists.codes.subspan(first, last - first), lists.values.subspan(first, last - first));
  }
}

void NetworkProgram::compile(std::uint32_t process, std::span<const std::uint64_t> codes, std::span<const std::uint64_t> values) {
  using Kind = Instruction::Kind;
  begin_.push_back(code_.size());
  counters_.push_back(n_counters_);
  std::vector<std::size_t> open;               // where bodies begin
  std::uint32_t depth = 0, deepest = 0;        // of loops
  const auto channel = [&](std::uint64_t c) {
    if (c >= channels_.size()) throw std::invalid_argument("there is no such channel");
    return static_cast<std::uint32_t>(c);
  };
  const auto act = [&](Action::Kind kind, std::uint32_t arg, std::uint64_t value) { code_.push_back({Kind::act, kind, arg, value}); };
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::uint64_t value = values[i];
    switch (codes[i]) {
      case static_cast<std::uint64_t>(OpCode::work):
        if (value >= end_of_time) throw std::invalid_argument("work takes too long");
        act(Action::Kind::work, 0, value);
        break;
      case static_cast<std::uint64_t>(OpCode::send):
        act(Action::Kind::send, channel(value), 0);
        produces_[process].push_back(channel(value));
        break;
      case static_cast<std::uint64_t>(OpCode::receive):
        act(Action::Kind::receive, channel(value), 0);
        add_once(consumers_[channel(value)], process);
        break;
      case static_cast<std::uint64_t>(OpCode::close): act(Action::Kind::close, channel(value), 0); break;
      case static_cast<std::uint64_t>(OpCode::repeat):
        open.push_back(code_.size());
        code_.push_back({Kind::loop, {}, depth++, value});
        deepest = std::max(deepest, depth);
        break;
      case static_cast<std::uint64_t>(OpCode::consume):
        open.push_back(code_.size());
        code_.push_back({Kind::consume, Action::Kind::consume, channel(value), 0});
        add_once(consumers_[channel(value)], process);
        break;
      case static_cast<std::uint64_t>(OpCode::end): {
        if (open.empty()) throw std::invalid_argument("there is no body to end");
        const std::size_t begin = open.back();
        open.pop_back();
        if (code_[begin].kind == Kind::consume) {
          code_.push_back({Kind::jump, {}, 0, begin});
          code_[begin].value = code_.size();
          break;
        }
        --depth;
        if (code_[begin].value == 0 || code_.size() == begin + 1)
          code_.resize(begin);                 // no round, or nothing in it
        else
          code_.push_back({Kind::again, {}, depth, begin + 1});
        break;
      }
      default: throw std::invalid_argument("there is no such operation");
    }
  }
  if (!open.empty()) throw std::invalid_argument("a body does not end");
  act(Action::Kind::end, 0, 0);
  n_counters_ += deepest;
  std::vector<std::uint32_t>& made = produces_[process];
  std::ranges::sort(made);
  made.erase(std::unique(made.begin(), made.end()), made.end());
}

/// What the processes of a program do, and the times that it is told.
class ProgramSource {
 public:
  ProgramSource(const NetworkProgram& program, bool times, std::uint64_t most) : program_(program), at_(program.begin_), counters_(program.n_counters_) {
    if (!times) return;
    room_ = most;
    sent_at.resize(program.channels().size());
    received_at.resize(program.channels().size());
    for (std::size_t c = 0; c < sent_at.size(); ++c) {
      take(program.channels()[c].initial);
      sent_at[c].resize(program.channels()[c].initial);
    }
  }

  void watch(const Network& network) { network_ = &network; }

  Action next(std::uint32_t process, const ActionOutcome& outcome) {
    using Kind = NetworkProgram::Instruction::Kind;
    std::uint64_t& at = at_[process];
    if (outcome.kind == ActionOutcome::Kind::ended)
      at = program_.code_[at].value;
    else if (outcome.kind != ActionOutcome::Kind::started)
      ++at;
    if (!sent_at.empty()) record(process, outcome);
    ++actions_;
    while (true) {
      const NetworkProgram::Instruction& i = program_.code_[at];
      switch (i.kind) {
        case Kind::act:
        case Kind::consume: return {i.action, i.arg, i.value};
        case Kind::loop:
          counter(process, i.arg) = i.value;
          ++at;
          break;
        case Kind::again: at = --counter(process, i.arg) != 0 ? i.value : at + 1; break;
        case Kind::jump: at = i.value; break;
      }
    }
  }

  /// That are over, of all processes, and how often these began.
  std::uint64_t actions() const { return actions_; }

  std::vector<std::vector<std::uint64_t>> sent_at, received_at;

 private:
  std::uint64_t& counter(std::uint32_t process, std::uint32_t place) { return counters_[program_.counters_[process] + place]; }

  void record(std::uint32_t process, const ActionOutcome& outcome) {
    if (outcome.kind != ActionOutcome::Kind::sent && outcome.kind != ActionOutcome::Kind::received) return;
    take(1);
    (outcome.kind == ActionOutcome::Kind::sent ? sent_at : received_at)[outcome.channel].push_back(network_->clock(process));
  }

  void take(std::uint64_t times) {
    if (times > room_) throw std::length_error("too many times to keep");
    room_ -= times;
  }

  const NetworkProgram& program_;
  const Network* network_ = nullptr;
  std::uint64_t room_ = 0, actions_ = 0;
  std::vector<std::uint64_t> at_, counters_;
};

namespace {

constexpr std::uint64_t actions_at_once = std::uint64_t{1} << 18;

Network network_of(const NetworkProgram& program, std::span<const ChannelSpec> channels, const NetworkLimits& limits) {
  Network network(channels, limits);
  for (const std::vector<std::uint32_t>& channels_of : program.produces()) network.add_process(channels_of);
  return network;
}

// Makes `actions` at most, and takes off as many as it has made.
Status run(Network& network, ProgramSource& source, const NetworkOptions& options, std::uint64_t& actions) {
  while (actions != 0) {
    const std::uint64_t before = source.actions();
    const Network::Status status = network.run(source, std::min(actions_at_once, actions));
    actions -= std::min(actions, source.actions() - before);
    switch (status) {
      case Network::Status::running: break;
      case Network::Status::done: return Status::done;
      case Network::Status::blocked: return Status::blocked;
      case Network::Status::closed: return Status::closed;
      case Network::Status::limit: return Status::limit;
      case Network::Status::overflow: return Status::overflow;
      case Network::Status::asks: throw std::logic_error("a list of operations asks for nothing");
    }
    if (options.go_on && !options.go_on()) return Status::stopped;
  }
  return Status::limit;
}

NetworkResult::Waiting waiting(const Network& network, std::uint32_t process) {
  const Action& action = network.action(process);
  return {process, action.channel, action.kind == Action::Kind::send, network.clock(process)};
}

NetworkResult simulated(const NetworkProgram& program, const NetworkOptions& options) {
  NetworkResult out;
  Network network = network_of(program, program.channels(), options.limits);
  ProgramSource source(program, options.times, options.limits.times);
  source.watch(network);
  std::uint64_t actions = no_limit;
  out.status = run(network, source, options, actions);
  out.latest = network.latest();
  if (out.status == Status::closed) out.waiting.push_back(waiting(network, network.offender()));
  for (std::uint32_t p = 0; p < program.processes(); ++p) {
    out.clocks.push_back(network.clock(p));
    if (out.status == Status::blocked && !network.ended(p)) out.waiting.push_back(waiting(network, p));
  }
  for (std::uint32_t c = 0; c < program.channels().size(); ++c) {
    out.sent.push_back(network.sent(c));
    out.received.push_back(network.received(c));
  }
  out.sent_at = std::move(source.sent_at);
  out.received_at = std::move(source.received_at);
  return out;
}

// Raises a network that runs with `channels`, and those, until it is not blocked. Counts `raises` up, and `actions` down.
Status raised(const NetworkProgram& program, const NetworkOptions& options, std::vector<ChannelSpec>& channels, std::uint64_t& raises,
              std::uint64_t& actions) {
  Network network = network_of(program, channels, options.limits);
  ProgramSource source(program, false, 0);
  source.watch(network);
  Status status = run(network, source, options, actions);
  for (; status == Status::blocked; ++raises) {
    if (options.go_on && !options.go_on()) return Status::stopped;  // of many channels, each search for one takes long
    const std::optional<std::uint32_t> channel = channel_to_raise(network, program.produces(), program.consumers(), {});
    if (!channel) return Status::blocked;
    if (raises == most_raises) return Status::limit;
    network.raise(source, *channel);
    ++channels[*channel].capacity;
    status = run(network, source, options, actions);
  }
  return status;
}

}  // namespace

NetworkResult simulate(const NetworkProgram& program, const NetworkOptions& options) {
  try {
    return simulated(program, options);
  } catch (const std::length_error&) {
    return {.status = Status::full, .clocks = {}, .sent = {}, .received = {}, .sent_at = {}, .received_at = {}, .waiting = {}};
  }
}

NetworkRemedy find_remedy(const NetworkProgram& program, const NetworkOptions& options) {
  std::vector<ChannelSpec> channels = program.channels();
  std::uint64_t raises = 0, before = 0, actions = options.actions;
  NetworkRemedy out;
  try {
    do {  // where the order of tokens depends on time, what sufficed for the one does not for the other
      before = raises;
      out.status = raised(program, options, channels, raises, actions);
    } while (raises != before && (out.status == Status::done || out.status == Status::closed));
  } catch (const std::length_error&) {
    out.status = Status::full;
  }
  if (out.status == Status::closed) out.status = Status::done;  // another mistake, and no deadlock
  for (const ChannelSpec& c : channels) out.capacities.push_back(c.capacity);
  return out;
}

}  // namespace pto_wsp
