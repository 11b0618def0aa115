// The tasks really in flight: a ring in program order, with what each waits for, and the queue of ready ones.
// One thread at a time issues (the orchestrator); any number take ready tasks and complete them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "pto_wsp/casualties.hpp"
#include "pto_wsp/control.hpp"

namespace pto_wsp {

class Ring {
 public:
  struct Join;
  struct Node;

  /// An entry of a list of successors; belongs to the successor, which outlives its being listed.
  struct Edge {
    Edge* next;
    Node* node;
    Join* join;
  };

  /// What a join is for. A task or join is a member of one join of each kind at most.
  enum class Membership : std::uint8_t { scope, handle };
  static constexpr std::size_t n_memberships = 2;

  struct alignas(64) Node {
    std::atomic<std::uint32_t> pending{0};
    std::atomic<Edge*> successors{nullptr};
    std::atomic<bool> done{true};
    std::atomic<bool> lost{false};      // it fails, or comes after what is lost: what comes after it is lost too
    std::uint64_t serial = 0;
    const BoundTask* task = nullptr;
    Arg* args = nullptr;
    std::uint64_t n_entries = 0;        // of the dependence map
    std::uint32_t n_edges = 0;
    std::array<Edge, n_memberships> member{};
    std::vector<std::int64_t> regs;     // for the hook
    std::vector<std::int64_t> indices;  // of gathers
  };

  /// Completes when sealed and all members are complete.
  struct Join {
    std::atomic<std::uint32_t> pending{0};
    std::atomic<Edge*> successors{nullptr};
    std::atomic<bool> done{false};
    std::atomic<bool> lost{false};
    std::array<Edge, n_memberships> member{};
  };

  /// Something to wait for: a task by its serial (position + 1), or a join, or nothing.
  struct Ref {
    std::uint64_t serial = 0;
    Join* join = nullptr;
  };

  static constexpr std::size_t few_conflicts = 4;

  /// What a task waits for, earlier tasks and anything, and how many entries of the dependence map it has.
  struct Needs {
    std::span<const ClockRef> before;  // each task once, but for `few_conflicts` of them
    std::span<const Ref> after;
    std::uint64_t entries;
  };

  /// `resources`: as `resolve` gives them. `casualties`: where tasks that are lost are told of, or null: then there are none.
  void prepare(const BoundPlan& plan, bool keep_regs, const Resources& resources, const Casualties* casualties);
  /// Between runs: gives back what few runs need.
  void trim();

  // --- the orchestrator ---
  /// What there is too little of for a task of this window; retires what is done.
  Reason lacks(std::uint32_t window, const Needs& needs);
  /// The next task, with a copy of its arguments and indices. Must lack nothing.
  Ref issue(const BoundTask& task, const Arg* args, const std::int64_t* indices, const std::int64_t* regs, const Needs& needs);
  Join* open_join();
  void add_member(Join* join, Ref member, Membership kind);
  void seal(Join* join);
  /// No more is asked of this join; its memory is used again once it is complete.
  void release(Join* join) { released_.push_back(join); }
  bool finished(std::uint64_t serial) const;
  /// Whether all tasks up to `serial` are complete.
  bool retired(std::uint64_t serial);
  std::uint64_t issued() const { return issued_; }
  /// Those known to have retired.
  std::uint64_t retired() const { return retired_; }
  std::uint64_t max_in_flight() const { return max_in_flight_; }
  /// All but times.
  void result(AllResourceStats& stats) const;

  // --- any thread ---
  /// A task with nothing left to wait for, or null.
  Node* take();
  /// One that was taken, or came from `complete`, runs now. Whether that makes room that the orchestrator may wait for.
  bool begin() {
    if (ready_limited_) begun_.fetch_add(1);
    return ready_limited_;
  }
  /// One that was taken, or came from `complete`, and was not run after all.
  void put_back(Node* node) { push(node); }
  /// Gives a task that has become ready so, for the same thread to run, or null.
  Node* complete(Node* node);
  std::uint32_t ready() const { return n_ready_.load(); }
  std::uint64_t completed() const { return completed_.load(std::memory_order_acquire); }

 private:
  // Bounded queue of many producers and consumers (D. Vyukov): a cell's turn says who may use it.
  struct Cell {
    std::atomic<std::uint64_t> turn{0};
    Node* node = nullptr;
  };

  static Edge* closed();
  bool lost(std::uint64_t serial) const { return casualties_ != nullptr && casualties_->lost(serial); }
  static bool link(std::atomic<Edge*>& list, Edge* edge);
  Node* node_of(std::uint64_t serial) const { return &nodes_[(serial - 1) & mask_]; }
  void push(Node* node);
  void resolve(Edge* edges, bool lost, Node*& keep);
  void complete_join(Join* join, Node*& keep);

  void reset_used();
  void retire();
  std::uint64_t unfinished(const Needs& needs) const;

  const BoundPlan* plan_ = nullptr;
  const Casualties* casualties_ = nullptr;
  Resources limits_;
  bool ready_limited_ = false;  // to less than all tasks in flight
  std::uint64_t allocated_ = 0, capacity_ = 0, mask_ = 0;  // capacity_: nodes of this run, a power of two
  std::size_t max_args_ = 0;
  bool keep_regs_ = false;
  std::size_t n_regs_ = 0;
  std::unique_ptr<Node[]> nodes_;
  std::vector<Arg> args_;
  std::uint64_t issued_ = 0, retired_ = 0, max_in_flight_ = 0;
  std::vector<std::uint64_t> window_limit_, window_count_;
  // Taken in program order and given back in it: a ring too.
  struct Free {
    void operator()(Edge* edges) const { std::free(edges); }
  };
  std::unique_ptr<Edge[], Free> edges_;
  std::uint64_t edges_allocated_ = 0, next_edge_ = 0, edges_taken_ = 0, edges_back_ = 0, max_edges_ = 0;
  std::uint64_t entries_ = 0, max_entries_ = 0, all_entries_ = 0, max_after_ = 0;
  std::deque<Join> joins_;
  std::deque<Join*> released_;

  std::unique_ptr<Cell[]> queue_;
  alignas(64) std::atomic<std::uint64_t> head_{0};
  alignas(64) std::atomic<std::uint64_t> tail_{0};
  alignas(64) std::atomic<std::uint32_t> n_ready_{0};
  std::atomic<std::int32_t> max_ready_{0};
  alignas(64) std::atomic<std::uint64_t> completed_{0};
  std::atomic<std::uint64_t> begun_{0};
};

}  // namespace pto_wsp
