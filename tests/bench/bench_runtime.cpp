// What a task costs beyond its kernel, semantic time included: ns per task and us per run, median of several runs.
//
//   bench_runtime [threads]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "run_helpers.hpp"

using namespace helpers;

namespace {

void measure(const char* name, const writer::Plan& plan, std::int64_t n, std::uint64_t tasks, std::uint32_t threads) {
  pto_wsp::Instance instance(decode(plan.bytes()), threads);
  std::vector<Array> arrays;
  for (const Tensor& t : plan.tensors) arrays.emplace_back(std::vector<std::int64_t>{t.dims[0].constant, 8});
  for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(instance, i);
  std::vector<double> us;
  for (int i = 0; i < (n <= 1000 ? 201 : 9); ++i) {
    const auto began = std::chrono::steady_clock::now();
    if (!run(instance)) return;
    us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count());
  }
  std::ranges::sort(us);
  const double median = us[us.size() / 2];
  std::printf("%-22s n %8lld  threads %u  %10.1f us  %7.1f ns per task\n", name, static_cast<long long>(n), threads, median,
              1000 * median / static_cast<double>(tasks));
}

}  // namespace

int main(int argc, char** argv) {
  const auto threads = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 1);
  for (const std::int64_t n : {100, 1000, 10000, 100000, 1000000}) measure("independent", one_loop(n), n, static_cast<std::uint64_t>(n), threads);
  for (const std::int64_t n : {100, 1000, 100000}) measure("two loops", two_loops(n), n, 2 * static_cast<std::uint64_t>(n), threads);
  for (const std::int64_t n : {100, 1000, 100000}) measure("chain, sequential", chain(n, false), n, static_cast<std::uint64_t>(n), threads);
  for (const std::int64_t n : {100, 1000, 100000}) measure("chain, tracked too", chain(n, true), n, static_cast<std::uint64_t>(n), threads);
}
