#include "pto_wsp/instance.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace pto_wsp {

Instance::Instance(std::shared_ptr<const Plan> plan, std::uint32_t threads, const Resources& resources)
    : plan_(std::move(plan)), threads_(threads), resources_(resources), symbols_set_(plan_->symbols().empty()), slots_(plan_->slots().size(), 0),
      buffers_(plan_->tensors().size()), short_tasks_(std::make_shared<ShortTasks>(*plan_)) {
  for (const TensorInfo& t : plan_->tensors()) bound_.push_back(t.temporary);
  if (threads < 1 || threads > 1024) throw std::invalid_argument("the number of threads must be 1 to 1024");
}

Instance::~Instance() {
  if (!run_ || run_->over()) return;
  const Run::Use use(run_);  // who waits works too, and needs what it works on until it is out again
  run_->cancel();
  while (!run_->wait(SteadyClock::now() + std::chrono::hours(1))) {
  }
}

void Instance::must_be_idle() const {
  if (run_ && !run_->over()) throw std::logic_error("a run is in progress");
}

void Instance::set_symbols(std::span<const std::int64_t> values) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  if (values.size() != plan_->symbols().size())
    throw std::invalid_argument("the plan has " + std::to_string(plan_->symbols().size()) + " symbols, not " + std::to_string(values.size()));
  symbols_.assign(values.begin(), values.end());
  symbols_set_ = true;
}

void Instance::set_slots(std::span<const std::pair<std::uint32_t, std::uint64_t>> values) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  for (const auto& [slot, bits] : values) {
    if (slot >= slots_.size()) throw std::invalid_argument("the plan has " + std::to_string(slots_.size()) + " slots, and no slot " + std::to_string(slot));
    if (plan_->slots()[slot] == DType::boolean && bits > 1) throw std::invalid_argument("slot " + std::to_string(slot) + " is a bool: 0 or 1");
  }
  for (const auto& [slot, bits] : values) slots_[slot] = bits;
}

void Instance::bind(std::size_t i, std::byte* data, std::span<const std::int64_t> shape, std::span<const std::int64_t> strides,
                    std::uint32_t dtype, bool writable) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  if (i >= buffers_.size()) throw std::invalid_argument("there is no tensor " + std::to_string(i));
  const TensorInfo& t = plan_->tensors()[i];
  if (t.temporary) throw std::invalid_argument("tensor " + t.name + " is a temporary: runs have memory for it");
  if (dtype != static_cast<std::uint32_t>(t.dtype)) throw std::invalid_argument("tensor " + t.name + " has another dtype");
  if (shape.size() != t.dims.size() || strides.size() != t.dims.size())
    throw std::invalid_argument("tensor " + t.name + " has " + std::to_string(t.dims.size()) + " dimensions");
  if (t.written && !writable) throw std::invalid_argument("tensor " + t.name + " is written and must be writable");
  if (std::ranges::any_of(shape, [](std::int64_t n) { return n < 0; }))
    throw std::invalid_argument("tensor " + t.name + " has a negative dimension");
  buffers_[i] = {data, {shape.begin(), shape.end()}, {strides.begin(), strides.end()}};
  bound_[i] = true;
}

bool Instance::start(bool keep_going, std::shared_ptr<const Replay> replay) {
  const std::lock_guard lock(mutex_);
  return start_it(keep_going, std::move(replay), false);
}

std::optional<Failure> Instance::run() {
  std::optional<Run::Use> use;
  {
    const std::lock_guard lock(mutex_);
    start_it(false, nullptr, true);
    use.emplace(run_);
  }
  while (!use->run().wait(SteadyClock::now() + std::chrono::hours(1))) {
  }
  return use->run().failure();
}

bool Instance::start_it(bool keep_going, std::shared_ptr<const Replay> replay, bool here) {
  must_be_idle();
  if (!symbols_set_) throw std::logic_error("the symbols have no values");
  for (std::size_t i = 0; i < bound_.size(); ++i)
    if (!bound_[i]) throw std::logic_error("tensor " + plan_->tensors()[i].name + " is not bound");
  if (!plan_->pipelines().empty() && keep_going) throw std::logic_error("a run with pipelines stops at its first failure");
  if (replay != nullptr && watch_.call != nullptr) throw std::logic_error("a run that is watched follows no schedule");
  // A thread may still wait for the last run, or be on its way out of it.
  if (!run_ || !run_->unused()) run_ = std::make_shared<Run>();
  return run_->start(plan_, {symbols_, slots_, hook_, watch_, resources_, trace_, trace_limit_, log_, keep_going, placing_, std::move(replay), tape_limit_, pipelines_, short_tasks_, here}, buffers_, threads_);
}

bool Instance::wait(double seconds, std::optional<Failure>* failure) {
  std::optional<Run::Use> use;
  {
    const std::lock_guard lock(mutex_);
    if (!run_) return true;
    use.emplace(run_);
  }
  const double bounded = std::isnan(seconds) ? 0 : std::clamp(seconds, 0.0, 1e9);
  const bool over = use->run().wait(SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(bounded)));
  if (over && failure != nullptr) *failure = use->run().failure();
  return over;
}

void Instance::cancel() {
  const std::lock_guard lock(mutex_);
  if (run_) run_->cancel();
}

bool Instance::is_running() const {
  const std::lock_guard lock(mutex_);
  return run_ && !run_->over();
}

std::optional<Failure> Instance::error() const {
  const std::lock_guard lock(mutex_);
  if (!run_ || !run_->over()) return std::nullopt;
  return run_->failure();
}

RunStats Instance::stats() const {
  const std::lock_guard lock(mutex_);
  if (!run_ || !run_->over()) return {};
  return run_->stats();
}

Reason Instance::waiting_for() const {
  const std::lock_guard lock(mutex_);
  return run_ ? run_->waiting_for() : Reason::nothing;
}

std::shared_ptr<const Tracer> Instance::trace() const {
  const std::lock_guard lock(mutex_);
  return run_ && run_->over() ? run_->trace() : nullptr;
}

std::shared_ptr<const Casualties> Instance::casualties() const {
  const std::lock_guard lock(mutex_);
  return run_ && run_->over() ? run_->casualties() : nullptr;
}

std::shared_ptr<const Tape> Instance::tape() const {
  const std::lock_guard lock(mutex_);
  return run_ && run_->over() ? run_->tape() : nullptr;
}

void Instance::set_tape(std::uint64_t limit) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  tape_limit_ = limit;
}

void Instance::set_pipelines(PipelineOptions options) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  check_channels(*plan_, options.channels, false);
  pipelines_ = std::move(options);
}

void Instance::set_log(std::shared_ptr<const TaskLog> log) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  log_ = std::move(log);
}

void Instance::set_trace(TraceLevel level, std::uint64_t limit) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  trace_ = level;
  trace_limit_ = limit;
}

void Instance::set_hook(TaskHook hook) {
  const std::lock_guard lock(mutex_);
  hook_ = hook;
}

void Instance::set_placing(TaskPlacing placing) {
  const std::lock_guard lock(mutex_);
  placing_ = placing;
}

void Instance::set_hand_over(std::chrono::nanoseconds time) {
  const std::lock_guard lock(mutex_);
  short_tasks_ = std::make_shared<ShortTasks>(*plan_, time);
}

void Instance::set_watch(TaskWatch watch) {
  const std::lock_guard lock(mutex_);
  must_be_idle();
  watch_ = watch;
}

}  // namespace pto_wsp
