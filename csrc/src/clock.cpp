#include "pto_wsp/clock.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace pto_wsp {

Clock::Clock(ClockOptions options) : options_(std::move(options)) {
  lanes_.resize(options_.lanes);
  for (const std::uint64_t limit : options_.windows) {
    Ring ring;
    ring.limit = limit;
    rings_.push_back(ring);
  }
  stats_.resize(rings_.size());
}

ClockRef Clock::issue(std::uint64_t cost, std::uint32_t lane, std::uint32_t window, std::span<const ClockRef> deps) {
  if (boundary_) [[unlikely]] wait_at_boundary();
  Ring& ring = rings_[window];
  while (next_issue_ > now_ || ring.count >= ring.limit) {
    if (next_issue_ <= now_ && !ring.stalled) {
      ring.stalled = true;
      ring.stalled_since = now_;
      ++stats_[window].stalls;
    }
    pass();
  }
  if (ring.stalled) {
    stats_[window].stall_cycles += now_ - ring.stalled_since;
    ring.stalled = false;
  }
  next_issue_ = sum(now_, options_.issue_cost);

  const std::uint32_t id = new_slot();
  Slot& slot = slots_[id];
  slot.serial = ++issued_;
  slot.cost = cost;
  slot.lane = lane;
  slot.window = window;
  slot.pending = 0;
  slot.edges = nil;
  slot.next_issued = nil;
  slot.done = false;
  (ring.tail == nil ? ring.head : slots_[ring.tail].next_issued) = id;
  ring.tail = id;
  ++ring.count;
  stats_[window].high_water = std::max(stats_[window].high_water, ring.count);

  std::uint32_t pending = 0;
  for (const ClockRef dep : deps) {
    if (complete(dep)) continue;
    add_edge(dep, id);
    ++pending;
  }
  slot.pending = pending;
  if (pending == 0) unblocked_.push_back(id);
  return {slot.serial, id};
}

void Clock::add_wait(std::span<const ClockRef> tasks) {
  boundary_ = true;
  for (const ClockRef task : tasks)
    if (!complete(task)) awaited_.push_back(task);
}

// Due, the boundary first waits for its tasks, then takes the time of reading; the ring is asked after that.
void Clock::wait_at_boundary() {
  while (next_issue_ > now_) pass();
  const auto all_complete = [&] {
    while (!awaited_.empty() && complete(awaited_.back())) awaited_.pop_back();
    return awaited_.empty();
  };
  if (!all_complete()) {
    const std::uint64_t since = now_;
    ++scalar_waits_;
    while (!all_complete()) pass();
    scalar_wait_cycles_ += now_ - since;
  }
  next_issue_ = sum(now_, options_.read_cost);
  boundary_ = false;
}

ClockRef Clock::open_join() {
  std::uint32_t id = free_join_;
  if (id == nil) {
    joins_.emplace_back();
    id = static_cast<std::uint32_t>(joins_.size() - 1);
  } else {
    free_join_ = joins_[id].edges;
  }
  joins_[id] = {++joins_opened_, 1, nil};
  return {joins_opened_, id | ClockRef::join_bit};
}

void Clock::add_member(ClockRef join, ClockRef member) {
  if (complete(member)) return;
  ++joins_[join.index & ~ClockRef::join_bit].pending;
  add_edge(member, join.index);
}

void Clock::seal(ClockRef join) {
  const std::uint32_t id = join.index & ~ClockRef::join_bit;
  if (--joins_[id].pending != 0) return;
  resolving_.push_back(id);
  resolve(nil);
}

void Clock::finish() {
  do {
    while (queue_and_take()) retire();
    if (running_.empty() && handed_first_ == handed_.size()) break;
    next_issue_ = 0;
    advance();
    retire();
  } while (true);
}

// The steps of one pass but for issuing, and time where nothing happens in them.
void Clock::pass() {
  if (!queue_and_take()) advance();
  retire();
}

