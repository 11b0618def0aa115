#include "pto_wsp/independent.hpp"

#include <algorithm>

namespace pto_wsp {
namespace {

constexpr std::uint64_t picoseconds_per_chunk = 20'000'000;
constexpr std::uint64_t first_chunk = 64;
constexpr std::size_t max_idle_nests = 64, max_idle_chunks = 16;

}  // namespace

void Independent::prepare(const BoundPlan& plan, Control& control) {
  plan_ = &plan;
  control_ = &control;
  nests_ = nests_of(plan);
  total_ = nests_.empty() ? 0 : nests_.back().first + nests_.back().size;
  total_work_ = work_before(total_);
  ragged_ = plan.node(plan.root()).ragged;
  next_ = 0;
  done_ = 0;
  picoseconds_each_ = 0;
  cut_short_ = false;
  failure_.reset();
  time_.prepare(plan, nests_);
  timing_ = false;
  timed_ = false;
  for (auto& chunk : parked_) spare_.push_back(std::move(chunk));
  parked_.clear();
  n_parked_ = 0;
}

// In this order: a failure asks for the time again before its chunk is done.
bool Independent::over() const {
  return done_.load(std::memory_order_acquire) == total_ && timed_.load(std::memory_order_acquire);
}

bool Independent::has_work() const {
  return next_.load() < total_ || n_parked_.load() > 0 || (!timed_.load() && !timing_.load());
}

void Independent::trim() {
  if (nests_.capacity() > max_idle_nests) free_memory(nests_);
  time_.trim();
  for (auto& chunk : parked_) spare_.push_back(std::move(chunk));
  parked_.clear();
  if (spare_.size() > max_idle_chunks) spare_.resize(max_idle_chunks);
}

void Independent::work(std::byte* scratch, Deadline& deadline) {
  keep_time(deadline);
  std::unique_ptr<Chunk> chunk;
  while (!deadline.passed_now()) {
    if (!chunk) chunk = take();
    if (chunk->at == chunk->end && !claim(*chunk)) break;
    if (!run(*chunk, scratch, deadline)) {
      const std::lock_guard lock(mutex_);
      parked_.push_back(std::move(chunk));
      n_parked_.fetch_add(1);
      return;
    }
    done_.fetch_add(chunk->size, std::memory_order_release);
    if (n_parked_.load(std::memory_order_relaxed) > 0) {
      const std::lock_guard lock(mutex_);
      spare_.push_back(std::move(chunk));
    }
  }
  if (chunk) {
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(chunk));
  }
  keep_time(deadline);  // again, where a failure lies before what was walked
}

std::unique_ptr<Independent::Chunk> Independent::take() {
  const std::lock_guard lock(mutex_);
  std::unique_ptr<Chunk> chunk;
  if (!parked_.empty()) {
    chunk = std::move(parked_.back());
    parked_.pop_back();
    n_parked_.fetch_sub(1);
    return chunk;
  }
  if (!spare_.empty()) {
    chunk = std::move(spare_.back());
    spare_.pop_back();
  } else {
    chunk = std::make_unique<Chunk>();
  }
  chunk->at = chunk->end = chunk->size = 0;
  chunk->in_body = false;
  // Whatever a chunk needs is there before it claims anything.
  chunk->args.resize(plan_->max_args());
  chunk->indices.resize(plan_->plan().max_gather());
  chunk->regs = plan_->initial_regs();
  chunk->walker.reset(*plan_, plan_->root(), chunk->regs);
  return chunk;
}

const Nest& Independent::nest_at(std::uint64_t position) const {
  return *(std::ranges::upper_bound(nests_, position, {}, &Nest::first) - 1);
}

std::uint64_t Independent::work_before(std::uint64_t position) const {
  if (nests_.empty()) return 0;
  const Nest& nest = nest_at(position);
  return nest.work_before + (position - nest.first) * nest.weight;
}

// The first position that has at least so much before it.
std::uint64_t Independent::position_after(std::uint64_t work) const {
  const Nest& nest = *(std::ranges::upper_bound(nests_, work, {}, &Nest::work_before) - 1);
  return nest.first + std::min(nest.size, (work - nest.work_before + nest.weight - 1) / nest.weight);
}

bool Independent::claim(Chunk& chunk) {
  const std::uint64_t seen = next_.load(std::memory_order_relaxed);
  if (seen >= total_) return false;
  if (control_->cancelled.load(std::memory_order_relaxed)) cut_short_ = true;
  if (cut_short_.load() || failure_.before(seen)) {
    drop_rest();
    return false;
  }
  const std::uint64_t before = work_before(seen), each = picoseconds_each_.load(std::memory_order_relaxed);
  const std::uint64_t share = std::max<std::uint64_t>((total_work_ - before) / (4 * std::uint64_t{control_->threads}), 1);
  const std::uint64_t some = each == 0 ? first_chunk : picoseconds_per_chunk / each;
  const std::uint64_t work = each == 0 || ragged_ ? std::min(some, share) : std::max(some, share);
  const std::uint64_t size = std::max<std::uint64_t>(position_after(before + work), seen + 1) - seen;
  chunk.at = next_.fetch_add(size);
  if (chunk.at >= total_) {
    chunk.at = chunk.end = 0;
    return false;
  }
  chunk.end = std::min(chunk.at + size, total_);
  chunk.size = chunk.end - chunk.at;
  const Nest& nest = nest_at(chunk.at);
  chunk.nest = static_cast<std::size_t>(&nest - nests_.data());
  chunk.regs = nest.regs;
  nest.seek(chunk.at - nest.first, chunk.regs.data());
  return true;
}

