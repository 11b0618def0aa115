// Damages plans in many ways. Each is refused, or runs on buffers of exactly the size it states, with whatever
// outcome but a touch outside them (built with sanitizers) or a run that cannot be stopped.
//
//   fuzz_plan [mutations] [first seed] [plan files]
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "check.hpp"
#include "kernel_control_builder.hpp"
#include "run_helpers.hpp"

using namespace helpers;

namespace {

constexpr std::int64_t max_bytes = 1 << 20;

struct Rng {
  std::mt19937_64 engine;
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine() % n); }
};

// Tiles with tails, evaluated registers, windows, dispatch scopes, tracked and sequential parts.
writer::Plan rich(bool tracked) {
  writer::Plan p;
  p.symbols = {"n", "m"};
  p.regs = 7;
  p.tensors.assign(2, {{reg(0), reg(1)}, 3, f32});
  p.tensors.push_back({{Affine(2), reg(0), Affine(4)}, 3, f32});
  p.kernels = {kernel(add, 4, 2, 1, 3), kernel(mul, 2, 4, 5), inout_kernel(1, 4, 2)};
  p.dispatches = {2, 3};
  p.windows = {8, 2};
  p.handover = 1;
  Task a{0, 0, 1, 0, {reg(3), reg(4)}, {}}, b{1, 1, 0, 1, {reg(5)}, {}}, c{2, 2, 2, 0, {reg(6)}, {}};
  const std::vector<Dim> dims{tile(reg(3, 4), reg(0)), tile(reg(4, 2), reg(1))};
  a.args = {view(0, tracked, dims), view(1, tracked, dims)};
  b.args = {view(1, tracked, {slice(reg(5, 2)), slice(0)}), view(2, tracked, {at(1), slice(reg(5)), slice(0)})};
  c.args = {view(2, tracked, {at(0), slice(reg(6)), slice(0)})};
  const Bytes first = loop(3, reg(2), loop(4, 2, task(a)));
  const Bytes second = loop(5, reg(2), task(b)), third = loop(6, reg(2, 2), task(c), tracked);
  p.root = block({eval(2, 1, reg(0, 1, 3), 4), tracked ? seq({first, second, third}) : block({first, second, third})});
  return p;
}

writer::Plan scattered() {
  writer::Plan p = one_loop(40);
  p.regs = 3;
  Task t;
  t.coords = {reg(0)};
  t.args = {view(0, true, {slice(reg(2)), slice(0)}), view(1, true, {slice(reg(1)), slice(0)})};
  p.root = loop(0, 6, block({eval(1, 0, reg(0), reg(0)), eval(2, 2, reg(0, 7), 11), task(t)}));
  return p;
}

// Rows of lengths and indices in tensors, a branch, a gather, a scalar argument, slots, and a loop that ends early.
writer::Plan data(bool ordered) {
  writer::Plan p;
  p.symbols = {"n"};
  p.regs = 14;
  p.tensors = {{{reg(0), Affine(8)}, 3, f32}, {{reg(0), Affine(8)}, 3, f32}, {{reg(0)}, ordered ? 3u : 1u, i32}, {{Affine(2), Affine(3)}, 1, i64}};
  p.kernels = {kernel(add, 1, 4, 5, 1), kernel(add, 2, 4, 3)};
  p.slots = {i64, f64};
  p.read_cost = 2;
  Task a{0, 0, 0, 0, {reg(1)}, {}}, b{1, 1, 0, 0, {}, {}};
  const std::vector<Dim> dims{slice(reg(1)), tile(reg(4, 4), reg(2))};
  a.args = {view(0, ordered, dims), view(1, ordered, dims)};
  b.args = {view(0, ordered, {gather(3, {at(1), slice(1, 2)}), gather(2, {tile(0, 3, 4)}, ordered)}),
            view(1, ordered, {slice(reg(1)), tile(4, 7)})};
  const Bytes rows = block({item(2, 2, {at(reg(1))}, ordered, 3), eval(3, 1, reg(2, 1, 3), 4), loop(4, reg(3), task(a)),
                            read(5, 1, 3, {slice(0, 2), span(0, reg(2))}), compute(6, 14, i64, {of(5), constant(std::int64_t{5})}, false, 0, 2),
                            cond(of(6), task(b), block({slot_get(7, 0), compute(8, 3, i64, {of(7), affine(2)}, true)}))});
  const Bytes first = loop(1, reg(0, 1, -1), rows);
  if (!ordered) {
    p.root = first;
    return p;
  }
  p.handles = 1;
  b.handle = 1;
  b.after = {0};
  b.args[1] = view(1, true, {slice(reg(9)), tile(4, 7)});
  const Bytes going = block({slot_get(10, 0), compute(11, 14, i64, {of(10), affine(3)})});
  const Bytes last = while_loop(9, 2, going, of(11), block({slot_get(12, 0), compute(13, 0, i64, {of(12), affine(reg(9, 1, 1))}), slot_set(0, of(13)), reset(0), task(b)}));
  p.root = block({first, last});
  return p;
}

