#include "pto_wsp/callee.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

namespace pto_wsp {
namespace {

// Of a rerun: more tasks are better walked by loops, and what is kept between calls is little.
constexpr std::uint64_t few_tasks = 256, few_bytes = std::uint64_t{1} << 18;
// In which other threads can be woken and take their part.
constexpr std::chrono::microseconds worth_sharing{10};
constexpr int in_a_row = 3;

std::span<const std::int64_t> dims_of(const PtoWspBuffer& b) { return {b.dims, b.rank}; }

std::size_t bytes_of(const PtoWspBuffer& b) {
  std::size_t n = size_of(static_cast<DType>(b.dtype));
  for (const std::int64_t d : dims_of(b)) n *= static_cast<std::size_t>(d);
  return n;
}

Buffer row_major(const PtoWspBuffer& b) {
  Buffer out{static_cast<std::byte*>(b.data), {b.dims, b.dims + b.rank}, std::vector<std::int64_t>(b.rank)};
  auto stride = static_cast<std::int64_t>(size_of(static_cast<DType>(b.dtype)));
  for (std::size_t d = b.rank; d-- > 0;) {
    out.strides[d] = stride;
    stride *= std::max<std::int64_t>(b.dims[d], 1);
  }
  return out;
}

// Takes numbers from the front of a list.
class Taker {
 public:
  explicit Taker(std::span<const std::int64_t> numbers) : left_(numbers) {}

  std::int64_t one() { return some(1)[0]; }

  std::span<const std::int64_t> list() {
    const std::int64_t n = one();
    if (n < 0) throw damaged();
    return some(static_cast<std::size_t>(n));
  }

  bool is_empty() const { return left_.empty(); }

  static std::invalid_argument damaged() { return std::invalid_argument("the numbers of the call are damaged"); }

 private:
  std::span<const std::int64_t> some(std::size_t n) {
    if (n > left_.size()) throw damaged();
    const auto out = left_.first(n);
    left_ = left_.subspan(n);
    return out;
  }

  std::span<const std::int64_t> left_;
};

template <class T>
std::int64_t number_at(const std::byte* data) {
  T x;
  std::memcpy(&x, data, sizeof x);
  return static_cast<std::int64_t>(x);  // what is too large for a size is negative then
}

std::optional<std::int64_t> integer_in(const PtoWspBuffer& b) {
  if (b.rank != 0) return std::nullopt;
  const auto* const data = static_cast<const std::byte*>(b.data);
  switch (static_cast<DType>(b.dtype)) {
    case DType::i8: return number_at<std::int8_t>(data);
    case DType::i16: return number_at<std::int16_t>(data);
    case DType::i32: return number_at<std::int32_t>(data);
    case DType::i64: return number_at<std::int64_t>(data);
    case DType::u8: return number_at<std::uint8_t>(data);
    case DType::u16: return number_at<std::uint16_t>(data);
    case DType::u32: return number_at<std::uint32_t>(data);
    case DType::u64: return number_at<std::uint64_t>(data);
    default: return std::nullopt;
  }
}

bool is_among(std::span<const PtoWspBuffer> buffers, std::int64_t b) { return b >= 0 && static_cast<std::size_t>(b) < buffers.size(); }

// Integers of 64 bits that come as pairs of 32.
void widen(std::span<PtoWspBuffer> buffers, std::span<const std::int64_t> wide) {
  for (const std::int64_t i : wide) {
    if (!is_among(buffers, i) || buffers[static_cast<std::size_t>(i)].rank == 0) throw std::invalid_argument("the call names a buffer that it has not");
    PtoWspBuffer& b = buffers[static_cast<std::size_t>(i)];
    b.dtype = static_cast<std::uint32_t>(DType::i64);
    --b.rank;
  }
}

}  // namespace

CallNumbers numbers_of(std::span<const std::int64_t> numbers) {
  Taker take(numbers);
  if (take.one() != pto_wsp_call_version) throw std::invalid_argument("the call was made by another version of pto_wsp; make it again");
  const std::int64_t threads = take.one();
  if (threads < 1 || threads > 1024) throw std::invalid_argument("the call has no number of threads");
  CallNumbers out{static_cast<std::uint32_t>(threads), take.list(), take.list(), take.list(), take.list(), take.list()};
  if (!take.is_empty()) throw Taker::damaged();
  return out;
}

// Calls say(number) with all that two calls must have in common to differ in memory alone, until it answers false.
template <class Say>
bool Callee::tell_shape(const CallInputs& inputs, Say say) {
  const auto list = [&](std::span<const std::int64_t> numbers) {
    return say(static_cast<std::int64_t>(numbers.size())) && std::ranges::all_of(numbers, say);
  };
  return list(inputs.sources) && list(inputs.zeroed) && list(inputs.sizes) &&
         std::ranges::all_of(inputs.buffers, [&](const PtoWspBuffer& b) { return say(b.dtype) && list(dims_of(b)); });
}

bool Callee::has_shape(const CallInputs& inputs, std::span<const std::int64_t> shape) {
  std::size_t at = 0;
  return tell_shape(inputs, [&](std::int64_t n) { return at < shape.size() && shape[at++] == n; }) && at == shape.size();
}

void Callee::check(const CallInputs& inputs) const {
  const auto& tensors = plan_->tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].temporary ? inputs.sources[i] != -1 : !is_among(inputs.buffers, inputs.sources[i]))
      throw std::invalid_argument("the call has no buffer for tensor " + tensors[i].name);
  if (!std::ranges::all_of(inputs.zeroed, [&](std::int64_t b) { return is_among(inputs.buffers, b); }))
    throw std::invalid_argument("the call fills a buffer that it has not");
  if (std::ranges::any_of(inputs.buffers, [](const PtoWspBuffer& b) { return b.dtype >= dtype_count; }))
    throw std::invalid_argument("a buffer of the call has an unknown dtype");
}

