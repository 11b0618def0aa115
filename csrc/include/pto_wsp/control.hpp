// What the parts of a run share: cancelling, deadlines, the memory a working thread needs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/clock.hpp"
#include "pto_wsp/network.hpp"
#include "pto_wsp/resources.hpp"

namespace pto_wsp {

using SteadyClock = std::chrono::steady_clock;

/// When a thread that helps must stop. Asked between tasks; reads the clock rarely when tasks are short.
class Deadline {
 public:
  Deadline() = default;
  explicit Deadline(SteadyClock::time_point at) : at_(at) {}

  bool passed() {
    if (!at_ || --countdown_ > 0) return false;
    const auto now = SteadyClock::now();
    const bool quick = now - last_ < std::chrono::microseconds(20);
    interval_ = quick ? (interval_ < 256 ? interval_ * 2 : interval_) : 1;
    countdown_ = interval_;
    last_ = now;
    return now >= *at_;
  }

  /// Whatever was asked before.
  bool passed_now() const { return at_ && SteadyClock::now() >= *at_; }
  /// For those who have just looked at the clock.
  bool passed_at(SteadyClock::time_point now) const { return at_ && now >= *at_; }

 private:
  std::optional<SteadyClock::time_point> at_;
  SteadyClock::time_point last_{};
  int countdown_ = 1, interval_ = 1;
};

/// For tests: called around every task.
struct TaskHook {
  void (*call)(void* context, bool begin, std::uint32_t site, const std::int64_t* coords, std::size_t n) = nullptr;
  void* context = nullptr;
};

/// For checks: called around every task with all registers, in program order, by the thread that waits for the run. An answer of
/// false stops the run there.
struct TaskWatch {
  bool (*call)(void* context, bool begin, std::uint32_t site, std::span<const std::int64_t> regs) = nullptr;
  void* context = nullptr;
};

/// For tests: says of each task, in program order, what a schedule would say.
struct TaskPlacing {
  Placement (*call)(void* context, std::uint32_t site, const std::int64_t* coords, std::size_t n) = nullptr;
  void* context = nullptr;
  Demands demands{};
};

class Casualties;
class Replay;
class ShortTasks;
class TaskLog;
class Tracer;

/// What a run says of the pipelines in its plan.
struct PipelineOptions {
  NetworkLimits limits{};
  std::vector<ChannelSpec> channels{};  // instead of those of the plan; empty: those
  std::vector<bool> checked{};          // by pipeline: races are looked for; empty: in none
};

/// Set before a run, read by every thread of it.
struct Control {
  std::atomic<bool> cancelled{false};
  std::uint32_t threads = 1;
  std::uint32_t workers = 0;  // threads that pinned tasks are for; 0: any thread runs them
  Demands demands;
  TaskPlacing placing;
  Resources resources;
  PipelineOptions pipelines;
  Stalls stalls;  // of whoever orchestrates
  TaskHook hook;
  TaskWatch watch;
  Tracer* tracer = nullptr;
  const Replay* replay = nullptr;    // null: who comes runs what is ready
  const TaskLog* log = nullptr;
  Casualties* casualties = nullptr;  // null: the run stops at its first failure
  ShortTasks* short_tasks = nullptr;  // null: whoever issues tasks runs none of them in their place
  Tape* tape = nullptr;              // where numbers that control reads from what tasks write are kept
};

/// Memory for kernels that a thread keeps from run to run.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  /// At least `bytes`, 64-byte aligned, or more. Throws bad_alloc.
  std::byte* get(std::size_t bytes) {
    if (bytes > size_) {
      release();
      data_ = static_cast<std::byte*>(::operator new(bytes, std::align_val_t{64}));
      size_ = bytes;
    }
    return data_;
  }

  static Scratch& of_this_thread() {
    thread_local Scratch scratch;
    return scratch;
  }

