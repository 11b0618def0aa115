// Programs that are called with buffers, from several threads at once.
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.hpp"
#include "pto_wsp/callee.hpp"
#include "run_helpers.hpp"

using namespace helpers;

namespace {

constexpr std::int64_t n = 50;
constexpr std::int64_t dims[] = {n, 8};

PtoWspBuffer buffer(Array& a) { return {a.data.data(), dims, 2, 0}; }

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
          PtoWspBuffer buffers[] = {buffer(a), buffer(b), buffer(c)};
          const std::int64_t sources[] = {0, 1, 2}, zeroed[] = {1, 2};
          CHECK(!callee.call(buffers, {.threads = threads, .sources = sources, .zeroed = zeroed}));
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
  PtoWspBuffer buffers[] = {buffer(a), buffer(b)};
  const std::int64_t sources[] = {0, 1}, zeroed[] = {1};
  CHECK(!callee.call(buffers, {.threads = 2, .sources = sources, .zeroed = zeroed}));
  CHECK_EQ(b.data[0], 6.0f);
  CHECK_EQ(b.data[(n - 1) * 8], 0.0f);
}

template <class F>
bool refuses(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void other_buffers_are_refused() {
  pto_wsp::Callee callee(decode(one_loop(n).bytes()));
  Array a({n, 8}), b({n, 8});
  const auto refused = [&](std::vector<std::int64_t> sources, std::vector<std::int64_t> zeroed, std::vector<std::int64_t> sizes, std::vector<std::int64_t> wide) {
    return refuses([&] {
      PtoWspBuffer buffers[] = {buffer(a), buffer(b)};
      (void)callee.call(buffers, {.sources = sources, .zeroed = zeroed, .wide = wide, .sizes = sizes, .sized = sizes});
    });
  };
  CHECK(!refused({0, 1}, {}, {}, {}));
  CHECK(refused({0}, {}, {}, {}));
  CHECK(refused({0, 2}, {}, {}, {}));
  CHECK(refused({0, -1}, {}, {}, {}));
  CHECK(refused({0, 1}, {2}, {}, {}));
  CHECK(refused({0, 1}, {}, {5}, {}));
  CHECK(refused({0, 1}, {}, {}, {2}));
  const std::int64_t few[] = {n - 1, 8};
  PtoWspBuffer short_ones[] = {{a.data.data(), few, 2, 0}, buffer(b)};
  const std::int64_t sources[] = {0, 1};
  CHECK(callee.call(short_ones, {.sources = sources}).has_value());
}

void sizes_may_be_operands() {
  Plan p = one_loop(n);
  p.symbols = {"rows"};
  p.regs = 2;
  Task t;
  t.coords = {reg(1)};
  t.args = {view(0, false, {slice(reg(1)), slice(0)}), view(1, false, {slice(reg(1)), slice(0)})};
  p.root = loop(1, reg(0), task(t));
  pto_wsp::Callee callee(decode(p.bytes()));
  Array a({n, 8}, 3), b({n, 8});
  const std::int64_t sources[] = {0, 1}, sizes[] = {0};
  const auto call = [&](PtoWspBuffer size, std::int64_t sized) {
    return refuses([&] {
      PtoWspBuffer buffers[] = {buffer(a), buffer(b), size};
      (void)callee.call(buffers, {.sources = sources, .sizes = sizes, .sized = std::span(&sized, 1)});
    });
  };
  std::int32_t rows = 4;
  std::uint64_t many = ~std::uint64_t{0};
  const PtoWspBuffer number{&rows, nullptr, 0, 3};
  CHECK(!call(number, -1));
  CHECK_EQ(b.data[0], 0.0f);  // of no rows
  CHECK(!call(number, 2));
  CHECK_EQ(b.data[3 * 8], 6.0f);
  CHECK_EQ(b.data[4 * 8], 0.0f);
  CHECK(call(number, 0));   // a buffer of floats
  CHECK(call(number, 3));   // none
  CHECK(call(number, -2));
  CHECK(call({&many, nullptr, 0, 6}, 2));
  for (const std::int32_t again : {5, 5, 5, 9, 9, 9, 0, 0, 0, 5}) {
    rows = again;
    b.data.assign(b.data.size(), 0);
    CHECK(!call(number, 2));
    for (std::int64_t i = 0; i < n; ++i) CHECK_EQ(b.data[static_cast<std::size_t>(i * 8)], i < again ? 6.0f : 0.0f);
  }
  rows = -1;
  CHECK(call(number, 2));
}

void numbers_are_what_they_say() {
  const auto refused = [](std::vector<std::int64_t> numbers) { return refuses([&] { (void)pto_wsp::numbers_of(numbers); }); };
  const std::vector<std::int64_t> good{pto_wsp_call_version, 3, 2, 0, 1, 1, 1, 0, 1, 7, 1, -1};
  const pto_wsp::CallNumbers found = pto_wsp::numbers_of(good);
  CHECK_EQ(found.threads, 3u);
  CHECK_EQ(found.sources.size(), 2u);
  CHECK_EQ(found.zeroed[0], 1);
  CHECK(found.wide.empty());
  CHECK_EQ(found.sizes[0], 7);
  CHECK_EQ(found.sized[0], -1);
  for (std::size_t k = 0; k < good.size(); ++k) CHECK(refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(k)}));
  CHECK(refused({pto_wsp_call_version, 3, 2, 0, 1, 1, 1, 0, 1, 7, 1, -1, 0}));
  CHECK(refused({pto_wsp_call_version + 1, 3, 0, 0, 0, 0, 0}));
  CHECK(refused({pto_wsp_call_version, 0, 0, 0, 0, 0, 0}));
  CHECK(refused({pto_wsp_call_version, 1, -1, 0, 0, 0, 0}));
}

