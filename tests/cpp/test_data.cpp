// Plans whose extents, conditions, indices and arguments are read from tensors.
#include <algorithm>
#include <bit>
#include <random>

#include "check.hpp"
#include "pto_wsp/independent.hpp"
#include "run_helpers.hpp"

using namespace helpers;
using pto_wsp::BoundPlan;
using pto_wsp::ErrorKind;
using pto_wsp::Failure;
using pto_wsp::Instance;
using pto_wsp::Walker;

namespace {

constexpr std::uint64_t s_add = 0, s_floordiv = 3, s_div = 5, s_shl = 10, s_lt = 14, s_gt = 16, s_cast = 23;
constexpr std::uint32_t thread_counts[] = {1, 2, 8};

// Dense and row-major, of any dtype.
struct Memory {
  std::vector<std::int64_t> shape;
  std::uint64_t dtype;
  std::vector<std::byte> bytes;

  template <class T>
  static Memory of(std::vector<std::int64_t> s, std::uint64_t type, const std::vector<T>& values) {
    Memory m{std::move(s), type, std::vector<std::byte>(values.size() * sizeof(T))};
    std::memcpy(m.bytes.data(), values.data(), m.bytes.size());
    return m;
  }
  static Memory floats(std::vector<std::int64_t> s, float fill) {
    std::size_t n = 1;
    for (const std::int64_t d : s) n *= static_cast<std::size_t>(d);
    return of(std::move(s), f32, std::vector<float>(n, fill));
  }
  static Memory counting(std::int64_t rows, std::int64_t cols) {
    std::vector<float> v(static_cast<std::size_t>(rows * cols));
    std::iota(v.begin(), v.end(), 0.0f);
    return of({rows, cols}, f32, v);
  }
  float at(std::int64_t row, std::int64_t col) const {
    float v;
    std::memcpy(&v, bytes.data() + 4 * (row * shape[1] + col), 4);
    return v;
  }
  std::vector<std::int64_t> strides() const {
    std::vector<std::int64_t> out(shape.size());
    std::int64_t s = dtype >= i64 ? 8 : dtype == boolean ? 1 : dtype == f16 || dtype == bf16 ? 2 : 4;
    for (std::size_t d = shape.size(); d-- > 0;) {
      out[d] = s;
      s *= shape[d];
    }
    return out;
  }
};

Memory ints(const std::vector<std::int32_t>& v) { return Memory::of({static_cast<std::int64_t>(v.size())}, i32, v); }
Memory longs(const std::vector<std::int64_t>& v) { return Memory::of({static_cast<std::int64_t>(v.size())}, i64, v); }

std::vector<Tensor> tensors_of(const std::vector<Memory>& memory, std::size_t written) {
  std::vector<Tensor> out;
  for (std::size_t i = 0; i < memory.size(); ++i) {
    Tensor t;
    for (const std::int64_t d : memory[i].shape) t.dims.emplace_back(d);
    t.flags = i == written ? 3 : 1;
    t.dtype = memory[i].dtype;
    out.push_back(t);
  }
  return out;
}

std::vector<pto_wsp::Buffer> buffers(std::vector<Memory>& memory) {
  std::vector<pto_wsp::Buffer> out;
  for (Memory& m : memory) out.push_back({m.bytes.data(), m.shape, m.strides()});
  return out;
}

struct Result {
  std::optional<Failure> failure;
  pto_wsp::RunStats stats;
};

Result run_on(const writer::Plan& p, std::vector<Memory>& memory, std::uint32_t threads = 1, pto_wsp::TaskHook hook = {}) {
  Instance i(decode(p.bytes()), threads);
  i.set_hook(hook);
  for (std::size_t t = 0; t < memory.size(); ++t)
    i.bind(t, memory[t].bytes.data(), memory[t].shape, memory[t].strides(), static_cast<std::uint32_t>(memory[t].dtype), true);
  CHECK(run(i));
  return {i.error(), i.stats()};
}

// Decoded and bound.
struct Ready {
  std::shared_ptr<const pto_wsp::Plan> plan;
  BoundPlan bound;
  std::optional<Failure> failure;

