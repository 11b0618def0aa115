#include "pto_wsp/dry_run.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "pto_wsp/arena.hpp"
#include "pto_wsp/deciding.hpp"
#include "pto_wsp/independent.hpp"
#include "pto_wsp/isa.hpp"

namespace pto_wsp {
namespace {

constexpr int most_rounds = 64;  // of the search for a remedy
constexpr std::uint64_t ask_after = 16384;  // of what is looked at: whether to go on
// Of the search for capacities, which may have to look at a network without an end: tasks; and what others count as.
constexpr std::uint64_t most_looked_at = std::uint64_t{1} << 21, pause_weight = 1024, raise_weight = 64;

// Of the window that blocks, as Failure::values has it.
struct Full {
  explicit Full(const Failure& f)
      : window(static_cast<std::uint32_t>(f.values[1])), by_tasks(f.values[2] >= f.values[3]), first(f.values[8]) {}
  std::uint32_t window;
  bool by_tasks;
  std::int64_t first;
};

void set(ClockOptions& time, const Remedy::Size& size) { (size.bytes ? time.window_bytes : time.windows)[size.window] = size.needed; }

bool blocks(const std::optional<Failure>& f) { return f && f->kind == ErrorKind::processes; }

bool is_deadlock(const std::optional<Failure>& f) { return f && f->kind == ErrorKind::deadlock; }

}  // namespace

DryRun::DryRun(std::shared_ptr<const Plan> plan, DryInputs inputs) : plan_(std::move(plan)), inputs_(std::move(inputs)) {
  if (inputs_.symbols.size() != plan_->symbols().size() || inputs_.slots.size() > plan_->slots().size())
    throw std::invalid_argument("the plan has other symbols or slots");
  for (const TensorInfo& t : plan_->tensors()) buffers_.push_back(shape_of(t, inputs_.symbols));
}

void DryRun::bind(std::size_t i, std::byte* data, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides) {
  if (i >= buffers_.size() || shape.size() != buffers_[i].shape.size() || strides.size() != shape.size())
    throw std::invalid_argument("there is no such tensor");
  buffers_[i] = {data, {shape.begin(), shape.end()}, {strides.begin(), strides.end()}};
}

bool DryRun::foregone(const Plan& plan) { return !Deciding(plan).data(); }

std::optional<Failure> DryRun::prepare() {
  stopped_ = false;
  if (bound_) return unbound_;
  bound_.emplace();
  unbound_ = bound_->bind(*plan_, inputs_.symbols, buffers_, inputs_.slots);
  if (unbound_) return unbound_;
  const Deciding deciding(*plan_);
  idle_ = deciding.idle_reads();
  for (const Node* n : deciding.idle_nodes(inputs_.without_data)) bound_->leave_out(*n);
  return std::nullopt;
}

// Tasks of which nothing has to be looked at.
bool DryRun::is_quick() const {
  if (!plan_->independent() || plan_->demands().any() || plan_->turns() != 0 || !bound_->proved()) return false;
  for (std::uint32_t i = 0; i < bound_->n_tasks(); ++i)
    if (const BoundTask& t = bound_->task(i); t.reachable && (t.shaped || t.failed_check >= 0 || t.n_gathers != 0)) return false;
  return true;
}

DryResult DryRun::run() {
  const FpEnv environment;
  if (std::optional<Failure> f = prepare()) return {{}, std::move(f)};
  return is_quick() ? walk_quick() : walk_all(nullptr);
}

DryResult DryRun::run_traced(std::uint64_t limit) {
  const FpEnv environment;
  if (std::optional<Failure> f = prepare()) return {{}, std::move(f)};
  const auto tracer = std::make_shared<Tracer>(*bound_, TraceLevel::full, limit, SteadyClock::now());
  DryResult out = walk_all(tracer.get());
  out.trace = tracer;
  return out;
}

DryResult DryRun::walk_all(Tracer* tracer) {
  Walk w;
  w.tracer = tracer;
  std::optional<Failure> failure = walk(clock_options(*plan_), w);
  RunStats stats;
  front_.stats(stats);
  return judged(std::move(stats), std::move(failure));
}

DryResult DryRun::walk_quick() {
  const std::vector<Nest> nests = nests_of(*bound_);
  const auto time = std::make_unique<TimeWalk>();
  EarliestFailure failure;
  time->prepare(*bound_, nests);
  DryResult out;
  while (!time->advance(failure))
    if (inputs_.go_on && !inputs_.go_on()) return {{}, Failure{.kind = ErrorKind::cancelled}};
  time->result(out.stats);
  return judged(std::move(out.stats), failure.take());
}

// What only the whole run shows.
DryResult DryRun::judged(RunStats stats, std::optional<Failure> failure) const {
  if (!failure && stats.time_overflowed) failure = Failure{.kind = ErrorKind::overflow};
  if (!failure) failure = window_exceeded(*plan_, stats.windows);
  return {std::move(stats), std::move(failure)};
}

std::optional<Failure> DryRun::run_until_open(std::uint64_t most) {
  const FpEnv environment;
  if (std::optional<Failure> f = prepare()) return f;
  Walk w;
  w.until_open = true;
  w.most = most;
  return walk(clock_options(*plan_), w);
}

std::optional<Failure> DryRun::walk(const ClockOptions& time, Walk& w) {
  TapeReader tape;
  if (inputs_.numbers) tape = TapeReader(*inputs_.numbers);
  front_.prepare(*bound_, nullptr, nullptr);
  front_.pretend({time, &tape, &idle_, w.tracer});
  front_.set_pipelines(inputs_.pipelines);
  std::uint64_t ask_at = w.looked_at + ask_after;
  while (true) {
    if (inputs_.go_on && w.looked_at >= ask_at) {
      ask_at = w.looked_at + ask_after;
      stopped_ = !inputs_.go_on();
    }
    if (stopped_ || w.looked_at > w.most_looked_at) return Failure{.kind = ErrorKind::cancelled};
    switch (front_.next()) {
      case Front::Step::task:
        front_.commit({});
        look(w);
        ++w.looked_at;
        if (w.until_open && front_.clock().task_count() >= time.start) return std::nullopt;
        if (front_.clock().task_count() >= w.most) return Failure{.kind = ErrorKind::cancelled};
        break;
      case Front::Step::wait: break;
      case Front::Step::pause: w.looked_at += pause_weight; break;
      case Front::Step::failed:
        if (front_.failure().kind != ErrorKind::processes || !w.raises || !front_.raise_a_channel(w.buffers)) return std::move(front_.failure());
        w.raised = true;
        w.looked_at += raise_weight;
        ask_at = 0;  // of many channels, each search for one takes long
        break;
      case Front::Step::end:
        front_.finish_time();
        if (tape.left() == 0) return std::nullopt;
        Failure f{.kind = ErrorKind::not_given};  // and too much
        f.values = {static_cast<std::int64_t>(tape.left())};
        return f;
    }
  }
}

void DryRun::look(Walk& w) const {
  if (!w.look_for || front_.position() != *w.look_for) return;
  w.site = front_.task().spec->site;
  w.coords = bound_->coords(*front_.task().spec, front_.regs());
}

bool DryRun::passes(ClockOptions time, const Remedy::Size& size) {
  set(time, size);
  Walk w;
  w.until_open = true;
  return !walk(time, w);
}

// The smallest size of a window, where those that are not fixed have no bounds. None: it is not known, and `out` says why.
std::optional<Remedy::Size> DryRun::needed(const ClockOptions& time, const std::vector<bool>& fixed, std::uint32_t window, Remedy& out) {
  const bool bytes = plan_->windows()[window].bytes != no_bound;
  ClockOptions free = time;
  for (std::uint32_t i = 0; i < free.windows.size(); ++i) {
    if (fixed[i] && i != window) continue;
    free.windows[i] = no_limit;
    if (!free.window_bytes.empty()) free.window_bytes[i] = no_limit;
  }
  Walk w;
  w.until_open = true;
  if (std::optional<Failure> f = walk(free, w)) {
    if (!is_deadlock(f)) out.unknown = std::move(f);
    return std::nullopt;
  }
  // What it held without a bound suffices, and no less: what is in flight while lanes are held back only grows. But a boundary may
  // have started some of it, and interleaved issue looks as far ahead as the window is large.
  const WindowStats held = front_.clock().windows()[window];
  Remedy::Size size{window, bytes, bytes ? held.high_bytes : held.high_water};
  if (plan_->foreseeable() && plan_->turns() == 0) return size;
  std::uint64_t blocks = (bytes ? time.window_bytes : time.windows)[window];
  while (!passes(free, size)) {
    blocks = size.needed;
    size.needed *= 2;
    if (size.needed >= end_of_time) return std::nullopt;
  }
  if (!passes(free, {window, bytes, size.needed - 1})) return size;
  while (size.needed - blocks > 1) {
    const std::uint64_t middle = blocks + (size.needed - blocks) / 2;
    (passes(free, {window, bytes, middle}) ? size.needed : blocks) = middle;
  }
  return size;
}

Remedy DryRun::remedy(std::span<const std::pair<std::uint32_t, std::uint32_t>> buffers) {
  const FpEnv environment;
  std::vector<std::uint32_t> numbers(buffers.empty() ? 0 : plan_->channels().size(), none);
  for (const auto& [channel, free] : buffers) {
    if (std::max(channel, free) >= numbers.size()) throw std::invalid_argument("there is no such channel");
    numbers[channel] = free;
  }
  Remedy out;
  if (prepare()) return out;
  ClockOptions time = clock_options(*plan_);
  if (Walk w; !plan_->pipelines().empty() && blocks(walk(time, w))) return channel_remedy(numbers);
  std::vector<bool> fixed(time.windows.size());
  find_oldest(out);
  for (int round = 0; round < most_rounds; ++round) {
    Walk w;
    w.until_open = true;
    std::optional<Failure> f = walk(time, w);
    if (!f) {
      out.known = !out.sizes.empty();
      return out;
    }
    if (!is_deadlock(f)) {
      out.unknown = std::move(f);
      return out;
    }
    const Full full(*f);
    // No number of bytes lets more tasks into it.
    if (full.by_tasks && plan_->windows()[full.window].bytes != no_bound) return out;
    const std::optional<Remedy::Size> size = needed(time, fixed, full.window, out);
    if (!size) return out;
    std::erase_if(out.sizes, [&](const Remedy::Size& s) { return s.window == size->window; });
    out.sizes.push_back(*size);
    fixed[size->window] = true;
    set(time, *size);
  }
  return out;
}

// Whether processes wait for ever does not depend on when channels got their places, but for those that ask whether there are any:
// what let the run go on is tried from the start, until nothing waits for ever.
Remedy DryRun::channel_remedy(std::span<const std::uint32_t> buffers) {
  const ClockOptions time = clock_options(*plan_);
  const std::vector<ChannelSpec> given = inputs_.pipelines.channels;
  Remedy out;
  Walk raising;
  raising.raises = true;
  raising.buffers = buffers;
  raising.most_looked_at = most_looked_at;
  do {
    raising.raised = false;
    out.unknown = walk(time, raising);
    inputs_.pipelines.channels = front_.channels();
  } while (raising.raised && !out.unknown);
  const std::vector<ChannelSpec> raised = std::exchange(inputs_.pipelines.channels, given), before = given.empty() ? channel_specs(*plan_) : given;
  out.known = !out.unknown;
  if (blocks(out.unknown)) out.unknown.reset();  // no capacity helps
  if (!out.known) return out;
  for (std::uint32_t c = 0; c < raised.size(); ++c)
    if (raised[c].capacity != before[c].capacity && std::ranges::find(buffers, c) == buffers.end()) out.channels.emplace_back(c, raised[c].capacity);
  return out;
}

void DryRun::find_oldest(Remedy& out) {
  const ClockOptions time = clock_options(*plan_);
  Walk blocked;
  const std::optional<Failure> f = walk(time, blocked);
  if (!is_deadlock(f) || Full(*f).first < 0) return;
  Walk again;
  again.look_for = static_cast<std::uint64_t>(Full(*f).first);
  walk(time, again);
  out.oldest_site = again.site;
  out.oldest_coords = again.coords;
}

}  // namespace pto_wsp
