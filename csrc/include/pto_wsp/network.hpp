// Semantic time of processes and channels: an event simulation that decides who acts next, what is granted, and when.
//
// A process is sequential and owns a clock. With capacity C, latency L and response R of a channel, send k (from 0) and its receive:
//   s[k] = T_s                         if C is none or k < C, else max(T_s, d[k-C] + R)     the sender's clock becomes s[k]
//   d[k] = max(T_r, s[k] + L)                                                               the receiver's clock becomes d[k]
//   C = 0, a rendezvous: s[k] = d[k] = max(T_s, T_r) + L
// The process that can act and has the smallest (clock, index) acts next; a request is granted as soon as it can be, waiting ones in
// order of (clock asked, index).
//
// What processes do is no business of the network: it asks a source for each next action and tells it how the last one went.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "pto_wsp/clock.hpp"

namespace pto_wsp {

/// Times and numbers of cycles and tokens are below end_of_time.
struct ChannelSpec {
  std::uint64_t capacity = 1;                  // no_limit: none; 0: a rendezvous
  std::uint64_t latency = 0, response = 0;     // cycles from a send to its token; from a receive to its room
  std::uint64_t initial = 0;                   // tokens that are there at cycle 0, at most `capacity`; send k counts them
};

/// What a process does next. It sends only into channels that it was added with.
struct Action {
  enum class Kind : std::uint8_t {
    work,     // `cycles` pass
    send,
    receive,
    consume,  // a receive that ends once the channel is closed and drained
    close,    // it will not send into the channel again
    try_send, // a send, where there is room now
    query,    // whether there is a token now
    ask,      // cycles pass that are not known before its turn: see Network::work
    end,
  };
  Kind kind = Kind::end;
  std::uint32_t channel = 0;
  std::uint64_t cycles = 0;
};

/// How the last action of a process went.
struct ActionOutcome {
  enum class Kind : std::uint8_t {
    started,  // there was none
    done,     // work, close
    sent,     // it was send `token` of the channel
    received,
    ended,    // there are no more tokens to consume
    refused,  // nothing was sent, as there was no room
    yes, no,  // to a query
  };
  Kind kind = Kind::started;
  std::uint32_t channel = 0;
  std::uint64_t token = 0;
};

/// next(process, outcome) is called once the last action of the process is over, at its clock, and never from inside of itself.
/// Of one token the sender is told before the receiver, and the receiver before who sends into the room it leaves: payloads may be
/// kept in as many places as the channel has. What it throws leaves a network that can only be destroyed.
template <class S>
concept ActionSource = requires(S source, std::uint32_t process, const ActionOutcome& outcome) {
  { source.next(process, outcome) } -> std::same_as<Action>;
};

struct NetworkLimits {
  std::uint64_t cycles = end_of_time - 1;      // no clock may go beyond
  std::uint64_t idle_actions = 1'000'000'000;  // in a row after which no clock has moved, at least 1
  std::uint64_t times = std::uint64_t{1} << 26;  // that all channels keep together, for tokens and for rooms that they left
};

/// Times, the first in first out.
class TimeQueue {
 public:
  bool empty() const { return size_ == 0; }
  void push(std::uint64_t time, std::uint64_t& room) {
    if (size_ == times_.size()) [[unlikely]] grow(room);
    times_[(first_ + size_++) & (times_.size() - 1)] = time;
  }
  std::uint64_t first() const { return times_[first_]; }
  std::uint64_t pop() {
    const std::uint64_t time = times_[first_];
    first_ = (first_ + 1) & (times_.size() - 1);
    --size_;
    return time;
  }

 private:
  void grow(std::uint64_t& room);

  std::vector<std::uint64_t> times_;           // as many as a power of two
  std::size_t first_ = 0, size_ = 0;
};

/// Processes that can act, the smallest (time, process) first.
class TurnQueue {
 public:
  struct Turn {
    std::uint64_t time;
    std::uint32_t process;
    friend bool operator<(const Turn& a, const Turn& b) { return a.time != b.time ? a.time < b.time : a.process < b.process; }
    friend bool operator>(const Turn& a, const Turn& b) { return b < a; }
  };