std::uint32_t Clock::new_slot() {
  if (free_slot_ != nil) {
    const std::uint32_t id = free_slot_;
    free_slot_ = slots_[id].next_queued;
    return id;
  }
  slots_.emplace_back();
  return static_cast<std::uint32_t>(slots_.size() - 1);
}

void Clock::add_edge(ClockRef from, std::uint32_t target) {
  std::uint32_t& head =
      (from.index & ClockRef::join_bit) != 0 ? joins_[from.index & ~ClockRef::join_bit].edges : slots_[from.index].edges;
  if (free_edge_ != nil) {
    const std::uint32_t id = free_edge_;
    free_edge_ = edges_[id].next;
    edges_[id] = {target, head};
    head = id;
  } else {
    edges_.push_back({target, head});
    head = static_cast<std::uint32_t>(edges_.size() - 1);
  }
}

// The rest of one pass over the steps after issuing. False: nothing happened, so time must advance.
bool Clock::queue_and_take() {
  bool changed = false;
  if (!unblocked_.empty()) {
    changed = true;
    if (options_.handover == 0) {
      // Queues are ordered by program order within a cycle; sorting here keeps them append-only.
      if (!std::ranges::is_sorted(unblocked_, {}, [&](std::uint32_t s) { return slots_[s].serial; }))
        std::ranges::sort(unblocked_, {}, [&](std::uint32_t s) { return slots_[s].serial; });
      for (const std::uint32_t id : unblocked_) enqueue(id);
    } else {
      const std::uint64_t at = sum(now_, options_.handover);
      for (const std::uint32_t id : unblocked_) handed_.push_back({at, slots_[id].serial, id});
    }
    unblocked_.clear();
  }
  while (handed_first_ < handed_.size() && handed_[handed_first_].time <= now_) {
    changed = true;
    enqueue(handed_[handed_first_++].slot);
  }
  if (handed_first_ * 2 > handed_.size() + 1024) {
    handed_.erase(handed_.begin(), handed_.begin() + static_cast<std::ptrdiff_t>(handed_first_));
    handed_first_ = 0;
  }
  // A lane takes from its own queue only, so lanes where nothing happened need no look.
  for (std::size_t i = 0; i < marked_lanes_.size(); ++i) {
    Lane& lane = lanes_[marked_lanes_[i]];
    lane.marked = false;
    if (!lane.busy && (lane.head != nil || !lane.late.empty())) {
      changed = true;
      take(marked_lanes_[i]);
    }
  }
  marked_lanes_.clear();
  pop_completions();  // tasks of no cost end in the cycle they start
  return changed;
}

void Clock::mark(std::uint32_t id) {
  Lane& lane = lanes_[id];
  if (lane.marked || lane.busy) return;
  lane.marked = true;
  marked_lanes_.push_back(id);
}

void Clock::enqueue(std::uint32_t id) {
  Slot& slot = slots_[id];
  Lane& lane = lanes_[slot.lane];
  slot.next_queued = nil;
  if (lane.tail == nil) {
    lane.head = lane.tail = id;
    lane.tail_time = now_;
  } else if (lane.tail_time < now_ || slots_[lane.tail].serial < slot.serial) {
    slots_[lane.tail].next_queued = id;
    lane.tail = id;
    lane.tail_time = now_;
  } else {
    lane.late.push_back({now_, slot.serial, id});
    std::ranges::push_heap(lane.late, std::greater<>{});
  }
  slot.start = now_;  // until it is taken: when it became ready
  mark(slot.lane);
}

void Clock::take(std::uint32_t lane_id) {
  Lane& lane = lanes_[lane_id];
  std::uint32_t id = lane.head;
  const bool late = !lane.late.empty() &&
                    (id == nil || lane.late.front() < Key{slots_[id].start, slots_[id].serial, id});
  if (late) {
    std::ranges::pop_heap(lane.late, std::greater<>{});
    id = lane.late.back().slot;
    lane.late.pop_back();
  } else {
    lane.head = slots_[id].next_queued;
    if (lane.head == nil) lane.tail = nil;
  }
  Slot& slot = slots_[id];
  lane.busy = true;
  slot.start = now_;
  running_.push_back({sum(now_, slot.cost), slot.serial, id});
  std::ranges::push_heap(running_, std::greater<>{});
}