// Nobody will claim what is left.
void Independent::drop_rest() {
  const std::uint64_t seen = next_.exchange(total_);
  if (seen < total_) done_.fetch_add(total_ - seen, std::memory_order_release);
}

// False: the deadline came first.
bool Independent::run(Chunk& chunk, std::byte* scratch, Deadline& deadline) {
  const auto began = SteadyClock::now();
  const std::uint64_t work = work_before(chunk.end) - work_before(chunk.at);
  while (chunk.at < chunk.end) {
    const Nest* nest = &nests_[chunk.nest];
    if (chunk.at == nest->first + nest->size) {
      nest = &nests_[++chunk.nest];
      chunk.regs = nest->regs;
      nest->seek(0, chunk.regs.data());
    }
    if (!run_body(chunk, *nest, scratch, deadline)) return false;
  }
  const auto spent = std::chrono::duration_cast<std::chrono::nanoseconds>(SteadyClock::now() - began).count();
  picoseconds_each_.store(std::max<std::uint64_t>(static_cast<std::uint64_t>(spent) * 1000 / std::max<std::uint64_t>(work, 1), 1),
                          std::memory_order_relaxed);
  return true;
}

// As far as the chunk goes in this nest. A chunk that need not go on is emptied.
bool Independent::run_body(Chunk& chunk, const Nest& nest, std::byte* scratch, Deadline& deadline) {
  const std::uint64_t end = std::min(chunk.end, nest.first + nest.size);
  const auto fail = [&](Failure& f, std::uint64_t ordinal) {
    tell({chunk.at, ordinal}, std::move(f));
    chunk.at = chunk.end;
    chunk.in_body = false;
    return true;
  };
  const auto stop = [&] {
    if (control_->cancelled.load(std::memory_order_relaxed)) [[unlikely]] {
      cut_short_ = true;
    } else if (!failure_.before(chunk.at)) [[likely]] {
      return false;
    }
    chunk.at = chunk.end;
    chunk.in_body = false;
    return true;
  };
  Failure failure;
  if (nest.task != none) {
    const BoundTask& task = plan_->task(nest.task);
    while (chunk.at < end) {
      if (stop()) return true;
      if (deadline.passed()) return false;
      if (!plan_->prepare(task, chunk.regs.data(), chunk.args.data(), failure, chunk.indices.data())) return fail(failure, 0);
      if (!run_kernel(*plan_, *control_, task, chunk.args.data(), scratch, chunk.regs.data(), failure)) return fail(failure, 0);
      nest.step(chunk.regs.data());
      ++chunk.at;
    }
    return true;
  }
  while (chunk.at < end) {
    if (!chunk.in_body) {
      chunk.walker.reset(*plan_, nest.body, chunk.regs);
      chunk.ordinal = 0;
      chunk.in_body = true;
    }
    if (stop()) return true;
    if (deadline.passed()) return false;
    switch (chunk.walker.next()) {
      case Walker::Event::task: {
        const BoundTask& task = plan_->task(chunk.walker.task());
        if (!plan_->prepare(task, chunk.walker.regs(), chunk.args.data(), failure, chunk.indices.data())) return fail(failure, chunk.ordinal);
        if (!run_kernel(*plan_, *control_, task, chunk.args.data(), scratch, chunk.walker.regs(), failure)) return fail(failure, chunk.ordinal);
        ++chunk.ordinal;
        break;
      }
      case Walker::Event::end:
        chunk.in_body = false;
        nest.step(chunk.regs.data());
        ++chunk.at;
        break;
      case Walker::Event::failed:
        return fail(chunk.walker.failure(), chunk.ordinal);
      default:
        break;
    }
  }
  return true;
}

void Independent::keep_time(Deadline& deadline) {
  if (timed_.load(std::memory_order_relaxed) || timing_.exchange(true)) return;
  bool finished = timed_.load(std::memory_order_relaxed);
  bool settled = finished;
  while (!settled && !deadline.passed_now()) {
    if (control_->cancelled.load(std::memory_order_relaxed)) {
      cut_short_ = true;
      finished = true;
    } else {
      try {
        finished = time_.advance(failure_);
      } catch (const std::bad_alloc&) {
        time_.abandon();
        tell({0, 0}, Failure{.kind = ErrorKind::memory});
        finished = true;
      }
    }
    settled = finished && settle_time();
  }
  timing_.store(false);
}

void Independent::tell(Position at, Failure failure) {
  const std::lock_guard lock(mutex_);
  failure_.tell(at, std::move(failure), true);
  timed_ = false;
}

// False: a failure has been told that lies before what was walked.
bool Independent::settle_time() {
  const std::lock_guard lock(mutex_);
  if (!cut_short_.load() && !time_.fits(failure_.position())) return false;
  timed_.store(true, std::memory_order_release);
  return true;
}

std::optional<Failure> Independent::failure() {
  if (std::optional<Failure> f = failure_.take()) return f;
  if (cut_short_.load()) return Failure{.kind = ErrorKind::cancelled};
  return std::nullopt;
}

void Independent::stats(RunStats& stats) const { time_.result(stats); }

}  // namespace pto_wsp
