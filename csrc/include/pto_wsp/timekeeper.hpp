// The clock of a run, behind what may change the order of issue in semantic time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "pto_wsp/clock.hpp"
#include "pto_wsp/placer.hpp"

namespace pto_wsp {

/// Tasks that may be issued, by turn: one of each turn after the other, of a turn the first in program order.
class Turns {
 public:
  void add(std::uint64_t turn, std::uint64_t position);
  /// The next one below `limit`, if there is any.
  std::optional<std::uint64_t> take(std::uint64_t limit);

 private:
  std::unordered_map<std::uint64_t, std::vector<std::uint64_t>> tasks_;  // of each turn a heap, the first on top
  std::set<std::uint64_t> with_tasks_;                                   // turns that have some
  std::uint64_t next_ = 0;
};

/// What is told of a deadlock: the task that could not be issued.
struct WhichTask {
  std::uint32_t site = 0;
  std::vector<std::int64_t> coords{};
};

/// Holds tasks back, as many as the window of the first of them holds, and issues one of each stream in turn, none before what it
/// depends on; at a boundary and at the end all. What others wait for stands for a task before it is issued.
class Interleaver {
 public:
  Interleaver(Clock& clock, std::uint64_t turns, std::vector<std::uint64_t> look_ahead)
      : clock_(clock), n_turns_(turns), look_ahead_(std::move(look_ahead)) {}

  /// `stream`: by its scope and number; the last task issued of one comes before the next.
  ClockRef issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, Placer::Stream stream, WhichTask which);
  void add_wait(std::span<const ClockRef> tasks);
  void opened(ClockRef join) { joins_.try_emplace(join.serial); }
  void add_member(ClockRef join, ClockRef member);
  void seal(ClockRef join);
  /// Issues what is held back, until the clock is deadlocked.
  void flush();

  std::uint64_t count() const { return count_; }
  std::uint64_t settled();
  const WhichTask& last() const { return last_; }

 private:
  // A task, or a join that has members which are not issued or may still get some; others wait for them to be.
  struct Dependents {
    std::vector<std::uint64_t> of;  // serials
  };
  struct Held {
    std::uint64_t cost;
    Placement placement;
    std::vector<ClockRef> deps;
    std::uint64_t turn;
    Placer::Stream stream;
    ClockRef stands_for;
    WhichTask which;
    std::uint32_t missing = 0;
    Dependents dependents;
  };
  struct OpenJoin {
    std::uint32_t missing = 1;      // members that are not issued, and its seal
    Dependents dependents;
  };

  Dependents* not_issued(ClockRef ref);
  std::uint64_t limit() const { return look_ahead_[held_.at(*waiting_.begin()).placement.window]; }
  void issue_one();
  void told(const Dependents& dependents);
  void one_less(std::uint64_t serial);

  Clock& clock_;
  std::uint64_t n_turns_;
  std::vector<std::uint64_t> look_ahead_;              // of each ring
  std::uint64_t count_ = 0;                            // tasks so far
  std::unordered_map<std::uint64_t, Held> held_;       // by serial
  std::set<std::uint64_t> waiting_;                    // their serials, in order
  std::unordered_map<std::uint64_t, OpenJoin> joins_;  // by serial
  Turns turns_;
  std::unordered_map<std::uint32_t, std::unordered_map<std::int64_t, ClockRef>> streams_;  // the last task issued of each
  bool boundary_ = false;
  std::vector<ClockRef> awaited_;
  std::deque<ClockRef> in_order_;                      // tasks from the first on that is not complete
  std::uint64_t complete_ = 0;                         // those before it
  WhichTask last_;
};

/// Like the clock, and in program order the clock itself.
class Timekeeper {
 public:
  /// `turns`: of interleaved issue, 0 without; `look_ahead`: how far that looks, of each ring.
  Timekeeper(ClockOptions options, std::uint64_t turns, std::vector<std::uint64_t> look_ahead) : clock_(std::move(options)) {
    if (turns != 0) interleaver_ = std::make_unique<Interleaver>(clock_, turns, std::move(look_ahead));
  }
  Timekeeper(const Timekeeper&) = delete;
  Timekeeper& operator=(const Timekeeper&) = delete;

  const Clock& clock() const { return clock_; }
  bool interleaves() const { return interleaver_ != nullptr; }
  void record(ClockLog& log) { clock_.record(log); }

  ClockRef issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps) {
    return clock_.issue(cost, placement, deps);
  }
  /// Of a task in program order that stands for several: see Clock.
  ClockRef stand_for_all_from(std::uint64_t serial) { return clock_.stand_for_all_from(serial); }
  ClockRef issue_composite(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, ClockRef stand_in, std::uint64_t count);
  ClockRef issue_interleaved(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, Placer::Stream stream, WhichTask which) {
    return interleaver_->issue(cost, placement, deps, stream, std::move(which));
  }
  void add_wait(std::span<const ClockRef> tasks) { interleaves() ? interleaver_->add_wait(tasks) : clock_.add_wait(tasks); }
  ClockRef open_join() {
    const ClockRef join = clock_.open_join();
    if (interleaves()) interleaver_->opened(join);
    return join;
  }
  void add_member(ClockRef join, ClockRef member) {
    if (interleaves()) interleaver_->add_member(join, member);
    clock_.add_member(join, member);
  }
  void seal(ClockRef join) {
    if (interleaves()) interleaver_->seal(join);
    clock_.seal(join);
  }
  /// Everything has been given: what is held back is issued. False: a deadlock.
  bool end() {
    if (interleaves()) interleaver_->flush();
    return !clock_.deadlocked();
  }
  void finish() { clock_.finish(); }
  std::uint64_t settled() { return interleaves() ? interleaver_->settled() : clock_.settled(); }
  /// Tasks given so far.
  std::uint64_t task_count() const { return interleaves() ? interleaver_->count() : clock_.task_count(); }
  /// The task that a deadlock was met with, where it may be an earlier one than the last given.
  const WhichTask* blocked_task() const { return interleaves() ? &interleaver_->last() : nullptr; }

 private:
  Clock clock_;
  std::unique_ptr<Interleaver> interleaver_;
};

}  // namespace pto_wsp
