#include "pto_wsp/pipe.hpp"

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace pto_wsp {
namespace {

// Field of an initial token.
std::uint64_t number(std::uint64_t k, DType type) {
  if (type == DType::f64) return std::bit_cast<std::uint64_t>(static_cast<double>(k));
  return type == DType::boolean ? std::uint64_t{k != 0} : k;
}

}  // namespace

std::span<std::uint64_t> Tokens::push() {
  std::size_t places = fields_ == 0 ? 0 : numbers_.size() / fields_;
  if (size_ == places && fields_ != 0) {
    std::rotate(numbers_.begin(), numbers_.begin() + static_cast<std::ptrdiff_t>(first_ * fields_), numbers_.end());
    first_ = 0;
    places = std::max<std::size_t>(2 * places, 1);
    numbers_.resize(places * fields_);
  }
  const std::size_t at = (first_ + size_++) & (places - 1);
  return fields_ == 0 ? std::span<std::uint64_t>() : std::span(numbers_).subspan(at * fields_, fields_);
}

std::span<const std::uint64_t> Tokens::pop() {
  --size_;
  if (fields_ == 0) return {};
  const std::size_t at = first_;
  first_ = (first_ + 1) & (numbers_.size() / fields_ - 1);
  return std::span(numbers_).subspan(at * fields_, fields_);
}

Pipe::Pipe(const BoundPlan& plan, Walker& outer, std::span<const ChannelSpec> channels, const NetworkLimits& limits)
    : node_(&outer.at()), info_(&plan.plan().pipelines()[node_->id]),
      channels_(std::span(plan.plan().channels()).subspan(info_->first_channel, info_->n_channels)), outer_(outer), network_(channels, limits) {
  const BoundNode& bound = outer.pipeline();
  processes_.resize(bound.n_children);
  for (std::uint32_t i = 0; i < bound.n_children; ++i) {
    processes_[i].walker.branch(outer, plan.child(bound, i));
    network_.add_process(info_->produces[i]);
  }
  for (const ChannelInfo& c : channels_) tokens_.emplace_back(c.fields.size());
}

std::optional<Action::Kind> Pipe::action(Walker::Event event) {
  switch (event) {
    case Walker::Event::send: return Action::Kind::send;
    case Walker::Event::receive: return Action::Kind::receive;
    case Walker::Event::consume: return Action::Kind::consume;
    case Walker::Event::close: return Action::Kind::close;
    case Walker::Event::try_send: return Action::Kind::try_send;
    case Walker::Event::query: return Action::Kind::query;
    case Walker::Event::end: return Action::Kind::end;
    default: return std::nullopt;
  }
}

bool Pipe::tell(Process& p, const ActionOutcome& outcome) {
  switch (outcome.kind) {
    case ActionOutcome::Kind::started:
    case ActionOutcome::Kind::done: return true;
    case ActionOutcome::Kind::sent: return send(p.walker, outcome);
    case ActionOutcome::Kind::received: receive(p.walker, outcome); return true;
    case ActionOutcome::Kind::ended: p.walker.leave(); return true;
    case ActionOutcome::Kind::yes: p.walker.answer(true); return true;
    case ActionOutcome::Kind::refused:
    case ActionOutcome::Kind::no: break;
  }
  p.walker.answer(false);
  return true;
}

bool Pipe::send(Walker& walker, const ActionOutcome& outcome) {
  const std::span<std::uint64_t> to = tokens_[outcome.channel].push();
  for (std::size_t i = 0; i < to.size(); ++i)
    if (!walker.field(i, to[i])) return false;
  if (walker.at().kind == NodeKind::try_send) walker.answer(true);
  return true;
}

void Pipe::receive(Walker& walker, const ActionOutcome& outcome) {
  const ChannelInfo& c = channels_[outcome.channel];
  if (outcome.token < network_.initial(outcome.channel)) {
    const std::uint64_t k = outcome.token < c.initial ? outcome.token : outcome.token % c.initial;  // of buffers that are supposed
    for (std::size_t i = 0; i < c.fields.size(); ++i) walker.take(i, number(k, c.fields[i]));
    return;
  }
  const std::span<const std::uint64_t> fields = tokens_[outcome.channel].pop();
  for (std::size_t i = 0; i < fields.size(); ++i) walker.take(i, fields[i]);
}

void Pipe::number_buffer(std::uint32_t channel) {
  const ChannelInfo& c = channels_[channel];
  const std::uint64_t k = network_.capacity(channel) % c.initial;
  const std::span<std::uint64_t> to = tokens_[channel].push();
  for (std::size_t i = 0; i < to.size(); ++i) to[i] = number(k, c.fields[i]);
}

std::vector<std::int64_t> Pipe::blocked() const {
  std::vector<std::int64_t> out;
  for (std::uint32_t i = 0; i < processes_.size(); ++i) {
    if (network_.ended(i)) continue;
    const Action& action = network_.action(i);
    const std::uint32_t c = action.channel;
    const std::uint64_t capacity = network_.capacity(c);
    const std::uint32_t origin = processes_[i].walker.at().origin;
    out.insert(out.end(), {i, action.kind == Action::Kind::send ? 0 : 1, c,
                           static_cast<std::int64_t>(network_.sent(c) - network_.received(c)),
                           capacity == no_limit ? -1 : static_cast<std::int64_t>(capacity), static_cast<std::int64_t>(network_.clock(i)),
                           origin == none ? -1 : static_cast<std::int64_t>(origin)});
  }
  return out;
}

std::vector<ChannelSpec> channel_specs(const Plan& plan) {
  std::vector<ChannelSpec> out;
  for (const ChannelInfo& c : plan.channels()) out.push_back({c.capacity, c.latency, c.response, c.initial});
  return out;
}

void check_channels(const Plan& plan, std::span<const ChannelSpec> channels, bool supposed) {
  if (channels.empty()) return;
  if (channels.size() != plan.channels().size()) throw std::invalid_argument("the plan has another number of channels");
  for (std::size_t i = 0; i < channels.size(); ++i) {
    const ChannelSpec& c = channels[i];
    const std::uint64_t initial = plan.channels()[i].initial;
    const bool more = supposed && initial != 0 && c.initial > initial;
    if ((c.initial != initial && !more) || c.initial > c.capacity) throw std::invalid_argument("a channel has other initial tokens");
    if (c.latency >= end_of_time || c.response >= end_of_time) throw std::invalid_argument("a latency is beyond what can be counted");
  }
}

}  // namespace pto_wsp
