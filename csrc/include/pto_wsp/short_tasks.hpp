// Which tasks take less time than another thread needs to take them over: whoever issues them runs them in their place.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// What runs of a plan have shown. Of the tasks of one kernel those with fewer cycles of semantic time are supposed to be no longer
/// than those with more. Never those of kernels that may be long. Any thread may call it.
class ShortTasks {
 public:
  /// To hand a task over and back moves a few cache lines between processors, which takes about so long.
  static constexpr std::chrono::nanoseconds a_hand_over{250};

  /// Shorter than `hand_over`. For tests: 0, no task is; the maximum, all are but those of kernels that may be long.
  explicit ShortTasks(const Plan& plan, std::chrono::nanoseconds hand_over = a_hand_over);

  bool expects(std::uint32_t kernel, std::uint64_t cycles) const { return cycles < known_[kernel].bound.load(std::memory_order_relaxed); }

  /// Whether to measure this one: about one task in 32, whatever the order of kernels.
  static bool samples(std::uint64_t serial) { return (serial * 0x9e3779b97f4a7c15u) >> 59 == 0; }
  void measured(std::uint32_t kernel, std::uint64_t cycles, std::chrono::nanoseconds time);

 private:
  // A task may take longer for what is no fault of its own: it must be much longer, or some in a row.
  static constexpr int much = 8;
  static constexpr std::uint32_t in_a_row = 3;
  struct Known {
    std::atomic<std::uint64_t> bound{0};   // tasks with fewer cycles than that are short
    std::atomic<std::uint32_t> longer{0};  // how many in a row were not
  };
  std::unique_ptr<Known[]> known_;         // by kernel
  const Plan* plan_;
  std::chrono::nanoseconds hand_over_;
};

}  // namespace pto_wsp
