#include "pto_wsp/ordered.hpp"

#include "pto_wsp/pool.hpp"

namespace pto_wsp {
namespace {

constexpr int tasks_at_once = 64;
constexpr std::chrono::microseconds patience{20};

}  // namespace

void Ordered::prepare(const BoundPlan& plan, Control& control) {
  plan_ = &plan;
  control_ = &control;
  alone_ = control.threads == 1;
  if (!alone_) ring_.prepare(plan, control.hook.call != nullptr);
  front_.prepare(plan, alone_ ? nullptr : &ring_);
  held_ = false;
  orchestrating_ = false;
  all_issued_ = false;
  blocked_ = false;
  over_ = false;
  cut_short_ = false;
  n_issued_ = 0;
  failure_.reset();
}

void Ordered::trim() {
  front_.trim();
  ring_.trim();
}

bool Ordered::has_work() const {
  if (over()) return false;
  if (alone_) return true;
  return ring_.ready() > 0 || (!orchestrating_.load() && !all_issued_.load() && !blocked_.load());
}

bool Ordered::stop_issuing() {
  if (!control_->cancelled.load(std::memory_order_relaxed)) return false;
  cut_short_ = true;
  return true;
}

void Ordered::work(std::byte* scratch, Deadline& deadline, const std::atomic<std::uint32_t>& working, void (*wake)(void*),
                   void* context) {
  if (alone_) {
    work_alone(scratch, deadline);
    return;
  }
  SteadyClock::time_point idle_since{};
  bool idle = false;
  while (!over() && !deadline.passed()) {
    if (Ring::Node* node = ring_.take()) {
      idle = false;
      if (ring_.ready() > 0 && working.load(std::memory_order_relaxed) < control_->threads) wake(context);
      execute(node, scratch, deadline);
      continue;
    }
    if (!orchestrating_.load(std::memory_order_relaxed) && !all_issued_.load(std::memory_order_relaxed) &&
        !orchestrating_.exchange(true, std::memory_order_acq_rel)) {
      const bool progress = orchestrate();
      orchestrating_.store(false, std::memory_order_release);
      if (progress) {
        idle = false;
        continue;
      }
    }
    if (deadline.passed_now()) return;
    const auto now = SteadyClock::now();
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
  return step;
}

// One thread, and no other may join: program order itself keeps every dependence.
void Ordered::work_alone(std::byte* scratch, Deadline& deadline) {
  while (!over() && !deadline.passed()) {
    if (stop_issuing()) {
      end_of_tasks();
      return;
    }
    switch (next_step()) {
      case Front::Step::task:
        run_kernel(*plan_, *control_, front_.task(), front_.args(), scratch, front_.regs());
        front_.commit({});
        break;
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

// Issues some tasks. False: there was nothing to issue or no room.
bool Ordered::orchestrate() {
  if (all_issued_.load(std::memory_order_relaxed)) return false;
  for (int i = 0; i < tasks_at_once; ++i) {
    if (stop_issuing()) {
      end_of_tasks();
      return true;
    }
    if (!held_) {
      switch (next_step()) {
        case Front::Step::task:
          held_ = true;
          break;
        case Front::Step::pause:
          return true;  // to look at the clock
        case Front::Step::failed:
          end_of_tasks();
          return true;
        case Front::Step::end:
          end_of_tasks();
          return true;
      }
    }
    if (!ring_.room(front_.task().spec->window)) {
      blocked_.store(true);
      // Looked at again after saying so: who completes a task afterwards sees it and calls.
      if (!ring_.room(front_.task().spec->window)) return i > 0;
    }
    blocked_.store(false);
    front_.commit(ring_.issue(front_.task(), front_.args(), front_.regs(), front_.conflicts(), front_.before()));
    held_ = false;
  }
  return true;
}

void Ordered::execute(Ring::Node* node, std::byte* scratch, Deadline& deadline) {
  while (node != nullptr) {
    // A cancelled run drops what has not started.
    if (!control_->cancelled.load(std::memory_order_relaxed))
      run_kernel(*plan_, *control_, *node->task, node->args, scratch, node->regs.data());
    else
      cut_short_ = true;
    node = ring_.complete(node);
    blocked_.store(false);
    check_over();
    if (node != nullptr && deadline.passed()) {
      ring_.put_back(node);
      return;
    }
  }
}

void Ordered::end_of_tasks() {
  if (!cut_short_.load()) front_.finish_time();
  if (alone_) {
    over_.store(true, std::memory_order_release);
    return;
  }
  n_issued_.store(ring_.issued());
  all_issued_.store(true);
  check_over();
}

void Ordered::check_over() {
  if (all_issued_.load() && ring_.completed() == n_issued_.load()) over_.store(true, std::memory_order_release);
}

std::optional<Failure> Ordered::failure() {
  if (failure_) return failure_;
  if (cut_short_.load()) return Failure{.kind = ErrorKind::cancelled};
  return std::nullopt;
}

void Ordered::stats(RunStats& stats) const {
  front_.stats(stats);
  stats.max_in_flight = alone_ ? (stats.task_count > 0 ? 1 : 0) : ring_.max_in_flight();
}

}  // namespace pto_wsp
