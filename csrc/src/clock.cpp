#include "pto_wsp/clock.hpp"

#include <algorithm>
#include <bit>
#include <functional>

namespace pto_wsp {
namespace {

// Serials of tasks; those of joins that stand for no task come after.
constexpr std::uint64_t all_more = ClockRef::first_join / 2;

}  // namespace

Clock::Clock(ClockOptions options) : options_(std::move(options)) {
  lanes_.resize(options_.lanes);
  for (const std::uint64_t limit : options_.windows) {
    Ring ring;
    ring.limit = limit;
    rings_.push_back(ring);
  }
  stats_.resize(rings_.size());
  counts_bytes_ = !options_.window_bytes.empty();
  for (std::size_t i = 0; i < options_.window_bytes.size(); ++i) rings_[i].byte_limit = options_.window_bytes[i];
  open_batches_.resize(options_.batches.size());
  if (options_.steals) {
    stealable_.resize(options_.lanes);
    if (options_.pools.empty()) options_.pools = {options_.lanes};
    std::uint32_t first = 0;
    for (const std::uint32_t lanes : options_.pools) {
      pool_of_.insert(pool_of_.end(), lanes, static_cast<std::uint32_t>(pools_.size()));
      Pool& pool = pools_.emplace_back(first, lanes);
      for (std::uint32_t lane = 0; lane < lanes; ++lane) pool.idle.set(lane, 1);
      first += lanes;
    }
  }
}

ClockRef Clock::issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, std::uint64_t position,
                      std::uint64_t positions) {
  ClockLog::Issue told{position, issued_, next_issue_, next_issue_, false, false};
  if (boundary_) [[unlikely]] {
    const std::uint64_t waits = scalar_waits_;
    if (!wait_at_boundary()) return block(nullptr);
    told.asked = next_issue_;
    told.waited = scalar_waits_ != waits;
  }
  const std::uint32_t window = placement.window;
  Ring& ring = rings_[window];
  while (next_issue_ > now_ || !has_room(ring, placement.bytes)) {
    if (next_issue_ <= now_ && !ring.stalled) {
      ring.stalled = true;
      ring.stalled_since = now_;
      ++stats_[window].stalls;
      release_batches();  // an open batch never waits behind a full ring
    }
    if (!pass()) return block(&placement);
  }
  if (ring.stalled) {
    stats_[window].stall_cycles += now_ - ring.stalled_since;
    ring.stalled = false;
    told.stalled = true;
  }
  next_issue_ = sum(now_, std::max(options_.issue_cost, placement.distance));

  const std::uint32_t id = new_slot();
  Slot& slot = slots_[id];
  slot.serial = position + 1;
  slot.cost = cost;
  slot.lane = placement.lane;
  slot.window = window;
  slot.edges = nil;
  slot.next_issued = nil;
  slot.done = false;
  slot.steal = placement.steal;
  (ring.tail == nil ? ring.head : slots_[ring.tail].next_issued) = id;
  ring.tail = id;
  in_order_ = in_order_ && slot.serial == next_;
  next_ = slot.serial + positions;
  ++issued_;
  ++ring.count;
  stats_[window].high_water = std::max(stats_[window].high_water, ring.count);
  if (counts_bytes_ || options_.ranked || log_ != nullptr) {
    if (extras_.size() <= id) extras_.resize(slots_.size());
    extras_[id] = {placement.priority, placement.bytes, now_, told.order};
  }
  if (log_ != nullptr) [[unlikely]] log_->issued(told);
  if (counts_bytes_) {
    ring.bytes += placement.bytes;
    stats_[window].high_bytes = std::max(stats_[window].high_bytes, ring.bytes);
  }

  std::uint32_t pending = 0;
  for (const ClockRef dep : deps) {
    if (complete(dep)) continue;
    add_edge(dep, id);
    ++pending;
  }
  slot.pending = pending;
  if (placement.batch != no_batch) {
    std::vector<std::uint32_t>& batch = open_batches_[placement.batch];
    ++slot.pending;
    batch.push_back(id);
    if (batch.size() == options_.batches[placement.batch]) release(batch);
  } else if (pending == 0) {
    unblocked_.push_back(id);
  }
  return {slot.serial, id};
}

void Clock::release(std::vector<std::uint32_t>& batch) {
  for (const std::uint32_t id : batch)
    if (--slots_[id].pending == 0) unblocked_.push_back(id);
  batch.clear();
}

std::uint64_t Clock::settled() const {
  if (!in_order_) return 0;
  std::uint64_t first = next_;
  for (const Ring& ring : rings_)
    if (ring.head != nil) first = std::min(first, slots_[ring.head].serial);
  return first - 1;
}

std::uint64_t Clock::in_flight() const {
  std::uint64_t tasks = 0;
  for (const Ring& ring : rings_) tasks += ring.count;
  return tasks;
}

void Clock::add_wait(std::span<const ClockRef> tasks) {
  boundary_ = true;
  for (const ClockRef task : tasks)
    if (!complete(task)) awaited_.push_back(task);
}

