// A run in semantic time alone: the plan is walked and its tasks are told to the clock, but no kernel runs and no tensor that
// tasks write is looked at.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "pto_wsp/bound.hpp"
#include "pto_wsp/control.hpp"
#include "pto_wsp/ordered.hpp"
#include "pto_wsp/plan.hpp"
#include "pto_wsp/tracer.hpp"

namespace pto_wsp {

struct DryInputs {
  std::vector<std::int64_t> symbols;
  std::vector<std::uint64_t> slots;
  /// What the reads of an earlier run have given. None: a read of what tasks write that decides anything is a failure.
  std::optional<std::vector<std::int64_t>> numbers;
  /// No tensor has memory: nothing may be read. Needs DryRun::foregone().
  bool without_data = false;
  PipelineOptions pipelines{};
  /// Asked every few thousand tasks; false stops. It may throw.
  std::function<bool()> go_on;
};

struct DryResult {
  RunStats stats;                  // those of semantic time
  std::optional<Failure> failure;  // what a run would meet before any kernel fails
  std::shared_ptr<const Tracer> trace{};  // null where none was asked for, or nothing began
};

/// What would let a deadlocked run go on.
struct Remedy {
  struct Size {
    std::uint32_t window = 0;
    bool bytes = false;
    std::uint64_t needed = 0;      // with one less it blocks, the other windows as they are or in this list
  };
  std::vector<Size> sizes;         // windows in the order in which they block
  // Channels of pipelines, by their number in the plan, with the capacity with which the run goes on; where processes wait for ever.
  // Of channels with buffers, that is also how many buffers they have.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> channels;
  bool known = false;              // with those sizes the run goes on
  std::optional<Failure> unknown;  // else: what has to be known for that
  std::int64_t oldest_site = -1;   // of what is next to retire where there is no room
  std::vector<std::int64_t> oldest_coords;
};

/// Not for several threads.
class DryRun {
 public:
  DryRun(std::shared_ptr<const Plan> plan, DryInputs inputs);

  /// As Instance::bind says. Tensors that are never bound have no memory.
  void bind(std::size_t i, std::byte* data, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides);

  /// Whether the plan alone says what there is to do: neither data nor sizes nor slots decide anything.
  static bool foregone(const Plan& plan);

  const Plan& plan() const { return *plan_; }
  void set_pipelines(PipelineOptions options) { inputs_.pipelines = std::move(options); }

  DryResult run();
  /// The same, and records each task with what it waits for, the first `limit` of them. Wall times mean nothing. Throws bad_alloc.
  DryResult run_traced(std::uint64_t limit);
  /// As far as the schedule may hold lanes back: what stops it. Nothing: it goes on from there. Cancelled after `most` tasks.
  std::optional<Failure> run_until_open(std::uint64_t most);
  /// Needs a run that is deadlocked. `buffers`: channels, each with the one in which the numbers of its free buffers wait, by their
  /// numbers in the plan. Throws invalid_argument for channels that there are not.
  Remedy remedy(std::span<const std::pair<std::uint32_t, std::uint32_t>> buffers = {});

 private:
  // Where a walk ends, beside failures and the end; and what it looks for.
  struct Walk {
    bool until_open = false;                // where lanes are held back no more
    std::uint64_t most = no_limit;          // tasks
    Tracer* tracer = nullptr;
    bool raises = false, raised = false;    // channels get more places where processes wait for ever
    std::span<const std::uint32_t> buffers; // as Front::raise_a_channel has it
    std::uint64_t looked_at = 0, most_looked_at = no_limit;  // tasks, and other steps at what they weigh
    std::optional<std::uint64_t> look_for;  // the position of a task
    std::int64_t site = -1;
    std::vector<std::int64_t> coords;
  };
  std::optional<Failure> prepare();
  std::optional<Failure> walk(const ClockOptions& time, Walk& w);
  void look(Walk& w) const;
  bool is_quick() const;
  DryResult walk_quick();
  DryResult walk_all(Tracer* tracer);
  DryResult judged(RunStats stats, std::optional<Failure> failure) const;
  std::optional<Remedy::Size> needed(const ClockOptions& time, const std::vector<bool>& fixed, std::uint32_t window, Remedy& out);
  bool passes(ClockOptions time, const Remedy::Size& size);
  void find_oldest(Remedy& out);
  Remedy channel_remedy(std::span<const std::uint32_t> buffers);

  std::shared_ptr<const Plan> plan_;
  DryInputs inputs_;
  std::vector<Buffer> buffers_;
  std::vector<bool> idle_;
  std::optional<BoundPlan> bound_;
  std::optional<Failure> unbound_;
  bool stopped_ = false;           // by go_on
  Front front_;
};

}  // namespace pto_wsp
