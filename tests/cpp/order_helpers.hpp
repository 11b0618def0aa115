// What tests of random programs use: chance, a record of which task really ran when, and resources that are soon used up.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "pto_wsp/instance.hpp"

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

/// Resources of one to three of everything, another mix for each seed. `make(resources)` gives an instance that can be started: it
/// says how many entries of the dependence map a task takes.
template <class Make>
pto_wsp::Resources few_resources(std::uint64_t seed, Make&& make) {
  pto_wsp::Resources few{.task_window = seed % 4, .dependence_map = 1, .edges = seed / 4 % 3, .ready_queue = seed / 12 % 3};
  const auto probe = make(few);
  if (probe->start()) {
    probe->cancel();
    CHECK(probe->wait(60));
    return few;
  }
  const auto failure = probe->error();
  CHECK(failure && failure->kind == pto_wsp::ErrorKind::resource && failure->text == "TENSORMAP_POOL_FULL");
  few.dependence_map = static_cast<std::uint64_t>(failure->values[0]) - 1;
  CHECK(few.dependence_map >= 1);
  CHECK(!make(few)->start());  // one less than it says is not enough
  ++few.dependence_map;
  return few;
}

/// How often runs waited for each resource.
struct Waits {
  std::array<std::uint64_t, pto_wsp::n_reasons> stalls{};

  void add(const pto_wsp::RunStats& stats) {
    for (std::size_t i = 0; i < pto_wsp::n_reasons; ++i) {
      const auto reason = static_cast<pto_wsp::Reason>(i);
      const pto_wsp::ResourceStats& r = stats.resources[i];
      stalls[i] += r.stalls;
      if (reason != pto_wsp::Reason::window && reason != pto_wsp::Reason::scalar) CHECK(r.high_water <= r.capacity);
      CHECK(r.stalls != 0 || r.stall_ns == 0);
    }
  }
  std::uint64_t of(pto_wsp::Reason reason) const { return stalls[static_cast<std::size_t>(reason)]; }
};

}  // namespace helpers