// Due, the boundary first waits for its tasks, then takes the time of reading; the ring is asked after that. False: a deadlock.
bool Clock::wait_at_boundary() {
  while (next_issue_ > now_)
    if (!pass()) return false;
  const auto all_complete = [&] {
    while (!awaited_.empty() && complete(awaited_.back())) awaited_.pop_back();
    return awaited_.empty();
  };
  if (!all_complete()) {
    const std::uint64_t since = now_;
    ++scalar_waits_;
    waiting_ = true;
    release_batches();
    while (!all_complete())
      if (!pass()) return false;
    waiting_ = false;
    scalar_wait_cycles_ += now_ - since;
  }
  next_issue_ = sum(now_, options_.read_cost);
  boundary_ = false;
  return true;
}

ClockRef Clock::open_join() { return new_join(++joins_opened_); }

ClockRef Clock::stand_for_all_from(std::uint64_t serial) { return new_join(serial, all_more); }

ClockRef Clock::new_join(std::uint64_t serial, std::uint64_t more) {
  std::uint32_t id = free_join_;
  if (id == nil) {
    joins_.emplace_back();
    id = static_cast<std::uint32_t>(joins_.size() - 1);
  } else {
    free_join_ = joins_[id].edges;
  }
  joins_[id] = {serial, more, 1, nil};
  return {serial, id | ClockRef::join_bit};
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
  all_issued_ = true;
  next_issue_ = 0;
  release_batches();
  do {
    while (queue_and_take()) retire();
    if (!advance()) break;
    retire();
  } while (true);
  if (in_flight() != 0) block(nullptr);
}

// Nothing will ever happen again. `next` is the task that there was no room for, if that is it.
ClockRef Clock::block(const Placement* next) {
  Blocked& b = blocked_.emplace();
  b.issued = issued_;
  b.start = options_.start;
  const auto look_at = [&](const Ring& ring) {
    if (ring.head != nil) b.first = std::min(b.first.value_or(no_limit), slots_[ring.head].serial - 1);
  };
  if (next == nullptr) {
    b.at = all_issued_ ? Blocked::At::end : Blocked::At::boundary;
    std::ranges::for_each(rings_, look_at);
  } else {
    const Ring& ring = rings_[next->window];
    b.at = Blocked::At::window;
    b.window = next->window;
    b.tasks = ring.count;
    b.limit = ring.limit;
    b.bytes = ring.bytes;
    b.byte_limit = ring.byte_limit;
    b.more_bytes = next->bytes;
    look_at(ring);
  }
  return {};
}

// The steps of one pass but for issuing, and time where nothing happens in them. False: nothing ever will, a deadlock.
bool Clock::pass() {
  if (!queue_and_take() && !advance()) return false;
  retire();
  return true;
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
  if (!may_start()) [[unlikely]] return changed;
  if (!laneless_.empty()) [[unlikely]] changed = start_laneless();
  // A lane first takes from its own queue, so lanes where nothing happened need no look.
  for (const std::uint32_t id : marked_lanes_) {
    Lane& lane = lanes_[id];
    lane.marked = false;
    if (!lane.busy && take_own(id)) changed = true;
  }
  marked_lanes_.clear();
  if (!marked_pools_.empty() && steal()) changed = true;
  pop_completions();  // tasks of no cost end in the cycle they start
  return changed;
}

bool Clock::start_laneless() {
  for (const std::uint32_t id : laneless_) begin(id);
  laneless_.clear();
  return true;
}

// Idle lanes, in lane order, take from the queue of their pool that has most to be stolen.
bool Clock::steal() {
  bool changed = false;
  for (const std::uint32_t id : marked_pools_) {
    Pool& pool = pools_[id];
    pool.marked = false;
    while (pool.idle.largest() != 0 && pool.queued.largest() != 0) {
      const std::uint32_t from = pool.first + pool.queued.place();
      take(pool.first + pool.idle.place(), from, stealable_[from]);
      changed = true;
    }
  }
  marked_pools_.clear();
  return changed;
}

void Clock::mark_pool(std::uint32_t id) {
  if (pools_[id].marked) return;
  pools_[id].marked = true;
  marked_pools_.push_back(id);
}

void Clock::mark(std::uint32_t id) {
  Lane& lane = lanes_[id];
  if (lane.marked || lane.busy) return;
  lane.marked = true;
  marked_lanes_.push_back(id);
}

