// A plan with the tensors and symbols of its runs. One run at a time; any threads may call it at once.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pto_wsp/plan.hpp"
#include "pto_wsp/run.hpp"

namespace pto_wsp {

class Instance {
 public:
  /// At most `threads` threads work on a run at once, 1 to 1024. Throws invalid_argument.
  explicit Instance(std::shared_ptr<const Plan> plan, std::uint32_t threads, const Resources& resources = {});
  /// Cancels what runs and waits for the kernels that have started. Nobody may be in another call.
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  /// All symbols, in the plan's order. Throws invalid_argument; logic_error while running.
  void set_symbols(std::span<const std::int64_t> values);

  /// What these slots hold when a run starts: i64, u64, f64 or bool as 64 bits. Zeros where nothing has been said. Throws
  /// invalid_argument; logic_error while running.
  void set_slots(std::span<const std::pair<std::uint32_t, std::uint64_t>> values);

  /// Memory for tensor `i`, which is no temporary: every element of `shape` at `data` + index * strides (bytes) must stay valid while runs use
  /// it. Throws invalid_argument when dtype, number of dimensions or writability are not the plan's; logic_error while running.
  void bind(std::size_t i, std::byte* data, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
            std::uint32_t dtype, bool writable);

  /// Checks the plan against what is bound and starts. A failed check ends the run at once, with nothing run: false.
  /// Throws logic_error while running or when something is not bound. `keep_going`: what does not depend on tasks that fail is
  /// still run. `replay`: a schedule to follow, whose workers are the threads of this run; a run that is watched has none.
  bool start(bool keep_going = false, std::shared_ptr<const Replay> replay = nullptr);

  /// Works on the run that is there now until it is over (true) or `seconds` have passed. Once over, `failure` gets what went
  /// wrong in that run, even when another has been started since.
  bool wait(double seconds, std::optional<Failure>* failure = nullptr);
  /// Starts, and works on the run until it is over, also where its tasks may be long: nobody else waits for it. What went wrong in it.
  /// Throws as start() does.
  std::optional<Failure> run();
  void cancel();
  bool is_running() const;

  /// Of the last run, once over; nothing while one is in progress.
  std::optional<Failure> error() const;
  RunStats stats() const;
  /// What the run in progress waits for just now before it issues another task.
  Reason waiting_for() const;
  /// Null where the last run was not traced, or is in progress.
  std::shared_ptr<const Tracer> trace() const;
  /// What the last run has lost; null where it stops at its first failure, or is in progress.
  std::shared_ptr<const Casualties> casualties() const;

  const Plan& plan() const { return *plan_; }
  std::uint32_t threads() const { return threads_; }
  void set_hook(TaskHook hook);
  /// For tests: later runs are placed so, whatever the plan says.
  void set_placing(TaskPlacing placing);
  /// For tests: what later runs take for short, see ShortTasks.
  void set_hand_over(std::chrono::nanoseconds time);
  /// From now on runs have one thread, the one that waits, and call `watch`. Throws logic_error while running.
  void set_watch(TaskWatch watch);
  /// Of the next runs. Throws logic_error while running.
  void set_trace(TraceLevel level, std::uint64_t limit);
  /// Numbers that are kept of the next runs. Throws logic_error while running.
  void set_tape(std::uint64_t limit);
  /// Of the next runs. Throws invalid_argument where the channels are not as many as the plan's, or one has not its initial tokens'
  /// places; logic_error while running.
  void set_pipelines(PipelineOptions options);
  /// Of the last run, once over; null where its control read nothing that tasks write.
  std::shared_ptr<const Tape> tape() const;
  /// Of the next runs, unless it is null. Throws logic_error while running.
  void set_log(std::shared_ptr<const TaskLog> log);

 private:
  // With the lock held.
  void must_be_idle() const;
  bool start_it(bool keep_going, std::shared_ptr<const Replay> replay, bool here);

  std::shared_ptr<const Plan> plan_;
  std::uint32_t threads_;
  Resources resources_;
  mutable std::mutex mutex_;  // of all below
  std::vector<std::int64_t> symbols_;
  bool symbols_set_;
  std::vector<std::uint64_t> slots_;
  std::vector<Buffer> buffers_;
  std::vector<bool> bound_;
  std::shared_ptr<Run> run_;
  TaskHook hook_;
  TaskWatch watch_;
  TaskPlacing placing_;
  TraceLevel trace_ = TraceLevel::off;
  std::uint64_t trace_limit_ = 0;
  PipelineOptions pipelines_;
  std::shared_ptr<ShortTasks> short_tasks_;  // of all runs so far
  std::uint64_t tape_limit_ = std::uint64_t{1} << 20;
  std::shared_ptr<const TaskLog> log_;
};

}  // namespace pto_wsp