std::optional<Failure> Callee::call(std::span<PtoWspBuffer> buffers, const CallNumbers& numbers) {
  const std::size_t symbols = plan_->symbols().size();
  if (numbers.sources.size() != plan_->tensors().size() || numbers.sizes.size() != symbols || numbers.sized.size() != symbols)
    throw std::invalid_argument("the call has other tensors or sizes than the program");
  widen(buffers, numbers.wide);
  const std::vector<std::int64_t> sizes = this->sizes(buffers, numbers);
  const CallInputs inputs{buffers, numbers.sources, numbers.zeroed, sizes, numbers.threads};
  std::unique_ptr<Seat> seat = take(inputs.threads);
  std::optional<Failure> failure = run(*seat, inputs);
  give(std::move(seat));
  return failure;
}

std::vector<std::int64_t> Callee::sizes(std::span<const PtoWspBuffer> buffers, const CallNumbers& numbers) const {
  std::vector<std::int64_t> out(numbers.sizes.begin(), numbers.sizes.end());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t b = numbers.sized[i];
    if (b == -1) continue;
    const auto size = is_among(buffers, b) ? integer_in(buffers[static_cast<std::size_t>(b)]) : std::nullopt;
    if (!size) throw std::invalid_argument("the call has no integer for the size of " + plan_->symbols()[i]);
    if (*size < 0) throw std::invalid_argument("[PTO511] the size of " + plan_->symbols()[i] + " is " + std::to_string(*size) + ": sizes are 0 or more");
    out[i] = *size;
  }
  return out;
}

std::optional<Failure> Callee::run(Seat& seat, const CallInputs& inputs) const {
  const bool again = has_shape(inputs, seat.shape);
  if (!again) {
    check(inputs);
    seat.rerun.reset();
    seat.went_well = seat.looked_at = seat.short_enough = false;
    seat.longer = 0;
    seat.shape.clear();
    tell_shape(inputs, [&](std::int64_t n) { return seat.shape.push_back(n), true; });
  }
  for (const std::int64_t b : inputs.zeroed) {
    const PtoWspBuffer& buffer = inputs.buffers[static_cast<std::size_t>(b)];
    if (const std::size_t n = bytes_of(buffer); n != 0) std::memset(buffer.data, 0, n);
  }
  if (seat.went_well && !seat.looked_at) look_at(seat, inputs);
  if (seat.rerun) return run_again(seat, inputs);
  for (std::size_t i = 0; i < inputs.sources.size(); ++i) {
    if (inputs.sources[i] < 0) continue;
    const PtoWspBuffer& b = inputs.buffers[static_cast<std::size_t>(inputs.sources[i])];
    const Buffer buffer = row_major(b);
    seat.instance.bind(i, buffer.data, buffer.shape, buffer.strides, b.dtype, true);
  }
  seat.instance.set_symbols(inputs.sizes);
  std::optional<Failure> failure = seat.instance.run();
  seat.went_well = !failure;
  return failure;
}

std::optional<Failure> Callee::run_again(Seat& seat, const CallInputs& inputs) const {
  for (std::size_t i = 0; i < inputs.sources.size(); ++i)
    if (inputs.sources[i] >= 0) seat.memory[i] = static_cast<std::byte*>(inputs.buffers[static_cast<std::size_t>(inputs.sources[i])].data);
  if (seat.short_enough) return seat.rerun->run(seat.memory);
  const auto began = SteadyClock::now();
  std::optional<Failure> failure = seat.rerun->run(seat.memory);
  seat.short_enough = SteadyClock::now() - began < worth_sharing;
  if (!seat.short_enough && ++seat.longer == in_a_row) seat.rerun.reset();
  return failure;
}

// After a call of this shape that went well.
void Callee::look_at(Seat& seat, const CallInputs& inputs) const {
  seat.looked_at = true;
  const RunStats stats = seat.instance.stats();
  const bool alone = inputs.threads == 1 || stats.task_count <= 1;
  if (!Rerun::suits(*plan_) || stats.arena_bytes > few_bytes || stats.task_count > few_tasks) return;
  if (!alone && std::ranges::any_of(plan_->kernels(), &Kernel::may_be_long)) return;
  std::vector<Buffer> buffers(inputs.sources.size());
  for (std::size_t i = 0; i < buffers.size(); ++i)
    if (inputs.sources[i] >= 0) buffers[i] = row_major(inputs.buffers[static_cast<std::size_t>(inputs.sources[i])]);
  seat.rerun = std::make_unique<Rerun>(plan_, inputs.sizes, std::move(buffers));
  seat.short_enough = alone;
}

std::unique_ptr<Callee::Seat> Callee::take(std::uint32_t threads) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(idle_, [&](const auto& s) { return s->instance.threads() == threads; });
    if (found != idle_.end()) {
      std::unique_ptr<Seat> seat = std::move(*found);
      idle_.erase(found);
      return seat;
    }
  }
  auto seat = std::make_unique<Seat>(plan_, threads);
  if (!plan_->pipelines().empty()) seat->instance.set_pipelines(pipelines_);
  seat->memory.resize(plan_->tensors().size());
  return seat;
}

void Callee::give(std::unique_ptr<Seat> seat) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < most_idle) idle_.push_back(std::move(seat));
}

}  // namespace pto_wsp
