#include "pto_wsp/ordered.hpp"

#include <algorithm>

#include "pto_wsp/pool.hpp"

namespace pto_wsp {
namespace {

constexpr int tasks_at_once = 64;
constexpr int short_tasks_for_one = 16;  // of those that are run as they are issued
constexpr std::chrono::microseconds patience{20};

}  // namespace

std::optional<Failure> Ordered::prepare(const BoundPlan& plan, Control& control, Arena& arena) {
  plan_ = &plan;
  control_ = &control;
  ranked_ = (control.demands.order() || control.replay != nullptr) && control.watch.call == nullptr;
  // Program order keeps dependences, but does not know them.
  alone_ = control.threads == 1 && control.casualties == nullptr && !ranked_;
  const auto may_fault = [](const Kernel& k) { return k.may_fault(); };
  front_.prepare(plan, alone_ ? nullptr : &ring_, &arena);
  limits_ = resolve(control.resources, plan, front_.most_entries());
  if (front_.most_entries() > limits_.dependence_map) return too_small(Reason::dependence_map, front_.most_entries(), limits_.dependence_map);
  const bool told = control.hook.call != nullptr || control.casualties != nullptr || std::ranges::any_of(plan.plan().kernels(), may_fault);
  if (!alone_) ring_.prepare(plan, {plan.plan().windows(), limits_, control.casualties, told, ranked_, control.workers, control.replay != nullptr});
  open_ = true;
  if (control.demands.start != 0 && ranked_) close();
  front_.observe(control);
  held_ = false;
  waits_ = false;
  awaiting_ = false;
  orchestrating_ = false;
  all_issued_ = false;
  blocked_ = false;
  over_ = false;
  cut_short_ = false;
  n_issued_ = 0;
  failure_.reset();
  failed_ = ~std::uint64_t{0};
  return std::nullopt;
}

void Ordered::trim() {
  front_.trim();
  ring_.trim();
}

bool Ordered::has_work(std::uint32_t worker) const {
  if (over()) return false;
  if (alone_) return true;
  const std::uint32_t ready = control_->cancelled.load() ? ring_.ready() : ring_.ready(worker);
  return ready > 0 || (!orchestrating_.load() && !all_issued_.load() && !blocked_.load());
}

bool Ordered::stop_issuing() {
  if (failed_.load(std::memory_order_relaxed) != ~std::uint64_t{0}) return true;
  if (!control_->cancelled.load(std::memory_order_relaxed)) return false;
  cut_short_ = true;
  return true;
}

void Ordered::work(std::uint32_t worker, std::byte* scratch, Deadline& deadline, const Help& help) {
  if (alone_) {
    work_alone(scratch, deadline);
    return;
  }
  if (ranked_) ring_.enter(worker);
  work_together(worker, scratch, deadline, help);
  if (ranked_) ring_.leave(worker);
  if (control_->replay != nullptr) look_for_a_standstill(scratch, help);
}

void Ordered::work_together(std::uint32_t worker, std::byte* scratch, Deadline& deadline, const Help& help) {
  SteadyClock::time_point idle_since{};
  bool idle = false;
  while (!over() && !deadline.passed()) {
    // The best of all that may be in flight comes first, and whoever can issue keeps the others busy.
    if (ranked_) {
      const bool issued = try_orchestrate(scratch);
      call_workers(help);
      if (issued) {
        idle = false;
        continue;
      }
    }
    if (Ring::Node* node = take(worker)) {
      idle = false;
      share(help);
      execute(node, scratch, deadline, help);
      continue;
    }
    if (!ranked_ && try_orchestrate(scratch)) {
      idle = false;
      continue;
    }
    const auto now = SteadyClock::now();
    if (deadline.passed_at(now)) return;
    if (!idle) {
      idle = true;
      idle_since = now;
    } else if (now - idle_since > patience) {
      return;
    }
    relax();
  }
}

// Running out of memory is a failure of the run like others.
Front::Step Ordered::next_step() {
  Front::Step step = Front::Step::failed;
  try {
    step = front_.next();
    if (step == Front::Step::failed) failure_ = std::move(front_.failure());
  } catch (const std::bad_alloc&) {
    failure_ = Failure{.kind = ErrorKind::memory};
  }
  if (step == Front::Step::failed && control_->casualties != nullptr) control_->casualties->stop(*failure_);
  return step;
}

// False: another thread does, or there was nothing to do.
bool Ordered::try_orchestrate(std::byte* scratch) {
  if (orchestrating_.load(std::memory_order_relaxed) || all_issued_.load(std::memory_order_relaxed) ||
      orchestrating_.exchange(true))
    return false;
  while (true) {
    const bool progress = orchestrate(scratch);
    orchestrating_.store(false);
    // A task that completed while this thread gave up may be what was missing, and its thread has not got in.
    if (progress || blocked_.load() || all_issued_.load() || orchestrating_.exchange(true)) return progress;
  }
}

// Ready tasks are for others. Where there are workers, they are called.
void Ordered::share(const Help& help) {
  if (control_->workers == 0 && ring_.ready() > 0 && help.working.load(std::memory_order_relaxed) < control_->threads) help.wake(help.context);
}

// Workers that have something to come for.
void Ordered::call_workers(const Help& help) {
  for (std::uint32_t worker = ring_.call(); worker != no_worker; worker = ring_.call()) help.call(help.context, worker);
}

void Ordered::open() {
  if (open_) return;
  open_ = true;
  ring_.open();
}

void Ordered::close() {
  open_ = false;
  ring_.close();
}

// Of the task that has come out of the front.
const Placement& Ordered::place() {
  if (control_->replay != nullptr) [[unlikely]] return placed_ = control_->replay->place(front_.position(), front_.placement());
  const TaskPlacing& placing = control_->placing;
  if (placing.call == nullptr) [[likely]] return front_.placement();
  const TaskSpec& spec = *front_.task().spec;
  const std::vector<std::int64_t> coords = plan_->coords(spec, front_.regs());
  return placed_ = placing.call(placing.context, spec.site, coords.data(), coords.size());
}

// One thread, and no other may join: program order itself keeps every dependence.
void Ordered::work_alone(std::byte* scratch, Deadline& deadline) {
  Failure failure;
  while (!over() && !deadline.passed()) {
    if (stop_issuing()) {
      end_of_tasks();
      return;
    }
    switch (next_step()) {
      case Front::Step::task:
        if (control_->watch.call == nullptr) [[likely]] {
          if (!run_task(coming(), scratch, failure)) tell(0, std::move(failure));
        } else if (!run_watched(scratch)) {
          end_of_tasks();
          return;
        }
        front_.commit({});
        break;
      case Front::Step::wait:  // what came before is done
      case Front::Step::pause:
        break;
      case Front::Step::failed:
        end_of_tasks();
        return;
      case Front::Step::end:
        end_of_tasks();
        return;
    }
  }
}

// False: the task, or who watches it, says stop.
bool Ordered::run_watched(std::byte* scratch) {
  const TaskSpec& spec = *front_.task().spec;
  const auto watch = [&](bool begin) {
    return control_->watch.call(control_->watch.context, begin, spec.site, std::span(front_.regs(), plan_->plan().n_regs()));
  };
  if (watch(true)) {
    if (Failure failure; !run_task(coming(), scratch, failure)) {
      tell(0, std::move(failure));
      return false;
    }
    if (watch(false)) return true;
  }
  failure_ = Failure{.kind = ErrorKind::hook};
  failure_->site = spec.site;
  failure_->coords = plan_->coords(spec, front_.regs());
  return false;
}

// Issues some tasks. False: there was nothing to issue or no room.
bool Ordered::orchestrate(std::byte* scratch) {
  if (all_issued_.load(std::memory_order_relaxed)) return false;
  constexpr int most = tasks_at_once * short_tasks_for_one;
  for (int left = most; left > 0;) {
    if (stop_issuing()) {
      end_of_tasks();
      return true;
    }
    if (waits_) {
      awaiting_.store(true);
      if (blocked_while([&] { return front_.may_go_on() ? Reason::nothing : front_.waits_for(); })) {
        open();
        return left < most;
      }
      awaiting_.store(false);
      waits_ = false;
      if (ring_.issued() < control_->demands.start) close();
    }
    if (!held_) {
      switch (next_step()) {
        case Front::Step::task:
          if (beyond_replay()) {
            end_of_tasks();
            return true;
          }
          held_ = true;
          placement_ = &place();
          break;
        case Front::Step::wait:
          waits_ = true;
          continue;
        case Front::Step::pause:
          return true;  // to look at the clock
        case Front::Step::failed:
          end_of_tasks();
          return true;
        case Front::Step::end:
          if (control_->replay != nullptr && ring_.issued() < control_->replay->size())
            failure_ = replay_failure(ReplayError::fewer_tasks, ring_.issued(), control_->replay->size());
          end_of_tasks();
          return true;
      }
    }
    const Ring::Needs needs = front_.needs();
    if (blocked_while([&] { return ring_.lacks(*placement_, needs); })) {
      open();  // in semantic time there may be room for more
      return left < most;
    }
    // Who runs tasks here keeps nobody waiting for those that others may run.
    left -= issue(needs, scratch) && ring_.ready() == 0 ? 1 : short_tasks_for_one;
  }
  return true;
}

// The task that has come out of the front. True: it has run as well.
bool Ordered::issue(const Ring::Needs& needs, std::byte* scratch) {
  if (control_->tracer != nullptr) control_->tracer->admitted(ring_.issued());
  const BoundTask& task = front_.task();
  const bool is_short = control_->short_tasks != nullptr && control_->short_tasks->expects(task.spec->kernel, front_.cycles());
  held_ = false;
  if (is_short && ring_.idle()) {
    front_.commit(ring_.pass(needs, *placement_));
    run_coming(scratch);
    return true;
  }
  Ring::Node* here = nullptr;
  front_.commit(ring_.issue(task, {front_.args(), front_.indices(), front_.regs(), front_.cycles()}, needs, *placement_, is_short ? &here : nullptr));
  if (ring_.issued() >= control_->demands.start) open();
  if (here == nullptr) return false;
  ring_.begin();
  run_coming(scratch);
  if (Ring::Node* const next = ring_.complete(here); next != nullptr) ring_.put_back(next);
  return true;
}

void Ordered::run_coming(std::byte* scratch) {
  if (Failure failure; !run_task(coming(), scratch, failure)) tell(front_.position() + 1, std::move(failure));
}


// The next task is none of the schedule that is followed.
bool Ordered::beyond_replay() {
  if (control_->replay == nullptr || front_.position() < control_->replay->size()) [[likely]] return false;
  failure_ = replay_failure(ReplayError::more_tasks, front_.position() + 1, control_->replay->size());
  if (control_->casualties != nullptr) control_->casualties->stop(*failure_);
  return true;
}

// A schedule that no run has made may want a task before another that it depends on, or that makes room for it. Whoever leaves looks:
// the last of all finds that nothing runs, nothing may be taken, and nothing more can be issued.
void Ordered::look_for_a_standstill(std::byte* scratch, const Help& help) {
  while (!over() && !control_->cancelled.load() && ring_.quiet() && !orchestrating_.exchange(true)) {
    while (ring_.quiet() && orchestrate(scratch)) {
    }
    check_over();
    const bool stands = ring_.quiet() && !over();
    orchestrating_.store(false);
    call_workers(help);
    if (!stands) continue;
    const auto [worker, turn] = ring_.waiting();
    fail(replay_failure(ReplayError::order, worker, turn));
  }
}

// Whether the orchestrator has to stop because something is not there before more tasks are complete.
template <class F>
bool Ordered::blocked_while(F&& lacks) {
  if (lacks() != Reason::nothing) {
    blocked_.store(true);
    // Looked at again after saying so: who completes a task afterwards takes that back, and then looks itself or calls.
    if (const Reason why = lacks(); why != Reason::nothing) {
      control_->stalls.begin(why);
      return true;
    }
  }
  control_->stalls.end();
  unblock();
  return false;
}

void Ordered::execute(Ring::Node* node, std::byte* scratch, Deadline& deadline, const Help& help) {
  Failure failure;
  while (node != nullptr) {
    if (ring_.begin()) {
      unblock();
      if (help.working.load(std::memory_order_relaxed) < control_->threads) help.wake(help.context);
    }
    // A cancelled run drops what has not started, one with a failure what comes after it.
    if (control_->cancelled.load(std::memory_order_relaxed)) {
      cut_short_ = true;
    } else if (control_->casualties != nullptr) {
      run_or_skip(node, scratch);
    } else if (node->serial < failed_.load(std::memory_order_relaxed)) {
      if (!run_task(task_of(*node), scratch, failure)) tell(node->serial, std::move(failure));
    }
    node = ring_.complete(node);
    unblock();
    check_over();
    if (ranked_) call_workers(help);
    if (node != nullptr) share(help);  // it may have made several ready
    // Behind a boundary may lie all the work there is for other threads, so it comes before the next task here.
    if (!ranked_ && awaiting_.load() && try_orchestrate(scratch)) share(help);
    if (node != nullptr && deadline.passed()) {
      ring_.put_back(node);
      return;
    }
  }
}

// Where the run goes on after failures.
void Ordered::run_or_skip(Ring::Node* node, std::byte* scratch) {
  Casualties& casualties = *control_->casualties;
  const std::uint64_t position = node->serial - 1;
  const auto told = [&] { return Casualties::Task{position, node->task->spec->site, plan_->coords(*node->task->spec, node->regs.data())}; };
  if (casualties.failed(node->serial)) {  // already when it was issued
    node->lost.store(true, std::memory_order_relaxed);
    if (control_->tracer != nullptr) control_->tracer->not_run(position, Outcome::failed);
    return;
  }
  if (node->lost.load(std::memory_order_relaxed)) {
    casualties.skip(told());
    if (control_->tracer != nullptr) control_->tracer->not_run(position, Outcome::skipped);
    return;
  }
  Failure failure;
  if (run_task(task_of(*node), scratch, failure)) return;
  if (failure.kind == ErrorKind::cancelled) {
    cut_short_ = true;
    return;
  }
  node->lost.store(true, std::memory_order_relaxed);
  casualties.fail(told(), std::move(failure));
}

bool Ordered::run_task(const Task& task, std::byte* scratch, Failure& failure) {
  const auto run = [&] { return run_kernel(*plan_, *control_, task.bound, task.args, scratch, task.regs, failure); };
  const auto observed = [&] { return control_->tracer == nullptr ? run() : control_->tracer->timed(task.position, run); };
  if (control_->short_tasks == nullptr || !ShortTasks::samples(task.position)) [[likely]] return observed();
  const auto began = SteadyClock::now();
  const bool ran = observed();
  control_->short_tasks->measured(task.bound.spec->kernel, task.cycles, SteadyClock::now() - began);
  return ran;
}

// Of a task that has run. What the front finds comes after all of these.
void Ordered::tell(std::uint64_t serial, Failure failure) {
  const std::lock_guard lock(mutex_);
  if (serial >= failed_.load()) return;
  failed_.store(serial);
  kernel_failure_ = std::move(failure);
}

void Ordered::end_of_tasks() {
  control_->stalls.end();
  if (!cut_short_.load()) front_.finish_time();
  if (alone_) {
    over_.store(true, std::memory_order_release);
    return;
  }
  open();
  if (control_->replay != nullptr && ring_.issued() < control_->replay->size()) ring_.leave_gaps();
  n_issued_.store(ring_.shared());
  all_issued_.store(true);
  check_over();
}

void Ordered::fail(Failure failure) {
  if (control_->casualties != nullptr) control_->casualties->stop(failure);
  tell(0, std::move(failure));
  control_->cancelled = true;
}

void Ordered::check_over() {
  if (all_issued_.load() && ring_.completed() == n_issued_.load()) over_.store(true, std::memory_order_release);
}

std::optional<Failure> Ordered::failure() {
  if (control_->casualties != nullptr)
    if (std::optional<Failure> first = control_->casualties->first()) return first;
  if (failed_.load() != ~std::uint64_t{0}) return std::move(kernel_failure_);
  if (failure_) return failure_;
  if (cut_short_.load()) return Failure{.kind = ErrorKind::cancelled};
  return std::nullopt;
}

void Ordered::stats(RunStats& stats) const {
  front_.stats(stats);
  const auto of = [&](Reason reason) -> ResourceStats& { return stats.resources[static_cast<std::size_t>(reason)]; };
  of(Reason::task_ring).capacity = limits_.task_window;
  of(Reason::dependence_map).capacity = limits_.dependence_map;
  of(Reason::edges).capacity = limits_.edges;
  of(Reason::ready_queue).capacity = limits_.ready_queue;
  if (!alone_) ring_.result(stats.resources);
  stats.max_in_flight = alone_ ? (stats.task_count > 0 ? 1 : 0) : ring_.max_in_flight();
  if (!alone_) stats.windows_in_flight = ring_.window_high_water();
}

}  // namespace pto_wsp
