// The tasks that a run has lost when it goes on after failures: those that failed, and those that depend on them.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "pto_wsp/bound.hpp"

namespace pto_wsp {

/// Which tasks are lost does not depend on threads. Memory is proportional to their number. For any threads.
class Casualties {
 public:
  struct Task {
    std::uint64_t position;  // in program order
    std::uint32_t site;
    std::vector<std::int64_t> coords;
  };

  void fail(Task task, Failure why);
  void skip(Task task);
  /// What tasks there are from here on is not known, because of `why`: none of them runs.
  void stop(Failure why);

  /// Whether the task of this serial (position + 1) has failed or was skipped.
  bool lost(std::uint64_t serial) const {
    return any_.load(std::memory_order_acquire) && contains(serial);
  }
  /// The same for those that failed only.
  bool failed(std::uint64_t serial) const;

  // --- when the run is over, in program order ---
  std::vector<Task> failed() const { return all(true); }
  std::vector<Task> skipped() const { return all(false); }
  /// Of the earliest of all.
  std::optional<Failure> first() const;
  const std::optional<Failure>& stopped() const { return stopped_; }

 private:
  struct Entry {
    Task task;
    std::optional<Failure> why;  // nothing: skipped
  };

  void add(Entry entry);
  bool contains(std::uint64_t serial) const;
  std::vector<Task> all(bool failed) const;

  std::atomic<bool> any_{false};
  mutable std::mutex mutex_;
  std::optional<Failure> stopped_;
  std::unordered_map<std::uint64_t, Entry> entries_;  // by serial
};

}  // namespace pto_wsp
