// One run of a bound plan by any number of threads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/independent.hpp"
#include "pto_wsp/ordered.hpp"
#include "pto_wsp/pool.hpp"

namespace pto_wsp {

/// Used again for the next run once no thread holds it.
class Run : public Job, public std::enable_shared_from_this<Run> {
 public:
  Run() = default;

  /// Checks the plan against buffers and symbols and puts the run up. When a check fails, the run is over at once with nothing
  /// run, and the answer is false.
  bool start(std::shared_ptr<const Plan> plan, std::span<const std::int64_t> symbols, std::span<const Buffer> buffers, std::uint32_t threads,
             TaskHook hook);

  /// Helps until the run is over or the deadline has come; true when it is over.
  bool wait(SteadyClock::time_point until);

  /// No task starts any more.
  void cancel();
  bool over() const { return over_.load(std::memory_order_acquire); }

  /// When over.
  const std::optional<Failure>& failure() const { return failure_; }
  const RunStats& stats() const { return stats_; }

  /// No thread of the pool holds on to the last run.
  bool idle() const { return helpers_.load(std::memory_order_acquire) == 0; }

  bool expect_help() noexcept override;
  void help() noexcept override;

 private:
  bool wants_help() const;
  void participate(Deadline& deadline);
  bool enter();
  bool engine_has_work() const;
  bool engine_over() const;
  void call_for_help();
  void finish();

  std::shared_ptr<const Plan> source_;
  BoundPlan plan_;
  Control control_;
  std::uint32_t limit_ = 1;  // threads that may work at once
  bool independent_ = true;
  Independent loose_;
  Ordered ordered_;

  std::atomic<std::uint32_t> working_{0}, most_{0}, waiting_{0}, helpers_{0};
  std::atomic<bool> over_{true}, finishing_{false}, called_{false};
  Pool* pool_ = nullptr;
  std::mutex mutex_;
  std::condition_variable condition_;
  SteadyClock::time_point began_;
  std::optional<Failure> failure_;
  RunStats stats_;
};

}  // namespace pto_wsp
