// What a schedule says of one task, besides what it costs.
#pragma once

#include <cstdint>

namespace pto_wsp {

/// What a full window does: issue waits; what runs is given up, naming what would have sufficed; nothing.
enum class WindowMode : std::uint8_t { stall, abort, benchmark };

inline constexpr std::uint32_t no_batch = 0xffffffffu;
inline constexpr std::uint32_t no_lane = 0xffffffffu;

/// Made in program order by whoever issues the task; read by the clock and by the real run. Streams are dependences instead.
struct Placement {
  std::uint32_t lane = 0;            // its home; no_lane: in semantic time it takes none
  std::uint32_t window = 0;          // the ring that it counts in
  std::uint32_t batch = no_batch;    // the batch that it is released with
  bool pinned = false;               // really runs on thread lane mod threads
  bool steal = false;                // idle lanes of its pool may take it
  std::int64_t priority = 0;         // larger ones are taken first
  std::uint64_t bytes = 0;           // valid ones that it writes, for windows in bytes
  std::uint64_t distance = 0;        // cycles until the next issue, at least
};

/// What a schedule asks of real runs beside hints.
struct Demands {
  bool pins = false, priorities = false;
  bool bytes = false;                // some window counts bytes
  bool streams = false;
  std::uint64_t start = 0;           // nothing really starts before so many tasks, or all, are issued

  /// A run in program order would not do.
  bool order() const { return pins || priorities || start != 0; }
  bool any() const { return order() || bytes || streams; }
};

}  // namespace pto_wsp