  Ready(const writer::Plan& p, std::vector<Memory>& memory) : plan(decode(p.bytes())) { failure = bound.bind(*plan, {}, buffers(memory)); }
};

/// for b in P(rows): n = lens[b]; for t in P(ceil(n / 4)): y[b, tile(t, 4, n)] = 2 * x[b, tile(t, 4, n)]; x, y, lens.
writer::Plan ragged(const std::vector<Memory>& memory, bool tracked) {
  writer::Plan p;
  p.regs = 4;
  p.tensors = tensors_of(memory, 1);
  p.kernels = {kernel(add, 1, 4, 5, 0)};
  Task t;
  t.coords = {reg(0), reg(3)};
  const std::vector<Dim> dims{slice(reg(0)), tile(reg(3, 4), reg(1))};
  t.args = {view(0, false, dims), view(1, tracked, dims)};
  p.root = loop(0, memory[0].shape[0], block({item(1, 2, {at(reg(0))}, false, 7), eval(2, 1, reg(1, 1, 3), 4), loop(3, reg(2), task(t))}));
  return p;
}

void ragged_rows() {
  std::mt19937 rng(1);
  for (const std::int64_t rows : {1, 3, 64, 65, 500}) {
    std::vector<std::int32_t> lens(static_cast<std::size_t>(rows));
    for (auto& n : lens) n = static_cast<std::int32_t>(rng() % 41);
    std::uint64_t tasks = 0;
    for (const auto n : lens) tasks += static_cast<std::uint64_t>((n + 3) / 4);
    std::uint64_t cycles = 0;
    for (const std::uint32_t threads : thread_counts) {
      for (const bool tracked : {false, true}) {
        std::vector<Memory> m{Memory::counting(rows, 40), Memory::floats({rows, 40}, -1), ints(lens)};
        const writer::Plan p = ragged(m, tracked);
        const Ready ready(p, m);
        CHECK(!ready.failure && !ready.bound.needs_dry_walk());  // the lengths prove every bound
        CHECK_EQ(ready.plan->independent(), !tracked);
        const Result r = run_on(p, m, threads);
        CHECK(!r.failure);
        CHECK_EQ(r.stats.task_count, tasks);
        CHECK(cycles == 0 || cycles == r.stats.total_cycles);  // of either engine
        cycles = r.stats.total_cycles;
        for (std::int64_t b = 0; b < rows; ++b)
          for (std::int64_t c = 0; c < 40; ++c)
            CHECK_EQ(m[1].at(b, c), c < lens[static_cast<std::size_t>(b)] ? 2 * m[0].at(b, c) : -1);
      }
    }
  }
}

/// for b in P(rows): lo, hi = indptr[b], indptr[b + 1]; for k in P(hi - lo): e = indices[k + lo]; y[k + lo] = 2 * x[e]
writer::Plan sparse(const std::vector<Memory>& memory, std::int64_t rows) {
  writer::Plan p;
  p.regs = 5;
  p.tensors = tensors_of(memory, 1);
  p.kernels = {kernel(add, 1, 4, 5)};
  Task t;
  t.coords = {reg(0), reg(4)};
  const writer::Affine place(0, {{3, 1}, {1, 1}});
  t.args = {view(0, false, {slice(reg(4)), slice(0)}), view(1, false, {slice(place), slice(0)})};
  p.root = loop(0, rows, block({item(1, 2, {at(reg(0))}, false, 1), item(2, 2, {at(reg(0, 1, 1))}, false, 2),
                                loop(3, {0, {{2, 1}, {1, -1}}}, block({item(4, 3, {at(place)}, false, 4), task(t)}))}));
  return p;
}

void sparse_rows() {
  const std::vector<std::int64_t> indptr{0, 3, 3, 4, 8}, indices{5, 0, 2, 1, 9, 9, 0, 4};
  for (const std::uint32_t threads : thread_counts) {
    std::vector<Memory> m{Memory::counting(10, 4), Memory::floats({8, 4}, 0), longs(indptr), longs(indices)};
    const writer::Plan p = sparse(m, 4);
    CHECK(!Ready(p, m).bound.needs_dry_walk());
    CHECK(!run_on(p, m, threads).failure);
    for (std::size_t k = 0; k < 8; ++k) CHECK_EQ(m[1].at(static_cast<std::int64_t>(k), 1), 2 * m[0].at(indices[k], 1));
    // Decreasing, and past the end: told with nothing run.
    for (const std::vector<std::int64_t>& wrong : {std::vector<std::int64_t>{0, 3, 2, 4, 8}, {0, 3, 3, 4, 9}, {0, 3, 3, 4, -1}}) {
      m[1] = Memory::floats({8, 4}, 0);
      m[2] = longs(wrong);
      const Ready ready(p, m);
      CHECK(ready.bound.needs_dry_walk());
      const auto f = ready.bound.dry_walk(1000);
      CHECK(f && (f->kind == ErrorKind::extent || f->kind == ErrorKind::read_bounds || f->kind == ErrorKind::bounds));
    }
    m[2] = longs(indptr);
    m[3] = longs({5, 0, 2, 1, 10, 9, 0, 4});
    const Ready ready(p, m);
    const auto f = ready.bound.dry_walk(1000);
    CHECK(f && f->kind == ErrorKind::bounds && f->arg == 0 && f->dim == 0);
    CHECK(f && f->coords == (std::vector<std::int64_t>{3, 10}) && f->values == (std::vector<std::int64_t>{10, 1, 10}));
  }
}

// --- gathers ---

/// One task over tiles of 4 x 4: y = x + x, where dims say.
writer::Plan one_task(const std::vector<Memory>& memory, const std::vector<Dim>& x, const std::vector<Dim>& y, bool tracked = false) {
  writer::Plan p;
  p.tensors = tensors_of(memory, 1);
  p.kernels = {kernel(add, 4, 4, 5)};
  p.root = task({0, 2, 0, 0, {Affine(11)}, {view(0, tracked, x), view(1, tracked, y)}});
  return p;
}

void gathered_views() {
  const std::vector<std::int32_t> rows{3, 0, 3, 9};
  const std::vector<std::int64_t> cols{7, 2, 2, 0};
  const auto memory = [&] { return std::vector<Memory>{Memory::counting(10, 8), Memory::floats({10, 8}, -1), ints(rows), longs(cols)}; };
  const Dim some_rows = gather(2, {slice(0, 4)}), some_cols = gather(3, {slice(0, 4)});
  for (const std::uint32_t threads : thread_counts) {
    auto m = memory();
    CHECK(!run_on(one_task(m, {some_rows, slice(2)}, {slice(1), slice(4)}), m, threads).failure);
    for (std::int64_t r = 0; r < 4; ++r)
      for (std::int64_t c = 0; c < 4; ++c) CHECK_EQ(m[1].at(r + 1, c + 4), 2 * m[0].at(rows[static_cast<std::size_t>(r)], c + 2));
    m = memory();
    CHECK(!run_on(one_task(m, {some_rows, some_cols}, {slice(0), slice(0)}), m, threads).failure);
    for (std::int64_t r = 0; r < 4; ++r)
      for (std::int64_t c = 0; c < 4; ++c)
        CHECK_EQ(m[1].at(r, c), 2 * m[0].at(rows[static_cast<std::size_t>(r)], cols[static_cast<std::size_t>(c)]));
    // Written: of a row that is there twice the last one stays, and of columns.
    m = memory();
    CHECK(!run_on(one_task(m, {slice(4), slice(0)}, {some_rows, slice(0)}), m, threads).failure);
    CHECK(m[1].at(3, 1) == 2 * m[0].at(6, 1) && m[1].at(0, 1) == 2 * m[0].at(5, 1) && m[1].at(9, 3) == 2 * m[0].at(7, 3));
    CHECK(m[1].at(3, 4) == -1 && m[1].at(1, 0) == -1);
    m = memory();
    CHECK(!run_on(one_task(m, {slice(0), slice(0)}, {slice(6), some_cols}), m, threads).failure);
    CHECK(m[1].at(6, 7) == 0 && m[1].at(6, 2) == 2 * m[0].at(0, 2) && m[1].at(7, 0) == 2 * m[0].at(1, 3) && m[1].at(6, 1) == -1);
    // Three of four: what is cut off is neither read nor written.
    m = memory();
    const Dim three = gather(2, {tile(0, 3, 4)});
    auto p = one_task(m, {three, slice(0)}, {tile(0, 3), slice(0)});
    CHECK(!run_on(p, m, threads).failure);
    CHECK(m[1].at(2, 3) == 2 * m[0].at(3, 3) && m[1].at(3, 0) == -1);
    p = one_task(m, {some_rows, slice(0)}, {tile(0, 3), slice(0)});
    CHECK(run_on(p, m, threads).failure->kind == ErrorKind::valid_shape);
  }
  // Read and written in one argument.
  auto m = memory();
  writer::Plan p = one_task(m, {slice(0), slice(0)}, {slice(0), slice(0)});
  p.tensors[0].flags = 3;
  p.kernels = {inout_kernel(4, 4, 1)};
  p.root = task({0, 0, 0, 0, {}, {view(0, false, {some_rows, slice(4)})}});
  CHECK(!run_on(p, m).failure);
  CHECK(m[0].at(3, 4) == 2 * 28 && m[0].at(9, 7) == 2 * 79 && m[0].at(1, 4) == 12);
}

void bad_indices() {
  std::vector<Memory> m{Memory::counting(10, 8), Memory::floats({10, 8}, -1), ints({3, 0, 10, 9}), longs({7, -1, 2, 0})};
  auto p = one_task(m, {gather(2, {slice(0, 4)}), slice(2)}, {slice(1), slice(4)});
  for (const std::uint32_t threads : thread_counts) {
    const auto f = run_on(p, m, threads).failure;
    CHECK(f && f->kind == ErrorKind::gather_bounds && f->site == 2 && f->arg == 0 && f->dim == 0);
    CHECK(f && f->coords == std::vector<std::int64_t>{11} && f->values == (std::vector<std::int64_t>{10, 10, 2}));
  }
  CHECK(Ready(p, m).bound.needs_dry_walk());
  CHECK(Ready(p, m).bound.dry_walk(10)->kind == ErrorKind::gather_bounds);
  CHECK(!Ready(p, m).bound.dry_walk(0));
  p = one_task(m, {slice(0), slice(0)}, {slice(1), gather(3, {slice(0, 4)})});
  auto f = run_on(p, m).failure;
  CHECK(f && f->kind == ErrorKind::gather_bounds && f->arg == 1 && f->dim == 1 && f->values == (std::vector<std::int64_t>{-1, 8, 1}));
  // The index view itself.
  p = one_task(m, {gather(2, {slice(1, 4)}), slice(0)}, {slice(1), slice(0)});
  f = run_on(p, m).failure;
  CHECK(f && f->kind == ErrorKind::read_bounds && f->site == 2 && f->arg == 0 && f->values == (std::vector<std::int64_t>{1, 4, 4}));
  CHECK(m[1].at(1, 0) == -1);
}

// --- reads, conditions, slots, loops that end ---

/// Stores 2 * value in y[0]: values reach memory as scalar arguments would, through x[value].
Bytes store(std::uint64_t value_reg, std::int64_t row) {
  return task({0, 9, 0, 0, {reg(value_reg)}, {view(0, false, {slice(reg(value_reg)), slice(0)}), view(1, false, {slice(row), slice(0)})}});
}

writer::Plan over_rows(const std::vector<Memory>& memory, std::uint64_t regs, const Bytes& root) {
  writer::Plan p;
  p.regs = regs;
  p.tensors = tensors_of(memory, 1);
  p.kernels = {kernel(add, 1, 4, 5)};
  p.root = root;
  return p;
}

void reads_of_all_kinds() {
  std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({8, 4}, -1), Memory::of<std::int32_t>({3, 2}, i32, {4, 1, 7, 7, 2, 0}),
                        Memory::of<double>({2}, f64, {2.75, 60.0})};
  const std::vector<Dim> all{slice(0, 3), slice(0, 2)}, lower{span(1, reg(0, 0, 2)), at(0)};
  const auto p = over_rows(m, 9, block({
      read(0, 0, 2, {at(0), at(1)}), store(0, 0),
      read(1, 1, 2, all), store(1, 1),          // 21
      read(2, 2, 2, all), store(2, 2),          // 7
      read(3, 3, 2, lower), store(3, 3),        // min(7, 2)
      read(4, 1, 2, {tile(2, 3, 2), slice(0, 2)}), store(4, 4),  // one row: 2
      read(5, 2, 3, {slice(0, 2)}),
      compute(6, s_cast, f64, {of(5)}, false, i64), store(6, 5),
      compute(7, s_add, i64, {of(6), affine(reg(2, 3))}), store(7, 6),
      read(8, 1, 2, {span(3, reg(0, 0)), at(0)}), store(8, 7)}));
  CHECK(decode(p.bytes())->independent());
  for (const std::uint32_t threads : thread_counts) {
    m[1] = Memory::floats({8, 4}, -1);
    CHECK(!run_on(p, m, threads).failure);
    const std::int64_t expected[] = {1, 21, 7, 2, 2, 60, 81, 0};
    for (std::int64_t i = 0; i < 8; ++i) CHECK_EQ(m[1].at(i, 0), 8 * static_cast<float>(expected[i]));
  }
}

