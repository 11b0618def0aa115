#include "pto_wsp/timekeeper.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

namespace pto_wsp {
namespace {

constexpr std::uint64_t none_below = ~std::uint64_t{0};

}  // namespace

void Turns::add(std::uint64_t turn, std::uint64_t position) {
  std::vector<std::uint64_t>& tasks = tasks_[turn];
  if (tasks.empty()) with_tasks_.insert(turn);
  tasks.push_back(position);
  std::ranges::push_heap(tasks, std::greater<>{});
}

std::optional<std::uint64_t> Turns::take(std::uint64_t limit) {
  const auto has = [&](std::uint64_t turn) { return tasks_.at(turn).front() < limit; };
  const auto from = with_tasks_.lower_bound(next_);
  auto turn = std::find_if(from, with_tasks_.end(), has);
  if (turn == with_tasks_.end()) {
    turn = std::find_if(with_tasks_.begin(), from, has);
    if (turn == from) return std::nullopt;
  }
  next_ = *turn + 1;
  std::vector<std::uint64_t>& tasks = tasks_[*turn];
  std::ranges::pop_heap(tasks, std::greater<>{});
  const std::uint64_t position = tasks.back();
  tasks.pop_back();
  if (tasks.empty()) {
    tasks_.erase(*turn);
    with_tasks_.erase(turn);
  }
  return position;
}

ClockRef Interleaver::issue(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, Placer::Stream stream,
                            WhichTask which) {
  const bool alone = std::exchange(boundary_, false);
  if (alone) {  // what lies behind it was not known before
    flush();
    if (clock_.deadlocked()) return {};
    clock_.add_wait(awaited_);
    awaited_.clear();
  }
  const std::uint64_t serial = ++count_;
  const auto n = static_cast<std::int64_t>(n_turns_);
  const std::int64_t rest = stream.number % n, turn = rest < 0 ? rest + n : rest;
  Held& task = held_[serial];
  task = {cost, placement, {deps.begin(), deps.end()}, static_cast<std::uint64_t>(turn), stream, clock_.stand_for(serial), std::move(which), 0, {}};
  const ClockRef self = task.stands_for;
  in_order_.push_back(self);
  waiting_.insert(waiting_.end(), serial);
  for (const ClockRef dep : deps) {
    if (Dependents* open = not_issued(dep)) {
      open->of.push_back(serial);
      ++task.missing;
    }
  }
  if (task.missing == 0) turns_.add(task.turn, serial);
  if (alone) {
    issue_one();
    return self;
  }
  while (!held_.empty() && held_.size() >= limit() && !clock_.deadlocked()) issue_one();
  return self;
}

void Interleaver::add_wait(std::span<const ClockRef> tasks) {
  boundary_ = true;
  awaited_.insert(awaited_.end(), tasks.begin(), tasks.end());
}

void Interleaver::add_member(ClockRef join, ClockRef member) {
  Dependents* open = not_issued(member);
  if (open == nullptr) return;
  open->of.push_back(join.serial);
  ++joins_.at(join.serial).missing;
}

void Interleaver::seal(ClockRef join) { one_less(join.serial); }

void Interleaver::flush() {
  while (!held_.empty() && !clock_.deadlocked()) issue_one();
}

std::uint64_t Interleaver::settled() {
  while (!in_order_.empty() && clock_.complete(in_order_.front())) {
    in_order_.pop_front();
    ++complete_;
  }
  return complete_;
}

// Who is to be told when it is issued; null where it is.
Interleaver::Dependents* Interleaver::not_issued(ClockRef ref) {
  if (const auto task = held_.find(ref.serial); task != held_.end()) return &task->second.dependents;
  const auto join = joins_.find(ref.serial);
  return join == joins_.end() ? nullptr : &join->second.dependents;
}

// The first of all can always be issued, as what it depends on comes before it. Of more tasks than its window holds, those that
// another window let in, the first count.
void Interleaver::issue_one() {
  const std::uint64_t most = limit();
  std::uint64_t end = none_below;
  if (waiting_.size() > most) end = *std::next(waiting_.begin(), static_cast<std::ptrdiff_t>(most));
  const auto at = held_.find(turns_.take(end).value());
  Held task = std::move(at->second);
  const std::uint64_t serial = at->first;
  held_.erase(at);
  waiting_.erase(serial);
  last_ = std::move(task.which);
  if (task.stream.scope != none) {
    ClockRef& before = streams_[task.stream.scope][task.stream.number];
    if (before.serial != 0) task.deps.push_back(before);
    before = task.stands_for;
  }
  const ClockRef issued = clock_.issue(task.cost, task.placement, task.deps, serial - 1);
  if (clock_.deadlocked()) return;
  clock_.add_member(task.stands_for, issued);
  clock_.seal(task.stands_for);
  told(task.dependents);
}

void Interleaver::told(const Dependents& dependents) {
  for (const std::uint64_t serial : dependents.of) one_less(serial);
}

void Interleaver::one_less(std::uint64_t serial) {
  if (const auto task = held_.find(serial); task != held_.end()) {
    if (--task->second.missing == 0) turns_.add(task->second.turn, serial);
    return;
  }
  const auto join = joins_.find(serial);
  if (--join->second.missing != 0) return;
  const Dependents dependents = std::move(join->second.dependents);
  joins_.erase(join);
  told(dependents);
}

ClockRef Timekeeper::issue_composite(std::uint64_t cost, const Placement& placement, std::span<const ClockRef> deps, ClockRef stand_in,
                                     std::uint64_t count) {
  const ClockRef issued = clock_.issue(cost, placement, deps, stand_in.serial - 1, count);
  if (clock_.deadlocked()) return {};
  if (count != 0) clock_.end_at(stand_in, stand_in.serial + count - 1);
  clock_.add_member(stand_in, issued);
  clock_.seal(stand_in);
  return issued;
}

}  // namespace pto_wsp
