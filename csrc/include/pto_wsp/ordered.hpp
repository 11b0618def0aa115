// Runs a plan whose tasks may depend on each other: an orchestrator walks it in program order and tells the
// dependence map, the clock and the ring.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "pto_wsp/arena.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/cost.hpp"
#include "pto_wsp/depmap.hpp"
#include "pto_wsp/pipe.hpp"
#include "pto_wsp/placer.hpp"
#include "pto_wsp/races.hpp"
#include "pto_wsp/ranges.hpp"
#include "pto_wsp/replay.hpp"
#include "pto_wsp/ring.hpp"
#include "pto_wsp/short_tasks.hpp"
#include "pto_wsp/timekeeper.hpp"
#include "pto_wsp/task_log.hpp"
#include "pto_wsp/tracer.hpp"
#include "pto_wsp/walker.hpp"

namespace pto_wsp {

/// What stands for a run where nothing is run.
struct Pretence {
  ClockOptions time;
  TapeReader* tape = nullptr;
  const std::vector<bool>* idle = nullptr;  // reads that decide nothing, and may be missing at the end of the tape
  Tracer* tracer = nullptr;
};

/// The orchestrator's half: one task after the other, with its arguments and what it must wait for.
class Front : private Liveness {
 public:
  /// `ring`: where joins are kept for the real run as well, or null when tasks run in program order.
  void prepare(const BoundPlan& plan, Ring* ring, Arena* arena);
  /// This run is traced, logged, and goes on after failures, where the control says so.
  void observe(const Control& control);
  /// Without a ring: reads nothing that tasks write, takes it from the tape; time goes by these options.
  void pretend(const Pretence& pretence);
  void set_pipelines(const PipelineOptions& options);
  /// What the channels of the plan are like.
  const std::vector<ChannelSpec>& channels() const { return channels_; }
  /// After a failure of processes: one more place in a channel, with which the run goes on. False: none helps. `buffers`, if there are
  /// any: by channel, the one in which the numbers of its free buffers wait, or `none`; these are as many as places, and nothing is run.
  bool raise_a_channel(std::span<const std::uint32_t> buffers);

  enum class Step : std::uint8_t { task, wait, pause, end, failed };
  /// On to the next task. It must be committed before the one after. `wait`, with a ring only: call again when `may_go_on`.
  Step next();
  void commit(Ring::Ref self);

  /// What the last `wait` was for is there: the tasks that write what is read, or that use memory about to be used again.
  bool may_go_on();

  const BoundTask& task() const { return plan_->task(walker_->task()); }
  const Arg* args() const { return args_.data(); }
  const std::int64_t* indices() const { return indices_.data(); }
  const std::int64_t* regs() const { return walker_->regs(); }
  const Placement& placement() const { return placement_; }
  /// What the task costs in semantic time.
  std::uint64_t cycles() const { return cycles_; }
  /// Earlier tasks that conflict with this one, and what precedes it by structure or by name.
  std::span<const ClockRef> conflicts() const { return {deps_.data(), n_conflicts_}; }
  std::span<const Ring::Ref> after() const { return after_; }
  Ring::Needs needs() const { return {conflicts(), after_, entries_[walker_->task()], stream_before_}; }
  /// What the last `wait` was for.
  Reason waits_for() const { return pending_ == Pending::read || pending_ == Pending::task ? Reason::scalar : Reason::arena; }
  /// Most entries of the dependence map that a task takes.
  std::uint64_t most_entries() const;
  /// Its place in program order.
  std::uint64_t position() const { return issued_.serial - 1; }
  Failure& failure() { return failure_; }
  const Clock& clock() const { return clock_->clock(); }

  void finish_time() {
    if (clock_->end()) clock_->finish();
  }
  void trim();
  void stats(RunStats& stats) const;

 private:
  struct Ref {
    ClockRef time;
    Ring::Ref real;
    explicit operator bool() const { return time.serial != 0; }
  };
  // All of several tasks and groups. One with a single member needs no join.
  struct Group {
    Ref all;
    bool open = false, really_open = false;  // `all` is a join that takes members, in semantic time and in the ring
    std::uint64_t composite = 0;             // the first task of the last composite one with tasks among them
  };
  // The task in semantic time that a pipeline is.
  struct Composite {
    std::uint64_t first = 0, last = 0;       // serials of its tasks; in between pipelines those of the last one
    ClockRef stand_in;
    std::vector<ClockRef> deps;              // what comes before all of it
    std::size_t tidy_at = 0;
  };
  // Something sequential. `before`: all of the last part that had tasks, or what preceded the scope.
  struct Scope {
    Ref before;
    Group current;
    bool own = false;     // `before` is of this scope
  };

  // Asks a process for its next action.
  struct Acts {
    Front& front;
    Pipe& pipe;
    Action next(std::uint32_t process, const ActionOutcome& outcome) { return front.next_action(pipe, process, outcome); }
  };

