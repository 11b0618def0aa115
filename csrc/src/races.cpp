#include "pto_wsp/races.hpp"

#include <algorithm>
#include <utility>

#include "pto_wsp/view_boxes.hpp"

namespace pto_wsp {
namespace {

constexpr std::uint32_t several = none - 1;  // processes use it
constexpr std::size_t few = 8;               // entries that it does not pay to look through
constexpr std::size_t look_at_once = 8;      // entries of pasts, for each of those

}  // namespace

std::uint64_t Past::steps(std::uint32_t process) const {
  const auto at = std::ranges::lower_bound(entries_, process, {}, &Entry::process);
  return at != entries_.end() && at->process == process ? at->steps : 0;
}

void Past::raise(std::uint32_t process, std::uint64_t steps) {
  const auto at = std::ranges::lower_bound(entries_, process, {}, &Entry::process);
  if (at == entries_.end() || at->process != process)
    entries_.insert(at, {process, steps});
  else
    at->steps = std::max(at->steps, steps);
}

void Past::join(const Past& other) {
  std::size_t i = 0;
  for (const Entry& e : other.entries_) {
    while (i < entries_.size() && entries_[i].process < e.process) ++i;
    if (i == entries_.size() || entries_[i].process != e.process)
      entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(i), e);
    else
      entries_[i].steps = std::max(entries_[i].steps, e.steps);
  }
}

Past& Steps::Queue::push() {
  if (size_ == pasts_.size()) {
    std::rotate(pasts_.begin(), pasts_.begin() + static_cast<std::ptrdiff_t>(first_), pasts_.end());
    first_ = 0;
    pasts_.resize(std::max<std::size_t>(2 * pasts_.size(), 1));
  }
  return pasts_[(first_ + size_++) & (pasts_.size() - 1)];
}

const Past& Steps::Queue::pop() {
  const std::size_t at = first_;
  first_ = (first_ + 1) & (pasts_.size() - 1);
  --size_;
  return pasts_[at];
}

Steps::Steps(std::span<const ChannelSpec> channels, std::span<const std::vector<std::uint32_t>> produces) : processes_(produces.size()) {
  channels_.reserve(channels.size());
  for (const ChannelSpec& c : channels) channels_.push_back({.capacity = c.capacity, .initial = c.initial});
  for (std::uint32_t p = 0; p < produces.size(); ++p)
    for (const std::uint32_t c : produces[p]) channels_[c].closes.push_back({.process = p});
}

// What is before whoever gets it, the step that ends here included.
const Past& Steps::give(std::uint32_t process) {
  Process& p = processes_[process];
  p.past.raise(process, ++p.step);
  return p.past;
}

void Steps::sent(std::uint32_t process, const ActionOutcome& outcome) {
  Channel& c = channels_[outcome.channel];
  if (c.capacity == 0) {
    c.sender = process;
    return;
  }
  if (outcome.token >= c.capacity) processes_[process].past.join(c.rooms.pop());
  c.tokens.push() = give(process);
}

void Steps::received(std::uint32_t process, const ActionOutcome& outcome) {
  Channel& c = channels_[outcome.channel];
  if (c.capacity == 0) {
    processes_[process].past.join(give(c.sender));
    processes_[c.sender].past.join(give(process));
    return;
  }
  if (outcome.token >= c.initial) processes_[process].past.join(c.tokens.pop());
  const Past& now = give(process);
  if (c.capacity != no_limit) c.rooms.push() = now;
}

void Steps::closed(std::uint32_t process, std::uint32_t channel) {
  for (Close& close : channels_[channel].closes)
    if (close.process == process) {
      close.said = true;
      close.past = give(process);
    }
}

void Steps::drained(std::uint32_t process, std::uint32_t channel) {
  for (const Close& close : channels_[channel].closes)
    if (close.process != process) processes_[process].past.join(close.said ? close.past : processes_[close.process].past);
}

void Steps::ended(std::uint32_t process) {
  give(process);
  processes_[process].ended = true;
}

std::size_t Steps::entries() const {
  std::size_t n = processes_.size();
  for (const Process& p : processes_) n += p.past.size();
  return n;
}

std::vector<std::uint64_t> Steps::settled() const {
  std::vector<std::uint64_t> least(processes_.size(), no_limit), known(processes_.size(), 0);
  std::uint64_t live = 0;
  for (std::uint32_t p = 0; p < processes_.size(); ++p) {
    if (processes_[p].ended) continue;
    ++live;
    processes_[p].past.each([&](std::uint32_t q, std::uint64_t steps) {
      if (q == p) return;
      least[q] = std::min(least[q], steps);
      ++known[q];
    });
  }
  for (std::uint32_t p = 0; p < processes_.size(); ++p)
    if (known[p] < live - (processes_[p].ended ? 0 : 1)) least[p] = 0;
  return least;
}

