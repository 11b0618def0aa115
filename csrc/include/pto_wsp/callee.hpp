// A plan that others call with buffers, from any threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/call_table.h"
#include "pto_wsp/instance.hpp"
#include "pto_wsp/rerun.hpp"

namespace pto_wsp {

/// What the numbers of a call say; call_table.h says how they stand.
struct CallNumbers {
  std::uint32_t threads = 1;
  std::span<const std::int64_t> sources{};
  std::span<const std::int64_t> zeroed{};
  std::span<const std::int64_t> wide{};
  std::span<const std::int64_t> sizes{};
  std::span<const std::int64_t> sized{};
};

/// Throws invalid_argument for numbers of another version, and for what are none.
CallNumbers numbers_of(std::span<const std::int64_t> numbers);

/// Each call is a run of its own, with an instance that no other call has meanwhile. Short calls that differ in nothing but memory from
/// others before them are made by the calling thread alone, see Rerun.
class Callee {
 public:
  explicit Callee(std::shared_ptr<const Plan> plan, PipelineOptions pipelines = {}) : plan_(std::move(plan)), pipelines_(std::move(pipelines)) {}

  /// Runs and waits; what went wrong in the run. Throws invalid_argument for inputs that are not those of the plan. Changes the list of
  /// `buffers`: those of `wide` are of 64 bits then.
  std::optional<Failure> call(std::span<PtoWspBuffer> buffers, const CallNumbers& numbers);

  const Plan& plan() const { return *plan_; }

 private:
  static constexpr std::size_t most_idle = 16;

  // What one call at a time has.
  struct Seat {
    Seat(std::shared_ptr<const Plan> plan, std::uint32_t threads) : instance(std::move(plan), threads) {}
    Instance instance;
    std::vector<std::int64_t> shape;  // all of the last call's inputs but memory
    bool went_well = false;           // the last run
    bool looked_at = false;           // whether calls of this shape may be made by their thread alone
    std::unique_ptr<Rerun> rerun;     // if so
    bool short_enough = false;        // for one thread; false: to be measured
    int longer = 0;                   // times in a row that it was not
    std::vector<std::byte*> memory;   // of each tensor, for the rerun
  };

  struct CallInputs {
    std::span<const PtoWspBuffer> buffers;
    std::span<const std::int64_t> sources;  // of each tensor, which buffer it is; -1: a temporary
    std::span<const std::int64_t> zeroed;   // buffers that are zeros first
    std::span<const std::int64_t> sizes;    // of each symbol
    std::uint32_t threads;
  };
  template <class Say>
  static bool tell_shape(const CallInputs& inputs, Say say);
  static bool has_shape(const CallInputs& inputs, std::span<const std::int64_t> shape);

  std::vector<std::int64_t> sizes(std::span<const PtoWspBuffer> buffers, const CallNumbers& numbers) const;
  void check(const CallInputs& inputs) const;
  std::optional<Failure> run(Seat& seat, const CallInputs& inputs) const;
  std::optional<Failure> run_again(Seat& seat, const CallInputs& inputs) const;
  void look_at(Seat& seat, const CallInputs& inputs) const;
  std::unique_ptr<Seat> take(std::uint32_t threads);
  void give(std::unique_ptr<Seat> seat);

  std::shared_ptr<const Plan> plan_;
  PipelineOptions pipelines_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Seat>> idle_;  // between calls
};

}  // namespace pto_wsp
