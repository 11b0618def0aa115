// Ready tasks of a run whose schedule says which come first, or which thread runs them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace pto_wsp {

/// Workers have numbers from 0. Who has none takes what is pinned to nobody.
inline constexpr std::uint32_t no_worker = 0xffffffffu;

/// A heap for each worker and one for all, in order of (highest priority, program order). Nothing is taken while it is closed.
/// Knows which workers are there, and tells which of the others have something to come for. Any thread may call it.
/// Sequenced, each worker takes what is pinned to it in a given order only: the priority of the first is 0, of the next -1, and so on.
class RankedReady {
 public:
  /// At most `tasks` are ready at once, a power of two, and their serials differ by less. It is open, and no worker is there.
  void prepare(std::uint32_t workers, std::uint64_t tasks, bool sequenced = false);

  /// `worker`: who alone may take it, or no_worker.
  void push(std::uint64_t serial, std::int64_t priority, std::uint32_t worker);
  /// The first of those this worker may take, or 0.
  std::uint64_t take(std::uint32_t worker);
  /// One of any, open or not, or 0: of a run that is cancelled they are only dropped.
  std::uint64_t take_any();

  void open();
  void close();

  /// --- sequenced ---
  /// A task that was taken is complete, and whatever that has made ready was pushed.
  void done();
  /// Nothing that was taken is incomplete, and nothing may be taken.
  bool quiet() const;
  /// From now on a worker takes what is ready of its own, in that order as far as possible: some tasks will never come.
  void leave_gaps();
  /// A worker that has ready tasks, but not its next one; the place of that. Needs one.
  std::pair<std::uint32_t, std::uint64_t> waiting() const;

  /// How many this worker could take now, and how many there are.
  std::uint32_t ready(std::uint32_t worker) const;
  std::uint32_t ready() const { return n_ready_.load(); }

  void enter(std::uint32_t worker);
  void leave(std::uint32_t worker);
  /// A worker that is not there and has something to come for, or no_worker. To be asked until there is none after whatever may have
  /// made tasks ready.
  std::uint32_t call();

 private:
  static constexpr std::uint32_t nil = 0xffffffffu;

  // A pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986): nothing to allocate while tasks run.
  struct Entry {
    std::int64_t priority = 0;
    std::uint64_t serial = 0;
    std::uint32_t child = nil, next = nil;
  };
  struct Worker {
    bool there = false, listed = false;  // listed: in calls_
  };

  std::uint32_t heap_of(std::uint32_t worker) const { return worker == no_worker ? workers() : worker; }
  std::uint32_t workers() const { return static_cast<std::uint32_t>(workers_.size()); }
  bool before(std::uint32_t a, std::uint32_t b) const;
  bool due(std::uint32_t heap) const;
  void count(std::uint32_t heap);
  std::uint32_t meld(std::uint32_t a, std::uint32_t b);
  std::uint64_t pop(std::uint32_t heap);
  void call_for(std::uint32_t heap);
  void list(std::uint32_t worker);

  mutable std::mutex mutex_;
  std::vector<Entry> entries_;         // by serial
  std::uint64_t mask_ = 0;
  std::vector<Worker> workers_;
  std::vector<std::uint32_t> roots_;   // of each worker, then of all
  std::vector<std::uint32_t> sizes_;   // of each heap
  std::unique_ptr<std::atomic<std::uint32_t>[]> counts_;  // what may be taken from it
  bool sequenced_ = false, counts_taken_ = false;
  std::vector<std::int64_t> turns_;    // how many each worker has taken
  std::uint64_t taken_ = 0;            // and are not complete
  std::vector<std::uint32_t> calls_;   // workers to be called, each once
  std::uint32_t next_for_all_ = 0;     // where to look for a worker to be called for a task for all
  std::atomic<std::uint32_t> n_calls_{0}, n_ready_{0};
  std::atomic<bool> open_{true};
};

}  // namespace pto_wsp
