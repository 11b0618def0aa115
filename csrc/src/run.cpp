#include "pto_wsp/run.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr std::chrono::microseconds patience{20};
constexpr std::chrono::milliseconds turn{10};  // of a thread of the pool, before other runs have theirs
constexpr std::uint64_t dry_walk_budget = std::uint64_t{1} << 20;

// Tasks in flight are bounded by the smallest window that has tasks, and by what the ring may hold. Tells which of them lets fewer
// threads work.
std::uint32_t thread_limit(const BoundPlan& plan, std::uint32_t threads, const Resources& resources, AllResourceStats& stats) {
  std::uint64_t limit = threads;
  const auto bound = [&](Reason reason, std::uint64_t tasks) {
    std::uint64_t& least = stats[static_cast<std::size_t>(reason)].threads;
    if (tasks < threads) least = least == 0 ? tasks : std::min(least, tasks);
    limit = std::min(limit, tasks);
  };
  if (resources.task_window != 0) bound(Reason::task_ring, resources.task_window);
  for (std::uint32_t i = 0; i < plan.n_tasks(); ++i) {
    if (!plan.task(i).reachable) continue;  // of the others nothing else is known
    const Window& w = plan.plan().windows()[plan.task(i).spec->window];
    if (w.mode == WindowMode::stall) bound(Reason::window, w.tasks);
  }
  return static_cast<std::uint32_t>(limit);
}

// Engines between two runs. Never destroyed, as threads may outlive main; never waited for, as the lock may have
// been held when the process was forked.
struct Engines {
  static constexpr std::size_t most = 8;
  std::mutex mutex;
  std::vector<std::unique_ptr<Engine>> idle;

  Engines() { idle.reserve(most); }

  static Engines& instance() {
    static Engines* const engines = new Engines;
    return *engines;
  }

  std::unique_ptr<Engine> take() {
    {
      const std::unique_lock lock(mutex, std::try_to_lock);
      if (lock.owns_lock() && !idle.empty()) {
        std::unique_ptr<Engine> engine = std::move(idle.back());
        idle.pop_back();
        return engine;
      }
    }
    return std::make_unique<Engine>();
  }

  void give(std::unique_ptr<Engine> engine) {
    engine->loose.trim();
    engine->ordered.trim();
    engine->arena.trim();
    const std::unique_lock lock(mutex, std::try_to_lock);
    if (!lock.owns_lock() || idle.size() >= most) return;
    idle.push_back(std::move(engine));
  }
};

}  // namespace

bool Run::start(std::shared_ptr<const Plan> source, const RunInputs& inputs, std::span<Buffer> buffers, std::uint32_t threads) {
  began_ = SteadyClock::now();
  source_ = std::move(source);
  const Plan& plan = *source_;
  pool_ = &Pool::instance();
  stats_ = {};
  tracer_ = nullptr;
  casualties_ = nullptr;
  tape_ = nullptr;
  stats_.kernel_counts.assign(plan.kernels().size(), 0);
  stats_.windows.assign(plan.windows().size(), {});
  std::unique_ptr<Engine> engine = Engines::instance().take();
  failure_ = check(inputs, buffers, engine->arena);
  if (failure_) {
    Engines::instance().give(std::move(engine));
    over_.store(true);
    return false;
  }
  stats_.arena_bytes = engine->arena.bytes();
  Scratch::of_this_thread().get(plan_.scratch_bytes());  // too much is told here
  control_.cancelled = false;
  control_.hook = inputs.hook;
  control_.watch = inputs.watch;
  control_.placing = inputs.placing;
  control_.pipelines = inputs.pipelines;
  control_.demands = inputs.placing.call == nullptr ? plan.demands() : inputs.placing.demands;
  replay_ = inputs.replay;
  control_.replay = replay_.get();
  if (replay_ != nullptr) {
    threads = std::max(replay_->workers(), 1u);
    control_.demands.pins = true;
  }
  const bool watched = inputs.watch.call != nullptr;
  if (inputs.trace != TraceLevel::off) tracer_ = std::make_shared<Tracer>(plan_, inputs.trace, inputs.trace_limit, began_);
  control_.tracer = tracer_.get();
  if (!plan.foreseeable()) tape_ = std::make_shared<Tape>(inputs.tape);
  control_.tape = tape_.get();
  log_ = inputs.log;
  control_.log = log_.get();
  if (inputs.keep_going) casualties_ = std::make_shared<Casualties>();
  control_.casualties = casualties_.get();
  short_tasks_ = inputs.short_tasks;
  if (!watched) pool_->grow(threads);
  // Where the system gives fewer threads, the workers are as many as there are; without any, pins are hints like others.
  workers_.clear();
  if (control_.demands.pins && !watched) workers_ = pool_->choose(threads);
  control_.workers = static_cast<std::uint32_t>(workers_.size());
  if (replay_ != nullptr && control_.workers < threads) {
    failure_ = replay_failure(ReplayError::threads, control_.workers, threads);
    dismiss_workers();
    Engines::instance().give(std::move(engine));
    over_.store(true);
    return false;
  }
  // One engine knows how to tell of each task.
  independent_ = plan.independent() && !watched && tracer_ == nullptr && log_ == nullptr && casualties_ == nullptr &&
                 !control_.demands.any();
  limit_ = watched ? 1 : workers_.empty() ? thread_limit(plan_, threads, inputs.resources, stats_.resources) : threads;
  control_.threads = limit_;
  // A hook may take any time, a schedule says where tasks run, and of what is lost the ring must know.
  const bool anywhere = limit_ > 1 && control_.hook.call == nullptr && casualties_ == nullptr && replay_ == nullptr && !control_.demands.order();
  control_.short_tasks = anywhere ? short_tasks_.get() : nullptr;
  control_.resources = inputs.resources;
  control_.stalls.reset();
  if (independent_)
    engine->loose.prepare(plan_, control_);
  else
    failure_ = engine->ordered.prepare(plan_, control_, engine->arena);
  if (failure_) {
    dismiss_workers();
    Engines::instance().give(std::move(engine));
    over_.store(true);
    return false;
  }
  if (independent_ && !engine->loose.divides()) limit_ = 1;
  engine_ = std::move(engine);
  most_ = 0;
  finishing_ = false;
  enter_use();
  over_.store(false);
  patient_ = false;
  if (watched) return true;  // who waits works, and nobody else
  patient_ = !inputs.here && pool_->has_threads() && std::ranges::any_of(plan.kernels(), [](const Kernel& k) { return k.may_be_long(); });
  try {
    pool_->add(shared_from_this());
  } catch (const std::bad_alloc&) {
    over_.store(true);
    leave_use();
    dismiss_workers();
    throw;
  }
  if (!workers_.empty())
    pool_->wake(workers_.front());
  else if (!inputs.here)
    pool_->wake();
  return true;
}

