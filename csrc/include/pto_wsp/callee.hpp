// A plan that others call with buffers, from any threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/instance.hpp"

namespace pto_wsp {

/// Dense and row-major.
struct CallBuffer {
  std::byte* data = nullptr;
  std::span<const std::int64_t> dims;
  std::uint32_t dtype = 0;
};

struct CallInputs {
  std::span<const CallBuffer> buffers;
  std::span<const std::int64_t> sources;  // of each tensor, which buffer it is; -1: a temporary
  std::span<const std::int64_t> zeroed;   // buffers that are zeros first
  std::span<const std::int64_t> sizes;    // of each symbol
  std::uint32_t threads = 1;
};

/// Each call is a run of its own, with an instance that no other call has meanwhile.
class Callee {
 public:
  explicit Callee(std::shared_ptr<const Plan> plan, PipelineOptions pipelines = {}) : plan_(std::move(plan)), pipelines_(std::move(pipelines)) {}

  /// Runs and waits; what went wrong in the run. Throws invalid_argument for inputs that are not those of the plan.
  std::optional<Failure> call(const CallInputs& inputs);

  const Plan& plan() const { return *plan_; }

 private:
  static constexpr std::size_t most_idle = 16;

  void check(const CallInputs& inputs) const;
  std::unique_ptr<Instance> take(std::uint32_t threads);
  void give(std::unique_ptr<Instance> instance);

  std::shared_ptr<const Plan> plan_;
  PipelineOptions pipelines_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Instance>> idle_;  // between calls
};

}  // namespace pto_wsp
