// Lists of boxes against what is known of each element: its last writer, and who has read it since.
#include <algorithm>
#include <random>
#include <set>

#include "check.hpp"
#include "pto_wsp/boxes.hpp"

using namespace pto_wsp;

namespace {

constexpr std::int64_t size = 24;

struct Finished : Liveness {
  std::uint64_t before = 0;
  bool together = false;  // all tasks of one index end together
  bool finished(const ClockRef& task) const override { return task.serial < before; }
  bool superseded(const ClockRef& task, const ClockRef& by) const override { return together && task.index == by.index; }
};

struct Element {
  std::uint64_t writer = 0;
  std::vector<std::uint64_t> readers;
};

std::size_t elements(std::uint32_t n_dims) {
  std::size_t n = 1;
  for (std::uint32_t d = 0; d < n_dims; ++d) n *= size;
  return n;
}

template <class F>
void each_element(const Box& box, std::uint32_t n_dims, F&& f) {
  std::array<std::int64_t, max_dims> at = box.lo;
  while (true) {
    std::size_t i = 0;
    for (std::uint32_t d = 0; d < n_dims; ++d) i = i * size + static_cast<std::size_t>(at[d]);
    f(i);
    std::uint32_t d = n_dims;
    for (; d > 0; --d) {
      if (++at[d - 1] < box.hi[d - 1]) break;
      at[d - 1] = box.lo[d - 1];
    }
    if (d == 0) return;
  }
}

std::set<std::uint64_t> serials(const std::vector<ClockRef>& deps) {
  std::set<std::uint64_t> out;
  for (const ClockRef& d : deps) CHECK(out.insert(d.serial).second);
  return out;
}

// Boxes are up to `longest` long, one in `whole` all there is, and seldom written; of the others one in `writes` is. Tasks finish when
// `window` more have come.
void random_boxes(std::uint32_t n_dims, std::int64_t longest, int whole, int writes, std::uint64_t window, bool keep_writes) {
  std::mt19937 random(n_dims * 1000 + static_cast<std::uint32_t>(longest));
  const auto below = [&](std::int64_t n) { return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n)); };
  BoxList list;
  list.reset(n_dims, keep_writes);
  std::vector<Element> known(elements(n_dims));
  std::vector<std::pair<Box, bool>> tasks{{}};
  Finished live;
  for (std::uint64_t serial = 1; serial <= 600; ++serial) {
    Box box;
    const bool all = below(whole) == 0, write = below(all ? 9 : writes) == 0;
    for (std::uint32_t d = 0; d < n_dims; ++d) {
      const std::int64_t n = all ? size : 1 + below(longest);
      box.lo[d] = below(size - n + 1);
      box.hi[d] = box.lo[d] + n;
    }
    if (serial > window) live.before = serial - window;
    std::set<std::uint64_t> needed, writers;
    each_element(box, n_dims, [&](std::size_t i) {
      const Element& e = known[i];
      if (e.writer != 0) writers.insert(e.writer);
      if (e.writer >= live.before && e.writer != 0) needed.insert(e.writer);
      if (write) std::ranges::copy_if(e.readers, std::inserter(needed, needed.end()), [&](std::uint64_t r) { return r >= live.before; });
    });
    std::vector<ClockRef> deps, from;
    list.collect(box, write, deps);
    const std::set<std::uint64_t> got = serials(deps);
    CHECK(std::ranges::includes(got, needed));
    for (const std::uint64_t other : got) {
      CHECK(write || tasks[other].second);
      bool common = true;
      for (std::uint32_t d = 0; d < n_dims; ++d) common = common && tasks[other].first.lo[d] < box.hi[d] && box.lo[d] < tasks[other].first.hi[d];
      CHECK(common);
    }
    if (keep_writes) {
      CHECK_EQ(list.collect_writers(box, from), !writers.empty());
      std::erase_if(writers, [&](std::uint64_t w) { return w < live.before; });
      CHECK(std::ranges::includes(serials(from), writers));
    }
    list.record(box, write, {serial, 0}, live);
    tasks.emplace_back(box, write);
    each_element(box, n_dims, [&](std::size_t i) {
      if (write)
        known[i] = {serial, {}};
      else
        known[i].readers.push_back(serial);
    });
  }
}

// Of tasks that end together, one of each box is kept.
void readers_that_end_together_are_few() {
  Finished live;
  live.together = true;
  BoxList list;
  list.reset(1, false);
  for (std::uint64_t i = 1; i <= 100'000; ++i) {
    Box box;
    box.lo[0] = static_cast<std::int64_t>(i % 3);
    box.hi[0] = box.lo[0] + 1;
    list.record(box, false, {i, 7}, live);
  }
  Box all;
  all.hi[0] = 3;
  std::vector<ClockRef> deps;
  list.collect(all, true, deps);
  CHECK(deps.size() < 300);
  for (const std::int64_t k : {0, 1, 2}) {
    Box one;
    one.lo[0] = k;
    one.hi[0] = k + 1;
    deps.clear();
    list.collect(one, true, deps);
    CHECK(!deps.empty());
  }
}

}  // namespace

int main() {
  for (const std::uint32_t n_dims : {1u, 2u, 3u})
    for (const std::int64_t longest : {1, 3, 12})
      for (const int whole : {2, 40, 1 << 30})
        for (const std::uint64_t window : {20, 400, 1000}) random_boxes(n_dims, longest, whole, 1 + n_dims % 3, window, longest == 3);
  readers_that_end_together_are_few();
  return check::result();
}
