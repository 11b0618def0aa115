#include "pto_wsp/pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <system_error>
#include <thread>

namespace pto_wsp {
namespace {

constexpr std::chrono::microseconds spin_time{20};

std::atomic<Pool*> the_pool{nullptr};
std::mutex making;

// Only the forking thread lives on in the child, and locks may be held by those that do not.
void after_fork() {
  new (&making) std::mutex;
  the_pool.store(nullptr);
}

}  // namespace

Pool& Pool::instance() {
  Pool* pool = the_pool.load(std::memory_order_acquire);
  if (pool != nullptr) return *pool;
  const std::lock_guard lock(making);
  static const int hooked = pthread_atfork(nullptr, nullptr, after_fork);
  static_cast<void>(hooked);
  pool = the_pool.load(std::memory_order_acquire);
  if (pool == nullptr) {
    pool = new Pool;
    the_pool.store(pool, std::memory_order_release);
  }
  return *pool;
}

void Pool::grow(std::uint32_t threads) {
  const std::lock_guard lock(mutex_);
  try {
    for (; threads_ < threads; ++threads_) std::thread([this] { thread(); }).detach();
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are, and whoever waits, do the work.
  }
}

bool Pool::has_threads() {
  const std::lock_guard lock(mutex_);
  return threads_ > 0;
}

void Pool::add(std::shared_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wake();
}

void Pool::remove(const Job* job) {
  const std::lock_guard lock(mutex_);
  std::erase_if(jobs_, [&](const std::shared_ptr<Job>& j) { return j.get() == job; });
}

void Pool::wake() {
  calls_.fetch_add(1);
  if (spinning_.load() > 0 || sleeping_.load() == 0 || wakeups_.load() > 0) return;
  {
    const std::lock_guard lock(mutex_);
    if (wakeups_.load() < sleeping_.load()) wakeups_.fetch_add(1);
  }
  condition_.notify_one();
}

std::shared_ptr<Job> Pool::find() {
  const std::lock_guard lock(mutex_);
  for (const std::shared_ptr<Job>& job : jobs_)
    if (job->expect_help()) return job;
  return nullptr;
}

void Pool::thread() {
  while (true) {
    std::uint64_t seen = calls_.load();
    if (const std::shared_ptr<Job> job = find()) {
      job->help();
      continue;
    }
    spinning_.fetch_add(1);
    const auto until = std::chrono::steady_clock::now() + spin_time;
    while (calls_.load() == seen && std::chrono::steady_clock::now() < until) relax();
    spinning_.fetch_sub(1);
    if (calls_.load() != seen) continue;
    std::unique_lock lock(mutex_);
    sleeping_.fetch_add(1);
    // A call between the last look and now either shows here or finds this thread asleep.
    if (calls_.load() == seen) condition_.wait(lock, [&] { return wakeups_.load() > 0; });
    if (wakeups_.load() > 0) wakeups_.fetch_sub(1);
    sleeping_.fetch_sub(1);
  }
}

}  // namespace pto_wsp