void Clock::advance() {
  std::uint64_t next = end_of_time;
  if (!running_.empty()) next = std::min(next, running_.front().time);
  if (next_issue_ > now_) next = std::min(next, next_issue_);
  if (handed_first_ < handed_.size()) next = std::min(next, handed_[handed_first_].time);
  now_ = next;
  pop_completions();
}

void Clock::pop_completions() {
  while (!running_.empty() && running_.front().time == now_) {
    const std::uint32_t id = running_.front().slot;
    std::ranges::pop_heap(running_, std::greater<>{});
    running_.pop_back();
    complete_task(id);
  }
}

void Clock::complete_task(std::uint32_t id) {
  Slot& slot = slots_[id];
  slot.done = true;
  last_completion_ = now_;
  lanes_[slot.lane].busy = false;
  mark(slot.lane);
  if (rings_[slot.window].head == id && !rings_[slot.window].marked) {
    rings_[slot.window].marked = true;
    marked_rings_.push_back(slot.window);
  }
  if (trace_ != nullptr) {
    const std::size_t at = slot.serial - 1;
    if (trace_->end.size() <= at) {
      trace_->start.resize(at + 1);
      trace_->end.resize(at + 1);
      trace_->lane.resize(at + 1);
    }
    trace_->start[at] = slot.start;
    trace_->end[at] = now_;
    trace_->lane[at] = slot.lane;
  }
  if (slot.edges == nil) return;
  const std::uint32_t edges = slot.edges;
  slot.edges = nil;
  resolve(edges);
}

// Tells what waits behind `edges`; a join that completes so tells its own in turn.
void Clock::resolve(std::uint32_t edges) {
  while (true) {
    while (edges != nil) {
      const Edge edge = edges_[edges];
      edges_[edges].next = free_edge_;
      free_edge_ = edges;
      edges = edge.next;
      if ((edge.target & ClockRef::join_bit) != 0) {
        const std::uint32_t id = edge.target & ~ClockRef::join_bit;
        if (--joins_[id].pending == 0) resolving_.push_back(id);
      } else if (--slots_[edge.target].pending == 0) {
        unblocked_.push_back(edge.target);
      }
    }
    if (resolving_.empty()) return;
    const std::uint32_t id = resolving_.back();
    resolving_.pop_back();
    edges = joins_[id].edges;
    joins_[id] = {0, 0, free_join_};
    free_join_ = id;
  }
}

void Clock::retire() {
  for (const std::uint32_t w : marked_rings_) {
    Ring& ring = rings_[w];
    ring.marked = false;
    while (ring.head != nil && slots_[ring.head].done) {
      const std::uint32_t id = ring.head;
      ring.head = slots_[id].next_issued;
      --ring.count;
      slots_[id].next_queued = free_slot_;
      free_slot_ = id;
    }
    if (ring.head == nil) ring.tail = nil;
  }
  marked_rings_.clear();
}

std::uint64_t Clock::sum(std::uint64_t a, std::uint64_t b) {
  if (b >= end_of_time || a + b >= end_of_time) {
    overflowed_ = true;
    return end_of_time;
  }
  return a + b;
}

LaneClock::LaneClock(const ClockOptions& options)
    : step_(options.issue_cost), handover_(options.handover), free_(options.lanes), rings_(options.windows.size()),
      stats_(options.windows.size()) {
  for (std::size_t i = 0; i < rings_.size(); ++i) {
    rings_[i].limit = options.windows[i];
    rings_[i].retire.resize(1);
  }
}

void LaneClock::grow(Ring& ring) {
  // Nothing has wrapped around yet: the first `size` positions lie where they will lie.
  ring.retire.resize(ring.retire.size() * 2);
}

}  // namespace pto_wsp