  bool empty() const { return heap_.empty(); }
  const Turn& first() const { return heap_.front(); }
  void push(Turn turn) {
    heap_.push_back(turn);
    std::ranges::push_heap(heap_, std::greater<>());
  }
  void drop_first() {
    const Turn last = heap_.back();
    heap_.pop_back();
    if (!heap_.empty()) replace_first(last);
  }
  void replace_first(Turn turn) {
    const std::size_t n = heap_.size();
    std::size_t at = 0;
    for (std::size_t below = 1; below < n; below = 2 * at + 1) {
      if (below + 1 < n && heap_[below + 1] < heap_[below]) ++below;
      if (!(heap_[below] < turn)) break;
      heap_[at] = heap_[below];
      at = below;
    }
    heap_[at] = turn;
  }

 private:
  std::vector<Turn> heap_;
};

/// An action takes time logarithmic in the processes; memory is proportional to processes, channels, and tokens in them. Not for
/// several threads.
class Network {
 public:
  enum class Status : std::uint8_t {
    running,   // there is more to do
    asks,      // whoever runs it has to say how many cycles the process whose turn it is works
    done,      // all processes have ended
    blocked,   // those that have not wait for ever
    closed,    // a process sends into a channel that it has closed: offender()
    limit,     // of NetworkLimits
    overflow,  // a clock would be at end_of_time or later
  };

  explicit Network(std::span<const ChannelSpec> channels, const NetworkLimits& limits = {});

  /// Before the first run. `produces`: the channels that it may send into, each once. A channel is closed when all processes that
  /// were added with it have ended or closed it.
  void add_process(std::span<const std::uint32_t> produces);

  /// Goes on for so many actions at most. Throws length_error where channels would keep more times than they may.
  template <ActionSource Source>
  Status run(Source& source, std::uint64_t actions);

  /// One more place in a channel of a blocked network, which goes on from there. A rendezvous becomes a channel of one place.
  /// Times are not those of a network that had it from the start.
  template <ActionSource Source>
  void raise(Source& source, std::uint32_t channel);
  /// The same, with a token in it since cycle 0, which comes behind those that are there.
  template <ActionSource Source>
  void raise_with_token(Source& source, std::uint32_t channel);

  std::size_t processes() const { return processes_.size(); }
  std::size_t channels() const { return channels_.size(); }
  std::uint64_t clock(std::uint32_t process) const { return processes_[process].clock; }
  /// When it comes to what it does next, a close aside: its clock, or the close that ended its consume.
  std::uint64_t comes(std::uint32_t process) const { return std::max(processes_[process].clock, processes_[process].floor); }
  /// Whose turn it is, if anybody can act.
  std::optional<std::uint32_t> next() const {
    return turns_.empty() || status_ != Status::running ? std::nullopt : std::optional(turns_.first().process);
  }
  /// What the process whose turn it is has asked for.
  void work(std::uint64_t cycles) { processes_[turns_.first().process].action = {Action::Kind::work, 0, cycles}; }
  /// Cycles that processes have waited for tokens of a channel, and for places in it.
  std::uint64_t empty_cycles(std::uint32_t channel) const { return channels_[channel].empty_cycles; }
  std::uint64_t full_cycles(std::uint32_t channel) const { return channels_[channel].full_cycles; }
  bool ended(std::uint32_t process) const { return processes_[process].action.kind == Action::Kind::end; }
  /// What a process that is not able to act waits for, or does when its turn comes.
  const Action& action(std::uint32_t process) const { return processes_[process].action; }
  std::uint64_t capacity(std::uint32_t channel) const { return channels_[channel].capacity; }
  std::uint64_t initial(std::uint32_t channel) const { return channels_[channel].initial; }
  /// Tokens so far, initial ones too.
  std::uint64_t sent(std::uint32_t channel) const { return channels_[channel].sent; }
  std::uint64_t received(std::uint32_t channel) const { return channels_[channel].received; }
  /// It was added with the channel, has not ended, and not closed it.
  bool may_send(std::uint32_t process, std::uint32_t channel) const;
  /// The processes that wait to send into it, or else to receive from it, are as many.
  std::size_t waiting(std::uint32_t channel) const { return channels_[channel].waiting.size(); }
  bool senders_wait(std::uint32_t channel) const { return !channels_[channel].waiting.empty() && channels_[channel].senders_wait; }
  std::uint32_t offender() const { return offender_; }
  /// The largest clock.
  std::uint64_t latest() const;

