#include "pto_wsp/ready.hpp"

#include <algorithm>

namespace pto_wsp {

void RankedReady::prepare(std::uint32_t workers, std::uint64_t tasks, bool sequenced) {
  if (entries_.size() < tasks) entries_.resize(tasks);
  mask_ = tasks - 1;
  workers_.assign(workers, {});
  roots_.assign(workers + std::size_t{1}, nil);
  counts_ = std::make_unique<std::atomic<std::uint32_t>[]>(workers + std::size_t{1});
  sizes_.assign(workers + std::size_t{1}, 0);
  sequenced_ = counts_taken_ = sequenced;
  turns_.assign(workers, 0);
  taken_ = 0;
  calls_.clear();
  calls_.reserve(workers);
  next_for_all_ = 0;
  n_calls_ = 0;
  n_ready_ = 0;
  open_ = true;
}

bool RankedReady::before(std::uint32_t a, std::uint32_t b) const {
  const Entry &x = entries_[a], &y = entries_[b];
  return x.priority != y.priority ? x.priority > y.priority : x.serial < y.serial;
}

std::uint32_t RankedReady::meld(std::uint32_t a, std::uint32_t b) {
  if (a == nil) return b;
  if (b == nil) return a;
  if (before(b, a)) std::swap(a, b);
  entries_[b].next = entries_[a].child;
  entries_[a].child = b;
  return a;
}

void RankedReady::push(std::uint64_t serial, std::int64_t priority, std::uint32_t worker) {
  const std::lock_guard lock(mutex_);
  const auto at = static_cast<std::uint32_t>(serial & mask_);
  const std::uint32_t heap = heap_of(worker);
  entries_[at] = {priority, serial};
  roots_[heap] = meld(roots_[heap], at);
  ++sizes_[heap];
  count(heap);
  n_ready_.fetch_add(1);
  if (open_.load() && counts_[heap].load() > 0) call_for(heap);
}

// Children are melded two and two, then all from the last to the first.
std::uint64_t RankedReady::pop(std::uint32_t heap) {
  const std::uint32_t root = roots_[heap];
  std::uint32_t pairs = nil;
  for (std::uint32_t at = entries_[root].child; at != nil;) {
    const std::uint32_t first = at, second = entries_[at].next;
    at = second == nil ? nil : entries_[second].next;
    entries_[first].next = nil;
    if (second != nil) entries_[second].next = nil;
    const std::uint32_t pair = meld(first, second);
    entries_[pair].next = pairs;
    pairs = pair;
  }
  std::uint32_t all = nil;
  while (pairs != nil) {
    const std::uint32_t pair = pairs;
    pairs = entries_[pair].next;
    entries_[pair].next = nil;
    all = meld(all, pair);
  }
  roots_[heap] = all;
  --sizes_[heap];
  if (heap != workers()) ++turns_[heap];
  count(heap);
  n_ready_.fetch_sub(1);
  if (counts_taken_) ++taken_;
  return entries_[root].serial;
}

std::uint64_t RankedReady::take(std::uint32_t worker) {
  if (ready(worker) == 0) return 0;
  const std::lock_guard lock(mutex_);
  if (!open_.load()) return 0;
  const std::uint32_t own = heap_of(worker), shared = workers();
  if (sequenced_) return due(own) ? pop(own) : 0;
  if (roots_[own] == nil && roots_[shared] == nil) return 0;
  const bool from_own = roots_[shared] == nil || (roots_[own] != nil && before(roots_[own], roots_[shared]));
  return pop(from_own ? own : shared);
}

// Sequenced, nothing is pinned to nobody.
bool RankedReady::due(std::uint32_t heap) const {
  return heap != workers() && roots_[heap] != nil && entries_[roots_[heap]].priority == -turns_[heap];
}

void RankedReady::count(std::uint32_t heap) { counts_[heap].store(!sequenced_ ? sizes_[heap] : due(heap) ? 1 : 0); }

void RankedReady::done() {
  const std::lock_guard lock(mutex_);
  --taken_;
}

bool RankedReady::quiet() const {
  const std::lock_guard lock(mutex_);
  if (taken_ != 0) return false;
  for (std::size_t heap = 0; open_.load() && heap < roots_.size(); ++heap)
    if (counts_[heap].load() > 0) return false;
  return true;
}

void RankedReady::leave_gaps() {
  const std::lock_guard lock(mutex_);
  sequenced_ = false;
  for (std::uint32_t heap = 0; heap < workers(); ++heap) {
    count(heap);
    if (open_.load() && sizes_[heap] > 0) call_for(heap);
  }
}

std::pair<std::uint32_t, std::uint64_t> RankedReady::waiting() const {
  const std::lock_guard lock(mutex_);
  const auto worker = static_cast<std::uint32_t>(std::ranges::find_if(sizes_, [](std::uint32_t n) { return n != 0; }) - sizes_.begin());
  return {worker, worker < workers() ? static_cast<std::uint64_t>(turns_[worker]) : 0};
}

std::uint64_t RankedReady::take_any() {
  if (ready() == 0) return 0;
  const std::lock_guard lock(mutex_);
  const auto root = std::ranges::find_if(roots_, [](std::uint32_t r) { return r != nil; });
  return root == roots_.end() ? 0 : pop(static_cast<std::uint32_t>(root - roots_.begin()));
}

void RankedReady::open() {
  const std::lock_guard lock(mutex_);
  if (open_.exchange(true)) return;
  for (std::uint32_t w = 0; w < workers(); ++w)
    if (counts_[w].load() > 0) call_for(w);
  for (std::uint32_t i = 0, n = std::min(counts_[workers()].load(), workers()); i < n; ++i) call_for(workers());
}

void RankedReady::close() {
  const std::lock_guard lock(mutex_);
  open_ = false;
}

std::uint32_t RankedReady::ready(std::uint32_t worker) const {
  if (!open_.load()) return 0;
  const std::uint32_t shared = counts_[workers()].load();
  return worker == no_worker ? shared : shared + counts_[worker].load();
}

void RankedReady::enter(std::uint32_t worker) {
  if (worker == no_worker) return;
  const std::lock_guard lock(mutex_);
  if (workers_[worker].listed) n_calls_.fetch_sub(static_cast<std::uint32_t>(std::erase(calls_, worker)));
  workers_[worker] = {true, false};
}

void RankedReady::leave(std::uint32_t worker) {
  if (worker == no_worker) return;
  const std::lock_guard lock(mutex_);
  workers_[worker].there = false;
}

// A task for all is a reason to come for one worker.
void RankedReady::call_for(std::uint32_t heap) {
  if (heap != workers()) {
    list(heap);
    return;
  }
  for (std::uint32_t i = 0; i < workers(); ++i) {
    next_for_all_ = next_for_all_ + 1 < workers() ? next_for_all_ + 1 : 0;
    if (workers_[next_for_all_].there || workers_[next_for_all_].listed) continue;
    list(next_for_all_);
    return;
  }
}

void RankedReady::list(std::uint32_t worker) {
  Worker& w = workers_[worker];
  if (w.there || w.listed) return;
  w.listed = true;
  calls_.push_back(worker);
  n_calls_.fetch_add(1);
}

std::uint32_t RankedReady::call() {
  if (n_calls_.load() == 0) return no_worker;
  const std::lock_guard lock(mutex_);
  if (calls_.empty()) return no_worker;
  const std::uint32_t worker = calls_.back();
  calls_.pop_back();
  n_calls_.fetch_sub(1);
  workers_[worker].listed = false;
  return worker;
}

}  // namespace pto_wsp
