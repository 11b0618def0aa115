// The process's worker threads: persistent, shared by all runs, asleep when there is nothing to do.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
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
  /// Whether one more thread would find something to do; if so it is expected. Called with the pool's lock held.
  virtual bool expect_help() noexcept = 0;
  /// Helps until there has been nothing to do for a while. Follows each `expect_help` that gave true.
  virtual void help() noexcept = 0;
};

/// Never destroyed, so that leaving the process does not wait for its threads; a forked child has a new one.
class Pool {
 public:
  static Pool& instance();

  /// At least so many threads exist from now on, as far as the system gives them.
  void grow(std::uint32_t threads);

  bool has_threads();

  /// Puts a job up and wakes one thread for it.
  void add(std::shared_ptr<Job> job);
  /// From now on no thread is sent to it; some may still be there.
  void remove(const Job* job);

  /// Wakes one more thread if one sleeps.
  void wake();

 private:
  void thread();
  std::shared_ptr<Job> find();

  std::mutex mutex_;
  std::condition_variable condition_;
  std::vector<std::shared_ptr<Job>> jobs_;
  std::uint32_t threads_ = 0;
  std::atomic<std::uint32_t> sleeping_{0}, spinning_{0};
  std::atomic<std::uint64_t> calls_{0};  // every call for help; a thread sleeps only if there was none since it looked
  std::atomic<std::uint32_t> wakeups_{0};  // sleepers called that have not woken yet
};

}  // namespace pto_wsp