 private:
  struct Process {
    std::uint64_t clock = 0;
    std::uint64_t floor = 0;                   // its next action starts no earlier: the close that ended a consume
    Action action;                             // what it does next, or waits for
    std::uint32_t first_product = 0, products = 0;
    std::uint32_t closes = 0;                  // of its products
  };
  struct Product {
    std::uint32_t channel;
    bool closed;
  };
  struct Channel {
    std::uint64_t capacity, latency, response, initial;
    std::uint64_t sent, received = 0;
    std::uint64_t fresh;                       // places that no token was in
    TimeQueue left;                            // when tokens left the other free places, where there is a capacity
    TimeQueue visible;                         // when the tokens in it can be received, without initial ones
    std::vector<TurnQueue::Turn> waiting;          // a heap of (clock asked, process), all of one side
    bool senders_wait = false;
    std::uint32_t producers = 0;               // that may still send
    std::uint64_t closed_at = 0;               // the last close so far
    std::uint64_t empty_cycles = 0, full_cycles = 0;
  };
  // What an action granted: that of the process itself, and of one that waited.
  struct Grant {
    static constexpr std::uint32_t nobody = 0xffffffffu;
    bool own = false, other_first = false;
    ActionOutcome outcome;
    std::uint32_t other = nobody;
    ActionOutcome others;
  };

  Grant perform(std::uint32_t p);
  Grant send(std::uint32_t p, std::uint32_t channel);
  Grant try_send(std::uint32_t p, std::uint32_t channel);
  bool has_token(const Process& x, const Channel& c) const;
  Grant receive(std::uint32_t p, std::uint32_t channel);
  void meet(Process& sender, Process& receiver, Channel& c, Grant& grant, bool receiver_came);
  ActionOutcome grant_send(Process& sender, std::uint32_t channel);
  ActionOutcome grant_receive(Process& receiver, std::uint32_t channel);
  void wait(std::uint32_t p, Channel& c, bool sends);
  std::uint32_t take_waiting(Channel& c);
  void close(std::uint32_t p, std::uint32_t channel);
  void lose_producer(std::uint32_t channel);
  void finish(std::uint32_t p);
  std::uint32_t product(const Process& x, std::uint32_t channel) const;
  void set_clock(Process& x, std::uint64_t time) {
    if (time <= x.clock) return;
    x.clock = time;
    idle_ = 0;
    if (time > limits_.cycles) [[unlikely]] status_ = time < end_of_time ? Status::limit : Status::overflow;
  }
  // The cycles it has to wait until then.
  std::uint64_t delay(Process& x, std::uint64_t time) {
    const std::uint64_t before = x.clock;
    set_clock(x, time);
    return x.clock - before;
  }
  TurnQueue::Turn turn(std::uint32_t p) const {
    const Process& x = processes_[p];
    // The floor is for what takes time; a close comes in its place behind what the process did before.
    return {x.action.kind == Action::Kind::close ? x.clock : std::max(x.clock, x.floor), p};
  }
  // Whose turn it was has another one, unless it has ended.
  void go_on(std::uint32_t p) {
    if (ended(p)) [[unlikely]]
      turns_.drop_first();
    else
      turns_.replace_first(turn(p));
  }
  template <ActionSource Source>
  void tell(Source& source, std::uint32_t p, const ActionOutcome& outcome);
  template <ActionSource Source>
  void settle(Source& source);
  template <ActionSource Source>
  void let_go_on(Source& source, std::uint32_t p, const ActionOutcome& outcome);

