#include "pto_wsp/network.hpp"

#include <functional>
#include <stdexcept>

namespace pto_wsp {

void TimeQueue::grow(std::uint64_t& room) {
  const std::size_t more = std::max<std::size_t>(times_.size(), 1);
  if (more > room) throw std::length_error("channels would keep too many times");
  room -= more;
  std::vector<std::uint64_t> times(times_.size() + more);
  for (std::size_t i = 0; i < size_; ++i) times[i] = times_[(first_ + i) & (times_.size() - 1)];
  times_ = std::move(times);
  first_ = 0;
}

Network::Network(std::span<const ChannelSpec> channels, const NetworkLimits& limits) : limits_(limits) {
  channels_.reserve(channels.size());
  for (const ChannelSpec& c : channels)
    channels_.push_back({.capacity = c.capacity,
                         .latency = c.latency,
                         .response = c.response,
                         .initial = c.initial,
                         .sent = c.initial,
                         .fresh = c.capacity - c.initial,
                         .left = {},
                         .visible = {},
                         .waiting = {}});
}

void Network::add_process(std::span<const std::uint32_t> produces) {
  Process p;
  p.first_product = static_cast<std::uint32_t>(products_.size());
  p.products = static_cast<std::uint32_t>(produces.size());
  for (const std::uint32_t channel : produces) {
    products_.push_back({channel, false});
    ++channels_[channel].producers;
  }
  std::sort(products_.end() - p.products, products_.end(), [](const Product& a, const Product& b) { return a.channel < b.channel; });
  processes_.push_back(p);
  ++live_;
}

std::uint64_t Network::latest() const {
  std::uint64_t latest = 0;
  for (const Process& p : processes_) latest = std::max(latest, p.clock);
  return latest;
}

// What may concern others.
Network::Grant Network::perform(std::uint32_t p) {
  Process& x = processes_[p];
  switch (x.action.kind) {
    case Action::Kind::close:
      close(p, x.action.channel);
      return {.own = true, .outcome = {ActionOutcome::Kind::done, x.action.channel, 0}, .others = {}};
    case Action::Kind::send: return send(p, x.action.channel);
    case Action::Kind::receive:
    case Action::Kind::consume: return receive(p, x.action.channel);
    case Action::Kind::try_send: return try_send(p, x.action.channel);
    case Action::Kind::query:
      return {.own = true,
              .outcome = {has_token(x, channels_[x.action.channel]) ? ActionOutcome::Kind::yes : ActionOutcome::Kind::no, x.action.channel, 0},
              .others = {}};
    case Action::Kind::work:
    case Action::Kind::ask:
    case Action::Kind::end: break;
  }
  throw std::logic_error("nobody else is part of what it does");
}

// Where a sender waits there is no room, and where a receiver waits no token: all that wait for a channel are of one side, and one
// grant leads to one other at most.
Network::Grant Network::send(std::uint32_t p, std::uint32_t channel) {
  Process& x = processes_[p];
  Channel& c = channels_[channel];
  Grant grant;
  if (x.closes != 0 && products_[product(x, channel)].closed) {
    status_ = Status::closed;
    offender_ = p;
    return grant;
  }
  const bool awaited = !c.waiting.empty() && !c.senders_wait;
  if (c.capacity == 0 ? !awaited : c.fresh == 0 && c.left.empty()) {
    wait(p, c, true);
    return grant;
  }
  grant.own = true;
  if (awaited) grant.other = take_waiting(c);
  if (c.capacity == 0) {
    meet(x, processes_[grant.other], c, grant, false);
    return grant;
  }
  grant.outcome = grant_send(x, channel);
  if (awaited) grant.others = grant_receive(processes_[grant.other], channel);
  return grant;
}

// It may send after its own close no more than others.
Network::Grant Network::try_send(std::uint32_t p, std::uint32_t channel) {
  const Process& x = processes_[p];
  const Channel& c = channels_[channel];
  const bool awaited = !c.waiting.empty() && !c.senders_wait;
  const bool room = c.capacity == 0 ? awaited : c.fresh != 0 || (!c.left.empty() && c.left.first() + c.response <= x.clock);
  const bool closed = x.closes != 0 && products_[product(x, channel)].closed;
  if (room || closed) return send(p, channel);
  return {.own = true, .outcome = {ActionOutcome::Kind::refused, channel, 0}, .others = {}};
}

bool Network::has_token(const Process& x, const Channel& c) const {
  if (c.capacity == 0) return !c.waiting.empty() && c.senders_wait;
  if (c.sent == c.received) return false;
  return c.received < c.initial || c.visible.first() <= x.clock;
}

Network::Grant Network::receive(std::uint32_t p, std::uint32_t channel) {
  Process& x = processes_[p];
  Channel& c = channels_[channel];
  Grant grant;
  const bool awaited = !c.waiting.empty() && c.senders_wait;
  if (c.capacity == 0 ? !awaited : c.sent == c.received) {
    if (x.action.kind == Action::Kind::consume && c.producers == 0) {
      x.floor = std::max(x.floor, c.closed_at);
      grant.own = true;
      grant.outcome = {ActionOutcome::Kind::ended, channel, 0};
      return grant;
    }
    wait(p, c, false);
    return grant;
  }
  grant.own = true;
  if (awaited) grant.other = take_waiting(c);
  if (c.capacity == 0) {
    meet(processes_[grant.other], x, c, grant, true);
    return grant;
  }
  grant.outcome = grant_receive(x, channel);
  if (awaited) grant.others = grant_send(processes_[grant.other], channel);
  return grant;
}

void Network::meet(Process& sender, Process& receiver, Channel& c, Grant& grant, bool receiver_came) {
  const auto channel = static_cast<std::uint32_t>(&c - channels_.data());
  const std::uint64_t time = std::max(sender.clock, receiver.clock) + c.latency;
  c.full_cycles += delay(sender, time);
  c.empty_cycles += delay(receiver, time);
  const ActionOutcome sent{ActionOutcome::Kind::sent, channel, c.sent++}, received{ActionOutcome::Kind::received, channel, c.received++};
  grant.outcome = receiver_came ? received : sent;
  grant.others = receiver_came ? sent : received;
  grant.other_first = receiver_came;
}

ActionOutcome Network::grant_send(Process& sender, std::uint32_t channel) {
  Channel& c = channels_[channel];
  if (c.fresh != 0)
    --c.fresh;
  else
    c.full_cycles += delay(sender, c.left.pop() + c.response);
  c.visible.push(sender.clock + c.latency, limits_.times);
  return {ActionOutcome::Kind::sent, channel, c.sent++};
}

ActionOutcome Network::grant_receive(Process& receiver, std::uint32_t channel) {
  Channel& c = channels_[channel];
  if (c.received >= c.initial) c.empty_cycles += delay(receiver, c.visible.pop());
  if (c.capacity != no_limit) c.left.push(receiver.clock, limits_.times);
  return {ActionOutcome::Kind::received, channel, c.received++};
}

void Network::wait(std::uint32_t p, Channel& c, bool sends) {
  c.senders_wait = sends;
  c.waiting.push_back({processes_[p].clock, p});
  std::ranges::push_heap(c.waiting, std::greater<>());
}

std::uint32_t Network::take_waiting(Channel& c) {
  std::ranges::pop_heap(c.waiting, std::greater<>());
  const std::uint32_t p = c.waiting.back().process;
  c.waiting.pop_back();
  return p;
}

// Its place among all products; there are as many as that where it has none.
std::uint32_t Network::product(const Process& x, std::uint32_t channel) const {
  const auto first = products_.begin() + x.first_product, last = first + x.products;
  const auto found = std::lower_bound(first, last, channel, [](const Product& a, std::uint32_t b) { return a.channel < b; });
  return static_cast<std::uint32_t>((found != last && found->channel == channel ? found : products_.end()) - products_.begin());
}

bool Network::may_send(std::uint32_t process, std::uint32_t channel) const {
  const std::uint32_t made = product(processes_[process], channel);
  return made != products_.size() && !products_[made].closed && !ended(process);
}

// Closing again moves the close; closing what it does not send into changes nothing.
void Network::close(std::uint32_t p, std::uint32_t channel) {
  Process& x = processes_[p];
  const std::uint32_t made = product(x, channel);
  if (made == products_.size()) return;
  channels_[channel].closed_at = std::max(channels_[channel].closed_at, x.clock);
  if (products_[made].closed) return;
  products_[made].closed = true;
  ++x.closes;
  lose_producer(channel);
}

void Network::finish(std::uint32_t p) {
  --live_;
  const Process& x = processes_[p];
  for (std::uint32_t i = x.first_product; i < x.first_product + x.products; ++i) {
    if (products_[i].closed) continue;
    Channel& c = channels_[products_[i].channel];
    c.closed_at = std::max(c.closed_at, x.clock);
    lose_producer(products_[i].channel);
  }
}

// The last one closes the channel; who waits to receive has then found it drained.
void Network::lose_producer(std::uint32_t channel) {
  Channel& c = channels_[channel];
  if (--c.producers != 0 || c.waiting.empty() || c.senders_wait) return;
  const auto stays = [&](const TurnQueue::Turn& t) { return processes_[t.process].action.kind == Action::Kind::receive; };
  const auto rest = std::partition(c.waiting.begin(), c.waiting.end(), stays);
  std::sort(rest, c.waiting.end(), std::greater<>());
  for (auto t = rest; t != c.waiting.end(); ++t) released_.push_back(t->process);
  c.waiting.erase(rest, c.waiting.end());
  std::ranges::make_heap(c.waiting, std::greater<>());
}

}  // namespace pto_wsp
