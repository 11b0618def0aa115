#include "pto_wsp/pool.hpp"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <ranges>
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
  threads_.reserve(threads);
  asleep_.reserve(threads);
  try {
    while (threads_.size() < threads) {
      auto next = std::make_unique<Thread>(static_cast<std::uint32_t>(threads_.size()));
      std::thread([this, self = next.get()] { work(*self); }).detach();
      threads_.push_back(std::move(next));
    }
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are, and whoever waits, do the work.
  }
}

bool Pool::has_threads() {
  const std::lock_guard lock(mutex_);
  return !threads_.empty();
}

std::vector<std::uint32_t> Pool::choose(std::uint32_t threads) {
  const std::lock_guard lock(mutex_);
  std::vector<Thread*> all;
  for (const auto& t : threads_) all.push_back(t.get());
  std::ranges::stable_sort(all, {}, &Thread::chosen);
  std::vector<std::uint32_t> chosen;
  for (Thread* t : all | std::views::take(threads)) chosen.push_back(t->index);
  for (const std::uint32_t i : chosen) ++threads_[i]->chosen;
  return chosen;
}

void Pool::give_back(std::span<const std::uint32_t> threads) {
  const std::lock_guard lock(mutex_);
  for (const std::uint32_t i : threads) --threads_[i]->chosen;
}

void Pool::add(std::shared_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
}

void Pool::remove(const Job* job) {
  const std::lock_guard lock(mutex_);
  std::erase_if(jobs_, [&](const std::shared_ptr<Job>& j) { return j.get() == job; });
}

void Pool::wake() {
  calls_.fetch_add(1);
  if (spinning_.load() > 0 || sleeping_.load() == 0 || wakeups_.load() > 0) return;
  Thread* sleeper = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (asleep_.empty()) return;
    sleeper = asleep_.back();
    sleeper->any = true;
    wakeups_.fetch_add(1);
    call(*sleeper);
  }
  sleeper->condition.notify_one();
}

void Pool::wake(std::uint32_t thread) {
  calls_.fetch_add(1);
  Thread* sleeper = nullptr;
  {
    const std::lock_guard lock(mutex_);
    sleeper = threads_[thread].get();
    if (std::ranges::find(asleep_, sleeper) == asleep_.end()) return;
    call(*sleeper);
  }
  sleeper->condition.notify_one();
}

void Pool::call(Thread& sleeper) {
  std::erase(asleep_, &sleeper);
  sleeping_.fetch_sub(1);
  sleeper.called = true;
}

// False: nobody wants it. Whoever has been helped comes last the next time.
bool Pool::help(Thread& self) {
  std::shared_ptr<Job> job;
  bool others = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(jobs_, [&](const std::shared_ptr<Job>& j) { return j->expect_help(self.index); });
    if (found == jobs_.end()) return false;
    job = *found;
    std::rotate(found, found + 1, jobs_.end());
    others = jobs_.size() > 1;
  }
  if (others) wake();  // the call that woke this thread may have been theirs
  job->help(self.index);
  return true;
}

void Pool::work(Thread& self) {
  while (true) {
    const std::uint64_t seen = calls_.load();
    if (help(self)) continue;
    spinning_.fetch_add(1);
    const auto until = std::chrono::steady_clock::now() + spin_time;
    while (calls_.load() == seen && std::chrono::steady_clock::now() < until) relax();
    spinning_.fetch_sub(1);
    if (calls_.load() == seen) sleep(self, seen);
  }
}

void Pool::sleep(Thread& self, std::uint64_t seen) {
  std::unique_lock lock(mutex_);
  asleep_.push_back(&self);
  sleeping_.fetch_add(1);
  // A call between the last look and now either shows here or finds this thread asleep.
  if (calls_.load() != seen) {
    asleep_.pop_back();
    sleeping_.fetch_sub(1);
    return;
  }
  self.condition.wait(lock, [&] { return self.called; });
  if (self.any) wakeups_.fetch_sub(1);
  self.called = self.any = false;
}

}  // namespace pto_wsp
