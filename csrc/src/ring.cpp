#include "pto_wsp/ring.hpp"

#include <algorithm>
#include <bit>

namespace pto_wsp {
namespace {

constexpr std::size_t max_idle_args = std::size_t{1} << 16, max_idle_indices = 64, max_idle_joins = 4096;
constexpr std::uint64_t max_idle_edges = std::uint64_t{1} << 16;

}  // namespace

void Ring::prepare(const BoundPlan& plan, const Options& options) {
  plan_ = &plan;
  casualties_ = options.casualties;
  windows_.clear();
  // Other modes bound nothing here.
  for (const Window& w : options.windows) windows_.push_back({w.mode == WindowMode::stall ? w : Window{}, {}, {}});
  limits_ = options.resources;
  ready_limited_ = limits_.ready_queue < limits_.task_window;
  const std::uint64_t capacity = std::bit_ceil(limits_.task_window);
  reset_used();
  if (capacity > allocated_ || max_args_ < plan.max_args()) {
    allocated_ = 0;
    nodes_ = std::make_unique<Node[]>(capacity);
    queue_ = std::make_unique<Cell[]>(capacity);
    max_args_ = plan.max_args();
    args_.resize(capacity * max_args_);
    for (std::uint64_t i = 0; i < capacity; ++i) nodes_[i].args = args_.data() + i * max_args_;
    for (std::uint64_t i = 0; i < capacity; ++i) queue_[i].turn.store(i, std::memory_order_relaxed);
    allocated_ = capacity;
  }
  const std::uint64_t edges = limits_.edges + 1;  // one is for trying
  if (edges_allocated_ < edges) {
    // Pages come from the system as they are touched.
    edges_.reset(static_cast<Edge*>(std::malloc(edges * sizeof(Edge))));
    edges_allocated_ = edges_ == nullptr ? 0 : edges;
    if (edges_ == nullptr) throw std::bad_alloc();
  }
  capacity_ = capacity;
  mask_ = capacity - 1;
  keep_regs_ = options.keep_regs;
  n_regs_ = plan.plan().n_regs();
  ranked_ = options.ranked;
  workers_ = options.workers;
  sequenced_ = options.sequenced;
  if (ranked_) ranked_ready_.prepare(workers_, capacity, sequenced_);
}

// What the last run has touched is again as if new.
void Ring::reset_used() {
  for (std::uint64_t i = 0, n = std::min(issued_, capacity_); i < n; ++i) {
    nodes_[i].done.store(true, std::memory_order_relaxed);
    nodes_[i].serial = 0;
  }
  for (std::uint64_t i = 0, n = std::min(tail_.load(), capacity_); i < n; ++i) queue_[i].turn.store(i, std::memory_order_relaxed);
  issued_ = passed_ = retired_ = max_in_flight_ = 0;
  next_edge_ = edges_taken_ = edges_back_ = max_edges_ = 0;
  entries_ = max_entries_ = all_entries_ = max_after_ = 0;
  max_ready_ = 0;
  begun_ = 0;
  head_ = 0;
  tail_ = 0;
  n_ready_ = 0;
  completed_ = 0;
  joins_.clear();
  released_.clear();
}

void Ring::trim() {
  if (args_.size() > max_idle_args) {
    nodes_.reset();
    queue_.reset();
    free_memory(args_);
    allocated_ = capacity_ = 0;
    max_args_ = 0;
  }
  for (std::uint64_t i = 0, n = std::min(issued_, capacity_); i < n; ++i) {
    if (nodes_[i].indices.capacity() > max_idle_indices) free_memory(nodes_[i].indices);
  }
  if (edges_allocated_ > max_idle_edges) {
    edges_.reset();
    edges_allocated_ = 0;
  }
  if (joins_.size() > max_idle_joins) {
    free_memory(joins_);
    free_memory(released_);
  }
}

Ring::Edge* Ring::closed() {
  static Edge mark{};
  return &mark;
}

// False: the list is closed, what it belongs to is complete.
bool Ring::link(std::atomic<Edge*>& list, Edge* edge) {
  Edge* head = list.load(std::memory_order_acquire);
  do {
    if (head == closed()) return false;
    edge->next = head;
  } while (!list.compare_exchange_weak(head, edge, std::memory_order_acq_rel, std::memory_order_acquire));
  return true;
}

void Ring::retire() {
  while (retired_ < issued_) {
    const Node* first = node_of(retired_ + 1);
    if (!first->done.load()) break;
    InFlight& now = windows_[first->window].now;
    --now.tasks;
    now.bytes -= first->bytes;
    edges_back_ += first->n_edges;
    entries_ -= first->n_entries;
    ++retired_;
  }
}

bool Ring::retired(std::uint64_t serial) {
  retire();
  return serial <= retired_;
}

Reason Ring::lacks(const Placement& placement, const Needs& needs) {
  retire();
  const auto& [limit, now, most] = windows_[placement.window];
  if (now.tasks >= limit.tasks) return Reason::window;
  if (now.tasks != 0 && (now.bytes > limit.bytes || placement.bytes > limit.bytes - now.bytes)) return Reason::window;
  if (issued_ - retired_ >= limits_.task_window) return Reason::task_ring;
  if (ready_limited_ && issued_ - begun_.load() >= limits_.ready_queue) return Reason::ready_queue;
  if (entries_ + needs.entries > limits_.dependence_map) return Reason::dependence_map;
  const std::uint64_t edges = edges_taken_ - edges_back_;
  if (edges + needs.before.size() + needs.after.size() > limits_.edges && edges + unfinished(needs) > limits_.edges) return Reason::edges;
  return Reason::nothing;
}

// How many edges it would take to wait for them now.
std::uint64_t Ring::unfinished(const Needs& needs) const {
  const auto waits = [this](const Ref& ref) {
    return ref.join != nullptr ? !ref.join->done.load(std::memory_order_acquire) : !finished(ref.serial);
  };
  return static_cast<std::uint64_t>(std::ranges::count_if(needs.before, [this](const ClockRef& dep) { return !finished(dep.serial); }) +
                                    std::ranges::count_if(needs.after, waits));
}

std::vector<InFlight> Ring::window_high_water() const {
  std::vector<InFlight> most;
  for (const WindowUse& w : windows_) most.push_back(w.most);
  return most;
}

bool Ring::finished(std::uint64_t serial) const {
  if (serial <= retired_) return true;
  return serial <= issued_ && node_of(serial)->done.load();
}

Ring::Ref Ring::issue(const BoundTask& task, const Inputs& inputs, const Needs& needs, const Placement& placement, Node** here) {
  const std::uint64_t serial = ++issued_;
  Node* node = node_of(serial);
  WindowUse& window = windows_[placement.window];
  ++window.now.tasks;
  window.now.bytes += placement.bytes;
  window.most = {std::max(window.most.tasks, window.now.tasks), std::max(window.most.bytes, window.now.bytes)};
  max_in_flight_ = std::max(max_in_flight_, issued_ - retired_);
  node->serial = serial;
  node->priority = placement.priority;
  node->bytes = placement.bytes;
  node->window = placement.window;
  node->worker = placement.pinned && workers_ != 0 ? placement.lane % workers_ : no_worker;
  node->task = &task;
  node->cycles = inputs.cycles;
  std::copy_n(inputs.args, task.n_args, node->args);
  if (task.n_indices != 0) {
    node->indices.assign(inputs.indices, inputs.indices + task.n_indices);
    plan_->move_indices(task, node->args, node->indices.data());
  }
  if (keep_regs_) node->regs.assign(inputs.regs, inputs.regs + n_regs_);
  node->done.store(false, std::memory_order_relaxed);
  node->successors.store(nullptr, std::memory_order_relaxed);
  node->lost.store(false, std::memory_order_relaxed);
  // Counted in full first, so that nothing brings it to zero while it is being linked.
  const std::size_t n_needs = needs.before.size() + needs.after.size() + (needs.stream != 0 ? 1 : 0);
  node->pending.store(static_cast<std::uint32_t>(n_needs) + 1, std::memory_order_relaxed);
  std::uint32_t met = 1;
  const std::uint64_t first_edge = edges_taken_;
  const auto is_met = [&](bool lost) {
    ++met;
    if (lost) node->lost.store(true, std::memory_order_relaxed);
  };
  const auto wait_for = [&](auto& other) {
    Edge& edge = edges_[next_edge_];
    edge.node = node;
    edge.join = nullptr;
    if (!link(other.successors, &edge)) {
      is_met(other.lost.load(std::memory_order_relaxed));
      return;
    }
    ++edges_taken_;
    next_edge_ = next_edge_ == limits_.edges ? 0 : next_edge_ + 1;
  };
  for (const ClockRef& dep : needs.before) {
    if (finished(dep.serial))
      is_met(lost(dep.serial));
    else
      wait_for(*node_of(dep.serial));
  }
  for (const Ref& ref : needs.after) {
    if (ref.join != nullptr)
      wait_for(*ref.join);
    else if (ref.serial != 0 && !finished(ref.serial))
      wait_for(*node_of(ref.serial));
    else
      is_met(lost(ref.serial));
  }
  if (needs.stream != 0) {
    node->stream.node = node;
    if (finished(needs.stream) || !link(node_of(needs.stream)->successors, &node->stream)) ++met;
  }
  node->n_edges = static_cast<std::uint32_t>(edges_taken_ - first_edge);
  node->n_entries = needs.entries;
  entries_ += needs.entries;
  note_entries(needs);
  max_edges_ = std::max(max_edges_, edges_taken_ - edges_back_);
  if (node->pending.fetch_sub(met, std::memory_order_acq_rel) == met) {
    if (here != nullptr)
      *here = node;
    else
      push(node);
  }
  return {serial, nullptr};
}

// It has retired as far as anybody can see, and takes nothing but the room it would take.
Ring::Ref Ring::pass(const Needs& needs, const Placement& placement) {
  WindowUse& window = windows_[placement.window];
  window.most = {std::max<std::uint64_t>(window.most.tasks, 1), std::max(window.most.bytes, placement.bytes)};
  max_in_flight_ = std::max<std::uint64_t>(max_in_flight_, 1);
  if (ready_limited_) begun_.fetch_add(1);
  ++passed_;
  retired_ = ++issued_;
  entries_ = needs.entries;
  note_entries(needs);
  entries_ = 0;
  return {issued_, nullptr};
}

void Ring::note_entries(const Needs& needs) {
  max_after_ = std::max<std::uint64_t>(max_after_, needs.after.size());
  all_entries_ += needs.entries;
  max_entries_ = std::max(max_entries_, entries_);
}

Ring::Join* Ring::open_join() {
  Join* join = nullptr;
  if (!released_.empty() && released_.front()->done.load(std::memory_order_acquire)) {
    join = released_.front();
    released_.pop_front();
  } else {
    join = &joins_.emplace_back();
  }
  join->pending.store(1, std::memory_order_relaxed);
  join->successors.store(nullptr, std::memory_order_relaxed);
  join->done.store(false, std::memory_order_relaxed);
  join->lost.store(false, std::memory_order_relaxed);
  return join;
}

void Ring::add_member(Join* join, Ref member, Membership kind) {
  if (member.join == nullptr && finished(member.serial)) {
    if (lost(member.serial)) join->lost.store(true, std::memory_order_relaxed);
    return;
  }
  const auto which = static_cast<std::size_t>(kind);
  Node* node = member.join == nullptr ? node_of(member.serial) : nullptr;
  Edge& edge = member.join == nullptr ? node->member[which] : member.join->member[which];
  edge.node = nullptr;
  edge.join = join;
  join->pending.fetch_add(1, std::memory_order_relaxed);
  if (link(member.join == nullptr ? node->successors : member.join->successors, &edge)) return;
  if ((member.join == nullptr ? node->lost : member.join->lost).load(std::memory_order_relaxed))
    join->lost.store(true, std::memory_order_relaxed);
  join->pending.fetch_sub(1, std::memory_order_relaxed);
}

void Ring::seal(Join* join) {
  Node* keep = nullptr;
  if (join->pending.fetch_sub(1, std::memory_order_acq_rel) == 1) complete_join(join, keep);
  if (keep != nullptr) push(keep);
}

Ring::Node* Ring::complete(Node* node) {
  Node* keep = nullptr;
  Edge* edges = node->successors.exchange(closed(), std::memory_order_acq_rel);
  resolve(edges, node->lost.load(std::memory_order_relaxed), keep);
  // In one order with the flag of an orchestrator that waits for this task: either it sees this, or its flag is taken down after.
  node->done.store(true);
  completed_.fetch_add(1, std::memory_order_acq_rel);
  if (sequenced_) ranked_ready_.done();
  return keep;
}

void Ring::complete_join(Join* join, Node*& keep) {
  Edge* const edges = join->successors.exchange(closed(), std::memory_order_acq_rel);
  resolve(edges, join->lost.load(std::memory_order_relaxed), keep);
  join->done.store(true, std::memory_order_release);
}

void Ring::resolve(Edge* edge, bool lost, Node*& keep) {
  while (edge != nullptr) {
    Edge* const next = edge->next;  // before the successor can run and its edges be used again
    if (edge->join != nullptr) {
      Join* const join = edge->join;
      if (lost) join->lost.store(true, std::memory_order_relaxed);
      if (join->pending.fetch_sub(1, std::memory_order_acq_rel) == 1) complete_join(join, keep);
    } else {
      Node* const node = edge->node;
      if (lost && edge != &node->stream) node->lost.store(true, std::memory_order_relaxed);
      if (node->pending.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        if (ranked_) {
          push(node);
        } else {
          if (keep != nullptr) push(keep);
          keep = node;
        }
      }
    }
    edge = next;
  }
}

// There are never more ready tasks than nodes, so there is always room.
void Ring::push(Node* node) {
  if (ranked_) {
    ranked_ready_.push(node->serial, node->priority, node->worker);
    note_ready(ranked_ready_.ready());
    return;
  }
  const std::uint64_t at = tail_.fetch_add(1, std::memory_order_relaxed);
  Cell& cell = queue_[at & mask_];
  while (cell.turn.load(std::memory_order_acquire) != at) {
  }
  cell.node = node;
  cell.turn.store(at + 1, std::memory_order_release);
  note_ready(n_ready_.fetch_add(1) + 1);
}

// For a moment below what there is, if others take it.
void Ring::note_ready(std::uint32_t tasks) {
  const auto ready = static_cast<std::int32_t>(tasks);
  std::int32_t most = max_ready_.load(std::memory_order_relaxed);
  while (ready > most && !max_ready_.compare_exchange_weak(most, ready, std::memory_order_relaxed)) {
  }
}

Ring::Node* Ring::pop() {
  if (n_ready_.load(std::memory_order_relaxed) == 0) return nullptr;
  std::uint64_t at = head_.load(std::memory_order_relaxed);
  while (true) {
    Cell& cell = queue_[at & mask_];
    const std::uint64_t turn = cell.turn.load(std::memory_order_acquire);
    if (turn < at + 1) return nullptr;
    if (turn == at + 1) {
      if (!head_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) continue;
      Node* const node = cell.node;
      cell.turn.store(at + capacity_, std::memory_order_release);
      n_ready_.fetch_sub(1);
      return node;
    }
    at = head_.load(std::memory_order_relaxed);
  }
}

void Ring::result(AllResourceStats& stats) const {
  const auto of = [&](Reason reason) -> ResourceStats& { return stats[static_cast<std::size_t>(reason)]; };
  const std::uint64_t most = std::min(issued_, limits_.task_window);
  of(Reason::task_ring).high_water = max_in_flight_;
  of(Reason::task_ring).enough = issued_;
  of(Reason::dependence_map).high_water = max_entries_;
  of(Reason::dependence_map).enough = all_entries_;
  // Of the tasks in flight each waits for all before it, at most, but for the few that it may meet several times.
  of(Reason::edges).high_water = max_edges_;
  of(Reason::edges).enough = most * (std::max<std::uint64_t>(most, few_conflicts) + max_after_);
  of(Reason::ready_queue).high_water = static_cast<std::uint64_t>(max_ready_.load(std::memory_order_relaxed));
  of(Reason::ready_queue).enough = most;
}

}  // namespace pto_wsp
