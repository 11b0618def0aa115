// The tasks really in flight: a ring in program order, with what each waits for, and the queue of ready ones.
// One thread at a time issues (the orchestrator); any number take ready tasks and complete them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "pto_wsp/control.hpp"

namespace pto_wsp {

class Ring {
 public:
  struct Join;
  struct Node;

  /// An entry of a list of successors; lies in the successor, which outlives its being listed.
  struct Edge {
    Edge* next = nullptr;
    Node* node = nullptr;
    Join* join = nullptr;
  };

  /// What a join is for. A task or join is a member of one join of each kind at most.
  enum class Membership : std::uint8_t { scope, handle };
  static constexpr std::size_t n_memberships = 2;

  struct alignas(64) Node {
    std::atomic<std::uint32_t> pending{0};
    std::atomic<Edge*> successors{nullptr};
    std::atomic<bool> done{true};
    std::uint64_t serial = 0;
    const BoundTask* task = nullptr;
    Arg* args = nullptr;
    std::vector<Edge> edges;
    std::array<Edge, n_memberships> member;
    std::vector<std::int64_t> regs;     // for the hook
    std::vector<std::int64_t> indices;  // of gathers
  };

  /// Completes when sealed and all members are complete.
  struct Join {
    std::atomic<std::uint32_t> pending{0};
    std::atomic<Edge*> successors{nullptr};
    std::atomic<bool> done{false};
    std::array<Edge, n_memberships> member;
  };

  /// Something to wait for: a task by its serial (position + 1), or a join, or nothing.
  struct Ref {
    std::uint64_t serial = 0;
    Join* join = nullptr;
  };

  void prepare(const BoundPlan& plan, bool keep_regs);
  /// Between runs: gives back what few runs need.
  void trim();

  // --- the orchestrator ---
  /// Whether a task of this window has room; retires what is done.
  bool room(std::uint32_t window);
  /// The next task, with a copy of its arguments and indices. Needs room. `before` are serials of earlier tasks.
  Ref issue(const BoundTask& task, const Arg* args, const std::int64_t* indices, const std::int64_t* regs, std::span<const ClockRef> before,
            std::span<const Ref> after);
  Join* open_join();
  void add_member(Join* join, Ref member, Membership kind);
  void seal(Join* join);
  /// No more is asked of this join; its memory is used again once it is complete.
  void release(Join* join) { released_.push_back(join); }
  bool finished(std::uint64_t serial) const;
  /// Whether all tasks up to `serial` are complete.
  bool retired(std::uint64_t serial);
  std::uint64_t issued() const { return issued_; }
  std::uint64_t max_in_flight() const { return max_in_flight_; }

  // --- any thread ---
  /// A task with nothing left to wait for, or null.
  Node* take();
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
  static bool link(std::atomic<Edge*>& list, Edge* edge);
  Node* node_of(std::uint64_t serial) const { return &nodes_[(serial - 1) & mask_]; }
  void push(Node* node);
  void resolve(Edge* edges, Node*& keep);
  void complete_join(Join* join, Node*& keep);

  void reset_used();
  void retire();

  const BoundPlan* plan_ = nullptr;
  std::uint64_t allocated_ = 0, capacity_ = 0, mask_ = 0;  // capacity_: of this run
  std::size_t max_args_ = 0;
  bool keep_regs_ = false;
  std::size_t n_regs_ = 0;
  std::unique_ptr<Node[]> nodes_;
  std::vector<Arg> args_;
  std::uint64_t issued_ = 0, retired_ = 0, max_in_flight_ = 0;
  std::vector<std::uint64_t> window_limit_, window_count_;
  std::deque<Join> joins_;
  std::deque<Join*> released_;

  std::unique_ptr<Cell[]> queue_;
  alignas(64) std::atomic<std::uint64_t> head_{0};
  alignas(64) std::atomic<std::uint64_t> tail_{0};
  alignas(64) std::atomic<std::uint32_t> n_ready_{0};
  alignas(64) std::atomic<std::uint64_t> completed_{0};
};

}  // namespace pto_wsp
