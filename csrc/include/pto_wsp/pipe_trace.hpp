// What a traced run tells of its pipelines: when each was elaborated, as which task of semantic time, and what its processes did with
// channels.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <unordered_map>
#include <vector>

#include "pto_wsp/clock.hpp"
#include "pto_wsp/network.hpp"
#include "pto_wsp/plan.hpp"

namespace pto_wsp {

inline constexpr std::uint64_t never = ~std::uint64_t{0};

/// Something that a process did beside its tasks. Cycles count from the beginning of the outermost pipeline.
struct TracedOperation {
  enum class Kind : std::uint8_t {
    send,
    receive,
    consume,   // a token was received
    ended,     // a consume is over: `went` is the last close
    close,
    try_send,  // a token was sent
    refused,   // a try_send found no room
    yes, no,   // to a query
    read,      // a scalar that tasks write; of no channel
    end,       // the process has ended; of no channel
  };
  std::uint32_t pipeline = 0, process = 0;  // which of PipeTrace::pipelines(), and of its processes
  std::uint32_t channel = none;             // counted from the first of the pipeline
  std::uint32_t origin = none;
  std::uint64_t token = 0;                  // of those that are sent and received
  std::uint64_t came = 0, went = never;     // it came to it, and went on; never: it waited for ever
  Kind kind = Kind::end;
};

/// A pipeline that was elaborated.
struct TracedPipeline {
  std::uint32_t origin = none;               // its node's
  std::uint32_t around = none, process = none;  // the pipeline whose process came to it, if one did
  std::uint32_t outermost = 0;               // of those around, or itself
  std::uint64_t begin = 0, end = never;      // cycles since the outermost began
  // Of the outermost: its task in semantic time.
  std::uint32_t window = 0, batch = no_batch;
  ClockLog::Issue issue{never, never, never, never, false, false};
  ClockLog::Task task{0, no_lane, never, never, never, never, 0};
};

/// Of one run. Not for several threads.
class PipeTrace {
 public:
  static constexpr std::uint64_t operations_per_task = 16;

  /// Keeps so many pipelines, and so many operations each on average.
  explicit PipeTrace(std::uint64_t limit) : limit_(limit) {}

  /// The channels that the run has.
  void set_channels(const std::vector<ChannelSpec>& channels) { channels_ = channels; }
  /// Which of pipelines() it is; none where there is no room. `around`: none for an outermost one, whose tasks have serials from `first` on.
  std::uint32_t begin(std::uint32_t origin, std::uint32_t around, std::uint32_t process, std::uint64_t cycles, std::uint64_t first);
  void end(std::uint32_t pipeline, std::uint64_t cycles);
  void add(const TracedOperation& operation);
  /// The clock is told of this one next, an outermost one.
  void issuing(std::uint32_t pipeline, const Placement& placement);
  /// It has been, and its tasks have serials up to `last`.
  void issued(std::uint32_t pipeline, ClockRef task, std::uint64_t last);
  /// False: it is no pipeline.
  bool issued(const ClockLog::Issue& issue);
  void completed(const ClockLog::Task& task);
  /// The outermost pipeline that something in semantic time is a part of.
  std::optional<std::uint32_t> find(ClockRef ref) const;

  const std::vector<ChannelSpec>& channels() const { return channels_; }
  const std::vector<TracedPipeline>& pipelines() const { return pipelines_; }
  const std::vector<TracedOperation>& operations() const { return operations_; }
  /// Pipelines and operations that there was no room for.
  std::uint64_t dropped() const { return dropped_; }
  /// The smallest limit that has room for all.
  std::uint64_t enough() const;

 private:
  static constexpr std::uint64_t open = std::numeric_limits<std::uint64_t>::max();
  // Serials of the tasks of an outermost one: none where `last` is below `first`.
  struct Tasks {
    std::uint64_t first, last = open;
    std::uint32_t pipeline = none;
    ClockRef issued{};
  };

  std::uint64_t limit_, dropped_ = 0, dropped_pipelines_ = 0;
  std::vector<ChannelSpec> channels_;
  std::vector<TracedPipeline> pipelines_;
  std::vector<TracedOperation> operations_;
  std::vector<Tasks> tasks_;                                  // in order
  std::optional<std::uint32_t> issuing_;
  std::unordered_map<std::uint64_t, std::uint32_t> in_flight_;  // by Issue::order
};

}  // namespace pto_wsp
