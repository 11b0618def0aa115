#include "pto_wsp/network_remedy.hpp"

#include <algorithm>

#include "pto_wsp/plan.hpp"

namespace pto_wsp {
namespace {

// Waits as a graph of processes and channels: a process waits for its channel, a channel for who is at its other end. The components
// in which each waits for each, by Tarjan.
class Waits {
 public:
  Waits(const Network& network, std::span<const std::vector<std::uint32_t>> produces, std::span<const std::vector<std::uint32_t>> consumers)
      : network_(network), processes_(static_cast<std::uint32_t>(network.processes())), others_(network.channels()) {
    const auto n = static_cast<std::uint32_t>(network.channels());
    for (std::uint32_t c = 0; c < n; ++c)
      if (network.senders_wait(c)) others_[c] = live(consumers[c]);
    for (std::uint32_t p = 0; p < processes_; ++p)
      for (const std::uint32_t c : produces[p])
        if (network.waiting(c) != 0 && !network.senders_wait(c) && network.may_send(p, c)) others_[c].push_back(p);
    nodes_.resize(processes_ + n);
    for (std::uint32_t p = 0; p < processes_; ++p)
      if (!network.ended(p) && nodes_[p].number == 0) visit(p);
  }

  bool nobody_at_the_other_end(std::uint32_t channel) const { return others_[channel].empty(); }
  bool on_a_cycle(std::uint32_t channel) const { return nodes_[processes_ + channel].on_cycle; }

 private:
  struct Node {
    std::uint32_t number = 0, lowest = 0;      // in order of visits, from 1
    std::uint32_t next = 0;                    // of what it waits for
    bool open = false, on_cycle = false;
  };

  std::vector<std::uint32_t> live(const std::vector<std::uint32_t>& processes) const {
    std::vector<std::uint32_t> out;
    std::ranges::copy_if(processes, std::back_inserter(out), [&](std::uint32_t p) { return !network_.ended(p); });
    return out;
  }

  // The next of what a node waits for.
  std::optional<std::uint32_t> advance(std::uint32_t node) {
    const std::uint32_t i = nodes_[node].next++;
    if (node < processes_) return i == 0 ? std::optional(processes_ + network_.action(node).channel) : std::nullopt;
    const std::vector<std::uint32_t>& others = others_[node - processes_];
    return i < others.size() ? std::optional(others[i]) : std::nullopt;
  }

  void enter(std::uint32_t node) {
    nodes_[node].number = nodes_[node].lowest = ++visited_;
    nodes_[node].open = true;
    path_.push_back(node);
    open_.push_back(node);
  }

  void visit(std::uint32_t first) {
    enter(first);
    while (!path_.empty()) {
      const std::uint32_t at = path_.back();
      if (const std::optional<std::uint32_t> to = advance(at)) {
        if (nodes_[*to].number == 0)
          enter(*to);
        else if (nodes_[*to].open)
          nodes_[at].lowest = std::min(nodes_[at].lowest, nodes_[*to].number);
        continue;
      }
      path_.pop_back();
      if (!path_.empty()) nodes_[path_.back()].lowest = std::min(nodes_[path_.back()].lowest, nodes_[at].lowest);
      if (nodes_[at].lowest == nodes_[at].number) leave(at);
    }
  }

  // No node waits for itself, so that a cycle has two at least.
  void leave(std::uint32_t root) {
    const bool several = open_.back() != root;
    std::uint32_t node;
    do {
      node = open_.back();
      open_.pop_back();
      nodes_[node].open = false;
      nodes_[node].on_cycle = several;
    } while (node != root);
  }

  const Network& network_;
  std::uint32_t processes_, visited_ = 0;
  std::vector<std::vector<std::uint32_t>> others_;  // of channels: who those that wait for them wait for
  std::vector<Node> nodes_;                         // processes, then channels
  std::vector<std::uint32_t> path_, open_;
};

}  // namespace

std::optional<std::uint32_t> channel_to_raise(const Network& network, std::span<const std::vector<std::uint32_t>> produces,
                                              std::span<const std::vector<std::uint32_t>> consumers, std::span<const std::uint32_t> buffers) {
  const Waits waits(network, produces, consumers);
  std::optional<std::uint32_t> found;
  for (std::uint32_t c = 0; c < network.channels(); ++c) {
    const std::uint32_t awaited = buffers.empty() || network.senders_wait(c) ? c : buffers[c];
    if (awaited == none || network.waiting(awaited) == 0 || network.senders_wait(awaited) != (awaited == c)) continue;
    if (!waits.on_a_cycle(awaited) && !waits.nobody_at_the_other_end(awaited)) continue;
    if (!found || network.capacity(c) < network.capacity(*found)) found = c;
  }
  return found;
}

}  // namespace pto_wsp
