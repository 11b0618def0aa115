// Who has touched which boxes of elements: a list, for tensors that no grid fits.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pto_wsp/clock.hpp"
#include "pto_wsp/plan.hpp"

namespace pto_wsp {

/// Whether a task can still be waited for; asked to keep lists small.
class Liveness {
 public:
  virtual bool finished(const ClockRef& task) const = 0;

 protected:
  ~Liveness() = default;
};

/// Half open in each dimension.
struct Box {
  std::array<std::int64_t, max_dims> lo{}, hi{};
};

/// One tensor's. Memory is bounded by the tasks in flight and, where writes are kept, by what is written in how many pieces.
class BoxList {
 public:
  /// For a new run. `keep_writes`: `collect_writers` is asked, also long after the writers have finished.
  void reset(std::uint32_t n_dims, bool keep_writes);
  /// Between runs: gives all memory back.
  void trim();

  /// Appends the tasks that touch `box`, of which one writes.
  void collect(const Box& box, bool write, std::vector<ClockRef>& deps) const;

  /// Appends the tasks that wrote something of `box`, but for some that have finished. False: nobody ever wrote any of it.
  bool collect_writers(const Box& box, std::vector<ClockRef>& deps) const;

  void record(const Box& box, bool write, ClockRef task, const Liveness& live);

 private:
  struct Entry {
    Box box;
    ClockRef task;
    bool write;
  };

  void prune(const Liveness& live);

  std::uint32_t n_dims_ = 0;
  bool keep_writes_ = false;
  std::vector<Entry> entries_;
  std::vector<Box> written_;  // by tasks that have finished
  std::size_t prune_at_ = 0;
};

}  // namespace pto_wsp
