#include "pto_wsp/casualties.hpp"

#include <algorithm>
#include <utility>

namespace pto_wsp {

void Casualties::fail(Task task, Failure why) { add({std::move(task), std::move(why)}); }

void Casualties::skip(Task task) { add({std::move(task), std::nullopt}); }

void Casualties::stop(Failure why) {
  const std::lock_guard lock(mutex_);
  stopped_ = std::move(why);
}

void Casualties::add(Entry entry) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t serial = entry.task.position + 1;
  entries_.emplace(serial, std::move(entry));
  any_.store(true, std::memory_order_release);
}

bool Casualties::contains(std::uint64_t serial) const {
  const std::lock_guard lock(mutex_);
  return entries_.contains(serial);
}

bool Casualties::failed(std::uint64_t serial) const {
  if (!any_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(serial);
  return found != entries_.end() && found->second.why.has_value();
}

std::vector<Casualties::Task> Casualties::all(bool failed) const {
  const std::lock_guard lock(mutex_);
  std::vector<Task> out;
  for (const auto& [serial, entry] : entries_)
    if (entry.why.has_value() == failed) out.push_back(entry.task);
  std::ranges::sort(out, {}, &Task::position);
  return out;
}

std::optional<Failure> Casualties::first() const {
  const std::lock_guard lock(mutex_);
  const Entry* earliest = nullptr;
  for (const auto& [serial, entry] : entries_)
    if (entry.why && (earliest == nullptr || entry.task.position < earliest->task.position)) earliest = &entry;
  return earliest == nullptr ? std::nullopt : earliest->why;
}

}  // namespace pto_wsp
