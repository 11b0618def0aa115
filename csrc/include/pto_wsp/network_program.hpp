// Networks whose processes are lists of operations with loops, in semantic time alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/network.hpp"

namespace pto_wsp {

/// `repeat` and `consume` begin a body, which the next `end` of that level ends.
enum class OpCode : std::uint8_t { work, send, receive, close, repeat, consume, end };

/// Process p is codes[first[p]] .. codes[first[p + 1]), each with a value: cycles, a channel, how often, or nothing.
struct ProcessLists {
  std::span<const std::uint64_t> first, codes, values;
};

/// Processes put into code in which every round of a loop does something. Who has a `send` of a channel in it produces for it, even
/// where that is never reached.
class NetworkProgram {
 public:
  /// Throws invalid_argument for lists that are none, or use channels that there are not.
  NetworkProgram(const ProcessLists& lists, std::span<const ChannelSpec> channels);

  std::size_t processes() const { return begin_.size(); }
  const std::vector<ChannelSpec>& channels() const { return channels_; }
  /// The channels that each process may send into.
  const std::vector<std::vector<std::uint32_t>>& produces() const { return produces_; }
  /// Who may receive from each channel.
  const std::vector<std::vector<std::uint32_t>>& consumers() const { return consumers_; }

 private:
  friend class ProgramSource;

  struct Instruction {
    enum class Kind : std::uint8_t { act, consume, loop, again, jump };
    Kind kind = Kind::act;
    Action::Kind action = Action::Kind::end;
    std::uint32_t arg = 0;      // a channel; the place of a loop's counter
    std::uint64_t value = 0;    // cycles; how often; where to go on
  };
  void compile(std::uint32_t process, std::span<const std::uint64_t> codes, std::span<const std::uint64_t> values);

  std::vector<ChannelSpec> channels_;
  std::vector<Instruction> code_;
  std::vector<std::uint64_t> begin_;           // of each process, its code
  std::vector<std::uint64_t> counters_;        // of each process, the first of its loops' counters
  std::uint64_t n_counters_ = 0;
  std::vector<std::vector<std::uint32_t>> produces_, consumers_;
};

struct NetworkOptions {
  NetworkLimits limits;
  std::uint64_t actions = no_limit;            // of a search for a remedy, in all that it runs; the end of a loop counts as one too
  bool times = true;                           // keep all times of sends and receives, as many as limits.times in all
  std::function<bool()> go_on = {};            // asked now and then; no: the simulation is given up
};

struct NetworkResult {
  struct Waiting {
    std::uint32_t process, channel;
    bool sends;
    std::uint64_t clock;
  };
  enum class Status : std::uint8_t { done, blocked, closed, limit, overflow, full, stopped };

  Status status = Status::done;                // full: too many times to keep; stopped: by go_on
  std::vector<std::uint64_t> clocks;           // of processes
  std::vector<std::uint64_t> sent, received;   // tokens of channels
  std::vector<std::vector<std::uint64_t>> sent_at, received_at;  // of channels, where options.times
  std::vector<Waiting> waiting;                // of blocked networks, in order of processes; of closed ones, who sends
  std::uint64_t latest = 0;                    // the largest clock
};

const char* name_of(NetworkResult::Status status);

/// Needs no lock.
NetworkResult simulate(const NetworkProgram& program, const NetworkOptions& options);

struct NetworkRemedy {
  /// done: `capacities` are there; blocked: no capacity helps; limit: nothing was found within the limits or most_raises; else as above
  NetworkResult::Status status = NetworkResult::Status::done;
  std::vector<std::uint64_t> capacities;       // of channels, with which the network is not blocked
};

inline constexpr std::uint64_t most_raises = std::uint64_t{1} << 20;

/// Raises the capacity of the channel that network_remedy.hpp names by one, until nothing is blocked, and the same from the start.
NetworkRemedy find_remedy(const NetworkProgram& program, const NetworkOptions& options);

}  // namespace pto_wsp
