// The process's worker threads: persistent, shared by all runs, asleep when there is nothing to do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace pto_wsp {

/// A moment in a spinning loop.
inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

/// Something that idle threads can help with.
class Job {
 public:
  virtual ~Job() = default;
  /// Whether this thread of the pool would find something to do; if so it is expected. Called with the pool's lock held.
  virtual bool expect_help(std::uint32_t thread) noexcept = 0;
  /// Helps until there has been nothing to do for a while, or others may be waiting. Follows each `expect_help` that gave true.
  virtual void help(std::uint32_t thread) noexcept = 0;
};

/// Never destroyed, so that leaving the process does not wait for its threads; a forked child has a new one.
class Pool {
 public:
  static Pool& instance();

  /// At least so many threads exist from now on, as far as the system gives them.
  void grow(std::uint32_t threads);

  bool has_threads();

  /// Threads for a job that needs certain ones: `threads` of them, or all where there are fewer. Those that the fewest jobs have.
  /// To be given back.
  std::vector<std::uint32_t> choose(std::uint32_t threads);
  void give_back(std::span<const std::uint32_t> threads);

  /// Puts a job up. Somebody has to be woken for it.
  void add(std::shared_ptr<Job> job);
  /// From now on no thread is sent to it; some may still be there.
  void remove(const Job* job);

  /// Wakes one more thread if one sleeps.
  void wake();
  /// Wakes this one if it sleeps.
  void wake(std::uint32_t thread);

 private:
  struct Thread {
    explicit Thread(std::uint32_t number) : index(number) {}
    const std::uint32_t index;
    std::uint32_t chosen = 0;  // by so many jobs
    bool called = false;
    bool any = false;          // called because one was wanted, whichever
    std::condition_variable condition;
  };

  void work(Thread& self);
  void sleep(Thread& self, std::uint64_t seen);
  bool help(Thread& self);
  void call(Thread& sleeper);  // who is to be told afterwards, without the lock

  std::mutex mutex_;
  std::vector<std::shared_ptr<Job>> jobs_;
  std::vector<std::unique_ptr<Thread>> threads_;
  std::vector<Thread*> asleep_;          // and not called
  std::atomic<std::uint32_t> sleeping_{0}, spinning_{0};
  std::atomic<std::uint64_t> calls_{0};  // every call for help; a thread sleeps only if there was none since it looked
  std::atomic<std::uint32_t> wakeups_{0};  // sleepers called, whichever, that have not woken yet
};

}  // namespace pto_wsp
