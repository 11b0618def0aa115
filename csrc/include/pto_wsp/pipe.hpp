// A pipeline while it runs: a walker for each process, the network that says whose turn it is, and the tokens in its channels.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/network.hpp"
#include "pto_wsp/walker.hpp"

namespace pto_wsp {

/// The numbers of tokens on their way, the first in first out. Those that are there at first take no place.
class Tokens {
 public:
  explicit Tokens(std::size_t fields) : fields_(fields) {}

  /// A place for the fields of one more.
  std::span<std::uint64_t> push();
  /// Those of the first, until the next push.
  std::span<const std::uint64_t> pop();

 private:
  std::size_t fields_, first_ = 0, size_ = 0;  // in tokens
  std::vector<std::uint64_t> numbers_;         // of a power of two of tokens
};

class Pipe {
 public:
  struct Process {
    Walker walker;
    Walker::Event head = Walker::Event::end;  // what it does when its turn comes
    bool waits = false;                       // what it reads has been asked for
    std::uint64_t cycles = 0, cost = 0;       // of boundaries before the task, and of the task
    std::uint64_t retirement = 0;             // tasks up to that serial must be over before it uses memory
    std::vector<std::uint32_t> unclear;       // temporaries that are to become zeros then
  };

  /// Of a traced run: its number, when it began, in cycles since the outermost did, and when each process came to what it does.
  struct Watched {
    std::uint32_t pipeline = none;
    std::uint64_t begin = 0;
    std::vector<std::uint64_t> came;
  };

  /// The pipeline that `outer` has come to. `channels`: those of the pipeline.
  Pipe(const BoundPlan& plan, Walker& outer, std::span<const ChannelSpec> channels, const NetworkLimits& limits);

  const PipelineInfo& info() const { return *info_; }
  const Node& node() const { return *node_; }
  Walker& outer() { return outer_; }
  Network& network() { return network_; }
  const Network& network() const { return network_; }
  Process& process(std::uint32_t i) { return processes_[i]; }
  Process& process_in_turn() { return processes_[*network_.next()]; }
  const Walker& walker(std::uint32_t process) const { return processes_[process].walker; }
  const std::int64_t* outer_regs() const { return outer_.regs(); }
  Watched& watched() { return watched_; }
  const Watched& watched() const { return watched_; }

  /// Tells the walker of a process what has come of what it did. False: a number that it sends is none, see its failure().
  bool tell(Process& p, const ActionOutcome& outcome);
  /// The number of one buffer more than numbers go round in the channel, for Network::raise_with_token. Nothing is run: it begins again.
  void number_buffer(std::uint32_t channel);
  /// Which action of the network an event is that is none of the orchestrator's.
  static std::optional<Action::Kind> action(Walker::Event event);

  /// What it waits for for ever, as Failure::values has it.
  std::vector<std::int64_t> blocked() const;

 private:
  bool send(Walker& walker, const ActionOutcome& outcome);
  void receive(Walker& walker, const ActionOutcome& outcome);

  const Node* node_;
  const PipelineInfo* info_;
  std::span<const ChannelInfo> channels_;
  Walker& outer_;
  Network network_;
  std::vector<Process> processes_;
  std::vector<Tokens> tokens_;  // by channel
  Watched watched_;
};

/// What the plan says of its channels.
std::vector<ChannelSpec> channel_specs(const Plan& plan);
/// Throws invalid_argument where these, if there are any, cannot stand for the channels of the plan. `supposed`: where nothing is run,
/// channels with initial tokens may have more of them, whose numbers begin again: that many buffers.
void check_channels(const Plan& plan, std::span<const ChannelSpec> channels, bool supposed);

}  // namespace pto_wsp
