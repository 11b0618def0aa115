#include "pto_wsp/short_tasks.hpp"

namespace pto_wsp {

ShortTasks::ShortTasks(const Plan& plan, std::chrono::nanoseconds hand_over)
    : known_(std::make_unique<Known[]>(plan.kernels().size())), plan_(&plan), hand_over_(hand_over) {
  if (hand_over != std::chrono::nanoseconds::max()) return;
  for (std::size_t i = 0; i < plan.kernels().size(); ++i)
    if (!plan.kernels()[i].may_be_long()) known_[i].bound = ~std::uint64_t{0};
}

// Two threads that measure at once may lose one of the results; the next will do.
void ShortTasks::measured(std::uint32_t kernel, std::uint64_t cycles, std::chrono::nanoseconds time) {
  if (plan_->kernels()[kernel].may_be_long()) return;
  Known& known = known_[kernel];
  const std::uint64_t bound = known.bound.load(std::memory_order_relaxed);
  if (time < hand_over_) {
    known.longer.store(0, std::memory_order_relaxed);
    if (cycles >= bound) known.bound.store(cycles + 1, std::memory_order_relaxed);
  } else if (cycles < bound && (time / much >= hand_over_ || known.longer.fetch_add(1, std::memory_order_relaxed) + 1 >= in_a_row)) {
    known.longer.store(0, std::memory_order_relaxed);
    known.bound.store(cycles, std::memory_order_relaxed);
  }
}

}  // namespace pto_wsp
