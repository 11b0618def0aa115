#include "pto_wsp/run.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr std::chrono::microseconds patience{20};

// Tasks in flight are bounded by the smallest window that has tasks.
std::uint32_t thread_limit(const BoundPlan& plan, std::uint32_t threads) {
  std::uint64_t limit = threads;
  for (std::uint32_t i = 0; i < plan.n_tasks(); ++i)
    if (plan.task(i).reachable) limit = std::min(limit, plan.plan().windows()[plan.task(i).spec->window].tasks);
  return static_cast<std::uint32_t>(limit);
}

}  // namespace

bool Run::start(std::shared_ptr<const Plan> source, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers,
                std::uint32_t threads, TaskHook hook) {
  began_ = SteadyClock::now();
  source_ = std::move(source);
  const Plan& plan = *source_;
  pool_ = &Pool::instance();
  stats_ = {};
  stats_.kernel_counts.assign(plan.kernels().size(), 0);
  stats_.windows.assign(plan.windows().size(), {});
  failure_ = plan_.bind(plan, symbols, buffers);
  if (failure_) {
    over_.store(true);
    return false;
  }
  Scratch::of_this_thread().get(plan_.scratch_bytes());  // too much is told here
  control_.cancelled = false;
  control_.hook = hook;
  independent_ = plan.independent();
  limit_ = thread_limit(plan_, threads);
  control_.threads = limit_;
  if (independent_)
    loose_.prepare(plan_, control_);
  else
    ordered_.prepare(plan_, control_);
  most_ = 0;
  finishing_ = false;
  over_.store(false);
  pool_->grow(threads);
  pool_->add(shared_from_this());
  return true;
}

bool Run::engine_has_work() const { return independent_ ? loose_.has_work() : ordered_.has_work(); }
bool Run::engine_over() const { return independent_ ? loose_.over() : ordered_.over(); }

bool Run::wants_help() const { return !over() && working_.load() < limit_ && engine_has_work(); }

bool Run::expect_help() noexcept {
  if (!wants_help()) return false;
  helpers_.fetch_add(1);
  return true;
}

void Run::help() noexcept {
  Deadline deadline;
  try {
    participate(deadline);
  } catch (const std::bad_alloc&) {
    // No memory for this thread's kernels: others go on without it.
  }
  helpers_.fetch_sub(1, std::memory_order_release);
}

bool Run::enter() {
  std::uint32_t n = working_.load();
  do {
    if (n >= limit_) return false;
  } while (!working_.compare_exchange_weak(n, n + 1));
  std::uint32_t most = most_.load(std::memory_order_relaxed);
  while (most < n + 1 && !most_.compare_exchange_weak(most, n + 1)) {
  }
  return true;
}

void Run::participate(Deadline& deadline) {
  if (over()) return;
  std::byte* const scratch = Scratch::of_this_thread().get(plan_.scratch_bytes());
  if (!enter()) return;
  {
    const FpEnv environment;
    const auto ask = [](void* self) { static_cast<Run*>(self)->call_for_help(); };
    if (independent_) {
      if (loose_.has_work() && working_.load(std::memory_order_relaxed) < limit_) call_for_help();
      loose_.work(scratch, deadline);
    } else {
      ordered_.work(scratch, deadline, working_, ask, this);
    }
  }
  working_.fetch_sub(1);
  if (engine_over())
    finish();
  else if (engine_has_work())
    call_for_help();  // whoever found no place, or sleeps, goes on
}

void Run::call_for_help() {
  if (waiting_.load() > 0 && !called_.exchange(true)) {
    const std::lock_guard lock(mutex_);
    condition_.notify_all();
  }
  if (limit_ > 1 || waiting_.load() == 0) pool_->wake();
}

void Run::finish() {
  if (finishing_.exchange(true)) return;
  if (independent_) {
    loose_.stats(stats_);
    failure_ = loose_.failure();
  } else {
    ordered_.stats(stats_);
    failure_ = ordered_.failure();
  }
  stats_.threads = most_.load();
  if (independent_) stats_.max_in_flight = std::min<std::uint64_t>(stats_.threads, stats_.task_count);
  if (stats_.time_overflowed && !failure_) failure_ = Failure{.kind = ErrorKind::overflow};
  stats_.wall_ns = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(SteadyClock::now() - began_).count());
  pool_->remove(this);
  const std::lock_guard lock(mutex_);
  over_.store(true, std::memory_order_release);
  condition_.notify_all();
}

bool Run::wait(SteadyClock::time_point until) {
  Deadline deadline(until);
  while (!over()) {
    if (pool_ != &Pool::instance()) {  // started before a fork, in the parent, whose threads are not here
      failure_ = Failure{.kind = ErrorKind::cancelled};
      over_.store(true);
      break;
    }
    if (wants_help()) participate(deadline);
    const auto spin_until = std::min(SteadyClock::now() + patience, until);
    while (!over() && !wants_help() && SteadyClock::now() < spin_until) relax();
    if (over()) break;
    if (SteadyClock::now() >= until) return false;
    if (wants_help()) continue;
    std::unique_lock lock(mutex_);
    waiting_.fetch_add(1);
    condition_.wait_until(lock, until, [&] {
      called_.store(false);
      return over() || wants_help();
    });
    waiting_.fetch_sub(1);
  }
  return true;
}

void Run::cancel() {
  control_.cancelled = true;
  if (!over()) call_for_help();
}

}  // namespace pto_wsp
