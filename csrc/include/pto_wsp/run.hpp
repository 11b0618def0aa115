// One run of a bound plan by any number of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "pto_wsp/arena.hpp"
#include "pto_wsp/bound.hpp"
#include "pto_wsp/casualties.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/independent.hpp"
#include "pto_wsp/ordered.hpp"
#include "pto_wsp/pool.hpp"
#include "pto_wsp/short_tasks.hpp"
#include "pto_wsp/tracer.hpp"

namespace pto_wsp {

/// What works on a run. Large, so it is lent to runs in progress: a run that is over has none.
struct Engine {
  Arena arena;
  Independent loose;
  Ordered ordered;
};

struct RunInputs {
  std::span<const std::int64_t> symbols;
  std::span<const std::uint64_t> slots;  // what they hold at first, zeros where there are none
  TaskHook hook{};
  TaskWatch watch{};
  Resources resources{};
  TraceLevel trace = TraceLevel::off;
  std::uint64_t trace_limit = 0;  // tasks
  std::shared_ptr<const TaskLog> log{};
  bool keep_going = false;        // after failures, with what does not depend on them
  TaskPlacing placing{};
  std::shared_ptr<const Replay> replay{};  // its threads instead of others
  std::uint64_t tape = 0;         // numbers that are kept of those that control reads from what tasks write
  PipelineOptions pipelines{};
  std::shared_ptr<ShortTasks> short_tasks{};
  bool here = false;              // who starts it works on it at once, until it is over
};

/// Started again for the next run once no thread uses it.
class Run : public Job, public std::enable_shared_from_this<Run> {
 public:
  Run() = default;
  ~Run() override = default;

  /// Checks the plan against its inputs and puts the run up. When a check fails, the run is over at once with nothing
  /// run, and the answer is false. Buffers of temporaries are filled in.
  bool start(std::shared_ptr<const Plan> plan, const RunInputs& inputs, std::span<Buffer> buffers, std::uint32_t threads);

  /// Helps until the run is over or the deadline has come; true when it is over. Tasks that may be long it leaves to the pool, as
  /// whoever is inside of one hears of no deadline and no signal.
  bool wait(SteadyClock::time_point until);

  /// No task starts any more.
  void cancel();
  bool over() const { return over_.load(std::memory_order_acquire); }

  /// When over.
  std::optional<Failure> failure() const { return lost_.load() ? Failure{.kind = ErrorKind::cancelled} : failure_; }
  /// What the orchestrator waits for just now.
  Reason waiting_for() const { return over() ? Reason::nothing : control_.stalls.now(); }
  RunStats stats() const { return lost_.load() ? RunStats{} : stats_; }
  /// Null where the run was not traced, or never began.
  std::shared_ptr<const Tracer> trace() const { return lost_.load() ? nullptr : tracer_; }
  /// Null where the run stops at its first failure.
  std::shared_ptr<const Casualties> casualties() const { return lost_.load() ? nullptr : casualties_; }

  /// Null where control reads nothing that tasks write.
  std::shared_ptr<const Tape> tape() const { return lost_.load() ? nullptr : tape_; }

  /// Keeps what a thread works on; who starts runs makes sure that none starts meanwhile.
  class Use {
   public:
    explicit Use(std::shared_ptr<Run> run) : run_(std::move(run)) { run_->enter_use(); }
    ~Use() { run_->leave_use(); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    Run& run() const { return *run_; }

   private:
    std::shared_ptr<Run> run_;
  };

  /// No thread is inside the last run any more.
  bool unused();

  bool expect_help(std::uint32_t thread) noexcept override;
  void help(std::uint32_t thread) noexcept override;

 private:
  std::optional<Failure> check(const RunInputs& inputs, std::span<Buffer> buffers, Arena& arena);
  void enter_use();
  void leave_use() noexcept;
  bool wants_help(std::uint32_t worker) const;
  void participate(std::uint32_t worker, Deadline& deadline);
  bool enter(std::uint32_t worker);
  std::uint32_t worker_of(std::uint32_t thread) const;
  void call_worker(std::uint32_t worker);
  void call_waiting();
  void dismiss_workers();
  bool engine_has_work(std::uint32_t worker) const;
  bool engine_over() const;
  void call_for_help();
  void count_resources();
  void finish();

  std::shared_ptr<const Plan> source_;
  BoundPlan plan_;
  Control control_;
  std::uint32_t limit_ = 1;  // threads that may work at once; where tasks are pinned, beside the workers
  // The threads of the pool that pinned tasks are for: worker i is the i-th of them for the whole run. None: nothing is pinned.
  std::vector<std::uint32_t> workers_;
  bool independent_ = true;
  std::atomic<bool> patient_{false};  // tasks may be long, and the pool's threads can run them
  std::unique_ptr<Engine> engine_;  // while anybody is inside

  std::atomic<std::uint32_t> working_{0}, most_{0}, waiting_{0};
  std::atomic<bool> over_{true}, finishing_{false}, called_{false};
  std::atomic<bool> lost_{false};  // in a forked child, where its threads are not
  std::uint32_t users_ = 0;        // threads inside, and the run itself until it is over; under the lock
  Pool* pool_ = nullptr;
  std::mutex mutex_;
  std::condition_variable condition_;
  SteadyClock::time_point began_;
  std::optional<Failure> failure_;
  RunStats stats_;
  std::shared_ptr<Tracer> tracer_;
  std::shared_ptr<Casualties> casualties_;
  std::shared_ptr<const TaskLog> log_;
  std::shared_ptr<const Replay> replay_;
  std::shared_ptr<Tape> tape_;
  std::shared_ptr<ShortTasks> short_tasks_;
};

}  // namespace pto_wsp
