// Instances that several threads use at once, and what an instance keeps while nothing runs.
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "run_helpers.hpp"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

using namespace helpers;
using pto_wsp::Instance;

namespace {

void any_thread_may_call_anything() {
  constexpr std::int64_t n = 200;
  for (const bool tracked : {false, true}) {
    for (const std::uint32_t threads : {1u, 2u}) {
      Instance instance(decode((tracked ? two_loops(n) : one_loop(n)).bytes()), threads);
      instance.set_hand_over(std::chrono::nanoseconds(0));
      std::vector<Array> arrays(3, Array({n, 8}, 1));
      for (std::size_t i = 0; i < (tracked ? 3 : 2); ++i) arrays[i].bind(instance, i);
      const std::uint64_t tasks = tracked ? 2 * n : n;
      std::atomic<std::uint64_t> started{0};
      std::vector<std::thread> callers;
      for (int who = 0; who < 4; ++who)
        callers.emplace_back([&, who] {
          for (int again = 0; again < 300; ++again) {
            try {
              if (instance.start()) started.fetch_add(1);
            } catch (const std::logic_error&) {
              // another thread was first
            }
            if (who == 3 && again % 8 == 0) instance.cancel();
            const pto_wsp::RunStats stats = instance.stats();
            const auto failure = instance.error();
            CHECK(!failure || failure->kind == pto_wsp::ErrorKind::cancelled);
            if (!stats.kernel_counts.empty()) CHECK_EQ(stats.kernel_counts[0], stats.task_count);
            CHECK(stats.task_count <= tasks);
            if (who != 2) CHECK(instance.wait(60));
            instance.is_running();
            if (again % 16 == 0) instance.set_hand_over(hand_overs[again / 16 % 3]);
          }
        });
      for (auto& c : callers) c.join();
      CHECK(instance.wait(60));
      CHECK(started.load() > 0);
      CHECK(instance.start() && instance.wait(60));
      CHECK_EQ(instance.stats().task_count, tasks);
    }
  }
}

void idle_instances_are_small() {
#if defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  const auto plan = decode(two_loops(3000).bytes()), loose = decode(one_loop(3000).bytes());
  std::vector<Array> arrays(3, Array({3000, 8}, 1));
  const auto used = [] {
    const auto info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  for (const std::uint32_t threads : {1u, 4u}) {
    std::vector<std::unique_ptr<Instance>> instances;
    const auto grow = [&](int count) {
      for (int k = 0; k < count; ++k) {
        instances.push_back(std::make_unique<Instance>(k % 2 == 0 ? plan : loose, threads));
        for (std::size_t i = 0; i < (k % 2 == 0 ? 3 : 2); ++i) arrays[i].bind(*instances.back(), i);
        CHECK(run(*instances.back()));
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the last threads leave
    };
    grow(20);
    const std::size_t before = used();
    grow(200);
    CHECK(used() < before + 200 * 16384 + (std::size_t{8} << 20));
  }
#endif
}

}  // namespace

int main() {
  any_thread_may_call_anything();
  idle_instances_are_small();
  return check::result();
}
