// Semantic time: an event simulation of the architecture model, fed one task at a time in program order.
// The steps of one cycle repeat until nothing more happens: finished tasks complete; the rings retire;
// the orchestrator issues, after what a materialisation boundary before the task waits for; ready tasks are queued;
// idle lanes take work.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/placement.hpp"

namespace pto_wsp {

/// Cycles stay below this; a run that would go beyond is marked as overflowed.
inline constexpr std::uint64_t end_of_time = std::uint64_t{1} << 62;
/// A window that admits anything; a start that waits until everything is issued.
inline constexpr std::uint64_t no_limit = ~std::uint64_t{0};

struct ClockOptions {
  std::uint32_t lanes = 1;
  std::uint64_t issue_cost = 0, handover = 0, read_cost = 0;
  std::vector<std::uint64_t> windows{65536};  // tasks in flight of each ring
  std::vector<std::uint64_t> window_bytes;    // bytes in flight of each ring; empty: bytes are not counted
  std::vector<std::uint64_t> batches;         // tasks released together in each batch scope
  bool ranked = false;                        // a task may have a priority other than 0
  bool steals = false;                        // a task may be stolen
  std::vector<std::uint32_t> pools;           // lanes of each pool, which add up to `lanes`; empty: one pool
  std::uint64_t start = 0;                    // lanes take nothing before so many tasks, or all, are issued
};

struct WindowStats {
  std::uint64_t stalls = 0, stall_cycles = 0, high_water = 0, high_bytes = 0;
};

/// The largest of some numbers and where it stands, the lowest place among equals. Changes and answers take logarithmic time.
class Tournament {
 public:
  explicit Tournament(std::uint32_t size) : leaves_(std::bit_ceil(size)), values_(std::size_t{2} * leaves_) {}

  std::uint32_t operator[](std::uint32_t place) const { return values_[leaves_ + place]; }
  void set(std::uint32_t place, std::uint32_t value) {
    std::uint32_t at = leaves_ + place;
    values_[at] = value;
    while ((at /= 2) != 0) values_[at] = values_[2 * at] > values_[2 * at + 1] ? values_[2 * at] : values_[2 * at + 1];
  }
  std::uint32_t largest() const { return values_[1]; }
  /// Where the largest stands, if it is above 0.
  std::uint32_t place() const {
    std::uint32_t at = 1;
    while (at < leaves_) at = values_[2 * at] == values_[at] ? 2 * at : 2 * at + 1;
    return at - leaves_;
  }

 private:
  std::uint32_t leaves_;
  std::vector<std::uint32_t> values_;  // node i above nodes 2i and 2i + 1
};

/// What a task waits for: an earlier task or a join. Stays valid after that has completed.
struct ClockRef {
  static constexpr std::uint32_t join_bit = 0x80000000u;
  static constexpr std::uint64_t first_join = std::uint64_t{1} << 62;  // serials of joins that stand for no task
  std::uint64_t serial = 0;   // 0: nothing, always complete
  std::uint32_t index = 0;
};

/// Is told of each task when it is issued and when it completes, in that order. Times are cycles.
struct ClockLog {
  struct Issue {
    std::uint64_t position, order;             // in program order; how many were issued before
    std::uint64_t due, asked;                  // the orchestrator came to it; its boundary lay behind, and its window was asked
    bool waited, stalled;                      // the boundary had to be waited for; so had the window
  };
  struct Task {
    std::uint64_t position;
    std::uint32_t lane;                        // where it ran, or no_lane
    std::uint64_t issue, ready, start, end;    // ready: it came into its lane's queue
    std::uint64_t order;                       // of its issue
  };
  virtual void issued(const Issue&) {}
  virtual void completed(const Task& task) = 0;

 protected:
  ~ClockLog() = default;
};

/// Memory is proportional to the tasks in flight and the edges between them. Not for several threads.
class Clock {
 public:
  explicit Clock(ClockOptions options);