void Clock::enqueue(std::uint32_t id) {
  Slot& slot = slots_[id];
  if (slot.lane == no_lane) [[unlikely]] {
    laneless_.push_back(id);
    slot.start = now_;
    return;
  }
  Queue& queue = slot.steal ? stealable_[slot.lane] : lanes_[slot.lane].kept;
  slot.next_queued = nil;
  if (!options_.ranked && queue.tail == nil) {
    queue.head = queue.tail = id;
    queue.tail_time = now_;
  } else if (!options_.ranked && (queue.tail_time < now_ || slots_[queue.tail].serial < slot.serial)) {
    slots_[queue.tail].next_queued = id;
    queue.tail = id;
    queue.tail_time = now_;
  } else {
    queue.late.push_back({options_.ranked ? extras_[id].priority : 0, {now_, slot.serial, id}});
    std::ranges::push_heap(queue.late, std::greater<>{});
  }
  slot.start = now_;  // until it is taken: when it became ready
  mark(slot.lane);
  if (slot.steal) {
    const std::uint32_t id_of_pool = pool_of_[slot.lane];
    Pool& pool = pools_[id_of_pool];
    const std::uint32_t place = slot.lane - pool.first;
    pool.queued.set(place, pool.queued[place] + 1);
    mark_pool(id_of_pool);
  }
}

// What comes first in a queue that has something.
Clock::Ranked Clock::first(const Queue& queue) const {
  if (queue.head == nil) return queue.late.front();
  const Ranked head{0, {slots_[queue.head].start, slots_[queue.head].serial, queue.head}};
  return queue.late.empty() || queue.late.front() > head ? head : queue.late.front();
}

std::uint32_t Clock::pop(Queue& queue) {
  const std::uint32_t id = queue.late.empty() ? queue.head : first(queue).key.slot;
  if (id != queue.head) {
    std::ranges::pop_heap(queue.late, std::greater<>{});
    queue.late.pop_back();
  } else {
    queue.head = slots_[id].next_queued;
    if (queue.head == nil) queue.tail = nil;
  }
  return id;
}

// What a lane has in its queue is what it keeps and what others may steal from it. False: nothing.
bool Clock::take_own(std::uint32_t lane) {
  Queue& kept = lanes_[lane].kept;
  if (stealable_.empty() || stealable_[lane].empty()) {
    if (kept.empty()) return false;
    take(lane, lane, kept);
  } else {
    Queue& stealable = stealable_[lane];
    take(lane, lane, kept.empty() || first(kept) > first(stealable) ? stealable : kept);
  }
  return true;
}

void Clock::take(std::uint32_t lane, std::uint32_t from, Queue& queue) {
  const std::uint32_t id = pop(queue);
  if (!pools_.empty()) {
    Pool& pool = pools_[pool_of_[lane]];
    if (slots_[id].steal) pool.queued.set(from - pool.first, pool.queued[from - pool.first] - 1);
    pool.idle.set(lane - pool.first, 0);
  }
  lanes_[lane].busy = true;
  slots_[id].lane = lane;
  begin(id);
}

// What is ready runs from now on.
void Clock::begin(std::uint32_t id) {
  Slot& slot = slots_[id];
  if (log_ != nullptr) extras_[id].ready = slot.start;
  slot.start = now_;
  running_.push_back({sum(now_, slot.cost), slot.serial, id});
  std::ranges::push_heap(running_, std::greater<>{});
}

// False: no event is left.
bool Clock::advance() {
  std::uint64_t next = no_limit;
  if (!running_.empty()) next = std::min(next, running_.front().time);
  if (next_issue_ > now_) next = std::min(next, next_issue_);
  if (handed_first_ < handed_.size()) next = std::min(next, handed_[handed_first_].time);
  if (next == no_limit) return false;
  now_ = next;
  pop_completions();
  return true;
}

void Clock::pop_completions() {
  while (!running_.empty() && running_.front().time == now_) {
    const std::uint32_t id = running_.front().slot;
    std::ranges::pop_heap(running_, std::greater<>{});
    running_.pop_back();
    complete_task(id);
  }
}

void Clock::leave_lane(std::uint32_t lane) {
  lanes_[lane].busy = false;
  mark(lane);
  if (pools_.empty()) return;
  Pool& pool = pools_[pool_of_[lane]];
  pool.idle.set(lane - pool.first, 1);
  mark_pool(pool_of_[lane]);
}

void Clock::complete_task(std::uint32_t id) {
  Slot& slot = slots_[id];
  slot.done = true;
  last_completion_ = now_;
  if (slot.lane != no_lane) [[likely]] leave_lane(slot.lane);
  if (rings_[slot.window].head == id && !rings_[slot.window].marked) {
    rings_[slot.window].marked = true;
    marked_rings_.push_back(slot.window);
  }
  if (log_ != nullptr) log_->completed({slot.serial - 1, slot.lane, extras_[id].issue, extras_[id].ready, slot.start, now_, extras_[id].order});
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
    joins_[id] = {0, 0, 0, free_join_};
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
      if (counts_bytes_) ring.bytes -= extras_[id].bytes;
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
  std::vector<std::uint64_t> larger(ring.retire.size() * 2);
  for (std::uint64_t k = ring.retired; k != ring.retired + ring.retire.size(); ++k)
    larger[k & (larger.size() - 1)] = ring.retire[k & (ring.retire.size() - 1)];
  ring.retire = std::move(larger);
}

}  // namespace pto_wsp