template <class Check>
void fails(const Bytes& node, std::uint64_t regs, Check&& expected) {
  for (const std::uint32_t threads : {1u, 4u}) {
    for (const bool sequential : {false, true}) {
      std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({8, 4}, -1), ints({1, 0, 3, -70}), Memory::of<double>({1}, f64, {0.0})};
      const auto p = over_rows(m, regs, loop(0, 3, node, sequential));
      const auto f = run_on(p, m, threads).failure;
      CHECK(f.has_value());
      if (f) expected(*f);
      const Ready ready(p, m);
      CHECK(ready.bound.needs_dry_walk());
      const auto before = ready.bound.dry_walk(100);
      CHECK(before && f && before->kind == f->kind && before->values == f->values && before->coords == f->coords && before->origin == f->origin);
    }
  }
}

void failures_name_the_node() {
  const auto at_b = [](ErrorKind kind, std::int64_t b, std::int64_t origin, std::vector<std::int64_t> values) {
    return [=](const Failure& f) {
      CHECK(f.kind == kind);
      CHECK(f.coords == std::vector<std::int64_t>{b});
      CHECK_EQ(f.origin, origin);
      CHECK(f.values == values);
    };
  };
  const Bytes n = item(1, 2, {at(reg(0))});
  fails(block({item(1, 2, {at(reg(0, 2, 1))}, false, 6), store(0, 0)}), 2, at_b(ErrorKind::read_bounds, 2, 5, {5, 1, 4}));
  fails(block({read(1, 1, 2, {span(reg(0), reg(0, 1, 1))}, false, 1), store(1, 0)}), 2, at_b(ErrorKind::read_bounds, 2, 0, {2, 3, 4}));
  fails(block({n, read(2, 1, 2, {span(0, reg(1, -1))}, false, 1), store(1, 0)}), 3, at_b(ErrorKind::read_bounds, 0, 0, {0, -1, 4}));
  fails(block({n, read(2, 2, 2, {span(0, reg(1))}, false, 3), store(1, 0)}), 3, at_b(ErrorKind::empty_reduce, 1, 2, {}));
  fails(block({n, compute(2, s_floordiv, i64, {constant(std::int64_t{7}), of(1)}, false, 0, 4), store(1, 0)}), 3,
        at_b(ErrorKind::zero_divisor, 1, 3, {7}));
  fails(block({n, compute(2, s_shl, i64, {of(1), affine(reg(1, -25, 50))}, false, 0, 4), store(1, 0)}), 3, at_b(ErrorKind::shift, 2, 3, {-25}));
  fails(block({n, compute(2, s_add, i64, {of(1), constant(INT64_MAX)}, true, 0, 4), store(1, 0)}), 3, at_b(ErrorKind::overflow, 0, 3, {}));
  fails(block({read(1, 0, 3, {at(0)}), compute(2, s_div, f64, {constant(1.0), of(1)}, false, 0, 2), store(0, 0)}), 3,
        at_b(ErrorKind::zero_divisor, 0, 1, {}));
  fails(block({read(1, 0, 3, {at(0)}), compute(2, s_add, f64, {of(1), constant(1e300)}), compute(3, s_cast, f64, {of(2)}, false, i64, 9),
               store(0, 0)}), 4, at_b(ErrorKind::cast_range, 0, 8, {}));
  // A negative length of a loop, and of the task inside.
  fails(block({item(1, 2, {at(reg(0, 1, 1))}), loop(2, reg(1, 1, -1), store(1, 0), false, 12)}), 3, at_b(ErrorKind::extent, 0, 11, {-1}));
}

