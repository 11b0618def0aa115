// Programs that are called with buffers, from several threads at once.
#include <atomic>
#include <stdexcept>
#include <thread>

#include "check.hpp"
#include "pto_wsp/callee.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::CallBuffer;

namespace {

constexpr std::int64_t n = 50;
constexpr std::int64_t dims[] = {n, 8};

CallBuffer buffer(Array& a) { return {reinterpret_cast<std::byte*>(a.data.data()), dims, 0}; }

// Two loops, t2 = 2 * t1, t1 = 2 * t0: operand t0, results t1 and t2.
void many_calls_at_once() {
  for (const std::uint32_t threads : {1u, 3u}) {
    pto_wsp::Callee callee(decode(two_loops(n).bytes()));
    std::vector<std::thread> callers;
    for (int who = 0; who < 4; ++who)
      callers.emplace_back([&, who] {
        for (int again = 0; again < 40; ++again) {
          const auto value = static_cast<float>(who * 100 + again);
          Array a({n, 8}, value), b({n, 8}, -1), c({n, 8}, -1);
          const CallBuffer buffers[] = {buffer(a), buffer(b), buffer(c)};
          const std::int64_t sources[] = {0, 1, 2}, zeroed[] = {1, 2};
          CHECK(!callee.call({.buffers = buffers, .sources = sources, .zeroed = zeroed, .sizes = {}, .threads = threads}));
          for (const float x : c.data) CHECK_EQ(x, 4 * value);
        }
      });
    for (auto& t : callers) t.join();
  }
}

void what_nobody_writes_is_zero() {
  Plan p = one_loop(n - 1);
  p.tensors = {{{Affine(n), Affine(8)}}, {{Affine(n), Affine(8)}}};  // one row more than is written
  pto_wsp::Callee callee(decode(p.bytes()));
  Array a({n, 8}, 3), b({n, 8}, 7);
  const CallBuffer buffers[] = {buffer(a), buffer(b)};
  const std::int64_t sources[] = {0, 1}, zeroed[] = {1};
  CHECK(!callee.call({.buffers = buffers, .sources = sources, .zeroed = zeroed, .sizes = {}, .threads = 2}));
  CHECK_EQ(b.data[0], 6.0f);
  CHECK_EQ(b.data[(n - 1) * 8], 0.0f);
}

void other_buffers_are_refused() {
  pto_wsp::Callee callee(decode(one_loop(n).bytes()));
  Array a({n, 8}), b({n, 8});
  const CallBuffer buffers[] = {buffer(a), buffer(b)};
  const auto refused = [&](std::vector<std::int64_t> sources, std::vector<std::int64_t> zeroed, std::vector<std::int64_t> sizes) {
    try {
      (void)callee.call({.buffers = buffers, .sources = sources, .zeroed = zeroed, .sizes = sizes, .threads = 1});
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  CHECK(!refused({0, 1}, {}, {}));
  CHECK(refused({0}, {}, {}));
  CHECK(refused({0, 2}, {}, {}));
  CHECK(refused({0, -1}, {}, {}));
  CHECK(refused({0, 1}, {2}, {}));
  CHECK(refused({0, 1}, {}, {5}));
  const std::int64_t few[] = {n - 1, 8};
  const CallBuffer short_ones[] = {{reinterpret_cast<std::byte*>(a.data.data()), few, 0}, buffer(b)};
  const std::int64_t sources[] = {0, 1};
  CHECK(callee.call({.buffers = short_ones, .sources = sources, .zeroed = {}, .sizes = {}, .threads = 1}).has_value());
}

}  // namespace

int main() {
  many_calls_at_once();
  what_nobody_writes_is_zero();
  other_buffers_are_refused();
  return check::result();
}
