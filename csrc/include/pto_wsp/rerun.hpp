// Runs of a plan that go as one before them has gone, with other memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/arena.hpp"
#include "pto_wsp/bound.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/walker.hpp"

namespace pto_wsp {

/// A run once more: bound as it was, on the calling thread alone, in program order. Neither is it bound again nor is its semantic time worked out:
/// where no data decides, both depend on sizes and shapes alone, and what has gone well goes well again. What kernels meet in their numbers,
/// and tasks that are checked when they come, are told as by any run. One at a time.
class Rerun {
 public:
  /// Whether that may be said of the plan's runs: no data decides, there are no processes, and program order will do.
  static bool suits(const Plan& plan);

  /// After a run without failure, with these symbols and with buffers of these shapes and strides. Throws bad_alloc.
  Rerun(std::shared_ptr<const Plan> plan, std::span<const std::int64_t> symbols, std::vector<Buffer> buffers);

  /// `memory`: of each tensor; what stands for temporaries is not looked at. What went wrong. Throws bad_alloc.
  std::optional<Failure> run(std::span<std::byte* const> memory);

  /// Of temporaries, kept between runs.
  std::uint64_t arena_bytes() const { return arena_.bytes(); }

 private:
  std::shared_ptr<const Plan> plan_;
  Arena arena_;
  BoundPlan bound_;
  std::vector<std::byte*> bound_to_;  // memory of each tensor
  std::vector<std::uint64_t> moves_;  // bytes, modulo 2^64
  Control control_;
  Walker walker_;
  std::vector<Arg> args_;
};

}  // namespace pto_wsp