  // The same, and tells what has been done before.
  struct WatchedActs {
    Front& front;
    Pipe& pipe;
    Action next(std::uint32_t process, const ActionOutcome& outcome) {
      front.watch(pipe, process, outcome);
      const Action next = front.next_action(pipe, process, outcome);
      if (next.kind == Action::Kind::end) front.watch_end(pipe, process);
      return next;
    }
  };

  // To be done after a wait.
  enum class Pending : std::uint8_t { nothing, read, task, memory };

  // What has retired is finished; to look at each task would be to fetch it from memory. What comes after a lost task must always
  // find it.
  bool finished(const ClockRef& task) const override { return task.serial <= settled_ && !lost(task.serial); }
  bool superseded(const ClockRef& task, const ClockRef& by) const override;
  void count_entries();
  bool lost(std::uint64_t serial) const { return casualties_ != nullptr && casualties_->lost(serial); }
  Step fail();
  Step wait_for(Pending then);
  bool boundary(const TrackedView& view);
  bool gather_boundary(const BoundTask& t);
  bool reuse(std::uint32_t tensor);
  bool complete_read();
  bool pretend_read();
  void keep_indices(const BoundTask& t);
  Failure failure_of(const BoundTask& t, ErrorKind kind) const;
  bool prepare_task(const BoundTask& t);
  bool lose(const BoundTask& t);
  void tell(const BoundTask& t) const;
  Step task_step();
  void collect(const BoundTask& t);
  void follow(const Ref& before) {
    if (!before) return;
    deps_.push_back(before.time);
    if (ring_ != nullptr) after_.push_back(before.real);
  }
  void collect_needs(const BoundTask& t);
  void make_known(const BoundTask& t);
  // Pipelines: see pipelines.cpp.
  void begin_pipe();
  Network::Status act(Pipe& pipe, std::uint64_t actions);
  void deepen(Pipe& pipe, std::uint32_t channel, std::uint32_t numbers);
  std::optional<Step> go_on_with_pipes();
  std::optional<Step> end_pipe();
  std::optional<Step> end_composite(const Pipe& pipe);
  std::optional<Step> turn(Pipe& pipe, std::uint32_t process);
  bool may_use_memory(Pipe::Process& p);
  Step process_task(Pipe& pipe, Pipe::Process& p, std::uint32_t process);
  Action next_action(Pipe& pipe, std::uint32_t process, const ActionOutcome& outcome);
  Step fail_network(const Pipe& pipe, Network::Status status);
  void follow(std::uint32_t process, Walker::Event head, const ActionOutcome& outcome);
  Step fail_race(Failure at);
  void add_outside(std::span<const ClockRef> tasks);
  // Of a traced run: see pipe_trace.cpp.
  void watch_pipe(Pipe& pipe);
  void watch_task(const BoundTask& t) const;
  void watch(Pipe& pipe, std::uint32_t process, const ActionOutcome& outcome);
  void watch_end(Pipe& pipe, std::uint32_t process);
  void watch_blocked(const Pipe& pipe);
  void count_cycles(const Pipe& pipe);
  void join(Group& group, Ref member, Ring::Membership kind);
  void join_time(Group& group, ClockRef member);
  void join_real(Group& group, Ring::Ref member, Ring::Membership kind);
  void seal(Group& group);
  void forget(const Ref& ref) {
    if (ref.real.join != nullptr) ring_->release(ref.real.join);
  }
  void settle();
  void follow_stream();
  void join_stream(const Ref& self);
  Step deadlocked();
  void reset(Group& handle);
  void end_part();
  void leave();