// A kernel with a loop over parts of a region, a branch on an element, carried tiles and scalars, and parts that are stored; and
// what its equations wait for and take, with a loop whose trips need not all be walked for that.
Bytes control_kernel(bool pipes) {
  using pto_wsp::Op;
  using pto_wsp::ScalarOp;
  using End = builder::ControlBuilder::End;
  constexpr auto t = pto_wsp::DType::i32;
  builder::ControlBuilder b;
  b.pipes = pipes;
  const auto takes = [&](unsigned unit, std::int64_t cycles, std::uint64_t from, std::uint64_t to) {
    b.work(unit, Out().u(1).u(0).s(cycles).bytes, {from}, {to});
  };
  const int x = b.region(pto_wsp::Dir::in, t, {-1, 4}), y = b.region(pto_wsp::Dir::inout, t, {-1, 4}), z = b.tile(pto_wsp::Dir::inout, t, 2, 4);
  const auto one = builder::fixed(1), two = builder::fixed(2), four = builder::fixed(4);
  b.check(0, builder::rows_of(z), two);
  b.check(0, builder::cols_of(z), four);
  const int init = b.make(Op::full, t, 1, 4, one, four, {builder::whole(3)});
  const int sum = b.value(t, 1, 4, one, four), total = b.value(t, 1, 4, one, four), side = b.value(t, 1, 4, one, four);
  const int n = b.dim(builder::length_of(x, 0)), m = b.dim(builder::length_of(y, 0));
  const int last = b.compute(ScalarOp::max, {builder::held(m), builder::number(1)});
  const int k = b.reg(), k_end = b.reg();
  b.loop(builder::number(0), builder::held(n), {{true, sum, total, init}, {false, k, k_end, -1, builder::number(0)}}, [&](int i) -> std::vector<End> {
    const int left = b.compute(ScalarOp::sub, {builder::held(n), builder::held(i)});
    const int rows = b.compute(ScalarOp::min, {builder::held(left), builder::number(2)});
    b.bound(rows, 2);
    const int part = b.part(x, {builder::held(i), builder::number(0)}, 2, 4, builder::extent(rows), four);
    const int sums = b.make(Op::colsum, t, 1, 4, one, four, {builder::val(part)});
    takes(0, 7, 0, 4);
    b.work(1, Out().u(5).u(1).u(4).u(static_cast<std::uint64_t>(rows)).u(0).s(3).u(4).u(0).s(2).u(2).bytes, {4}, {5});
    takes(4, 0, 5, 6);
    const int e = b.element_of(x, {builder::held(i), builder::number(1)}, pto_wsp::DType::i64);
    const int odd = b.compute(ScalarOp::gt, {builder::held(e), builder::number(0)}, pto_wsp::DType::i64, pto_wsp::DType::boolean);
    b.branch(builder::held(odd), true, {{true, -1, side}},
             [&]() -> std::vector<End> { return {{b.make(Op::add, t, 1, 4, one, four, {builder::val(sum), builder::val(sums)}), {}}}; },
             [&]() -> std::vector<End> { return {{sum, {}}}; });
    const int to = b.compute(ScalarOp::mod, {builder::held(i), builder::held(last)});
    b.store_part(y, side, {builder::held(to), builder::number(0)});
    return {{side, {}}, {-1, builder::held(b.compute(ScalarOp::add, {builder::held(k), builder::held(to)}))}};
  });
  const int goes = b.reg(), went = b.reg();
  b.loop(builder::number(0), builder::number(300), {{false, goes, went, -1, builder::held(k_end)}}, [&](int) -> std::vector<End> {
    takes(1, 2, 1, 2);
    b.loop(builder::number(0), builder::number(2), {}, [&](int) -> std::vector<End> {
      takes(2, 3, 2, 1);
      return {};
    });
    return {{-1, builder::held(goes)}};
  });
  const int added = b.narrow(b.round(k_end, t, scalar_of(t)), t);
  takes(3, 4, 1, 0);
  const int own = b.make(Op::load, t, 2, 4, two, four, {builder::par(z)});
  const int up = b.make(Op::add, t, 2, 4, two, four, {builder::val(own), builder::val(total)});
  b.store(z, b.make(Op::mul, t, 2, 4, two, four, {builder::val(up), builder::par(added)}));
  b.store_part(z, total, {builder::number(1), builder::number(0)});
  return b.bytes();
}