  /// Issues the next task, letting time pass as needed. `deps` is what it waits for, `position` its place in program order, of
  /// which there are no two. Bytes in flight must stay below 2^64.
  /// Where it could never be issued, the clock is deadlocked, and the answer is no task.
  ///
  /// A lane takes from its own queue the task of the highest priority, then what became ready first, then program order. After
  /// all lanes, each that is still idle, in lane order, takes so what may be stolen from the queue of its pool that has most of
  /// that, ties from the lowest lane. A task that takes no lane starts when it is ready and lanes may take tasks.
  ///
  /// `positions`: how many it covers from `position` on. Composite tasks may cover none, or more than one.
  ClockRef issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, std::uint64_t position,
                 std::uint64_t positions = 1);
  /// The same for tasks that are issued in program order.
  ClockRef issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps) {
    return issue(cost, placement, deps, next_ - 1);
  }

  /// The next task is issued behind a materialisation boundary: once all of `tasks` are complete and `read_cost` is paid, once
  /// for all that is added before that task. Those complete already may be left out as long as the call is made.
  void add_wait(std::span<const ClockRef> tasks);

  /// A join completes when it is sealed and all its members are complete.
  ClockRef open_join();
  /// A join in the place of the task of that serial, which is not issued yet.
  ClockRef stand_for(std::uint64_t serial) { return new_join(serial); }
  /// A join in the place of all tasks from that serial on: what refers to one of them has its serial and the index of the join. The
  /// last of them is told before the join is sealed.
  ClockRef stand_for_all_from(std::uint64_t serial);
  void end_at(ClockRef join, std::uint64_t last) { joins_[join.index & ~ClockRef::join_bit].more = last - join.serial; }
  void add_member(ClockRef join, ClockRef member);
  void seal(ClockRef join);

  bool complete(ClockRef ref) const {
    if ((ref.index & ClockRef::join_bit) != 0) return !joins_[ref.index & ~ClockRef::join_bit].stands_for(ref.serial);
    return ref.serial == 0 || slots_[ref.index].serial != ref.serial || slots_[ref.index].done;
  }

  /// Lets everything issued run to its end, or to a deadlock. No task may be issued afterwards.
  void finish();

  /// What the orchestrator was at when nothing more would ever happen.
  struct Blocked {
    enum class At : std::uint8_t { window, boundary, end };  // no room for the next task; it waits; everything is issued
    At at = At::end;
    std::uint32_t window = 0;                  // the one without room
    std::uint64_t tasks = 0, limit = 0;        // in flight there
    std::uint64_t bytes = 0, byte_limit = 0;   // and theirs
    std::uint64_t more_bytes = 0;              // of the task that there was no room for
    std::uint64_t issued = 0;
    std::optional<std::uint64_t> first;        // the position of what is next to retire there, or lowest of all windows
    std::uint64_t start = 0;                   // what ClockOptions say; lanes were held back where fewer tasks are issued
  };

  /// Nothing will ever happen again, and there are tasks left. No task may be issued afterwards.
  bool deadlocked() const { return blocked_.has_value(); }
  const std::optional<Blocked>& blocked() const { return blocked_; }

  std::uint64_t total_cycles() const { return last_completion_; }
  bool overflowed() const { return overflowed_; }
  std::uint64_t task_count() const { return issued_; }
  /// Positions that those cover which are issued in program order.
  std::uint64_t positions() const { return next_ - 1; }
  /// Tasks issued and not retired.
  std::uint64_t in_flight() const;
  /// All tasks up to this serial have retired; 0 where tasks are not issued in program order.
  std::uint64_t settled() const;
  std::uint64_t scalar_waits() const { return scalar_waits_; }
  std::uint64_t scalar_wait_cycles() const { return scalar_wait_cycles_; }
  const std::vector<WindowStats>& windows() const { return stats_; }

  /// Before the first task is issued. The log must outlive the clock.
  void record(ClockLog& log) { log_ = &log; }

  /// Makes room for so many tasks in flight.
  void reserve(std::uint64_t tasks) { slots_.reserve(tasks); }

 private:
  static constexpr std::uint32_t nil = 0xffffffffu;

  struct Slot {
    std::uint64_t serial = 0;  // position in program order + 1; of several the first
    std::uint64_t cost = 0;
    std::uint64_t start = 0;
    std::uint32_t lane = 0, window = 0;
    std::uint32_t pending = 0;
    std::uint32_t edges = nil;
    std::uint32_t next_queued = nil, next_issued = nil;
    bool done = false;
    bool steal = false;
  };
  struct Join {
    std::uint64_t serial = 0;  // 0 while free
    std::uint64_t more = 0;    // serials after it that the join stands for too
    std::uint32_t pending = 0;
    std::uint32_t edges = nil;

    bool stands_for(std::uint64_t s) const { return s - serial <= more; }
  };
  struct Edge {
    std::uint32_t target, next;  // target: a slot, or a join with join_bit
  };
  struct Key {
    std::uint64_t time, serial;
    std::uint32_t slot;
    friend bool operator<(const Key& a, const Key& b) {
      return a.time != b.time ? a.time < b.time : a.serial < b.serial;
    }
    friend bool operator>(const Key& a, const Key& b) { return b < a; }
  };
  // What only priorities, byte windows and logs ask for.
  struct Extra {
    std::int64_t priority = 0;
    std::uint64_t bytes = 0, issue = 0, order = 0, ready = 0;
  };
  struct Ranked {
    std::int64_t priority;
    Key key;
    friend bool operator>(const Ranked& a, const Ranked& b) {
      return a.priority != b.priority ? a.priority < b.priority : a.key > b.key;
    }
  };
  // Tasks of one priority come in order of (time ready, program order), so nearly always at the end; the others go to `late`, and
  // all do where there are priorities.
  struct Queue {
    std::uint32_t head = nil, tail = nil;
    std::uint64_t tail_time = 0;
    std::vector<Ranked> late;                  // a heap, the first to take on top

    bool empty() const { return head == nil && late.empty(); }
  };
  struct Lane {
    Queue kept;                                // for itself
    bool busy = false, marked = false;
  };
  // Lanes that steal from each other.
  struct Pool {
    Pool(std::uint32_t lane, std::uint32_t lanes) : first(lane), queued(lanes), idle(lanes) {}
    std::uint32_t first;
    Tournament queued, idle;                   // tasks of each lane's that may be stolen; 1 where it runs none
    bool marked = false;
  };
  struct Ring {
    std::uint64_t limit = 0, count = 0;
    std::uint64_t byte_limit = no_limit, bytes = 0;
    std::uint32_t head = nil, tail = nil;
    bool stalled = false, marked = false;
    std::uint64_t stalled_since = 0;
  };

  bool pass();
  bool wait_at_boundary();
  ClockRef block(const Placement* next);
  bool has_room(const Ring& ring, std::uint64_t bytes) const {
    if (ring.count >= ring.limit) return false;
    return !counts_bytes_ || ring.count == 0 || ring.bytes + bytes <= ring.byte_limit;
  }
  bool may_start() const { return issued_ >= options_.start || all_issued_ || waiting_; }
  void release(std::vector<std::uint32_t>& batch);
  void release_batches() {
    for (std::vector<std::uint32_t>& batch : open_batches_) release(batch);
  }
  ClockRef new_join(std::uint64_t serial, std::uint64_t more = 0);
  std::uint32_t new_slot();
  void add_edge(ClockRef from, std::uint32_t target);
  bool queue_and_take();
  bool steal();
  void enqueue(std::uint32_t slot);
  bool start_laneless();
  void begin(std::uint32_t slot);
  void leave_lane(std::uint32_t lane);
  Ranked first(const Queue& queue) const;
  std::uint32_t pop(Queue& queue);
  bool take_own(std::uint32_t lane);
  void take(std::uint32_t lane, std::uint32_t from, Queue& queue);
  bool advance();
  void pop_completions();
  void complete_task(std::uint32_t slot);
  void resolve(std::uint32_t edges);
  void retire();
  void mark(std::uint32_t lane);
  void mark_pool(std::uint32_t pool);
  std::uint64_t sum(std::uint64_t a, std::uint64_t b);

  ClockOptions options_;
  std::uint64_t now_ = 0, next_issue_ = 0, last_completion_ = 0;
  std::uint64_t issued_ = 0, joins_opened_ = ClockRef::first_join;
  std::uint64_t next_ = 1;                     // the serial after all that are issued, in program order
  bool overflowed_ = false, all_issued_ = false, in_order_ = true;
  bool counts_bytes_ = false;
  std::optional<Blocked> blocked_;

  bool boundary_ = false;                      // before the next task
  bool waiting_ = false;                       // at a boundary, for its tasks
  std::vector<ClockRef> awaited_;
  std::uint64_t scalar_waits_ = 0, scalar_wait_cycles_ = 0;

  std::vector<Slot> slots_;
  std::vector<Join> joins_;
  std::vector<Edge> edges_;
  std::uint32_t free_slot_ = nil, free_join_ = nil, free_edge_ = nil;
  std::vector<Lane> lanes_;
  std::vector<Ring> rings_;
  std::vector<WindowStats> stats_;
  std::vector<Extra> extras_;                  // of slots; empty where nothing asks for them
  std::vector<Queue> stealable_;               // of lanes; empty where none steal
  std::vector<Pool> pools_;                    // where lanes steal
  std::vector<std::uint32_t> pool_of_;         // of a lane, there
  std::vector<std::vector<std::uint32_t>> open_batches_;  // issued and not released: each task counts that among what it waits for

  std::vector<Key> running_;                   // a heap by (completion, program order)
  std::vector<std::uint32_t> unblocked_;       // nothing left to wait for, not yet seen by the queue step
  std::vector<Key> handed_;                    // on their way to a queue, in order of arrival
  std::size_t handed_first_ = 0;
  std::vector<std::uint32_t> laneless_;        // ready, and takes no lane
  std::vector<std::uint32_t> marked_lanes_, marked_rings_, marked_pools_;
  std::vector<std::uint32_t> resolving_;       // joins that have just completed
  ClockLog* log_ = nullptr;
};

