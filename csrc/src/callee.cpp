#include "pto_wsp/callee.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

namespace pto_wsp {
namespace {

std::size_t bytes_of(const CallBuffer& b) {
  std::size_t n = size_of(static_cast<DType>(b.dtype));
  for (const std::int64_t d : b.dims) n *= static_cast<std::size_t>(d);
  return n;
}

}  // namespace

void Callee::check(const CallInputs& inputs) const {
  const auto& tensors = plan_->tensors();
  if (inputs.sources.size() != tensors.size() || inputs.sizes.size() != plan_->symbols().size())
    throw std::invalid_argument("the call has other tensors or sizes than the program");
  const auto is_buffer = [&](std::int64_t b) { return b >= 0 && static_cast<std::size_t>(b) < inputs.buffers.size(); };
  for (std::size_t i = 0; i < tensors.size(); ++i)
    if (tensors[i].temporary ? inputs.sources[i] != -1 : !is_buffer(inputs.sources[i]))
      throw std::invalid_argument("the call has no buffer for tensor " + tensors[i].name);
  if (!std::ranges::all_of(inputs.zeroed, is_buffer)) throw std::invalid_argument("the call fills a buffer that it has not");
  if (std::ranges::any_of(inputs.buffers, [](const CallBuffer& b) { return b.dtype >= dtype_count; }))
    throw std::invalid_argument("a buffer of the call has an unknown dtype");
}

std::optional<Failure> Callee::call(const CallInputs& inputs) {
  check(inputs);
  std::unique_ptr<Instance> instance = take(inputs.threads);
  for (const std::int64_t b : inputs.zeroed) {
    const CallBuffer& buffer = inputs.buffers[static_cast<std::size_t>(b)];
    if (const std::size_t n = bytes_of(buffer); n != 0) std::memset(buffer.data, 0, n);
  }
  std::vector<std::int64_t> strides;
  for (std::size_t i = 0; i < inputs.sources.size(); ++i) {
    if (inputs.sources[i] < 0) continue;
    const CallBuffer& b = inputs.buffers[static_cast<std::size_t>(inputs.sources[i])];
    strides.resize(b.dims.size());
    auto stride = static_cast<std::int64_t>(size_of(static_cast<DType>(b.dtype)));
    for (std::size_t d = b.dims.size(); d-- > 0;) {
      strides[d] = stride;
      stride *= std::max<std::int64_t>(b.dims[d], 1);
    }
    instance->bind(i, b.data, b.dims, strides, b.dtype, true);
  }
  instance->set_symbols(inputs.sizes);
  std::optional<Failure> failure = instance->run();
  give(std::move(instance));
  return failure;
}

std::unique_ptr<Instance> Callee::take(std::uint32_t threads) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = std::ranges::find_if(idle_, [&](const auto& i) { return i->threads() == threads; });
    if (found != idle_.end()) {
      std::unique_ptr<Instance> instance = std::move(*found);
      idle_.erase(found);
      return instance;
    }
  }
  auto instance = std::make_unique<Instance>(plan_, threads);
  if (!plan_->pipelines().empty()) instance->set_pipelines(pipelines_);
  return instance;
}

void Callee::give(std::unique_ptr<Instance> instance) {
  const std::lock_guard lock(mutex_);
  if (idle_.size() < most_idle) idle_.push_back(std::move(instance));
}

}  // namespace pto_wsp
