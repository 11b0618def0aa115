#include "pto_wsp/task_log.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdio>
#include <span>

namespace pto_wsp {
namespace {

constexpr std::int64_t shown_indices = 8;

std::int64_t value(const Affine& a, const BoundPlan& plan, const std::int64_t* regs) {
  std::int64_t out = 0;
  evaluate(a, std::span(regs, plan.plan().n_regs()), out);  // it fits, or the task would not have been issued
  return out;
}

std::string scalar(std::uint64_t bits, DType type) {
  std::array<char, 32> text{};
  const auto written = [&](auto number) { return std::string(text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr); };
  switch (scalar_of(type)) {
    case DType::f64: return written(std::bit_cast<double>(bits));
    case DType::boolean: return bits != 0 ? "True" : "False";
    case DType::u64: return written(bits);
    default: return written(static_cast<std::int64_t>(bits));
  }
}

std::string gathered(const BoundPlan& plan, const BoundTask& task, std::uint32_t gather, const std::int64_t* regs, const std::int64_t* indices) {
  const BoundGather& g = plan.gathers(task)[gather];
  const std::int64_t n = plan.length(g.length, regs);
  std::string out = "[";
  for (std::int64_t i = 0; i < std::min(n, shown_indices); ++i) out += (i != 0 ? ", " : "") + std::to_string(indices[g.first + i]);
  return out + (n > shown_indices ? ", .. " + std::to_string(n) + " in all]" : "]");
}

std::string dim(const ViewDim& v, const BoundPlan& plan, const std::int64_t* regs) {
  const std::int64_t start = value(v.start, plan, regs);
  const auto up_to = [&](std::int64_t end) { return std::to_string(start) + ":" + std::to_string(end); };
  switch (v.kind) {
    case DimKind::index: return std::to_string(start);
    case DimKind::tile: return up_to(std::min(start + v.size, value(v.limit, plan, regs)));
    case DimKind::span: return up_to(start + value(v.limit, plan, regs));
    default: return up_to(start + v.size);
  }
}

}  // namespace

void TaskLog::issued(std::uint64_t position, const BoundPlan& plan, const BoundTask& task, const Arg* args, const std::int64_t* regs,
                     const std::int64_t* indices) const {
  const TaskNames& names = sites_.at(task.spec->site);
  std::string line = "task " + std::to_string(position) + " " + names.kernel + "[";
  const std::vector<std::int64_t> coords = plan.coords(*task.spec, regs);
  for (std::size_t i = 0; i < coords.size(); ++i) line += (i != 0 ? ", " : "") + names.coords.at(i) + std::to_string(coords[i]);
  line += "]";
  std::uint32_t gather = 0;
  for (std::size_t i = 0; i < task.spec->args.size(); ++i) {
    const ArgSpec& a = task.spec->args[i];
    line += " " + names.arguments.at(i);
    if (a.is_scalar) {
      line += scalar(args[i].scalar, plan.args(task)[i].dtype);
      continue;
    }
    line += "[";
    for (std::size_t d = 0; d < a.dims.size(); ++d) {
      if (d != 0) line += ", ";
      line += a.dims[d].kind == DimKind::gather ? gathered(plan, task, gather++, regs, indices) : dim(a.dims[d], plan, regs);
    }
    line += "]";
  }
  line += "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace pto_wsp