  const BoundPlan* plan_ = nullptr;
  Ring* ring_ = nullptr;
  Arena* arena_ = nullptr;
  Tracer* tracer_ = nullptr;
  const TaskLog* log_ = nullptr;
  Casualties* casualties_ = nullptr;
  Tape* tape_ = nullptr;                // of what is read
  Pretence pretence_;
  std::uint64_t unknown_ = 0;  // the serial of a lost task that was waited for
  Walker main_;
  Walker* walker_ = &main_;             // of the process whose turn it is, where there is one
  std::vector<std::unique_ptr<Pipe>> pipes_;  // that are being elaborated, the innermost last
  Composite composite_;
  std::vector<ChannelSpec> channels_;   // of the plan
  std::vector<ChannelCycles> channel_cycles_;
  NetworkLimits limits_;
  Races races_;
  bool looks_for_races_ = false;        // in the pipeline that is being elaborated
  bool stopped_ = false;                // a process has failed
  CostTable costs_;
  Placer placer_;
  Placement placement_;
  std::uint64_t cycles_ = 0;            // of the task
  std::vector<std::unordered_map<std::int64_t, Ref>> streams_;  // the last task of each, by scope
  std::size_t n_streams_ = 0, sweep_streams_at_ = 0;
  std::uint64_t stream_before_ = 0;     // the last task of this one's stream
  DepMap map_;
  RangeMap ranges_;
  std::vector<std::uint64_t> entries_;  // of both, by task
  bool by_ranges_ = false;
  std::optional<Timekeeper> clock_;
  std::vector<Scope> scopes_;
  std::vector<Group> handles_;
  std::vector<ClockRef> deps_;
  std::size_t n_conflicts_ = 0;
  std::vector<Ring::Ref> after_;
  std::vector<Arg> args_;
  std::vector<std::int64_t> indices_;
  ClockRef issued_;
  std::uint64_t settled_ = 0;  // tasks up to this serial are over, in semantic time and really
  // What the orchestrator waits for: tasks, and all up to one.
  std::vector<ClockRef> awaited_;
  std::uint64_t awaited_retirement_ = 0;
  Pending pending_ = Pending::nothing;
  Failure failure_;
  std::vector<std::uint64_t> kernel_counts_;
};

/// Asks for another thread, while fewer work than may at once, or for a certain worker.
struct Help {
  const std::atomic<std::uint32_t>& working;
  void (*wake)(void*);
  void (*call)(void*, std::uint32_t worker);
  void* context;
};

/// One run. Threads call `work` as long as there is some.
class Ordered {
 public:
  /// A failure: some task needs more of a resource than there is, and nothing may run.
  std::optional<Failure> prepare(const BoundPlan& plan, Control& control, Arena& arena);

  /// Until the deadline, or until there has been nothing to do for a while. `worker`: the thread's number, or no_worker. Several
  /// threads may work without one, two with the same number never do at once.
  void work(std::uint32_t worker, std::byte* scratch, Deadline& deadline, const Help& help);
  /// Between runs: gives back what few runs need.
  void trim();
  bool has_work(std::uint32_t worker) const;
  bool over() const { return over_.load(std::memory_order_acquire); }
  /// The run fails, and what has not started is dropped.
  void fail(Failure failure);

  /// When over.
  std::optional<Failure> failure();
  void stats(RunStats& stats) const;

 private:
  void work_alone(std::byte* scratch, Deadline& deadline);
  void work_together(std::uint32_t worker, std::byte* scratch, Deadline& deadline, const Help& help);
  Ring::Node* take(std::uint32_t worker) { return control_->cancelled.load(std::memory_order_relaxed) ? ring_.take_any() : ring_.take(worker); }
  const Placement& place();
  bool issue(const Ring::Needs& needs, std::byte* scratch);
  void run_coming(std::byte* scratch);
  bool beyond_replay();
  void look_for_a_standstill(std::byte* scratch, const Help& help);
  bool try_orchestrate(std::byte* scratch);
  bool orchestrate(std::byte* scratch);
  template <class F>
  bool blocked_while(F&& lacks);
  // Written only where there is something to say: every thread comes here for every task.
  void unblock() {
    if (blocked_.load()) blocked_.store(false);
  }
  void execute(Ring::Node* node, std::byte* scratch, Deadline& deadline, const Help& help);
  void share(const Help& help);
  void call_workers(const Help& help);
  void open();
  void close();
  bool run_watched(std::byte* scratch);
  void run_or_skip(Ring::Node* node, std::byte* scratch);
  // A task as it comes out of the front or the ring.
  struct Task {
    std::uint64_t position;
    const BoundTask& bound;
    const Arg* args;
    const std::int64_t* regs;
    std::uint64_t cycles;
  };
  Task coming() const { return {front_.position(), front_.task(), front_.args(), front_.regs(), front_.cycles()}; }
  static Task task_of(const Ring::Node& node) { return {node.serial - 1, *node.task, node.args, node.regs.data(), node.cycles}; }
  bool run_task(const Task& task, std::byte* scratch, Failure& failure);
  Front::Step next_step();
  void end_of_tasks();
  void check_over();
  bool stop_issuing();
  void tell(std::uint64_t serial, Failure failure);

  const BoundPlan* plan_ = nullptr;
  Control* control_ = nullptr;
  bool alone_ = true;
  bool ranked_ = false;  // priorities, pins or a start are honoured
  bool open_ = true;     // what is issued may start
  Resources limits_;
  Front front_;
  Ring ring_;
  bool held_ = false;  // a task has come out of the front that the ring had no room for
  const Placement* placement_ = nullptr;  // of it
  Placement placed_;   // by a test
  bool waits_ = false;  // the front waits
  std::atomic<bool> orchestrating_{false}, all_issued_{false}, blocked_{false}, over_{false};
  std::atomic<bool> awaiting_{false};  // the front waits for tasks to complete
  std::atomic<bool> cut_short_{false};
  std::atomic<std::uint64_t> n_issued_{0};
  std::optional<Failure> failure_;
  std::atomic<std::uint64_t> failed_{0};  // the earliest task whose kernel has failed
  std::mutex mutex_;
  Failure kernel_failure_;  // of it
};

}  // namespace pto_wsp