void conditions() {
  const std::vector<std::int32_t> data{3, 50, 7, 90, 0, 12};
  for (const std::uint32_t threads : thread_counts) {
    for (const bool sequential : {false, true}) {
      std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({6, 4}, -1), ints(data)};
      const auto put_at = [](std::uint64_t r) {
        return task({0, 0, 0, 0, {}, {view(0, false, {slice(reg(r)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})}});
      };
      // Below 10 its double, below 60 itself, else nothing.
      const Bytes node = block({item(1, 2, {at(reg(0))}), compute(2, s_lt, i64, {of(1), constant(std::int64_t{10})}),
                                cond(of(2), block({compute(3, s_add, i64, {of(1), of(1)}), put_at(3)}),
                                     block({compute(4, s_lt, i64, {of(1), constant(std::int64_t{60})}), cond(of(4), put_at(1), block({}))}))});
      auto p = over_rows(m, 5, loop(0, 6, node, sequential));
      const Result r = run_on(p, m, threads);
      CHECK(!r.failure);
      CHECK_EQ(r.stats.task_count, 5);
      const float expected[] = {6, 50, 14, -1, 0, 12};
      for (std::int64_t i = 0; i < 6; ++i) CHECK_EQ(m[1].at(i, 0), expected[i] < 0 ? -1 : 8 * expected[i]);
    }
  }
}