void Run::dismiss_workers() {
  if (!workers_.empty()) pool_->give_back(workers_);
}

// Everything that can be told before the first task.
std::optional<Failure> Run::check(const RunInputs& inputs, std::span<Buffer> buffers, Arena& arena) {
  try {
    const std::uint64_t limit = inputs.resources.arena;
    if (!arena.prepare(*source_, inputs.symbols, buffers, limit == 0 ? no_limit : limit))
      return too_small(Reason::arena, arena.bytes(), limit);
  } catch (const std::bad_alloc&) {
    return Failure{.kind = ErrorKind::memory};
  }
  const FpEnv environment;
  std::optional<Failure> failure = plan_.bind(*source_, inputs.symbols, buffers, inputs.slots);
  if (!failure && plan_.needs_dry_walk()) failure = plan_.dry_walk(dry_walk_budget);
  return failure;
}

bool Run::engine_has_work(std::uint32_t worker) const {
  return independent_ ? engine_->loose.has_work() : engine_->ordered.has_work(worker);
}
bool Run::engine_over() const { return independent_ ? engine_->loose.over() : engine_->ordered.over(); }

bool Run::unused() {
  const std::lock_guard lock(mutex_);
  return users_ == 0;
}

void Run::enter_use() {
  const std::lock_guard lock(mutex_);
  ++users_;
}

// The last one out hands the engine back.
void Run::leave_use() noexcept {
  std::unique_ptr<Engine> engine;
  {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) engine = std::move(engine_);
  }
  if (engine) Engines::instance().give(std::move(engine));
}

bool Run::wants_help(std::uint32_t worker) const {
  return !over() && (worker != no_worker || working_.load() < limit_) && engine_has_work(worker);
}

std::uint32_t Run::worker_of(std::uint32_t thread) const {
  const auto at = std::ranges::find(workers_, thread);
  return at == workers_.end() ? no_worker : static_cast<std::uint32_t>(at - workers_.begin());
}

bool Run::expect_help(std::uint32_t thread) noexcept {
  const std::uint32_t worker = worker_of(thread);
  if (worker == no_worker && !workers_.empty()) return false;  // enough threads have a number
  if (!wants_help(worker)) return false;
  enter_use();
  return true;
}

void Run::help(std::uint32_t thread) noexcept {
  Deadline deadline(SteadyClock::now() + turn);
  try {
    participate(worker_of(thread), deadline);
  } catch (const std::bad_alloc&) {
    // No memory for this thread's kernels: others go on without it, and if need be whoever waits. What is pinned to it nobody
    // else may run.
    if (!workers_.empty()) {
      engine_->ordered.fail(Failure{.kind = ErrorKind::memory});
      call_for_help();
    }
    const std::lock_guard lock(mutex_);
    patient_.store(false);
    condition_.notify_all();
  }
  leave_use();
}

