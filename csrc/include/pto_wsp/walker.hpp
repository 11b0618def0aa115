// Program order, one step at a time: the loops of a bound plan as a resumable iterator.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {

class Walker {
 public:
  enum class Event : std::uint8_t {
    task,        // task() at regs()
    seq_enter,   // sequential() or a sequential loop begins,
    seq_next,    //   one part or iteration of it has ended,
    seq_leave,   //   it has ended
    read,        // a scalar is read from what tasks may still write: once they are done, complete_read()
    acquire,     // id(): a temporary gets its memory,
    release,     //   gives it back
    reset,       // id(): nothing has joined this handle yet
    pipeline,    // at(): its processes are walked by others
    send,        // a process comes to its port at(), and to what it says: a token is sent,
    receive,     //   or received: take()
    consume,     //   or where there is one, take(), or else leave()
    close,       //   or no more is sent
    try_send,    //   or sent where there is room: answer()
    query,       //   or whether there is one: answer()
    pause,       // many steps since the last pause: look at the clock, then call again
    end,
    failed       // failure()
  };

  /// From the beginning of `node`, with these registers and the slots as they are at the start of a run.
  void reset(const BoundPlan& plan, std::uint32_t node, const std::vector<std::int64_t>& regs);
  /// From the beginning of `node`, with the registers and slots that another walker has now.
  void branch(const Walker& from, std::uint32_t node);

  Event next();

  std::uint32_t task() const { return task_; }
  /// A tensor or a handle.
  std::uint32_t id() const { return id_; }
  /// Of a temporary that has been acquired: whether its memory begins as zeros.
  bool zeroed() const { return zeroed_; }
  /// What a read waits for. It is in bounds, and of at least one element.
  const Node& read() const { return *reading_->plan; }
  const TrackedView& read_view() const { return plan_->reads()[reading_->task].from.view; }
  /// False: failure().
  bool complete_read() { return plan_->compute(*reading_, regs_.data(), slots_.data(), failure_); }
  /// Instead: what has been read is this.
  void give(std::int64_t value) { regs_[reading_->reg] = value; }
  /// A pipeline, or what uses a channel.
  const Node& at() const { return *met_->plan; }
  const BoundNode& pipeline() const { return *met_; }
  const PortInfo& port() const { return plan_->plan().ports()[met_->plan->id]; }
  /// Field `i` of the token that is sent. False: failure().
  bool field(std::size_t i, std::uint64_t& out) { return plan_->operand(*met_, port().operands[i], regs_.data(), out, failure_); }
  /// Field `i` of the token that has been received; of one that holds some, each.
  void take(std::size_t i, std::uint64_t bits) { regs_[port().regs[i]] = static_cast<std::int64_t>(bits); }
  /// There are no more tokens to consume.
  void leave() { left_ = true; }
  void answer(bool yes) { regs_[met_->reg] = yes ? 1 : 0; }
  /// What the last read has given.
  std::int64_t value() const { return regs_[reading_->reg]; }
  const std::int64_t* regs() const { return regs_.data(); }
  Failure& failure() { return failure_; }

  /// After a task that is all there is in its loop: skips up to `most` further iterations, gives how many.
  std::uint64_t skip(std::uint64_t most);

 private:
  struct Frame {
    const BoundNode* node;
    std::uint64_t i, n;
    bool inside;   // a part of something sequential is being walked
    bool asking;   //   the condition for going on, or a token
  };

  bool start(std::uint32_t node, Event& event);
  bool perform(const BoundNode& n, Event& event);
  bool ask(Frame& f, Event& event);
  bool consume(Frame& f, Event& event);
  bool meet(const BoundNode& n, Event what, Event& event);

  const BoundPlan* plan_ = nullptr;
  std::vector<std::int64_t> regs_;
  std::vector<std::uint64_t> slots_;
  std::array<Frame, max_depth + 1> stack_;
  std::uint32_t depth_ = 0;
  int steps_ = 0;  // since the last pause, whatever was told or walked in between
  std::uint32_t first_ = none;
  std::uint32_t task_ = none, id_ = none;
  bool zeroed_ = false;
  const BoundNode* reading_ = nullptr;
  const BoundNode* met_ = nullptr;  // a pipeline, or what uses a channel
  bool left_ = false;
  Failure failure_;
};

}  // namespace pto_wsp