void slots_and_loops_that_end() {
  // while slot < 20: slot += table[i]; y[i] = x[slot]
  std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({8, 4}, -1), ints({5, 6, 7, 8, 9, 10, 11, 12})};
  auto p = over_rows(m, 6, block({}));
  p.slots = {i64, f64};
  const Bytes put_there = task({0, 0, 0, 0, {}, {view(0, false, {slice(reg(5)), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})}});
  p.root = while_loop(0, 8, block({slot_get(1, 0), compute(2, s_lt, i64, {of(1), constant(std::int64_t{20})})}), of(2),
                      block({slot_get(3, 0), item(4, 2, {at(reg(0))}), compute(5, s_add, i64, {of(3), of(4)}), slot_set(0, of(5)), put_there}));
  CHECK(!decode(p.bytes())->independent() && decode(p.bytes())->foreseeable());
  for (const std::uint32_t threads : thread_counts) {
    m[1] = Memory::floats({8, 4}, -1);
    const Result r = run_on(p, m, threads);
    CHECK(!r.failure);
    CHECK_EQ(r.stats.task_count, 4);
    const float expected[] = {5, 11, 18, 26};
    for (std::int64_t i = 0; i < 8; ++i) CHECK_EQ(m[1].at(i, 0), i < 4 ? 8 * expected[i] : -1);
    CHECK_EQ(r.stats.total_cycles, 20);
  }
  const Ready ready(p, m);
  CHECK(!ready.bound.dry_walk(100));
}

