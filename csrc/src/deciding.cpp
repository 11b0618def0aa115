#include "pto_wsp/deciding.hpp"

#include <array>

namespace pto_wsp {
namespace {

// All numbers to which there is a way from these.
void spread(const std::vector<std::vector<std::uint32_t>>& ways, std::vector<bool>& numbers) {
  std::vector<std::uint32_t> todo;
  for (std::uint32_t i = 0; i < numbers.size(); ++i)
    if (numbers[i]) todo.push_back(i);
  while (!todo.empty()) {
    const std::uint32_t last = todo.back();
    todo.pop_back();
    for (const std::uint32_t next : ways[last]) {
      if (!numbers[next]) todo.push_back(next);
      numbers[next] = true;
    }
  }
}

}  // namespace

Deciding::Deciding(const Plan& plan) : plan_(plan), idle_(plan.reads().size()) {
  find_flow();
  decides_.resize(from_.size());
  roots();
  spread(from_, decides_);
  data_ = !plan.symbols().empty() || !plan.gathers().empty();
  for (const Node& n : plan.nodes()) {
    if (n.kind == NodeKind::read) idle_[n.id] = !decides_[n.reg];
    data_ = data_ || ((n.kind == NodeKind::read || n.kind == NodeKind::slot_get) && decides_[n.reg]);
  }
}

void Deciding::find_flow() {
  const std::uint32_t first_slot = plan_.n_regs();
  std::uint32_t numbers = first_slot + static_cast<std::uint32_t>(plan_.slots().size());
  std::vector<std::uint32_t> first_field;  // by channel
  for (const ChannelInfo& c : plan_.channels()) {
    first_field.push_back(numbers);
    numbers += static_cast<std::uint32_t>(c.fields.size());
  }
  from_.resize(numbers);
  into_.resize(numbers);
  const auto fields_of = [&](const Node& n) {
    const Node* pipeline = &n;  // the innermost around
    while (pipeline->kind != NodeKind::pipeline) pipeline = &plan_.nodes()[pipeline->around];
    return first_field[plan_.pipelines()[pipeline->id].first_channel + plan_.ports()[n.id].channel];
  };
  for (const Node& n : plan_.nodes()) {
    switch (n.kind) {
      case NodeKind::scalar:
        for (const Operand& o : plan_.scalars()[n.id].operands) flow(o, n.reg);
        break;
      case NodeKind::eval:
        flow(n.a, n.reg);
        flow(n.b, n.reg);
        break;
      case NodeKind::slot_get: flow(first_slot + n.id, n.reg); break;
      case NodeKind::slot_set: flow(n.operand, first_slot + n.id); break;
      case NodeKind::send:
      case NodeKind::try_send: {
        std::uint32_t field = fields_of(n);
        for (const Operand& o : plan_.ports()[n.id].operands) flow(o, field++);
        break;
      }
      case NodeKind::receive:
      case NodeKind::consume: {
        std::uint32_t field = fields_of(n);
        for (const std::uint32_t reg : plan_.ports()[n.id].regs) flow(field++, reg);
        break;
      }
      default: break;
    }
  }
}

void Deciding::flow(std::uint32_t from, std::uint32_t to) {
  from_[to].push_back(from);
  into_[from].push_back(to);
}

void Deciding::flow(const Affine& from, std::uint32_t to) {
  for (const Term& t : from.terms) flow(t.reg, to);
}

void Deciding::flow(const Operand& from, std::uint32_t to) {
  if (from.kind == Operand::Kind::reg) flow(from.reg, to);
  flow(from.affine, to);
}

void Deciding::decide(const Affine& a) {
  for (const Term& t : a.terms) decides_[t.reg] = true;
}

void Deciding::decide(const Operand& o) {
  if (o.kind == Operand::Kind::reg) decides_[o.reg] = true;
  decide(o.affine);
}

void Deciding::decide(const std::vector<ViewDim>& dims) {
  for (const ViewDim& v : dims) {
    decide(v.start);
    decide(v.limit);
  }
}

void Deciding::decide(const Rule& rule) {
  if (!rule.exists) return;
  for (const RuleStep& step : rule.steps)
    for (const Operand& o : step.operands) decide(o);
  decide(rule.result);
}

void Deciding::decide(const TaskSpec& task) {
  for (const Affine& c : task.coords) decide(c);
  const bool varied = plan_.kernels()[task.kernel].varied();
  for (const ArgSpec& arg : task.args) {
    decide(arg.dims);
    if (!arg.is_scalar || !varied) continue;
    decide(arg.affine);
    if (arg.reg != none) decides_[arg.reg] = true;
  }
}

void Deciding::roots() {
  for (const Node& n : plan_.nodes()) {
    if (n.kind == NodeKind::loop) decide(n.a);
    if (n.kind == NodeKind::cond || n.conditional) decide(n.operand);
  }
  for (const TaskSpec& task : plan_.tasks()) decide(task);
  for (const GatherSpec& g : plan_.gathers()) decide(g.dims);
  for (const ReadSpec& r : plan_.reads()) decide(r.dims);
  for (const ScheduleSpec& s : plan_.schedules())
    for (const Rule* rule : std::array{&s.lane, &s.stream, &s.priority, &s.distance, &s.pool}) decide(*rule);
}

std::vector<const Node*> Deciding::idle_nodes(bool reads) const {
  std::vector<bool> unknown(from_.size());
  std::vector<const Node*> out;
  for (const Node& n : plan_.nodes()) {
    if (n.kind != NodeKind::read || !idle_[n.id]) continue;
    const bool waits = plan_.reads()[n.id].wait;
    if (waits || reads) unknown[n.reg] = true;
    if (!waits && reads) out.push_back(&n);
  }
  spread(into_, unknown);  // nothing that decides is among them: reads that it is from are not idle
  for (const Node& n : plan_.nodes())
    if ((n.kind == NodeKind::scalar || n.kind == NodeKind::eval) && unknown[n.reg]) out.push_back(&n);
  return out;
}

}  // namespace pto_wsp
