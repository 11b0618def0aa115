// What tests of random programs use: chance, and a record of which task really ran when.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

namespace helpers {

struct Rng {
  std::mt19937_64 engine;
  std::int64_t below(std::int64_t n) { return static_cast<std::int64_t>(engine() % static_cast<std::uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }
};

/// A hook. Tasks are known by their site and coordinates; with `delays` some of them take a while.
struct Order {
  std::mutex mutex;
  std::vector<std::pair<bool, std::vector<std::int64_t>>> events;  // begin?, path
  std::atomic<std::uint64_t> in_flight{0}, most{0};
  bool delays = false;

  static void call(void* self, bool begin, std::uint32_t site, const std::int64_t* coords, std::size_t n) {
    auto& o = *static_cast<Order*>(self);
    std::vector<std::int64_t> path{static_cast<std::int64_t>(site)};
    path.insert(path.end(), coords, coords + n);
    if (begin) {
      const std::uint64_t now = o.in_flight.fetch_add(1) + 1;
      std::uint64_t most = o.most.load();
      while (most < now && !o.most.compare_exchange_weak(most, now)) {
      }
    } else {
      if (o.delays) {
        std::uint64_t h = 1469598103934665603u;
        for (const std::int64_t p : path) h = (h ^ static_cast<std::uint64_t>(p)) * 1099511628211u;
        if ((h >> 20) % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds((h >> 30) % 60));
      }
      o.in_flight.fetch_sub(1);
    }
    const std::lock_guard lock(o.mutex);
    o.events.emplace_back(begin, std::move(path));
  }
};

}  // namespace helpers
