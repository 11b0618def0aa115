// Pipelines in runs: numbers, cycles, what goes wrong in them, and that a run of many tokens takes no more memory than one of few.
#include <chrono>
#include <thread>

#include "check.hpp"
#include "order_helpers.hpp"
#include "pto_wsp/dry_run.hpp"
#include "run_helpers.hpp"

using namespace helpers;

namespace {

constexpr std::int64_t width = 8;

// One row of a tensor to the same row of the next: t[to][r] = 2 * t[to - 1][r].
Task row(std::uint64_t to, std::uint64_t site, const Affine& r, std::uint64_t kernel = 0) {
  Task t;
  t.kernel = kernel;
  t.site = site;
  t.coords = {r};
  t.args = {view(to - 1, true, {slice(r), slice(0)}), view(to, true, {slice(r), slice(0)})};
  return t;
}

// load -> (channel of `depth`) -> store over `n` rows, of 10 and 30 cycles.
Plan two_stages(std::int64_t n, const Channel& channel, std::int64_t rows = -1) {
  Plan p;
  p.regs = 2;
  p.tensors.assign(3, {{Affine(rows < 0 ? n : rows), Affine(width)}});
  p.kernels = {kernel(add, 1, width, 10), kernel(add, 1, width, 30)};
  const auto at = [&](std::uint64_t r) { return rows < 0 ? reg(r) : Affine(0); };
  p.root = pipeline({channel}, {{{0}, loop(0, n, block({task(row(1, 0, at(0))), send(0, {affine(reg(0))})}), true)},
                                {{}, consume(0, {1}, task(row(2, 1, at(1), 1)))}});
  return p;
}

struct Ran {
  std::optional<pto_wsp::Failure> failure;
  pto_wsp::RunStats stats;
  std::vector<Array> arrays;
};

Ran run_it(const Plan& p, std::vector<Array> arrays, std::uint32_t threads = 1, bool delays = false, const pto_wsp::Resources& resources = {},
           std::chrono::nanoseconds hand_over = std::chrono::nanoseconds(0)) {
  pto_wsp::Instance instance(decode(p.bytes()), threads, resources);
  Order order;
  order.delays = delays;
  if (delays) instance.set_hook({&Order::call, &order});
  instance.set_hand_over(hand_over);
  for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(instance, i);
  CHECK(run(instance));
  return {instance.error(), instance.stats(), std::move(arrays)};
}

std::vector<Array> rows_of(std::int64_t n, std::size_t tensors) {
  std::vector<Array> arrays(tensors, Array({n, width}));
  for (std::size_t i = 0; i < arrays[0].data.size(); ++i) arrays[0].data[i] = static_cast<float>(i);
  return arrays;
}

constexpr pto_wsp::ErrorKind forever = pto_wsp::ErrorKind::processes;

void two_stages_overlap_in_time() {
  constexpr std::int64_t n = 40;
  const std::vector<std::pair<Channel, std::uint64_t>> cases{
      {{1, {i64}}, 10 + 30 * n}, {{0, {i64}}, 10 + 30 * n}, {{8, {i64}}, 10 + 30 * n}, {{-1, {i64}}, 10 + 30 * n}, {{1, {i64}, 7}, 17 + 30 * n}};
  for (const auto& [channel, cycles] : cases)
    for (std::uint32_t threads = 1; threads <= 4; ++threads)
      for (const std::chrono::nanoseconds hand_over : hand_overs) {
        const bool delays = hand_over.count() == 0;
        const Ran r = run_it(two_stages(n, channel), rows_of(n, 3), threads, delays, {}, hand_over);
        CHECK(!r.failure);
        CHECK_EQ(r.stats.total_cycles, cycles);
        CHECK_EQ(r.stats.task_count, 2 * n);
        for (std::size_t i = 0; i < r.arrays[2].data.size(); ++i) CHECK_EQ(r.arrays[2].data[i], 4 * static_cast<float>(i));
      }
  const Ran r = run_it(two_stages(n, {1, {i64}}), rows_of(n, 3));
  CHECK(r.stats.channels.size() == 1 && r.stats.channels[0].empty == 10 && r.stats.channels[0].full == 10 + (n - 3) * 20);
}

// A pipeline is one task for what is around it: it comes after what its tasks need, and before what needs one of them.
void a_pipeline_is_one_task_around_it() {
  constexpr std::int64_t n = 4;
  Plan p = two_stages(n, {1, {i64}});
  p.regs = 4;
  p.tensors.assign(5, {{Affine(n), Affine(width)}});
  const Bytes pipe = pipeline({{1, {i64}}}, {{{0}, loop(0, n, block({task(row(2, 0, reg(0))), send(0, {affine(reg(0))})}), true)},
                                            {{}, consume(0, {1}, task(row(3, 1, reg(1), 1)))}});
  p.root = block({task(row(1, 2, 0)), pipe, task(row(4, 3, 0)), task(row(1, 4, 3))});
  p.lanes = 4;
  for (std::uint32_t threads = 1; threads <= 3; ++threads) {
    const Ran r = run_it(p, rows_of(n, 5), threads, threads > 1);
    CHECK(!r.failure);
    // 10 for row 0, the pipeline from 10 to 10 + 130, the last row of the first after it
    CHECK_EQ(r.stats.total_cycles, 10 + 130 + 10);
    CHECK_EQ(r.stats.task_count, 2 * n + 3);
    CHECK_EQ(r.stats.windows[0].high_water, 4);
  }
}

// Structure around, also of a pipeline without tasks.
void structure_holds_around_pipelines() {
  constexpr std::int64_t n = 4;
  Plan p = two_stages(n, {1, {i64}});
  const Bytes pipe = p.root;
  const Bytes waits = pipeline({{1, {}, 100}}, {{{0}, send(0)}, {{}, receive(0)}});
  p.tensors.assign(4, {{Affine(n), Affine(width)}});
  Task after = row(3, 7, 1);
  after.args[0] = view(0, true, {slice(1), slice(0)});  // conflicts with nothing
  p.root = seq({pipe, task(after)});
  CHECK_EQ(run_it(p, rows_of(n, 4), 2, true).stats.total_cycles, 130 + 10);
  p.root = seq({waits, task(after)});
  CHECK_EQ(run_it(p, rows_of(n, 4), 2, true).stats.total_cycles, 100 + 10);
  p.root = seq({task(after), waits, pipe});
  CHECK_EQ(run_it(p, rows_of(n, 4), 2, true).stats.total_cycles, 10 + 100 + 130);
  p.regs = 3;
  p.root = loop(2, 5, pipe, true);
  const Ran r = run_it(p, rows_of(n, 4), 2, true);
  CHECK_EQ(r.stats.total_cycles, 5 * 130);
  CHECK_EQ(r.stats.task_count, 5 * 2 * n);
}

void nested_pipelines_are_work_of_their_process() {
  constexpr std::int64_t n = 4;
  Plan p = two_stages(n, {1, {i64}});
  const Bytes inner = p.root;
  p.regs = 3;
  p.tensors.assign(4, {{Affine(n), Affine(width)}});
  const std::vector<Process> outer{{{0}, loop(2, 3, block({inner, send(0, {affine(reg(2))})}), true)},
                                   {{}, block({receive(0, {3}), task(row(3, 5, reg(3))), receive(0, {4}), receive(0, {5})})}};
  p.root = pipeline({{2, {i64}}}, outer);
  p.regs = 6;
  const Ran r = run_it(p, rows_of(n, 4), 3, true);
  CHECK(!r.failure);
  CHECK_EQ(r.stats.total_cycles, 3 * 130);
  CHECK_EQ(r.arrays[3].data[1], 8.0f);
}

void processes_that_wait_for_ever_are_told() {
  // p waits for a, q for b; a third is in time.
  Plan p = two_stages(2, {1, {i64}});
  p.tensors.assign(3, {{Affine(2), Affine(width)}});
  p.root = pipeline({{1, {}}, {1, {}}}, {{{1}, block({receive(0, {}, 5), send(1)})},
                                       {{0}, block({receive(1, {}, 7), send(0)})},
                                       {{}, task(row(1, 0, 0))}}, 0, 0, 3);
  for (std::uint32_t threads = 1; threads <= 2; ++threads) {
    const Ran r = run_it(p, rows_of(2, 3), threads);
    CHECK(r.failure && r.failure->kind == forever && r.failure->origin == 2);
    CHECK(r.failure && r.failure->values == std::vector<std::int64_t>({0, 1, 0, 0, 1, 0, 4, 1, 1, 1, 0, 1, 0, 6}));
  }
  pto_wsp::DryRun dry(decode(p.bytes()), {});
  CHECK(dry.run().failure->kind == forever);
  const pto_wsp::Remedy none_helps = dry.remedy();
  CHECK(!none_helps.known && none_helps.channels.empty() && !none_helps.unknown);

  // Three into a before one into b, which is taken first.
  p.root = pipeline({{1, {}}, {0, {}}}, {{{0, 1}, block({send(0), send(0), send(0), send(1)})},
                                       {{}, block({receive(1), receive(0), receive(0), receive(0)})}});
  const Ran r = run_it(p, rows_of(2, 3));
  CHECK(r.failure && r.failure->kind == forever && r.failure->values.size() == 14);
  pto_wsp::DryRun full(decode(p.bytes()), {});
  CHECK(full.run().failure->kind == forever);
  const pto_wsp::Remedy remedy = full.remedy();
  CHECK(remedy.known && remedy.channels == std::vector<std::pair<std::uint32_t, std::uint64_t>>({{0, 3}}));
  pto_wsp::PipelineOptions options;
  options.channels = pto_wsp::channel_specs(*decode(p.bytes()));
  options.channels[0].capacity = 3;
  full.set_pipelines(options);
  CHECK(!full.run().failure);
  options.channels[0].capacity = 2;
  full.set_pipelines(options);
  CHECK(full.run().failure);
}

// Who stores holds three buffers before it gives the first back: their numbers, which a run gets from channel 1, begin again in a search.
void deadlocks_on_buffers_are_told() {
  Plan p = two_stages(2, {1, {i64}});
  for (const std::int64_t depth : {0, 1, 2}) {
    const std::int64_t count = std::max<std::int64_t>(depth, 1);
    std::vector<Bytes> take, give;
    for (std::uint64_t k = 0; k < 3; ++k) {
      take.push_back(receive(0, {2 + k}));
      give.push_back(send(1, {affine(reg(2 + k))}));
    }
    take.insert(take.end(), give.begin(), give.end());
    p.regs = 6;
    p.root = pipeline({{depth, {i64}}, {count, {i64}, 0, 0, static_cast<std::uint64_t>(count)}},
                      {{{0}, loop(0, 6, block({receive(1, {1}), send(0, {affine(reg(1))})}), true)}, {{1}, loop(5, 2, block(take), true)}});
    pto_wsp::DryRun dry(decode(p.bytes()), {});
    CHECK(dry.run().failure->kind == forever);
    CHECK(!dry.remedy().known && !dry.remedy().unknown);
    const std::pair<std::uint32_t, std::uint32_t> buffers[] = {{0, 1}}, wrong[] = {{0, 2}};
    const pto_wsp::Remedy remedy = dry.remedy(buffers);
    CHECK(remedy.known && remedy.channels == std::vector<std::pair<std::uint32_t, std::uint64_t>>({{0, 3}}));
    CHECK_THROWS(std::invalid_argument, dry.remedy(wrong));
    pto_wsp::PipelineOptions options;
    options.channels = pto_wsp::channel_specs(*decode(p.bytes()));
    options.channels[0].capacity = options.channels[1].capacity = options.channels[1].initial = 3;
    dry.set_pipelines(options);
    CHECK(!dry.run().failure);
  }
}

// A search that a signal stops comes back at once, and the same run may be looked at again.
void searches_are_given_up() {
  Plan p = two_stages(2, {1, {i64}});
  p.root = pipeline({{1, {}}, {0, {}}}, {{{0, 1}, block({loop(0, 100'000, send(0), true), send(1)})}, {{}, block({receive(1), loop(1, 100'000, receive(0), true)})}});
  bool go_on = true;
  std::uint64_t asked = 0;
  pto_wsp::DryInputs inputs;
  inputs.go_on = [&] {
    ++asked;
    return go_on;
  };
  pto_wsp::DryRun dry(decode(p.bytes()), std::move(inputs));
  CHECK(dry.run().failure->kind == forever);
  asked = 0;
  const pto_wsp::Remedy beyond = dry.remedy();
  CHECK(!beyond.known && beyond.unknown && beyond.unknown->kind == pto_wsp::ErrorKind::cancelled);
  CHECK(asked > 10'000);
  go_on = false;
  asked = 0;
  const pto_wsp::Remedy stopped = dry.remedy();
  CHECK(!stopped.known && asked == 1);
  go_on = true;
  CHECK(dry.run().failure->kind == forever);
}

void what_stops_a_network_is_told() {
  Plan p = two_stages(2, {1, {i64}});
  p.root = pipeline({{1, {}}}, {{{0}, block({send(0), closes(0), send(0, {}, 9)})}, {{}, consume(0, {}, block({}))}});
  const Ran closed = run_it(p, rows_of(2, 3));
  CHECK(closed.failure && closed.failure->kind == pto_wsp::ErrorKind::closed && closed.failure->origin == 8);
  // Two that hand a token to each other without an end, in no time and in some.
  for (const std::uint64_t latency : {0u, 5u}) {
    p.root = pipeline({{1, {}, latency, 0, 1}, {1, {}}}, {{{1}, consume(0, {}, send(1))}, {{0}, consume(1, {}, send(0))}});
    pto_wsp::Instance instance(decode(p.bytes()), 2);
    std::vector<Array> arrays = rows_of(2, 3);
    for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(instance, i);
    instance.set_pipelines({{.cycles = 1000, .idle_actions = 1000}, {}});
    CHECK(run(instance));
    CHECK(instance.error() && instance.error()->kind == pto_wsp::ErrorKind::limit);
    CHECK(instance.error()->values == std::vector<std::int64_t>({latency == 0 ? 1 : 0, 1000}));
    instance.set_pipelines({});
    instance.start();
    CHECK(!instance.wait(0.05));
    instance.cancel();
    CHECK(instance.wait(60));
    CHECK(instance.error()->kind == pto_wsp::ErrorKind::cancelled);
  }
}

// A process that walks for ever without an action can be cancelled too.
void long_walks_are_cancelled() {
  Plan p = two_stages(2, {1, {i64}});
  p.root = pipeline({}, {{{}, loop(0, std::int64_t{1} << 50, block({}), true)}, {{}, task(row(1, 0, 0))}});
  for (std::uint32_t threads = 1; threads <= 2; ++threads) {
    const std::vector<Process> both{{{}, loop(0, std::int64_t{1} << 50, eval(1, 0, reg(0), reg(0)), true)}, {{}, task(row(1, 0, 0))}};
    p.root = pipeline({}, both);
    std::vector<Array> arrays = rows_of(2, 3);
    pto_wsp::Instance busy(decode(p.bytes()), threads);
    for (std::size_t i = 0; i < arrays.size(); ++i) arrays[i].bind(busy, i);
    busy.start();
    CHECK(!busy.wait(0.05));
    busy.cancel();
    CHECK(busy.wait(60));
    CHECK(busy.error()->kind == pto_wsp::ErrorKind::cancelled);
  }
}

void answers_are_those_of_semantic_time() {
  // The sender works 10 cycles a token, and drops what has no place; the receiver asks each 25 cycles.
  Plan p;
  p.regs = 6;
  p.tensors.assign(4, {{Affine(8), Affine(width)}});
  p.kernels = {kernel(add, 1, width, 10), kernel(add, 1, width, 25)};
  const Task sent = row(2, 3, reg(0));
  const Bytes sender = loop(0, 6, block({task(row(1, 0, reg(0))), try_send(1, 0, {affine(reg(0))}), cond(of(1), task(sent), block({}))}), true);
  const Bytes receiver = loop(2, 4, block({task(row(3, 1, reg(2), 1)), query(3, 0), cond(of(3), receive(0, {4}), block({}))}), true);
  p.root = pipeline({{1, {i64}}}, {{{0}, sender}, {{}, receiver}});
  const Ran once = run_it(p, rows_of(8, 4));
  CHECK(!once.failure);
  // Clocks of the sender: 10 sent, 30 refused, 40 sent (taken at 25)...
  CHECK_EQ(once.stats.total_cycles, 100);
  for (std::uint32_t threads = 2; threads <= 4; ++threads) {
    const Ran again = run_it(p, rows_of(8, 4), threads, true);
    CHECK(again.arrays[2].data == once.arrays[2].data && again.stats.total_cycles == once.stats.total_cycles);
    CHECK_EQ(again.stats.task_count, once.stats.task_count);
  }
}

// Temporaries of processes share no memory, and are not used again before what uses them is over.
void temporaries_belong_to_their_process() {
  constexpr std::int64_t n = 50;
  Plan p;
  p.regs = 3;
  p.tensors.assign(3, {{Affine(n), Affine(width)}});
  for (int i = 0; i < 2; ++i) p.tensors.push_back({{Affine(1), Affine(width)}, 7});
  p.kernels = {kernel(add, 1, width, 10)};
  const auto copy = [](std::uint64_t from, const Affine& a, std::uint64_t to, const Affine& b, std::uint64_t site) {
    Task t;
    t.site = site;
    t.coords = {a};
    t.args = {view(from, true, {slice(a), slice(0)}), view(to, true, {slice(b), slice(0)})};
    return task(t);
  };
  const Bytes one = loop(0, n, block({acquire(3), copy(0, reg(0), 3, 0, 0), copy(3, 0, 1, reg(0), 1), release(3), send(0, {affine(reg(0))})}), true);
  const Bytes two = consume(0, {1}, block({acquire(4, true), copy(1, reg(1), 4, 0, 2), copy(4, 0, 2, reg(1), 3), release(4)}));
  p.root = pipeline({{2, {i64}}}, {{{0}, one}, {{}, two}});
  for (std::uint32_t threads = 1; threads <= 4; ++threads) {
    std::vector<Array> arrays = rows_of(n, 3);
    const Ran r = run_it(p, arrays, threads, true);
    CHECK(!r.failure);
    CHECK_EQ(r.stats.total_cycles, 20 + 20 * n);
    CHECK_EQ(r.stats.arena_bytes, 128);
    for (std::size_t i = 0; i < r.arrays[2].data.size(); ++i) CHECK_EQ(r.arrays[2].data[i], 16 * static_cast<float>(i));
  }
}

// A process reads what a task of another one has computed: the token says when.
void boundaries_in_processes() {
  Plan p;
  p.regs = 4;
  p.tensors = {{{Affine(4), Affine(width)}}, {{Affine(4), Affine(width)}}, {{Affine(4), Affine(width)}}};
  p.read_cost = 3;
  p.kernels = {kernel(add, 1, width, 10)};
  const Bytes reader = block({receive(0, {}), item(0, 1, {at(0), at(1)}, true), compute(1, 23, f64, {of(0)}, false, i64), task(row(2, 1, reg(1, 1, 0)))});
  p.root = pipeline({{1, {}}}, {{{0}, block({task(row(1, 0, 0)), send(0)})}, {{}, reader}});
  for (std::uint32_t threads = 1; threads <= 3; ++threads) {
    std::vector<Array> arrays = rows_of(4, 3);
    for (float& x : arrays[0].data) x = 1;
    const Ran r = run_it(p, arrays, threads, true);
    CHECK(!r.failure);
    CHECK_EQ(r.stats.total_cycles, 10 + 3 + 10);
  }
}

void few_resources_suffice() {
  constexpr std::int64_t n = 30;
  for (const std::uint64_t window : {1, 2, 3})
    for (const std::uint64_t edges : {1, 2}) {
      const Ran r = run_it(two_stages(n, {3, {i64}}), rows_of(n, 3), 3, true, {.task_window = window, .edges = edges, .ready_queue = 1});
      CHECK(!r.failure);
      CHECK_EQ(r.stats.total_cycles, 10 + 30 * n);
    }
}

void a_thousand_processes() {
  constexpr std::uint64_t n = 1000;
  Plan p;
  p.regs = n;
  p.tensors.assign(2, {{Affine(2), Affine(width)}});
  p.kernels = {kernel(add, 1, width, 10)};
  std::vector<Channel> channels(n, {1, {i64}});
  std::vector<Process> processes{{{0}, send(0, {affine(1)})}};
  for (std::uint64_t i = 1; i < n; ++i)
    processes.push_back({{i}, block({receive(i - 1, {i - 1}), task(row(1, i, reg(i - 1))), send(i, {affine(reg(i - 1))})})});
  processes.push_back({{}, receive(n - 1, {n - 1})});
  p.root = pipeline(channels, processes);
  const Ran r = run_it(p, rows_of(2, 2), 2, true);
  CHECK(!r.failure);
  CHECK_EQ(r.stats.total_cycles, 10 * (n - 1));
}

// Between which numbers tokens are is known from who sends them, and looked at where it is not.
void tokens_are_in_bounds() {
  constexpr std::int64_t n = 4;
  const auto bound = [&](const Plan& p) {
    const auto plan = decode(p.bytes());
    std::vector<pto_wsp::Buffer> buffers(3, {nullptr, {n, width}, {width * 4, 4}});
    pto_wsp::BoundPlan b;
    CHECK(!b.bind(*plan, {}, buffers));
    return b.proved();
  };
  CHECK(bound(two_stages(n, {1, {i64}})));
  CHECK(bound(two_stages(n, {2, {i64}, 0, 0, 2})));
  Plan p = two_stages(n, {1, {i64}});
  const Process sends{{0}, loop(0, n, block({task(row(1, 0, reg(0))), send(0, {affine(reg(0, 1, 1))})}), true)};
  const Process takes{{}, consume(0, {1}, task(row(2, 1, reg(1), 1)))};
  for (const std::vector<Process>& processes : {std::vector{sends, takes}, std::vector{takes, sends}}) {
    p.root = pipeline({{1, {i64}}}, processes);
    CHECK(!bound(p));
    const Ran r = run_it(p, rows_of(n, 3), 2);
    CHECK(r.failure && r.failure->kind == pto_wsp::ErrorKind::bounds && r.failure->site == 1);
  }
}

void wrong_pipelines_are_refused() {
  const auto refused = [](const Bytes& root, std::uint64_t turns = 0) {
    Plan p = two_stages(2, {1, {i64}});
    p.root = root;
    p.turns = turns;
    CHECK_THROWS(pto_wsp::PlanError, decode(p.bytes()));
  };
  refused(send(0));
  refused(pipeline({{1, {}}}, {}));
  refused(pipeline({{1, {}}}, {{{}, send(0)}}));
  refused(pipeline({{1, {}}}, {{{0, 0}, send(0)}}));
  refused(pipeline({{1, {}}}, {{{0}, send(1)}}));
  refused(pipeline({{1, {}}}, {{{}, closes(0)}}));
  refused(pipeline({{1, {f64}}}, {{{0}, send(0, {affine(1)})}}));
  refused(pipeline({{1, {i64}}}, {{{}, consume(0, {1}, block({}))}, {{}, task(row(1, 0, reg(1)))}}));
  refused(pipeline({{1, {}, 0, 0, 2}}, {{{0}, block({})}}));
  refused(pipeline({{0, {}, 0, 0, 1}}, {{{0}, block({})}}));
  refused(block({pipeline({{1, {}}}, {{{0}, block({})}}), send(0)}));
  const std::vector<Process> sends{{{}, send(0)}}, nothing{{{}, block({})}};
  refused(pipeline({{1, {}}}, {{{0}, pipeline({}, sends)}}));
  refused(pipeline({}, nothing), 2);
}

}  // namespace

int main() {
  two_stages_overlap_in_time();
  a_pipeline_is_one_task_around_it();
  structure_holds_around_pipelines();
  nested_pipelines_are_work_of_their_process();
  processes_that_wait_for_ever_are_told();
  deadlocks_on_buffers_are_told();
  searches_are_given_up();
  what_stops_a_network_is_told();
  long_walks_are_cancelled();
  answers_are_those_of_semantic_time();
  temporaries_belong_to_their_process();
  boundaries_in_processes();
  few_resources_suffice();
  a_thousand_processes();
  tokens_are_in_bounds();
  wrong_pipelines_are_refused();
  return check::result();
}
