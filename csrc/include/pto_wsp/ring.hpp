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
#include "pto_wsp/ready.hpp"

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
    // On one cache line: what every task has.
    std::atomic<std::uint32_t> pending{0};
    std::uint32_t window = 0;
    std::atomic<Edge*> successors{nullptr};
    std::atomic<bool> done{true};
    std::atomic<bool> lost{false};      // it fails, or comes after what is lost: what comes after it is lost too
    std::uint32_t worker = no_worker;  // who alone may run it
    std::uint64_t serial = 0;
    const BoundTask* task = nullptr;
    Arg* args = nullptr;
    std::uint64_t bytes = 0;
    std::uint64_t n_entries = 0;        // of the dependence map

    std::uint64_t cycles = 0;           // of semantic time
    std::uint32_t n_edges = 0;
    std::int64_t priority = 0;
    std::array<Edge, n_memberships> member{};
    Edge stream{};                      // behind the last task of its stream
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
    std::uint64_t stream = 0;          // the last task of its stream: comes before it, but nothing of it is used
  };

  struct Options {
    std::span<const Window> windows;
    Resources resources;        // as `resolve` gives them
    const Casualties* casualties = nullptr;  // where tasks that are lost are told of; null: there are none
    bool keep_regs = false;
    bool ranked = false;        // priorities and pins are honoured, and it can be closed
    std::uint32_t workers = 0;  // tasks are pinned to; 0: to none
    bool sequenced = false;     // each worker has an order of its own: see RankedReady
  };

  void prepare(const BoundPlan& plan, const Options& options);
  /// Between runs: gives back what few runs need.
  void trim();

  // --- the orchestrator ---
  /// What there is too little of for a task placed so; retires what is done. An empty window has room for any number of bytes.
  Reason lacks(const Placement& placement, const Needs& needs);
  /// What a task is issued with, of which the ring keeps a copy.
  struct Inputs {
    const Arg* args;
    const std::int64_t* indices;
    const std::int64_t* regs;
    std::uint64_t cycles;
  };

  /// The next task. Must lack nothing. `here`: where it waits for nothing it is not for any thread to take, but comes back there.
  Ref issue(const BoundTask& task, const Inputs& inputs, const Needs& needs, const Placement& placement, Node** here = nullptr);
  /// Whether all that was issued is complete, as far as `lacks` or `retired` have seen.
  bool idle() const { return issued_ == retired_; }
  /// The next task of an idle ring, which is run before anything else is asked of it.
  Ref pass(const Needs& needs, const Placement& placement);
  Join* open_join();
  void add_member(Join* join, Ref member, Membership kind);
  void seal(Join* join);
  /// No more is asked of this join; its memory is used again once it is complete.
  void release(Join* join) { released_.push_back(join); }
  bool finished(std::uint64_t serial) const;
  /// Whether all tasks up to `serial` are complete.
  bool retired(std::uint64_t serial);
  std::uint64_t issued() const { return issued_; }
  /// Of those, how many any thread completes: all that it has not only passed.
  std::uint64_t shared() const { return issued_ - passed_; }
  /// Those known to have retired.
  std::uint64_t retired() const { return retired_; }
  std::uint64_t max_in_flight() const { return max_in_flight_; }
  /// The most of each window.
  std::vector<InFlight> window_high_water() const;
  /// While a ranked ring is closed, nothing is taken.
  void open() { ranked_ready_.open(); }
  /// Of a sequenced ring: some tasks of its order will never be issued.
  void leave_gaps() { ranked_ready_.leave_gaps(); }
  void close() { ranked_ready_.close(); }

  /// All but times.
  void result(AllResourceStats& stats) const;

  // --- any thread ---
  /// A task with nothing left to wait for that this worker may run, or null.
  Node* take(std::uint32_t worker) {
    if (!ranked_) [[likely]]
      return pop();
    const std::uint64_t serial = ranked_ready_.take(worker);
    return serial == 0 ? nullptr : node_of(serial);
  }
  /// One that is not to be run any more, whoever it is pinned to, or null.
  Node* take_any() {
    if (!ranked_) return pop();
    const std::uint64_t serial = ranked_ready_.take_any();
    return serial == 0 ? nullptr : node_of(serial);
  }
  /// One that was taken, or came from `complete`, runs now. Whether that makes room that the orchestrator may wait for.
  bool begin() {
    if (ready_limited_) begun_.fetch_add(1);
    return ready_limited_;
  }
  /// One that was taken, or came from `complete`, and was not run after all.
  void put_back(Node* node) { push(node); }
  /// Gives a task that has become ready so, for the same thread to run, or null. A ranked ring has to be asked for the best one.
  Node* complete(Node* node);
  std::uint32_t ready() const { return ranked_ ? ranked_ready_.ready() : n_ready_.load(); }
  /// How many of them this worker may take now.
  std::uint32_t ready(std::uint32_t worker) const { return ranked_ ? ranked_ready_.ready(worker) : n_ready_.load(); }
  /// A ranked ring's workers come and go; the others are called.
  void enter(std::uint32_t worker) { ranked_ready_.enter(worker); }
  void leave(std::uint32_t worker) { ranked_ready_.leave(worker); }
  std::uint32_t call() { return ranked_ready_.call(); }
  /// Of a sequenced ring: nothing runs and nothing may be taken; which worker waits for which of its tasks.
  bool quiet() const { return ranked_ready_.quiet(); }
  std::pair<std::uint32_t, std::uint64_t> waiting() const { return ranked_ready_.waiting(); }
  /// Of shared().
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
  Node* pop();
  void note_ready(std::uint32_t tasks);
  void resolve(Edge* edges, bool lost, Node*& keep);
  void complete_join(Join* join, Node*& keep);

  void reset_used();
  void retire();
  void note_entries(const Needs& needs);
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
  std::uint64_t issued_ = 0, passed_ = 0, retired_ = 0, max_in_flight_ = 0;
  struct WindowUse {
    Window limit;
    InFlight now, most;
  };
  std::vector<WindowUse> windows_;
  // Taken in program order and given back in it: a ring too.
  struct Free {
    void operator()(Edge* edges) const { std::free(edges); }
  };
  std::unique_ptr<Edge[], Free> edges_;
  std::uint64_t edges_allocated_ = 0, next_edge_ = 0, edges_taken_ = 0, edges_back_ = 0, max_edges_ = 0;
  std::uint64_t entries_ = 0, max_entries_ = 0, all_entries_ = 0, max_after_ = 0;
  std::deque<Join> joins_;
  std::deque<Join*> released_;

  bool ranked_ = false, sequenced_ = false;
  std::uint32_t workers_ = 0;
  RankedReady ranked_ready_;
  std::unique_ptr<Cell[]> queue_;     // of a ring that is not ranked
  alignas(64) std::atomic<std::uint64_t> head_{0};
  alignas(64) std::atomic<std::uint64_t> tail_{0};
  alignas(64) std::atomic<std::uint32_t> n_ready_{0};
  std::atomic<std::int32_t> max_ready_{0};
  alignas(64) std::atomic<std::uint64_t> completed_{0};
  std::atomic<std::uint64_t> begun_{0};
};

}  // namespace pto_wsp