void injected_slots() {
  std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({8, 4}, -1)};
  auto p = over_rows(m, 2, block({slot_get(0, 1), loop(1, reg(0), store(1, 0))}));
  p.slots = {f64, i64};
  const auto plan = decode(p.bytes());
  CHECK(plan->independent());
  BoundPlan bound;
  const std::uint64_t slots[] = {std::bit_cast<std::uint64_t>(2.5), 3};
  CHECK(!bound.bind(*plan, {}, buffers(m), slots));
  Walker w;
  w.reset(bound, bound.root(), bound.initial_regs());
  int tasks = 0;
  for (auto e = w.next(); e != Walker::Event::end; e = w.next()) tasks += e == Walker::Event::task ? 1 : 0;
  CHECK_EQ(tasks, 3);
}

void the_walker_tells_what_others_wait_for() {
  std::vector<Memory> m{Memory::counting(100, 4), Memory::floats({8, 4}, -1), ints({5, 6, 7, 8}), Memory::floats({4, 4}, 0)};
  auto p = over_rows(m, 2, block({}));
  p.tensors[2].flags = 3;
  p.tensors[3].flags = 7;
  p.handles = 2;
  Task t{0, 0, 0, 0, {}, {view(0, false, {slice(reg(0)), slice(0)}), view(3, true, {slice(0), slice(0)})}};
  t.handle = 2;
  p.root = block({acquire(3), reset(1), read(0, 1, 2, {span(1, 2)}, true), task(t), read(1, 1, 2, {span(4, 0)}, true), store(1, 0), release(3)});
  const Ready ready(p, m);
  CHECK(!ready.failure && !ready.plan->independent() && !ready.plan->foreseeable() && !ready.bound.needs_dry_walk());
  CHECK_EQ(ready.plan->tasks()[0].handle, 1);
  Walker w;
  w.reset(ready.bound, ready.bound.root(), ready.bound.initial_regs());
  CHECK(w.next() == Walker::Event::acquire && w.id() == 3);
  CHECK(w.next() == Walker::Event::reset && w.id() == 1);
  CHECK(w.next() == Walker::Event::read);
  const pto_wsp::TrackedView& v = w.read_view();
  CHECK(v.tensor == 2 && !v.write && v.n_dims == 1);
  CHECK_EQ(ready.bound.value(ready.bound.dims(v)[0].start, w.regs()), 1);
  CHECK_EQ(ready.bound.length(ready.bound.dims(v)[0].length, w.regs()), 2);
  CHECK(w.complete_read());
  CHECK(w.next() == Walker::Event::task && w.regs()[0] == 13);
  CHECK(w.next() == Walker::Event::task && w.regs()[1] == 0);  // a read of nothing waits for nobody
  CHECK(w.next() == Walker::Event::release && w.id() == 3);
  CHECK(w.next() == Walker::Event::end);
}