std::vector<std::int64_t> Race::values() const {
  std::vector<std::int64_t> out{pipeline, tensor, static_cast<std::int64_t>(element.size())};
  out.insert(out.end(), element.begin(), element.end());
  for (const Access* a : {&first, &second}) {
    out.insert(out.end(), {a->process, a->writes ? 1 : 0, a->site, a->origin, static_cast<std::int64_t>(a->coords.size())});
    out.insert(out.end(), a->coords.begin(), a->coords.end());
  }
  return out;
}

void Races::prepare(const BoundPlan& plan, const std::vector<bool>& checked) {
  plan_ = &plan;
  checked_ = checked;
  levels_.clear();
  race_.reset();
  if (checked.empty()) return;
  tensors_.resize(plan.plan().tensors().size());
  for (Tensor& t : tensors_) t.shared = t.touched = false;
  accesses_.clear();
  free_.clear();
  std::vector<std::uint32_t> users(tensors_.size(), none);
  std::vector<bool> written(tensors_.size(), false);
  find_shared(plan.root(), none, users, written);
  for (std::size_t i = 0; i < tensors_.size(); ++i) tensors_[i].shared = users[i] == several && written[i];
}

void Races::trim() {
  levels_.clear();
  free_memory(tensors_);
  free_memory(accesses_);
  free_memory(free_);
}

// Which process uses each tensor, none or several of them. `process`: that around a node.
void Races::find_shared(std::uint32_t node, std::uint32_t process, std::vector<std::uint32_t>& users, std::vector<bool>& written) {
  const BoundNode& n = plan_->node(node);
  const auto use = [&](const TrackedView& v) {
    users[v.tensor] = users[v.tensor] == none || users[v.tensor] == process ? process : several;
    written[v.tensor] = written[v.tensor] || v.write;
  };
  if (process != none && n.kind == NodeKind::task) {
    const BoundTask& task = plan_->task(n.task);
    for (const TrackedView& v : plan_->views(task)) use(v);
    for (const BoundGather& g : plan_->gathers(task))
      if (g.spec->wait) use(g.from.view);
  }
  if (process != none && n.kind == NodeKind::read && plan_->reads()[n.task].spec->wait) use(plan_->reads()[n.task].from.view);
  for (std::uint32_t i = 0; i < n.n_children; ++i) {
    const std::uint32_t child = plan_->child(n, i);
    find_shared(child, n.kind == NodeKind::pipeline ? child : process, users, written);
  }
}

void Races::enter(std::uint32_t pipeline, std::span<const ChannelSpec> channels, std::uint32_t process) {
  if (!levels_.empty()) {
    Level& outer = levels_.back();
    outer.point.process = process;
    outer.point.step = outer.steps.step(process);
  }
  levels_.push_back({pipeline, {++runs_, 0, 0}, Steps(channels, plan_->plan().pipelines()[pipeline].produces)});
}

// What is behind a pipeline is behind all of it.
void Races::leave() {
  levels_.pop_back();
  if (!levels_.empty()) return;
  for (Tensor& t : tensors_) {
    if (!t.touched) continue;
    t.writes.index.clear();
    t.reads.index.clear();
    t.touched = false;
  }
  accesses_.clear();
  free_.clear();
}

void Races::begin(std::uint32_t process) {
  Level& level = levels_.back();
  level.point.process = process;
  level.point.step = level.steps.step(process);
  if (free_.empty()) {
    accesses_.emplace_back();
    free_.push_back(static_cast<std::uint32_t>(accesses_.size() - 1));
  }
  self_ = free_.back();
  free_.pop_back();
  Access& a = accesses_[self_];
  a.uses = 1;  // until it is over
  a.site = a.origin = -1;
  a.coords.clear();
  a.points.clear();
  for (const Level& l : levels_) a.points.push_back(l.point);
}

bool Races::finish() {
  release({self_ + 1, 0});
  return !race_;
}

void Races::release(const ClockRef& use) {
  const auto access = static_cast<std::uint32_t>(use.serial - 1);
  if (--accesses_[access].uses == 0) free_.push_back(access);
}

bool Races::task(std::uint32_t process, const BoundTask& task, const std::int64_t* regs, const std::int64_t* indices) {
  const auto shared = [&](const TrackedView& v) { return tensors_[v.tensor].shared; };
  const std::span<const BoundGather> gathers = plan_->gathers(task);
  const bool looks = std::ranges::any_of(gathers, [&](const BoundGather& g) { return g.spec->wait && shared(g.from.view); });
  if (!looks && std::ranges::none_of(plan_->views(task), shared)) return true;
  begin(process);
  accesses_[self_].site = task.spec->site;
  if (!task.spec->coords.empty()) accesses_[self_].coords = plan_->coords(*task.spec, regs);
  for (const BoundGather& g : gathers)
    if (g.spec->wait && !touch(g.from.view, regs, nullptr, {})) return finish();
  for (const TrackedView& v : plan_->views(task))
    if (!touch(v, regs, indices, gathers)) return finish();
  return finish();
}