  NetworkLimits limits_;
  Status status_ = Status::running;
  bool started_ = false;
  std::uint64_t idle_ = 0;
  std::uint64_t live_ = 0;                     // processes that have not ended
  std::uint32_t offender_ = 0;
  std::vector<Process> processes_;
  std::vector<Product> products_;
  std::vector<Channel> channels_;
  TurnQueue turns_;
  std::vector<std::uint32_t> ended_, released_;  // have just ended; whose consume is over
};

template <ActionSource Source>
void Network::tell(Source& source, std::uint32_t p, const ActionOutcome& outcome) {
  const Action next = source.next(p, outcome);
  processes_[p].action = next;
  if (next.kind == Action::Kind::end) ended_.push_back(p);
}

// Ended processes close channels, whose consumers go on or end.
template <ActionSource Source>
void Network::settle(Source& source) {
  while (!ended_.empty() || !released_.empty()) {
    if (released_.empty()) {
      const std::uint32_t p = ended_.back();
      ended_.pop_back();
      finish(p);
      continue;
    }
    const std::uint32_t p = released_.back();
    released_.pop_back();
    const std::uint32_t channel = processes_[p].action.channel;
    processes_[p].floor = std::max(processes_[p].floor, channels_[channel].closed_at);
    tell(source, p, {ActionOutcome::Kind::ended, channel, 0});
    if (!ended(p)) turns_.push(turn(p));
  }
}

template <ActionSource Source>
Network::Status Network::run(Source& source, std::uint64_t actions) {
  if (!started_) {
    started_ = true;
    for (std::uint32_t p = 0; p < processes_.size(); ++p) {
      tell(source, p, {});
      if (!ended(p)) turns_.push(turn(p));
    }
    settle(source);
  }
  for (; actions != 0 && status_ == Status::running; --actions) {
    if (turns_.empty()) return live_ == 0 ? Status::done : Status::blocked;
    const std::uint32_t p = turns_.first().process;
    if (processes_[p].action.kind == Action::Kind::ask) return Status::asks;
    if (idle_ == limits_.idle_actions) return Status::limit;
    ++idle_;
    Process& x = processes_[p];
    if (x.floor > x.clock) set_clock(x, x.floor);
    if (x.action.kind == Action::Kind::work) {
      set_clock(x, x.clock + x.action.cycles);
      if (status_ != Status::running) [[unlikely]] break;
      tell(source, p, {ActionOutcome::Kind::done, 0, 0});
      go_on(p);
    } else {
      const Grant grant = perform(p);
      if (status_ != Status::running) [[unlikely]] break;
      if (grant.other_first) tell(source, grant.other, grant.others);
      if (grant.own) tell(source, p, grant.outcome);
      if (grant.other != Grant::nobody && !grant.other_first) tell(source, grant.other, grant.others);
      if (grant.own)
        go_on(p);
      else
        turns_.drop_first();
      if (grant.other != Grant::nobody && !ended(grant.other)) turns_.push(turn(grant.other));
    }
    if (!ended_.empty() || !released_.empty()) [[unlikely]] settle(source);
  }
  return status_;
}

template <ActionSource Source>
void Network::raise(Source& source, std::uint32_t channel) {
  Channel& c = channels_[channel];
  ++c.capacity;
  ++c.fresh;
  if (!senders_wait(channel)) return;
  const std::uint32_t p = take_waiting(c);
  let_go_on(source, p, grant_send(processes_[p], channel));
}

template <ActionSource Source>
void Network::raise_with_token(Source& source, std::uint32_t channel) {
  Channel& c = channels_[channel];
  ++c.capacity;
  ++c.sent;
  c.visible.push(0, limits_.times);
  if (c.waiting.empty() || c.senders_wait) return;
  const std::uint32_t p = take_waiting(c);
  let_go_on(source, p, grant_receive(processes_[p], channel));
}

template <ActionSource Source>
void Network::let_go_on(Source& source, std::uint32_t p, const ActionOutcome& outcome) {
  tell(source, p, outcome);
  if (!ended(p)) turns_.push(turn(p));
  settle(source);
}

}  // namespace pto_wsp
