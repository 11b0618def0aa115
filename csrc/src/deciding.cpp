#include "pto_wsp/deciding.hpp"

#include <algorithm>
#include <array>
#include <span>

namespace pto_wsp {
namespace {

// What a node computes its register from; nothing for those that compute none.
std::vector<Operand> operands(const Plan& plan, const Node& n) {
  if (n.kind == NodeKind::scalar) return plan.scalars()[n.id].operands;
  if (n.kind != NodeKind::eval) return {};
  std::vector<Operand> out(2);
  for (Operand& o : out) o.kind = Operand::Kind::affine;
  out[0].affine = n.a;
  out[1].affine = n.b;
  return out;
}

}  // namespace

Deciding::Deciding(const Plan& plan) : plan_(plan), decides_(plan.n_regs()), idle_(plan.reads().size()) {
  roots();
  spread();
  data_ = !plan.symbols().empty() || !plan.gathers().empty();
  for (const Node& n : plan.nodes()) {
    if (n.kind == NodeKind::read) idle_[n.id] = !decides_[n.reg];
    data_ = data_ || ((n.kind == NodeKind::read || n.kind == NodeKind::slot_get) && decides_[n.reg]);
  }
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
    if (n.kind == NodeKind::cond || n.kind == NodeKind::slot_set || n.conditional) decide(n.operand);
  }
  for (const TaskSpec& task : plan_.tasks()) decide(task);
  for (const GatherSpec& g : plan_.gathers()) decide(g.dims);
  for (const ReadSpec& r : plan_.reads()) decide(r.dims);
  for (const PortInfo& p : plan_.ports())
    for (const Operand& o : p.operands) decide(o);
  for (const ScheduleSpec& s : plan_.schedules())
    for (const Rule* rule : std::array{&s.lane, &s.stream, &s.priority, &s.distance, &s.pool}) decide(*rule);
}

// What a register that decides is computed from decides too.
void Deciding::spread() {
  for (bool more = true; more;) {
    const std::vector<bool> before = decides_;
    for (const Node& n : plan_.nodes())
      if ((n.kind == NodeKind::scalar || n.kind == NodeKind::eval) && decides_[n.reg])
        for (const Operand& o : operands(plan_, n)) decide(o);
    more = before != decides_;
  }
}

bool Deciding::any(const Operand& o, const std::vector<bool>& regs) const {
  if (o.kind == Operand::Kind::reg) return regs[o.reg];
  return std::ranges::any_of(o.affine.terms, [&](const Term& t) { return regs[t.reg]; });
}

std::vector<const Node*> Deciding::idle_nodes(bool reads) const {
  std::vector<bool> unknown(plan_.n_regs());
  std::vector<const Node*> out;
  for (const Node& n : plan_.nodes()) {
    if (n.kind != NodeKind::read || !idle_[n.id]) continue;
    const bool waits = plan_.reads()[n.id].wait;
    if (waits || reads) unknown[n.reg] = true;
    if (!waits && reads) out.push_back(&n);
  }
  for (bool more = true; more;) {
    const std::vector<bool> before = unknown;
    for (const Node& n : plan_.nodes()) {
      if ((n.kind != NodeKind::scalar && n.kind != NodeKind::eval) || decides_[n.reg] || std::ranges::count(out, &n) != 0) continue;
      const std::vector<Operand> of = operands(plan_, n);
      if (std::ranges::none_of(of, [&](const Operand& o) { return any(o, unknown); })) continue;
      unknown[n.reg] = true;
      out.push_back(&n);
    }
    more = before != unknown;
  }
  return out;
}

}  // namespace pto_wsp
