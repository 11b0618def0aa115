#include "pto_wsp/rerun.hpp"

#include <stdexcept>
#include <utility>

#include "pto_wsp/isa.hpp"

namespace pto_wsp {

bool Rerun::suits(const Plan& plan) { return !plan.reads_data() && plan.pipelines().empty() && !plan.demands().order(); }

Rerun::Rerun(std::shared_ptr<const Plan> plan, std::span<const std::int64_t> symbols, std::vector<Buffer> buffers) : plan_(std::move(plan)) {
  if (!suits(*plan_)) throw std::invalid_argument("runs of the plan depend on more than sizes");
  arena_.prepare(*plan_, symbols, buffers, ~std::uint64_t{0});
  if (bound_.bind(*plan_, symbols, buffers)) throw std::invalid_argument("the run has failed");
  for (const Buffer& b : buffers) bound_to_.push_back(b.data);
  moves_.resize(bound_to_.size());
  args_.resize(bound_.max_args());
}

std::optional<Failure> Rerun::run(std::span<std::byte* const> memory) {
  for (std::size_t i = 0; i < bound_to_.size(); ++i) {
    if (plan_->tensors()[i].temporary) continue;
    moves_[i] = reinterpret_cast<std::uint64_t>(memory[i]) - reinterpret_cast<std::uint64_t>(bound_to_[i]);
    bound_to_[i] = memory[i];
  }
  bound_.move(moves_);
  std::byte* const scratch = Scratch::of_this_thread().get(bound_.scratch_bytes());
  const FpEnv environment;
  walker_.reset(bound_, bound_.root(), bound_.initial_regs());
  Failure failure;
  while (true) {
    switch (walker_.next()) {
      case Walker::Event::task: {
        const BoundTask& task = bound_.task(walker_.task());
        if (!bound_.prepare(task, walker_.regs(), args_.data(), failure, nullptr)) return failure;
        if (!run_kernel(bound_, control_, task, args_.data(), scratch, walker_.regs(), failure)) return failure;
        break;
      }
      case Walker::Event::acquire:
        if (walker_.zeroed()) arena_.clear(walker_.id());
        break;
      case Walker::Event::failed:
        return std::move(walker_.failure());
      case Walker::Event::end:
        return std::nullopt;
      default:  // what is next in program order need not wait
        break;
    }
  }
}

}  // namespace pto_wsp
