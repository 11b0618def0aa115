// Whether processes of a pipeline touch common elements without an order: vector clocks along the order in which they act.
//
// A process is cut into steps, at each token that it hands on or takes. What it does is before what another one does where tokens
// lead from that step to there, or the room that a receive leaves for a later send, or a channel that is closed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/boxes.hpp"
#include "pto_wsp/network.hpp"

namespace pto_wsp {

/// Of processes, how many of their first steps are before.
class Past {
 public:
  std::uint64_t steps(std::uint32_t process) const;
  void raise(std::uint32_t process, std::uint64_t steps);
  void join(const Past& other);
  template <class F>
  void each(F&& f) const {
    for (const Entry& e : entries_) f(e.process, e.steps);
  }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    std::uint32_t process;
    std::uint64_t steps;
  };
  std::vector<Entry> entries_;  // by process
};

/// The steps of the processes of one pipeline. Told what their actions have led to, as processes are: of a token its sender first,
/// then its receiver, then who sends into the room that it leaves.
class Steps {
 public:
  /// `produces`: by process the channels that it may send into.
  Steps(std::span<const ChannelSpec> channels, std::span<const std::vector<std::uint32_t>> produces);

  void sent(std::uint32_t process, const ActionOutcome& outcome);
  void received(std::uint32_t process, const ActionOutcome& outcome);
  void closed(std::uint32_t process, std::uint32_t channel);
  /// There is nothing left to consume.
  void drained(std::uint32_t process, std::uint32_t channel);
  void ended(std::uint32_t process);

  std::uint64_t step(std::uint32_t process) const { return processes_[process].step; }
  /// Whether step `step` of a process is before what another one, or itself, does now.
  bool before(std::uint32_t process, std::uint64_t step, std::uint32_t other) const {
    return process == other || processes_[other].past.steps(process) > step;
  }
  /// Of each process how many steps are before whatever another one may still do.
  std::vector<std::uint64_t> settled() const;
  /// What that takes to find out.
  std::size_t entries() const;

 private:
  struct Process {
    Past past;
    std::uint64_t step = 0;
    bool ended = false;
  };
  // Pasts on their way, the first in first out.
  class Queue {
   public:
    Past& push();
    const Past& pop();  // until the next push

   private:
    std::vector<Past> pasts_;  // as many as a power of two
    std::size_t first_ = 0, size_ = 0;
  };
  struct Close {
    std::uint32_t process;
    bool said = false;  // before its end
    Past past{};
  };
  struct Channel {
    std::uint64_t capacity, initial;
    Queue tokens{}, rooms{};
    std::uint32_t sender = 0;      // of a rendezvous
    std::vector<Close> closes{};   // by producer
  };

  const Past& give(std::uint32_t process);

  std::vector<Process> processes_;
  std::vector<Channel> channels_;
};

/// Two accesses of an element by processes `first` and `second` of a pipeline, of which one writes.
struct Race {
  struct Access {
    std::uint32_t process = 0;
    bool writes = false;
    std::int64_t site = -1, origin = -1;  // of a task; of a scalar that is read
    std::vector<std::int64_t> coords{};
  };
  std::uint32_t pipeline = 0, tensor = 0;
  std::vector<std::int64_t> element{};
  Access first{}, second{};

  /// As Failure::values has it.
  std::vector<std::int64_t> values() const;
};

/// Of each element that several processes use: who wrote it last, and who has read it since and is not before a later reader. What
/// came earlier is before one of these.
class Races {
 public:
  /// `checked`: by pipeline of the plan; those inside of one that is checked are too. Empty: none is.
  void prepare(const BoundPlan& plan, const std::vector<bool>& checked);
  void trim();

  /// Whether a pipeline, which is not inside of another, is checked.
  bool checks(std::uint32_t pipeline) const { return pipeline < checked_.size() && checked_[pipeline]; }
  /// A pipeline begins, in a process of the one around it; and ends.
  void enter(std::uint32_t pipeline, std::span<const ChannelSpec> channels, std::uint32_t process);
  void leave();
  /// Of the innermost pipeline.
  Steps& steps() { return levels_.back().steps; }

  /// A task of a process, or a scalar that it reads. False: race().
  bool task(std::uint32_t process, const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices);
  bool read(std::uint32_t process, const Node& node, const TrackedView& view, const std::int64_t* regs);
  const Race& race() const { return *race_; }

 private:
  // Where something is done: in a run of a pipeline, at a step of a process.
  struct Point {
    std::uint64_t run;
    std::uint32_t process;
    std::uint64_t step;
  };
  struct Level {
    std::uint32_t pipeline;
    Point point;  // of what is done now
    Steps steps;
  };
  struct Access {
    std::uint32_t uses = 0;  // by entries of tensors
    std::int64_t site = -1, origin = -1;
    std::vector<Point> points{};  // from the outermost pipeline on
    std::vector<std::int64_t> coords{};
  };
  struct Known {
    BoxIndex index;
    std::size_t tidy_at = 0;  // entries
  };
  struct Tensor {
    bool shared = false, touched = false;
    Known writes, reads;
  };

  void find_shared(std::uint32_t node, std::uint32_t process, std::vector<std::uint32_t>& users, std::vector<bool>& written);
  void begin(std::uint32_t process);
  bool finish();
  bool touch(const TrackedView& view, const std::int64_t* regs, const std::int64_t* indices, std::span<const BoundGather> gathers);
  bool touch(std::uint32_t tensor, const Box& box, bool writes);
  std::optional<std::size_t> unordered(const Access& earlier) const;
  bool look(const BoxIndex::Entry& entry, std::uint32_t tensor, const Box& box, bool wrote, bool writes);
  Race::Access told(const Access& access, std::size_t level, bool writes) const;
  void tidy(Known& known);
  // The access that an entry of a tensor is of: its number + 1 stands for the task.
  const Access& of(const BoxIndex::Entry& entry) const { return accesses_[entry.task.serial - 1]; }
  bool settled(const Access& access) const;
  void release(const ClockRef& use);

  const BoundPlan* plan_ = nullptr;
  std::vector<bool> checked_;
  std::vector<Tensor> tensors_;
  std::vector<Level> levels_;
  std::uint64_t runs_ = 0;
  std::vector<Access> accesses_;
  std::vector<std::uint32_t> free_;
  std::vector<std::vector<std::uint64_t>> settled_;  // as Steps says, of each level
  std::uint32_t self_ = 0;  // the access that is made now
  std::optional<Race> race_;
};

}  // namespace pto_wsp