// Tasks of such a kernel, on one tensor or on rows of their own.
writer::Plan control(bool tracked, bool pipes) {
  writer::Plan p;
  p.symbols = {"n"};
  p.regs = 2;
  p.tensors = {{{reg(0), Affine(4)}, 1, i32}, {{Affine(3), reg(0), Affine(4)}, 3, i32}, {{Affine(6), Affine(4)}, 3, i32}};
  p.kernels = {control_kernel(pipes)};
  Task a{0, 0, 0, 0, {reg(1)}, {}};
  a.args = {view(0, tracked, {span(0, reg(0)), slice(0, 4)}), view(1, tracked, {at(tracked ? Affine(1) : reg(1)), span(0, reg(0)), slice(0, 4)}),
            view(2, tracked, {slice(reg(1, 2)), slice(0)})};
  p.root = loop(1, 3, task(a), tracked);
  return p;
}

// Tasks under every directive: pools, lanes by rules, streams, batches, priorities, distances, a window in bytes, a start.
writer::Plan scheduled(bool interleaved) {
  writer::Plan p = two_loops(6);
  p.pools = {1, 3};
  p.dispatches = {2, 4};
  p.dispatch_flags = {pinned, 0};
  p.streams = {3, 0};
  p.batches = {2};
  p.windows = {65536, 4};
  p.window_bytes = {0, 64};
  p.start = interleaved ? 0 : 2;  // as many as the window in bytes holds
  p.turns = interleaved ? 2 : 0;
  p.memories = 8;
  Task a, b;
  a.coords = {reg(0)};
  a.args = {view(0, false, {slice(reg(0)), slice(0)}), view(1, true, {slice(reg(0)), slice(0)})};
  a.dispatch = 1;
  a.window = 1;
  a.batch = 1;
  a.stream = 1;
  a.lane = rule({rule_step("first_appearance", i64, {affine(reg(0, 1, 5))})}, step(0), i64, 0);
  a.stream_key = rule({rule_step("position", i64, {}), rule_step("splitmix64", i64, {step(0)}, u64)}, step(1), u64, 1);
  a.priority = rule({rule_step("cost", i64, {}), rule_step("mul", i64, {step(0), affine(reg(0, -3))})}, step(1), i64, 2);
  a.pool = rule({rule_step("id", i64, {}), rule_step("mod", i64, {step(0), constant(std::int64_t{2})})}, step(1), i64, 3);
  b.site = 1;
  b.coords = {reg(1)};
  b.args = {view(1, true, {slice(reg(1)), slice(0)}), view(2, false, {slice(reg(1)), slice(0)})};
  b.dispatch = 2;
  b.steal = 1;
  b.stream = 2;
  b.lane = rule({rule_step("least_loaded", i64, {})}, step(0), i64, 4);
  b.stream_key = rule(reg(1, 1, -2), 5);
  b.distance = rule({rule_step("gt", i64, {affine(reg(1)), constant(std::int64_t{2})}),
                     rule_step("where", i64, {step(0), constant(std::int64_t{7}), affine(reg(1))})}, step(1), i64, 6);
  b.pool = rule(1, 7);
  p.root = block({loop(0, 6, task(a)), loop(1, 6, task(b))});
  return p;
}

