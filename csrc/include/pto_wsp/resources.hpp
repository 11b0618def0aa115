// The bounded resources of a real run: how much there is of each, and how often and how long the orchestrator waited for more.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace pto_wsp {

/// What the orchestrator can wait for. `window` is a ring of the schedule, `task_ring` the one that holds all tasks in flight.
enum class Reason : std::uint8_t { nothing, task_ring, window, dependence_map, edges, arena, ready_queue, scalar };
inline constexpr std::size_t n_reasons = 8;

constexpr const char* name_of(Reason reason) noexcept {
  constexpr const char* names[] = {"",                 "TASK_RING_FULL",   "TASK_RING_FULL", "TENSORMAP_POOL_FULL",
                                   "DEPLIST_POOL_FULL", "HEAP_ARENA_FULL", "READY_QUEUE_FULL", "SCALAR_WAIT"};
  return names[static_cast<std::size_t>(reason)];
}

/// How much a run may use. 0: as much as the plan suggests.
///   task_window: tasks issued and not retired;  dependence_map: cells and boxes that those tasks read or write;
///   edges: of those tasks to what each waits for;  arena: bytes of temporaries;
///   ready_queue: tasks that are issued, and that no thread has begun
struct Resources {
  std::uint64_t task_window = 0, dependence_map = 0, edges = 0, arena = 0, ready_queue = 0;
};

/// `enough`: with so much, and no less of the others, no run of this plan with these sizes waits for it. 0: there is no telling.
/// `threads`: most that it lets work, where that is fewer than may: these never wait for it. 0: it lets all work.
struct ResourceStats {
  std::uint64_t capacity = 0, high_water = 0, enough = 0, stalls = 0, stall_ns = 0, threads = 0;
};

class BoundPlan;

/// What is asked for, and of the rest what the plan suggests, `arena` aside. `most_entries`: of the dependence map that a task takes.
///   task_window: what the windows of the tasks hold together, at most 4096, and at most 2^20 arguments of tasks
///   dependence_map: task_window * most_entries, at most 2^20, at least most_entries
///   edges: 8 * task_window;  ready_queue: task_window
Resources resolve(const Resources& asked, const BoundPlan& plan, std::uint64_t most_entries);

using AllResourceStats = std::array<ResourceStats, n_reasons>;

/// What the orchestrator waits for and how long it has. Changed by whoever orchestrates, one thread at a time; `now` is for all.
class Stalls {
 public:
  void reset() {
    counts_.fill(0);
    nanoseconds_.fill(0);
    now_.store(Reason::nothing, std::memory_order_relaxed);
  }

  /// It waits, or goes on waiting.
  void begin(Reason why) {
    if (now() == why) return;
    end();
    ++counts_[index(why)];
    since_ = Time::now();
    now_.store(why, std::memory_order_relaxed);
  }
  /// It goes on.
  void end() {
    const Reason why = now();
    if (why == Reason::nothing) return;
    const auto waited = std::chrono::duration_cast<std::chrono::nanoseconds>(Time::now() - since_);
    nanoseconds_[index(why)] += static_cast<std::uint64_t>(waited.count());
    now_.store(Reason::nothing, std::memory_order_relaxed);
  }
  Reason now() const { return now_.load(std::memory_order_relaxed); }

  /// Counts and times.
  void result(AllResourceStats& stats) const;

 private:
  using Time = std::chrono::steady_clock;
  static std::size_t index(Reason reason) { return static_cast<std::size_t>(reason); }

  std::array<std::uint64_t, n_reasons> counts_{}, nanoseconds_{};
  Time::time_point since_;
  std::atomic<Reason> now_{Reason::nothing};
};

}  // namespace pto_wsp