// A temporary begins as zeros each time, wherever the others are: t1 = 2 * zeros, t3 = 4 * t0.
void temporaries_of_calls_that_come_again() {
  Plan p;
  p.tensors.assign(4, {{Affine(1), Affine(8)}});
  p.tensors[2].flags = 7;
  p.kernels = {kernel(add, 1, 8, 10)};
  const auto doubled = [](std::uint64_t site, std::uint64_t from, std::uint64_t to) {
    Task t;
    t.site = site;
    t.args = {view(from, true, {slice(0), slice(0)}), view(to, true, {slice(0), slice(0)})};
    return task(t);
  };
  p.root = block({acquire(2, true), doubled(0, 2, 1), doubled(1, 0, 2), doubled(2, 2, 3), release(2)});
  for (const std::uint32_t threads : {1u, 2u}) {
    pto_wsp::Callee callee(decode(p.bytes()));
    std::vector<std::vector<Array>> kept;
    for (int again = 1; again < 8; ++again) {
      std::vector<Array>& arrays = kept.emplace_back(3, Array({1, 8}, static_cast<float>(again)));
      constexpr std::int64_t one_row[] = {1, 8}, sources[] = {0, 1, -1, 2};
      std::vector<PtoWspBuffer> buffers;
      for (Array& a : arrays) buffers.push_back({a.data.data(), one_row, 2, 0});
      CHECK(!callee.call(buffers, {.threads = threads, .sources = sources}));
      CHECK_EQ(arrays[1].data[7], 0.0f);
      CHECK_EQ(arrays[2].data[7], 4 * static_cast<float>(again));
    }
  }
}

// Sizes, dimensions and what is filled may change from call to call, and what is wrong is told then too.
void calls_that_differ() {
  Plan p = one_loop(1);
  p.symbols = {"rows"};
  p.regs = 2;
  p.tensors = {{{reg(0), Affine(8)}}, {{reg(0), Affine(8)}}};
  Task t;
  t.coords = {reg(1)};
  t.args = {view(0, false, {slice(reg(1)), slice(0)}), view(1, false, {slice(reg(1)), slice(0)})};
  p.root = loop(1, reg(0), task(t));
  pto_wsp::Callee callee(decode(p.bytes()));
  constexpr std::int64_t sources[] = {0, 1}, none[] = {-1};
  for (const std::int64_t size : {3, 3, 3, 7, 7, 7, 3, 7, 3, 3, 3}) {
    Array a({size, 8}, 2), b({size, 8}, -1);
    const std::int64_t given[] = {size, 8}, more[] = {size + 1, 8};
    const auto call = [&](const std::int64_t* of_a, std::span<const std::int64_t> zeroed) {
      PtoWspBuffer buffers[] = {{a.data.data(), of_a, 2, 0}, {b.data.data(), given, 2, 0}};
      return callee.call(buffers, {.threads = 1, .sources = sources, .zeroed = zeroed, .sizes = {&size, 1}, .sized = none});
    };
    for (int again = 0; again < 4; ++again) {
      b.data.assign(b.data.size(), -1);
      CHECK(!call(given, {}));
      for (const float x : b.data) CHECK_EQ(x, 4.0f);
    }
    const std::int64_t input[] = {0};
    CHECK(!call(given, input));
    for (const float x : b.data) CHECK_EQ(x, 0.0f);
    const auto failure = call(more, {});
    CHECK(failure && failure->kind == pto_wsp::ErrorKind::dim);
  }
}

void reruns_are_of_plans_that_no_data_decides() {
  CHECK(pto_wsp::Rerun::suits(*decode(one_loop(n).bytes())));
  CHECK(pto_wsp::Rerun::suits(*decode(two_loops(n).bytes())));
  Plan p = one_loop(n);
  p.regs = 2;
  p.tensors.push_back({{Affine(1)}, 1, i32});
  p.root = block({item(1, 2, {at(0)}), p.root});
  CHECK(!pto_wsp::Rerun::suits(*decode(p.bytes())));
}

}  // namespace

int main() {
  many_calls_at_once();
  what_nobody_writes_is_zero();
  other_buffers_are_refused();
  sizes_may_be_operands();
  numbers_are_what_they_say();
  temporaries_of_calls_that_come_again();
  calls_that_differ();
  reruns_are_of_plans_that_no_data_decides();
  return check::result();
}
