// Runs a plan whose tasks are all independent: its loops as one index space, handed out in chunks.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "pto_wsp/control.hpp"
#include "pto_wsp/cost.hpp"
#include "pto_wsp/placer.hpp"
#include "pto_wsp/timekeeper.hpp"
#include "pto_wsp/walker.hpp"

namespace pto_wsp {

/// A rectangular set of loops around a body. Nests follow one another in program order.
struct Nest {
  struct Level {
    std::uint32_t reg;
    std::uint64_t extent;
  };
  std::uint32_t body = 0;            // a node
  std::uint32_t task = none;         // when the body is one task
  std::uint64_t first = 0, size = 1; // position of its iterations in the whole
  std::uint64_t begin = 0;           // which iteration of the loops is the first
  std::uint64_t weight = 1;          // about how many tasks an iteration has
  std::uint64_t work_before = 0;     // tasks before the nest, if the weights are right
  std::vector<Level> levels;         // outermost first
  std::vector<std::int64_t> regs;    // around the nest

  /// Sets the registers of iteration `i`.
  void seek(std::uint64_t i, std::int64_t* at) const;
  /// From one iteration to the next.
  void step(std::int64_t* at) const;
};

/// The plan as nests. Outer loops with few iterations around imperfect bodies are unrolled, so that what is inside
/// becomes a nest of its own; so are iterations that have much more to do than others. Errors met on the way are left to
/// the body that has them.
std::vector<Nest> nests_of(const BoundPlan& plan);

/// A place in program order: iteration, then task within its body.
struct Position {
  std::uint64_t flat = ~std::uint64_t{0}, ordinal = 0;
  friend auto operator<=>(const Position&, const Position&) = default;
};

/// The earliest failure of a run whose threads are not in program order.
class EarliestFailure {
 public:
  void reset();
  /// Keeps the earlier one; at the same position the one told first or `stronger`.
  void tell(Position at, Failure failure, bool stronger);
  Position position();  // the end of all when there is none
  bool before(std::uint64_t flat) const { return flat_.load(std::memory_order_relaxed) < flat; }
  std::optional<Failure> take();

 private:
  std::atomic<std::uint64_t> flat_{~std::uint64_t{0}};
  std::mutex mutex_;
  Position at_;
  std::optional<Failure> failure_;
};

/// Semantic time of independent tasks, walked in program order beside the real run, as far as the earliest failure.
class TimeWalk {
 public:
  void prepare(const BoundPlan& plan, const std::vector<Nest>& nests);

  /// Some thousands of tasks further, but not to the failure. True: the end, or the failure, is reached. A failure that
  /// lies behind begins the walk anew.
  bool advance(EarliestFailure& failure);
  /// Whether what was walked is what comes before `end`.
  bool fits(Position end) const { return abandoned_ || at() <= end; }
  /// There is no memory to count with.
  void abandon();
  /// Between runs: gives back what few runs need.
  void trim();

  void result(RunStats& stats) const;

 private:
  void restart(bool general);
  bool walk(EarliestFailure& failure, Position end);
  void finish();
  Position at() const;
  bool nest_tasks(const Nest& nest, EarliestFailure& failure, Position end);
  bool walk_body(const Nest& nest, EarliestFailure& failure, Position end);
  bool task(std::uint32_t id, const std::int64_t* regs, Position at, EarliestFailure& failure);
  bool issue(const BoundTask& t, const std::int64_t* regs, std::uint64_t cost, Failure& failure);

  const BoundPlan* plan_ = nullptr;
  const std::vector<Nest>* nests_ = nullptr;
  std::size_t nest_ = 0;
  std::uint64_t in_nest_ = 0;
  bool in_body_ = false;
  std::uint64_t ordinal_ = 0;
  std::vector<std::int64_t> regs_;
  Walker walker_;
  std::vector<Arg> shapes_;
  CostTable costs_;
  Placer placer_;
  std::unique_ptr<LaneClock> quick_;
  std::unique_ptr<Timekeeper> exact_;        // instead, once a task of no cost has been met
  bool zero_cost_ = false, finished_ = false, abandoned_ = false;
  std::uint64_t count_ = 0;
  std::vector<std::uint64_t> kernel_counts_;
};

/// One run. Threads call `work` as long as there is some.
class Independent {
 public:
  void prepare(const BoundPlan& plan, Control& control);

  /// Between runs: gives back what few runs need.
  void trim();

  /// Until the deadline, or until there is nothing more to hand out.
  void work(std::byte* scratch, Deadline& deadline);
  bool has_work() const;
  bool over() const;
  /// Whether there is work for more than one thread.
  bool divides() const { return total_ > 1; }

  /// When over.
  std::optional<Failure> failure();
  void stats(RunStats& stats) const;

 private:
  // A chunk in progress; kept when its thread has to leave.
  struct Chunk {
    std::uint64_t at = 0, end = 0, size = 0;
    std::size_t nest = 0;
    bool in_body = false;
    std::uint64_t ordinal = 0;
    std::vector<std::int64_t> regs;
    std::vector<Arg> args;
    std::vector<std::int64_t> indices;
    Walker walker;
  };

  const Nest& nest_at(std::uint64_t position) const;
  std::uint64_t work_before(std::uint64_t position) const;
  std::uint64_t position_after(std::uint64_t work) const;
  std::unique_ptr<Chunk> take();
  bool claim(Chunk& chunk);
  bool run(Chunk& chunk, std::byte* scratch, Deadline& deadline);
  bool run_body(Chunk& chunk, const Nest& nest, std::byte* scratch, Deadline& deadline);
  void keep_time(Deadline& deadline);
  void tell(Position at, Failure failure);
  bool settle_time();
  void drop_rest();

  const BoundPlan* plan_ = nullptr;
  Control* control_ = nullptr;
  std::vector<Nest> nests_;
  std::uint64_t total_ = 0, total_work_ = 0;
  bool ragged_ = false;  // weights are not all there is to know
  std::atomic<std::uint64_t> next_{0}, done_{0};
  std::atomic<std::uint64_t> picoseconds_each_{0};  // measured, of a unit of work
  std::atomic<bool> cut_short_{false};
  EarliestFailure failure_;

  TimeWalk time_;
  std::atomic<bool> timing_{false}, timed_{false};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Chunk>> parked_, spare_;
  std::atomic<std::uint32_t> n_parked_{0};
};

}  // namespace pto_wsp
