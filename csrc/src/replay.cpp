#include "pto_wsp/replay.hpp"

#include <stdexcept>

namespace pto_wsp {

Replay::Replay(std::span<const std::uint32_t> workers, std::span<const std::uint64_t> order) {
  if (order.size() != workers.size()) throw std::invalid_argument("there must be a worker and a place in the order for each task");
  tasks_.reserve(workers.size());
  for (const std::uint32_t worker : workers) {
    if (worker >= most_workers) throw std::invalid_argument("there are at most 1024 workers");
    n_workers_ = worker < n_workers_ ? n_workers_ : worker + 1;
    tasks_.push_back({worker, 0});
  }
  std::vector<std::uint64_t> turns(n_workers_);
  std::vector<bool> seen(tasks_.size());
  for (const std::uint64_t task : order) {
    if (task >= tasks_.size() || seen[task]) throw std::invalid_argument("the order must have each task once");
    seen[task] = true;
    tasks_[task].turn = turns[tasks_[task].worker]++;
  }
  for (const std::uint64_t n : turns)
    if (n == 0) throw std::invalid_argument("each worker must have a task");
}

}  // namespace pto_wsp