bool Run::enter(std::uint32_t worker) {
  std::uint32_t n = working_.load();
  do {
    if (n >= limit_ && worker == no_worker) return false;
  } while (!working_.compare_exchange_weak(n, n + 1));
  std::uint32_t most = most_.load(std::memory_order_relaxed);
  while (most < n + 1 && !most_.compare_exchange_weak(most, n + 1)) {
  }
  return true;
}

void Run::participate(std::uint32_t worker, Deadline& deadline) {
  if (over()) return;
  std::byte* const scratch = Scratch::of_this_thread().get(plan_.scratch_bytes());
  if (!enter(worker)) return;
  {
    const FpEnv environment;
    const auto ask = [](void* self) { static_cast<Run*>(self)->call_for_help(); };
    const auto call = [](void* self, std::uint32_t who) { static_cast<Run*>(self)->call_worker(who); };
    if (independent_) {
      if (engine_has_work(worker) && working_.load(std::memory_order_relaxed) < limit_) call_for_help();
      engine_->loose.work(scratch, deadline);
    } else {
      engine_->ordered.work(worker, scratch, deadline, {working_, ask, call, this});
    }
  }
  working_.fetch_sub(1);
  if (engine_over())
    finish();
  else if (engine_has_work(worker))
    call_for_help();  // whoever found no place, or sleeps, goes on
}

void Run::call_waiting() {
  if (waiting_.load() == 0 || called_.exchange(true)) return;
  const std::lock_guard lock(mutex_);
  condition_.notify_all();
}

void Run::call_for_help() {
  call_waiting();
  for (const std::uint32_t thread : workers_) pool_->wake(thread);
  if (workers_.empty() && (limit_ > 1 || waiting_.load() == 0)) pool_->wake();
}

// Those who wait may help too, unless it is pinned.
void Run::call_worker(std::uint32_t worker) {
  if (wants_help(no_worker)) call_waiting();
  pool_->wake(workers_[worker]);
}

void Run::count_resources() {
  control_.stalls.result(stats_.resources);
  const auto of = [&](Reason reason) -> ResourceStats& { return stats_.resources[static_cast<std::size_t>(reason)]; };
  of(Reason::task_ring).high_water = stats_.max_in_flight;
  of(Reason::arena).high_water = stats_.arena_bytes;
  of(Reason::arena).capacity = control_.resources.arena == 0 ? stats_.arena_bytes : control_.resources.arena;
  if (independent_) of(Reason::task_ring).capacity = limit_;
  // More threads than tasks have nothing to do.
  for (ResourceStats& r : stats_.resources)
    if (r.threads >= stats_.task_count) r.threads = 0;
  ResourceStats& ring = of(Reason::task_ring);
  if (ring.threads != 0) ring.enough = stats_.task_count;
}

void Run::finish() {
  if (finishing_.exchange(true)) return;
  if (independent_) {
    engine_->loose.stats(stats_);
    failure_ = engine_->loose.failure();
  } else {
    engine_->ordered.stats(stats_);
    failure_ = engine_->ordered.failure();
  }
  stats_.threads = most_.load();
  if (independent_) stats_.max_in_flight = std::min<std::uint64_t>(stats_.threads, stats_.task_count);
  count_resources();
  if (stats_.time_overflowed && !failure_) failure_ = Failure{.kind = ErrorKind::overflow};
  if (!failure_) failure_ = window_exceeded(*source_, stats_.windows);
  stats_.wall_ns = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(SteadyClock::now() - began_).count());
  pool_->remove(this);
  dismiss_workers();
  const std::lock_guard lock(mutex_);
  --users_;  // not the last: this thread is inside
  over_.store(true, std::memory_order_release);
  condition_.notify_all();
}

bool Run::wait(SteadyClock::time_point until) {
  Deadline deadline(until);
  while (!over()) {
    if (pool_ != &Pool::instance()) {  // started before a fork, in the parent, whose threads are not here
      lost_.store(true);
      over_.store(true);
      break;
    }
    if (patient_.load()) {
      std::unique_lock lock(mutex_);
      if (!condition_.wait_until(lock, until, [&] { return over() || !patient_.load(); })) return false;
      continue;
    }
    if (wants_help(no_worker)) participate(no_worker, deadline);
    const auto spin_until = std::min(SteadyClock::now() + patience, until);
    while (!over() && !wants_help(no_worker) && SteadyClock::now() < spin_until) relax();
    if (over()) break;
    if (SteadyClock::now() >= until) return false;
    if (wants_help(no_worker)) continue;
    std::unique_lock lock(mutex_);
    waiting_.fetch_add(1);
    condition_.wait_until(lock, until, [&] {
      called_.store(false);
      return over() || wants_help(no_worker);
    });
    waiting_.fetch_sub(1);
  }
  return true;
}

void Run::cancel() {
  control_.cancelled = true;
  if (!over() && pool_ == &Pool::instance()) call_for_help();
}

}  // namespace pto_wsp