// Channels of every kind, a pipeline within a process, temporaries, boundaries, and answers of semantic time.
writer::Plan processes(bool nested) {
  writer::Plan p;
  p.symbols = {"n"};
  p.regs = 14;
  p.tensors.assign(3, {{reg(0), Affine(8)}, 3, f32});
  p.tensors.push_back({{Affine(1), Affine(8)}, 7, f32});
  p.kernels = {kernel(add, 1, 8, 5), kernel(mul, 1, 8, 9)};
  p.slots = {i64};
  p.read_cost = 2;
  const auto row = [](std::uint64_t from, std::uint64_t to, const Affine& at, std::uint64_t site) {
    Task t;
    t.kernel = site % 2;
    t.site = site;
    t.coords = {at};
    t.args = {view(from, true, {slice(at), slice(0)}), view(to, true, {slice(to == 3 ? Affine(0) : at), slice(0)})};
    return t;
  };
  Task last = row(0, 3, 0, 5);
  const Bytes source = loop(1, reg(0), block({task(row(0, 1, reg(1), 0)), send(0, {affine(reg(1))}), try_send(2, 1, {affine(reg(1)), constant(0.5)}),
                                              cond(of(2), slot_set(0, affine(1)), block({}))}), true);
  const Bytes middle = consume(0, {3}, block({task(row(1, 2, reg(3), 1)), send(2, {}), query(4, 1), cond(of(4), receive(1, {5, 6}), block({}))}));
  const Bytes inner = pipeline({{0, {i64}, 1}, {-1, {}}}, {{{0, 1}, block({send(0, {affine(0)}), send(1), closes(1)})},
                                                          {{}, block({receive(0, {7}), task(row(1, 2, reg(7), 2)), consume(1, {}, block({}))})}});
  const Bytes sink = consume(2, {}, block({acquire(3, true), task(last), release(3)}));
  const Bytes reader = block({item(8, 2, {at(0), at(1)}, true), slot_get(9, 0), nested ? inner : block({}), task(row(1, 2, 0, 3))});
  p.root = block({task(row(0, 1, 0, 4)), pipeline({{1, {i64}, 2, 3}, {2, {i64, f64}, 0, 0, 1}, {1, {}}},
                                                  {{{0, 1}, source}, {{2}, middle}, {{}, sink}, {{}, reader}}, 0, 0, 3),
                  task(row(1, 2, 1, 6))});
  return p;
}

std::vector<Bytes> seeds(int argc, char** argv) {
  std::vector<Bytes> out{one_loop(9).bytes(), two_loops(6).bytes(), chain(5, true).bytes(), chain(5, false).bytes(),
                         rich(false).bytes(), rich(true).bytes(), scattered().bytes(), data(false).bytes(), data(true).bytes(),
                         control(false, false).bytes(), control(true, false).bytes(), control(false, true).bytes(), control(true, true).bytes(),
                         scheduled(false).bytes(), scheduled(true).bytes(), processes(false).bytes(), processes(true).bytes()};
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    const auto* data = reinterpret_cast<const std::byte*>(text.data());
    out.emplace_back(data, data + text.size());
  }
  return out;
}

// A number as it may be found in a stream: small, or at an edge.
std::uint64_t interesting(Rng& rng) {
  constexpr std::uint64_t edges[] = {0, 1, 2, 3, 4, 7, 8, 63, 64, 127, 128, 255, 65535, 65536, (1ull << 31) - 1, 1ull << 31, (1ull << 32) - 1,
                                     1ull << 32, 1ull << 52, (1ull << 62), (1ull << 63) - 1, 1ull << 63, ~0ull, ~0ull - 1};
  return rng.below(2) == 0 ? rng.below(12) : edges[rng.below(std::size(edges))];
}

void mutate(Bytes& b, Rng& rng) {
  if (b.size() < 12) return;
  // Past the magic, mostly.
  const std::size_t at = rng.below(50) == 0 ? rng.below(b.size()) : 8 + rng.below(b.size() - 8);
  const auto i = b.begin() + static_cast<std::ptrdiff_t>(at);
  const std::size_t length = std::min(1 + rng.below(24), b.size() - at);
  const auto j = i + static_cast<std::ptrdiff_t>(length);
  switch (rng.below(8)) {
    case 0: *i = static_cast<std::byte>(rng.below(256)); break;
    case 1: *i ^= static_cast<std::byte>(1u << rng.below(8)); break;
    case 2: *i = static_cast<std::byte>(static_cast<std::uint8_t>(*i) + (rng.below(2) == 0 ? 1 : 2)); break;
    case 3: {  // another number in place of one
      auto end = i;
      while (end != b.end() && static_cast<std::uint8_t>(*end) >= 0x80) ++end;
      if (end != b.end()) ++end;
      const auto place = b.erase(i, end);
      const Bytes number = Out().u(interesting(rng)).bytes;
      b.insert(place, number.begin(), number.end());
      break;
    }
    case 4: {  // a part twice
      const Bytes part(i, j);
      b.insert(i, part.begin(), part.end());
      break;
    }
    case 5: b.erase(i, j); break;
    case 6: {  // two parts exchanged
      const std::size_t other = 8 + rng.below(b.size() - 8);
      for (std::size_t k = 0; k < length && other + k < b.size() && at + k < b.size(); ++k) std::swap(b[at + k], b[other + k]);
      break;
    }
    default: b.resize(rng.below(20) == 0 ? at : b.size()); break;
  }
}