bool Races::read(std::uint32_t process, const Node& node, const TrackedView& view, const std::int64_t* regs) {
  if (!tensors_[view.tensor].shared) return true;
  begin(process);
  accesses_[self_].origin = node.origin == none ? -1 : static_cast<std::int64_t>(node.origin);
  touch(view, regs, nullptr, {});
  return finish();
}

bool Races::touch(const TrackedView& view, const std::int64_t* regs, const std::int64_t* indices, std::span<const BoundGather> gathers) {
  if (!tensors_[view.tensor].shared) return true;
  const auto gathered = [&](const TrackedDim& dim) { return indices + gathers[dim.gather].first; };
  each_box(*plan_, view, regs, gathered, [&](const Box& box) { touch(view.tensor, box, view.write); });
  return !race_;
}

bool Races::touch(std::uint32_t tensor, const Box& box, bool writes) {
  if (race_) return false;
  Tensor& t = tensors_[tensor];
  const auto n_dims = static_cast<std::uint32_t>(plan_->plan().tensors()[tensor].dims.size());
  if (!std::exchange(t.touched, true)) {
    for (Known* known : {&t.writes, &t.reads}) {
      known->index.reset(n_dims);
      known->tidy_at = few;
    }
  }
  // What is before this one, which touches all of it, is needed no more; but for a write before a read.
  const auto drop = [&](Known& known, bool wrote) {
    known.index.remove_if(box, [&](const BoxIndex::Entry& e) {
      if (!look(e, tensor, box, wrote, writes) || (!writes && unordered(of(e)))) return false;
      if (!covers(box, e.box, n_dims)) return false;
      release(e.task);
      return true;
    });
  };
  if (writes)
    drop(t.writes, true);
  else
    t.writes.index.each(box, [&](const BoxIndex::Entry& e) { look(e, tensor, box, true, false); });
  drop(t.reads, false);
  if (race_) return false;
  Known& known = writes ? t.writes : t.reads;
  if (known.index.size() >= known.tidy_at || known.index.full()) tidy(known);
  ++accesses_[self_].uses;
  known.index.add(box, {self_ + 1, 0});
  return true;
}

// The pipeline, from the outermost on, among whose processes there is no order between an access and this one.
std::optional<std::size_t> Races::unordered(const Access& earlier) const {
  for (std::size_t i = 0; i < std::min(levels_.size(), earlier.points.size()); ++i) {
    const Point &then = earlier.points[i], &now = levels_[i].point;
    if (then.run != now.run) break;  // one run of an inner pipeline is over before the next begins
    if (then.process != now.process) return levels_[i].steps.before(then.process, then.step, now.process) ? std::nullopt : std::optional(i);
  }
  return std::nullopt;
}

// False: it is a race.
bool Races::look(const BoxIndex::Entry& entry, std::uint32_t tensor, const Box& box, bool wrote, bool writes) {
  if (race_ || (!wrote && !writes)) return !race_;
  const std::optional<std::size_t> level = unordered(of(entry));
  if (!level) return true;
  race_ = {.pipeline = levels_[*level].pipeline, .tensor = tensor};
  for (std::size_t d = 0; d < plan_->plan().tensors()[tensor].dims.size(); ++d) race_->element.push_back(std::max(box.lo[d], entry.box.lo[d]));
  race_->first = told(of(entry), *level, wrote);
  race_->second = told(accesses_[self_], *level, writes);
  return false;
}

Race::Access Races::told(const Access& access, std::size_t level, bool writes) const {
  return {access.points[level].process, writes, access.site, access.origin, access.coords};
}

// What is before whatever may still come is dropped, where that is quickly found out.
void Races::tidy(Known& known) {
  std::size_t pasts = 0;
  for (const Level& l : levels_) pasts += l.steps.entries();
  const bool look = pasts <= look_at_once * known.index.size();
  settled_.clear();
  for (std::size_t i = 0; look && i < levels_.size(); ++i) settled_.push_back(levels_[i].steps.settled());
  known.index.keep([&](const BoxIndex::Entry& e) {
    if (!look || !settled(of(e))) return true;
    release(e.task);
    return false;
  });
  known.tidy_at = 2 * known.index.size() + few;
}

bool Races::settled(const Access& access) const {
  for (std::size_t i = 0; i < std::min(levels_.size(), access.points.size()); ++i) {
    const Point& then = access.points[i];
    if (then.run != levels_[i].point.run) break;
    if (settled_[i][then.process] <= then.step) return false;
  }
  return true;
}

}  // namespace pto_wsp