// What binding saw no longer holds: an error, not a touch outside the tensor.
void data_that_change() {
  for (const std::uint32_t threads : thread_counts) {
    std::vector<Memory> m{Memory::counting(200, 40), Memory::floats({200, 40}, -1), ints(std::vector<std::int32_t>(200, 8))};
    const auto p = ragged(m, false);
    const auto change = [](void* memory, bool, std::uint32_t, const std::int64_t*, std::size_t) {
      const std::int32_t huge = 1 << 30;
      std::memcpy(static_cast<std::byte*>(memory) + 4 * 150, &huge, 4);
    };
    if (threads > 1) continue;  // a race of the test itself
    const auto f = run_on(p, m, threads, {change, m[2].bytes.data()}).failure;
    CHECK(f && f->kind == ErrorKind::changed && f->coords == std::vector<std::int64_t>{150} && f->origin == 6);
  }
}

void heavy_rows_are_shared() {
  for (const std::int64_t rows : {10, 200, 5000}) {
    std::vector<std::int32_t> lens(static_cast<std::size_t>(rows), 4);
    lens[7] = 40000;
    std::vector<Memory> m{Memory::floats({rows, 1}, 1), Memory::floats({rows, 1}, 1), ints(lens)};
    auto p = ragged(m, false);
    p.tensors[0].dims[1] = 40000;
    p.tensors[1].dims[1] = 40000;
    std::vector<float> x(40000, 1), y(40000);
    auto b = buffers(m);
    for (int i = 0; i < 2; ++i) {  // rows share their memory: nothing runs here
      b[static_cast<std::size_t>(i)] = {reinterpret_cast<std::byte*>(i == 0 ? x.data() : y.data()), {rows, 40000}, {0, 4}};
    }
    const auto plan = decode(p.bytes());
    BoundPlan bound;
    CHECK(!bound.bind(*plan, {}, b));
    const auto nests = pto_wsp::nests_of(bound);
    const auto heavy = std::ranges::find_if(nests, [](const pto_wsp::Nest& n) { return n.size == 10000; });
    CHECK(heavy != nests.end() && heavy->task != pto_wsp::none && heavy->weight == 1);
    CHECK(nests.size() <= static_cast<std::size_t>(rows));
    CHECK(rows <= 64 || nests.size() == 3);
    std::uint64_t tasks = 0;
    for (const auto& n : nests) tasks += n.size * n.weight;
    CHECK(tasks >= 10000 && tasks <= 10000 + static_cast<std::uint64_t>(rows));
  }
  // As many tasks as there are, whoever runs them.
  std::vector<std::int32_t> lens(3000);
  for (std::size_t i = 0; i < lens.size(); ++i) lens[i] = i % 500 == 3 ? 4000 : static_cast<std::int32_t>(i % 3);
  std::uint64_t tasks = 0;
  for (const auto n : lens) tasks += static_cast<std::uint64_t>((n + 3) / 4);
  std::uint64_t cycles = 0;
  for (const std::uint32_t threads : thread_counts) {
    std::vector<Memory> m{Memory::floats({3000, 4000}, 1), Memory::floats({3000, 4000}, -1), ints(lens)};
    const Result r = run_on(ragged(m, false), m, threads);
    CHECK(!r.failure);
    CHECK_EQ(r.stats.task_count, tasks);
    CHECK(cycles == 0 || cycles == r.stats.total_cycles);
    cycles = r.stats.total_cycles;
    for (std::int64_t b = 0; b < 3000; ++b)
      for (const std::int64_t c : {0, 1, 2, 3999}) CHECK_EQ(m[1].at(b, c), c < lens[static_cast<std::size_t>(b)] ? 2 : -1);
  }
}