// Cancels a run that goes on and on, also while the thread that waits for it works in a kernel.
class Watchdog {
 public:
  explicit Watchdog(pto_wsp::Instance& instance)
      : thread_([this, &instance] {
          std::unique_lock lock(mutex_);
          if (!done_there_.wait_for(lock, std::chrono::milliseconds(500), [this] { return done_; })) instance.cancel();
        }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    done_there_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_there_;
  bool done_ = false;
  std::thread thread_;
};

struct Counts {
  std::uint64_t refused = 0, too_large = 0, failed = 0, ran = 0, stopped = 0;
};

// One that takes longer than `seconds` is stopped.
void try_plan(const Bytes& bytes, Rng& rng, Counts& counts, double seconds = 0.02) {
  std::shared_ptr<const pto_wsp::Plan> plan;
  try {
    plan = decode(bytes);
  } catch (const pto_wsp::PlanError&) {
    ++counts.refused;
    return;
  }
  std::size_t scratch = 0;
  for (const pto_wsp::Kernel& k : plan->kernels()) scratch = std::max(scratch, k.scratch_bytes());
  if (scratch > static_cast<std::size_t>(16 * max_bytes)) {
    ++counts.too_large;
    return;
  }
  pto_wsp::Instance instance(plan, rng.below(8) == 0 ? 2 : 1);
  std::vector<std::int64_t> symbols;
  for (std::size_t i = 0; i < plan->symbols().size(); ++i) symbols.push_back(static_cast<std::int64_t>(4 + rng.below(9)));
  instance.set_symbols(symbols);
  std::vector<std::unique_ptr<std::byte[]>> memory;
  for (std::size_t i = 0; i < plan->tensors().size(); ++i) {
    const pto_wsp::TensorInfo& t = plan->tensors()[i];
    if (t.temporary) continue;
    std::vector<std::int64_t> shape, strides;
    auto size = static_cast<std::int64_t>(size_of(t.dtype));
    for (const pto_wsp::Affine& d : t.dims) {
      std::int64_t n = 0;
      if (!pto_wsp::evaluate(d, symbols, n) || n < 0 || n > max_bytes || size * n > max_bytes) {
        ++counts.too_large;
        return;
      }
      shape.push_back(n);
      strides.push_back(size);
      size *= n;
    }
    memory.push_back(std::make_unique<std::byte[]>(static_cast<std::size_t>(size)));
    std::byte* data = memory.back().get();
    // Indices and lengths, small ones mostly.
    for (std::int64_t k = 0; k < size; k += static_cast<std::int64_t>(size_of(t.dtype)))
      if (t.dtype != pto_wsp::DType::boolean) data[k] = static_cast<std::byte>(rng.below(200) == 0 ? 255 : rng.below(2));
    for (std::size_t d = 0; d < shape.size(); ++d) {
      if (shape[d] == 0 || rng.below(4) != 0) continue;
      data += strides[d] * (shape[d] - 1);  // backwards
      strides[d] = -strides[d];
    }
    instance.bind(i, size == 0 ? nullptr : data, shape, strides, static_cast<std::uint32_t>(t.dtype), true);
  }
  try {
    instance.start();
  } catch (const std::bad_alloc&) {
    ++counts.too_large;
    return;
  }
  const Watchdog watchdog(instance);
  if (!instance.wait(seconds)) {
    ++counts.stopped;
    instance.cancel();
    CHECK(instance.wait(60));
  } else if (instance.error()) {
    ++counts.failed;
  } else {
    ++counts.ran;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t mutations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 2000;
  const std::uint64_t first = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  const std::vector<Bytes> plans = seeds(argc, argv);
  Counts counts;
  {
    Rng rng{std::mt19937_64(first)};
    Counts whole;
    for (const Bytes& p : plans) try_plan(p, rng, whole, 0.4);  // a busy machine may be slow
    CHECK_EQ(whole.refused, 0);
    CHECK_EQ(whole.ran, plans.size());
  }
  for (std::uint64_t i = 0; i < mutations; ++i) {
    Rng rng{std::mt19937_64(first + i)};
    Bytes b = plans[rng.below(plans.size())];
    for (std::size_t k = 0, n = rng.below(3) == 0 ? 1 + rng.below(4) : 1; k < n; ++k) mutate(b, rng);
    if (std::getenv("FUZZ_TRACE") != nullptr) std::fprintf(stderr, "mutation %llu\n", static_cast<unsigned long long>(first + i));
    try_plan(b, rng, counts);
  }
  std::printf("%llu mutations: %llu refused, %llu too large, %llu failed, %llu ran, %llu stopped\n",
              static_cast<unsigned long long>(mutations), static_cast<unsigned long long>(counts.refused),
              static_cast<unsigned long long>(counts.too_large), static_cast<unsigned long long>(counts.failed),
              static_cast<unsigned long long>(counts.ran), static_cast<unsigned long long>(counts.stopped));
  return check::result();
}