 private:
  void release() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t{64});
    data_ = nullptr;
    size_ = 0;
  }
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Tasks that were in flight at once, and the bytes they write.
struct InFlight {
  std::uint64_t tasks = 0, bytes = 0;
};

/// Cycles that processes have waited for tokens of a channel, and for places in it; tokens that nobody had received when its
/// pipeline ended.
struct ChannelCycles {
  std::uint64_t empty = 0, full = 0, undelivered = 0;
};

/// The figures of a run. After a failure: of the tasks before the earliest failing one in program order, however many
/// later ones ran, so that they do not depend on threads; where tasks depend on each other and a kernel fails at run, of those
/// issued until then. After a cancel: of the tasks the clock had reached.
struct RunStats {
  std::uint64_t task_count = 0, total_cycles = 0;
  std::vector<WindowStats> windows;
  std::vector<std::uint64_t> kernel_counts;
  std::uint64_t scalar_waits = 0, scalar_wait_cycles = 0;  // at materialisation boundaries
  std::vector<ChannelCycles> channels{};                   // of the plan
  std::uint64_t arena_bytes = 0;     // of temporaries
  // Really, not in semantic time.
  AllResourceStats resources{};       // by reason
  std::uint64_t max_in_flight = 0;    // most tasks that ran or waited to run
  std::vector<InFlight> windows_in_flight{};  // most of each window; none where tasks run as they are issued
  std::uint64_t grid_cells = 0;       // of tensors where conflicts are found by cells
  std::uint64_t boxed_tensors = 0;    // where they are found by boxes
  std::uint64_t threads = 0;          // most that worked at once
  bool time_overflowed = false;       // total_cycles is beyond what the clock can count
  std::uint64_t wall_ns = 0;
};

/// Something needs more of a resource than there is.
inline Failure too_small(Reason what, std::uint64_t needed, std::uint64_t given) {
  Failure failure{.kind = ErrorKind::resource};
  failure.text = name_of(what);
  failure.values = {static_cast<std::int64_t>(needed), static_cast<std::int64_t>(given)};
  return failure;
}

[[gnu::noinline]] inline bool run_hooked(const BoundPlan& plan, const Control& control, const BoundTask& task, const Arg* args,
                                         std::byte* scratch, const std::int64_t* regs, Fault& fault) {
  const std::vector<std::int64_t> coords = plan.coords(*task.spec, regs);
  const TaskHook& hook = control.hook;
  hook.call(hook.context, true, task.spec->site, coords.data(), coords.size());
  fault = task.kernel->run(std::span(args, task.n_args), scratch, &control.cancelled);
  hook.call(hook.context, false, task.spec->site, coords.data(), coords.size());
  return fault.origin < 0;
}

[[gnu::noinline]] inline Failure failure_of(const BoundPlan& plan, const BoundTask& task, const std::int64_t* regs, const Fault& fault) {
  if (fault.kind == FaultKind::stopped) return Failure{.kind = ErrorKind::cancelled};
  Failure failure{.kind = ErrorKind::kernel_fault};
  failure.site = task.spec->site;
  failure.coords = plan.coords(*task.spec, regs);
  failure.values = {fault.a, fault.b, fault.origin, static_cast<std::int64_t>(fault.kind)};
  if (fault.text != nullptr) failure.text = fault.text;
  return failure;
}

/// False: `failure` says what was wrong with the numbers it met.
inline bool run_kernel(const BoundPlan& plan, const Control& control, const BoundTask& task, const Arg* args,
                       std::byte* scratch, const std::int64_t* regs, Failure& failure) {
  Fault fault;
  if (control.hook.call == nullptr) [[likely]] {
    fault = task.kernel->run(std::span(args, task.n_args), scratch, &control.cancelled);
    if (fault.origin < 0) [[likely]] return true;
  } else if (run_hooked(plan, control, task, args, scratch, regs, fault)) {
    return true;
  }
  failure = failure_of(plan, task, regs, fault);
  return false;
}

}  // namespace pto_wsp