void bounds_are_proved_through_definitions() {
  // x[min(n, 5) + 3 * (n // 3)] for n of 0 .. 40 read from data: at most 5 + 40.
  std::vector<Memory> m{Memory::counting(46, 4), Memory::floats({8, 4}, -1), ints({0, 40, 12})};
  const auto with = [&](std::int64_t rows) {
    m[0] = Memory::counting(rows, 4);
    Task t;
    t.args = {view(0, false, {slice({0, {{2, 1}, {3, 3}}}), slice(0)}), view(1, false, {slice(reg(0)), slice(0)})};
    return over_rows(m, 4, loop(0, 3, block({item(1, 2, {at(reg(0))}), eval(2, 3, reg(1), 5), eval(3, 1, reg(1), 3), task(t)})));
  };
  auto p = with(46);
  CHECK(!Ready(p, m).bound.needs_dry_walk());
  p = with(44);  // 5 + 39 in truth
  CHECK(Ready(p, m).bound.needs_dry_walk());
  CHECK(Ready(p, m).bound.dry_walk(10)->kind == ErrorKind::bounds);
}

// Sums of products far beyond 64 bits must not cancel into something that looks small.
void enormous_forms_prove_nothing() {
  std::vector<Memory> m{Memory::counting(4, 4), Memory::floats({4, 4}, -1)};
  auto p = over_rows(m, 3, block({}));
  p.symbols = {"a", "b"};
  p.regs = 2;
  Task t;
  t.args = {view(0, false, {slice({0, {{0, -INT64_MAX}, {1, (std::int64_t{1} << 60) + 12345}}}), slice(0)}), view(1, false, {slice(0), slice(0)})};
  p.root = task(t);
  Instance i(decode(p.bytes()), 1);
  const std::int64_t symbols[] = {INT64_MAX, INT64_MAX - 7};
  i.set_symbols(symbols);
  for (std::size_t k = 0; k < 2; ++k) i.bind(k, m[k].bytes.data(), m[k].shape, m[k].strides(), 0, true);
  CHECK(run(i));
  CHECK(i.error() && i.error()->kind == ErrorKind::overflow);
}

}  // namespace

int main() {
  ragged_rows();
  sparse_rows();
  gathered_views();
  bad_indices();
  reads_of_all_kinds();
  failures_name_the_node();
  conditions();
  slots_and_loops_that_end();
  injected_slots();
  the_walker_tells_what_others_wait_for();
  data_that_change();
  heavy_rows_are_shared();
  bounds_are_proved_through_definitions();
  enormous_forms_prove_nothing();
  return check::result();
}