/// The same figures for independent tasks of nonzero cost in program order, by a recurrence per lane. Of the options it knows
/// lanes, costs and windows:
///   issue[k] = max(issue[k-1] + issue_cost, retire[k-W]),  start = max(issue + handover, lane free).
class LaneClock {
 public:
  explicit LaneClock(const ClockOptions& options);

  /// Needs cost > 0.
  void issue(std::uint64_t cost, std::uint32_t lane, std::uint32_t window);

  std::uint64_t total_cycles() const { return total_; }
  bool overflowed() const { return overflowed_; }
  const std::vector<WindowStats>& windows() const { return stats_; }

 private:
  struct Ring {
    std::uint64_t limit = 0;
    std::uint64_t issued = 0, retired = 0;       // retired: those known to be at the last issue
    std::uint64_t last_retire = 0;
    std::vector<std::uint64_t> retire;           // of those not retired, by position, modulo its size (a power of two)
  };
  void grow(Ring& ring);

  std::uint64_t step_, handover_;
  std::uint64_t next_issue_ = 0, total_ = 0;
  bool overflowed_ = false;
  std::vector<std::uint64_t> free_;
  std::vector<Ring> rings_;
  std::vector<WindowStats> stats_;
};

inline void LaneClock::issue(std::uint64_t cost, std::uint32_t lane, std::uint32_t window) {
  Ring& ring = rings_[window];
  WindowStats& stats = stats_[window];
  std::uint64_t now = next_issue_;
  const std::uint64_t k = ring.issued++;
  if (k - ring.retired == ring.retire.size()) [[unlikely]] grow(ring);
  std::uint64_t* const retire = ring.retire.data();
  const std::uint64_t mask = ring.retire.size() - 1;
  if (k - ring.retired >= ring.limit) {
    const std::uint64_t room = retire[(k - ring.limit) & mask];
    if (room > now) {
      ++stats.stalls;
      stats.stall_cycles += room - now;
      now = room;
    }
  }
  next_issue_ = now + step_;
  const std::uint64_t ready = now + handover_;
  const std::uint64_t start = ready > free_[lane] ? ready : free_[lane];
  std::uint64_t end = start + cost;
  if (end >= end_of_time) [[unlikely]] {
    overflowed_ = true;
    end = end_of_time;
    next_issue_ = next_issue_ < end_of_time ? next_issue_ : end_of_time;
  }
  free_[lane] = end;
  if (end > total_) total_ = end;
  if (end > ring.last_retire) ring.last_retire = end;
  while (ring.retired < k && retire[ring.retired & mask] <= now) ++ring.retired;
  retire[k & mask] = ring.last_retire;
  const std::uint64_t in_flight = k - ring.retired + 1;
  if (in_flight > stats.high_water) stats.high_water = in_flight;
}

}  // namespace pto_wsp
