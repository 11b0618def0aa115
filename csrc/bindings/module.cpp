// Names and types for Python; what they do is said in the headers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>

#include "calls.hpp"
#include "failures.hpp"
#include "pto_wsp/dry_run.hpp"
#include "pto_wsp/instance.hpp"
#include "pto_wsp/limits.hpp"
#include "pto_wsp/network_program.hpp"
#include "pto_wsp/simulate.hpp"
#include "pto_wsp/tile_ops.hpp"

namespace py = pybind11;
using namespace pto_wsp;

namespace {

Isa isa_of(const std::string& name) {
  for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (name == name_of(isa)) return isa;
  throw std::invalid_argument("there is no instruction set level " + name);
}

std::shared_ptr<Plan> decode(const py::bytes& bytes) {
  char* data = nullptr;
  py::ssize_t size = 0;
  if (PyBytes_AsStringAndSize(bytes.ptr(), &data, &size) != 0) throw py::error_already_set();
  return std::make_shared<Plan>(Plan::decode({reinterpret_cast<const std::byte*>(data), static_cast<std::size_t>(size)}));
}

// Takes the GIL again. An interpreter that is ending does not give it: up to Python 3.13 it ends the thread, by
// unwinding its stack, which no frame of C++ need survive. Such a thread stays here until the process is gone, as it
// does in later versions.
void restore_thread(PyThreadState* state) {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    while (true) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// `f` without the GIL. No guard object: its destructor could not be unwound.
template <class F>
bool without_gil(F&& f) {
  bool result = false;
  std::exception_ptr error;
  PyThreadState* const state = PyEval_SaveThread();
  try {
    result = f();
  } catch (const std::exception&) {
    error = std::current_exception();
  }
  restore_thread(state);
  if (error) std::rethrow_exception(error);
  return result;
}

// An instance with a function of Python's that is called around every task, and what that has raised.
class PyInstance : public Instance {
 public:
  using Instance::Instance;

  void set_hook(const py::object& hook) {
    if (hook.is_none())
      set_watch({});
    else
      set_watch({&PyInstance::call, this});
    hook_ = hook;
  }

  const py::object& raised() const { return raised_; }

  // An exception knows the frames that it came through, and one of them may know this instance.
  static void collect_garbage(PyHeapTypeObject* type) {
    type->ht_type.tp_flags |= Py_TPFLAGS_HAVE_GC;
    type->ht_type.tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
      Py_VISIT(Py_TYPE(self));
      if (const PyInstance* i = made(self)) {
        Py_VISIT(i->hook_.ptr());
        Py_VISIT(i->raised_.ptr());
      }
      return 0;
    };
    type->ht_type.tp_clear = [](PyObject* self) {
      if (PyInstance* i = made(self)) {
        if (!i->is_running()) i->set_watch({});
        i->hook_ = py::none();
        i->raised_ = py::none();
      }
      return 0;
    };
  }

 private:
  static bool call(void* self, bool begin, std::uint32_t site, std::span<const std::int64_t> regs) {
    const PyGILState_STATE state = take_gil();
    const bool go_on = static_cast<PyInstance*>(self)->call_hook(begin, site, regs);
    PyGILState_Release(state);
    return go_on;
  }

  // Null while it is being made.
  static PyInstance* made(PyObject* self) {
    return py::detail::is_holder_constructed(self) ? py::cast<PyInstance*>(py::handle(self)) : nullptr;
  }

  bool call_hook(bool begin, std::uint32_t site, std::span<const std::int64_t> regs) {
    try {
      hook_(begin, site, std::vector<std::int64_t>(regs.begin(), regs.end()));
      return true;
    } catch (const py::error_already_set& e) {
      raised_ = e.value();
      if (e.trace()) PyException_SetTraceback(raised_.ptr(), e.trace().ptr());
      return false;
    }
  }

  py::object hook_, raised_;
};


using LinkedFrom = std::tuple<std::uint32_t, std::uint32_t, std::uintptr_t, std::vector<NativePiece::Size>,
                              std::vector<std::pair<NativePiece::Size, NativePiece::Size>>>;

py::dict operand(const OperandInfo& o) {
  py::dict d;
  d["is_value"] = o.kind == OperandInfo::Kind::value;
  d["value"] = o.value;
  d["dtype"] = name_of(o.dtype);
  d["base"] = o.base;
  d["offset"] = o.offset;
  d["stride"] = o.stride;
  d["one_row"] = o.one_row;
  d["of_strip"] = o.of_strip;
  d["cols"] = o.cols;
  return d;
}

py::list groups(const Kernel& kernel) {
  py::list out;
  for (const GroupInfo& g : kernel.groups()) {
    py::list steps;
    for (const StepInfo& s : g.steps) {
      py::dict d;
      d["op"] = traits(s.op).name;
      d["operand"] = name_of(s.operand);
      d["result"] = operand(s.result);
      d["kept"] = s.kept;
      py::list sources;
      for (const OperandInfo& o : s.sources) sources.append(operand(o));
      d["sources"] = sources;
      d["immediate"] = s.immediate;
      py::list extents;
      for (const ExtentInfo& e : s.extents) extents.append(py::make_tuple(std::string(1, e.kind), e.id));
      d["extents"] = extents;
      steps.append(d);
    }
    py::dict d;
    d["first"] = g.first;
    d["whole"] = g.whole;
    d["steps"] = steps;
    out.append(d);
  }
  return out;
}

py::object record(const PyInstance& instance, const std::optional<Failure>& f) {
  py::object d = record(f);
  if (f && f->kind == ErrorKind::hook) d["exception"] = instance.raised();
  return d;
}

py::object casualties(const PyInstance& instance) {
  const std::shared_ptr<const Casualties> c = instance.casualties();
  if (c == nullptr) return py::none();
  const auto listed = [](const std::vector<Casualties::Task>& tasks) {
    py::list out;
    for (const Casualties::Task& t : tasks) out.append(py::make_tuple(t.position, t.site, t.coords));
    return out;
  };
  py::dict d;
  d["failed"] = listed(c->failed());
  d["skipped"] = listed(c->skipped());
  d["stopped"] = record(instance, c->stopped());
  return d;
}

py::tuple wait(PyInstance& instance, double seconds) {
  std::optional<Failure> failure;
  const bool over = without_gil([&] { return instance.wait(seconds, &failure); });
  return py::make_tuple(over, record(instance, failure));
}

using PlanChannel = std::tuple<std::optional<std::uint64_t>, std::uint64_t, std::uint64_t, std::uint64_t>;

py::dict window_stats(const WindowStats& w) {
  py::dict d;
  d["stalls"] = w.stalls;
  d["stall_cycles"] = w.stall_cycles;
  d["high_water"] = w.high_water;
  d["high_bytes"] = w.high_bytes;
  return d;
}

// Of semantic time.
py::dict time_stats(const RunStats& s, const Plan& plan) {
  py::dict d = window_stats(total(s.windows));
  py::list windows;
  for (const WindowStats& w : s.windows) windows.append(window_stats(w));
  d["scalar_waits"] = s.scalar_waits;
  d["scalar_wait_cycles"] = s.scalar_wait_cycles;
  d["task_count"] = s.task_count;
  d["total_cycles"] = s.total_cycles;
  d["windows"] = windows;
  d["lanes"] = plan.lanes();
  py::list channels;
  for (const ChannelCycles& c : s.channels) channels.append(py::make_tuple(c.empty, c.full, c.undelivered));
  d["channels"] = channels;
  return d;
}

py::dict stats(const Instance& instance) {
  const RunStats s = instance.stats();
  py::dict d = time_stats(s, instance.plan());
  d["arena_bytes"] = s.arena_bytes;
  d["wall_ns"] = s.wall_ns;
  d["max_in_flight"] = s.max_in_flight;
  d["threads"] = s.threads;
  d["kernel_counts"] = s.kernel_counts;
  py::list in_flight;
  for (const InFlight& w : s.windows_in_flight) in_flight.append(py::make_tuple(w.tasks, w.bytes));
  d["windows_in_flight"] = in_flight;
  d["grid_cells"] = s.grid_cells;
  d["boxed_tensors"] = s.boxed_tensors;
  py::list resources;
  for (std::size_t i = 1; i < n_reasons; ++i) {
    const ResourceStats& r = s.resources[i];
    resources.append(py::make_tuple(name_of(static_cast<Reason>(i)), r.capacity, r.high_water, r.enough, r.stalls, r.stall_ns, r.threads));
  }
  d["resources"] = resources;
  return d;
}

// Looks at signals, which Python's function for that may turn into exceptions, from a thread without the GIL; whether there is none.
bool check_signals() {
  const PyGILState_STATE state = take_gil();
  const bool go_on = PyErr_CheckSignals() == 0;
  PyGILState_Release(state);
  return go_on;
}

// Channels: (capacity or None, latency, response, initial tokens) each; none: those of the plan. `checked`: pipelines; `supposed`: as check_channels says.
PipelineOptions pipelines(const Plan& plan, std::optional<std::uint64_t> cycles, std::optional<std::uint64_t> actions, const std::vector<PlanChannel>& channels,
                          bool supposed, const std::vector<std::size_t>& checked = {}) {
  PipelineOptions options;
  if (cycles) options.limits.cycles = std::min(*cycles, options.limits.cycles);
  if (actions) options.limits.idle_actions = *actions;
  for (const auto& [capacity, latency, response, initial] : channels)
    options.channels.push_back({capacity.value_or(no_limit), latency, response, initial});
  check_channels(plan, options.channels, supposed);
  if (!checked.empty()) options.checked.resize(plan.pipelines().size());
  for (const std::size_t p : checked) options.checked.at(p) = true;
  return options;
}

// A dry run that looks at signals, which Python's function for that may turn into exceptions.
std::unique_ptr<DryRun> dry_run(std::shared_ptr<Plan> plan, const std::vector<std::int64_t>& symbols,
                                const std::vector<std::pair<std::uint32_t, std::uint64_t>>& slots,
                                const std::optional<std::vector<std::int64_t>>& numbers, bool without_data) {
  DryInputs in;
  in.symbols = symbols;
  in.slots.resize(plan->slots().size());
  for (const auto& [slot, bits] : slots) in.slots.at(slot) = bits;
  in.numbers = numbers;
  in.without_data = without_data;
  in.go_on = check_signals;
  return std::make_unique<DryRun>(std::move(plan), std::move(in));
}

// `f` without the GIL; what a signal has raised meanwhile is raised here.
template <class F>
auto dry(F&& f) {
  decltype(f()) out;
  without_gil([&] {
    out = f();
    return true;
  });
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return out;
}

// A number of each of `n`, side by side.
template <class T, class F>
py::bytes packed(std::size_t n, F&& f) {
  py::bytes out(nullptr, n * sizeof(T));
  char* at = PyBytes_AS_STRING(out.ptr());
  for (std::size_t i = 0; i < n; ++i, at += sizeof(T)) {
    const T number = f(i);
    std::memcpy(at, &number, sizeof(T));
  }
  return out;
}

PlanChannel plan_channel(const ChannelSpec& c) {
  return {c.capacity == no_limit ? std::nullopt : std::optional(c.capacity), c.latency, c.response, c.initial};
}

// What a traced run tells of its pipelines, as PipeTrace has it.
py::dict pipe_trace(const PipeTrace& t, const Plan& plan) {
  using U = std::uint64_t;
  using N = std::uint32_t;
  const std::vector<TracedPipeline>& pipelines = t.pipelines();
  const std::vector<TracedOperation>& operations = t.operations();
  const auto of_pipeline = [&]<class F>(F&& f) { return packed<U>(pipelines.size(), [&](std::size_t i) { return static_cast<U>(f(pipelines[i])); }); };
  const auto number = [&](N TracedPipeline::* member) { return packed<N>(pipelines.size(), [&](std::size_t i) { return pipelines[i].*member; }); };
  const auto cycles = [&](U TracedOperation::* member) { return packed<U>(operations.size(), [&](std::size_t i) { return operations[i].*member; }); };
  const auto place = [&](N TracedOperation::* member) { return packed<N>(operations.size(), [&](std::size_t i) { return operations[i].*member; }); };
  py::dict p, o, d;
  p["origin"] = number(&TracedPipeline::origin);
  p["around"] = number(&TracedPipeline::around);
  p["process"] = number(&TracedPipeline::process);
  p["outermost"] = number(&TracedPipeline::outermost);
  p["window"] = number(&TracedPipeline::window);
  p["batch"] = number(&TracedPipeline::batch);
  p["begin"] = of_pipeline([](const TracedPipeline& x) { return x.begin; });
  p["end"] = of_pipeline([](const TracedPipeline& x) { return x.end; });
  p["due"] = of_pipeline([](const TracedPipeline& x) { return x.issue.due; });
  p["asked"] = of_pipeline([](const TracedPipeline& x) { return x.issue.asked; });
  p["order"] = of_pipeline([](const TracedPipeline& x) { return x.issue.order; });
  p["waited"] = of_pipeline([](const TracedPipeline& x) { return x.issue.waited; });
  p["stalled"] = of_pipeline([](const TracedPipeline& x) { return x.issue.stalled; });
  p["issue"] = of_pipeline([](const TracedPipeline& x) { return x.task.issue; });
  p["ready"] = of_pipeline([](const TracedPipeline& x) { return x.task.ready; });
  p["start"] = of_pipeline([](const TracedPipeline& x) { return x.task.start; });
  o["pipeline"] = place(&TracedOperation::pipeline);
  o["process"] = place(&TracedOperation::process);
  o["channel"] = place(&TracedOperation::channel);
  o["origin"] = place(&TracedOperation::origin);
  o["token"] = cycles(&TracedOperation::token);
  o["came"] = cycles(&TracedOperation::came);
  o["went"] = cycles(&TracedOperation::went);
  o["kind"] = packed<std::uint8_t>(operations.size(), [&](std::size_t i) { return static_cast<std::uint8_t>(operations[i].kind); });
  py::list channels;
  for (const ChannelSpec& c : t.channels().empty() ? channel_specs(plan) : t.channels()) channels.append(plan_channel(c));
  d["pipelines"] = p;
  d["operations"] = o;
  d["channels"] = channels;
  d["dropped"] = t.dropped();
  return d;
}

py::object trace(const Tracer* tracer, const Plan& plan) {
  using U = std::uint64_t;
  if (tracer == nullptr) return py::none();
  const Tracer& t = *tracer;
  const std::size_t n = t.size(), width = t.n_coords();
  py::dict d;
  d["tasks"] = n;
  d["dropped"] = t.dropped();
  d["dropped_edges"] = t.dropped_edges();
  d["enough"] = t.enough();
  d["full"] = t.level() == TraceLevel::full;
  d["width"] = width;
  const auto cycles = [&](U TracedTask::* member) { return packed<U>(n, [&](std::size_t i) { return t[i].*member; }); };
  const auto number = [&](std::uint32_t TracedTask::* member) { return packed<std::uint32_t>(n, [&](std::size_t i) { return t[i].*member; }); };
  d["issue"] = cycles(&TracedTask::issue);
  d["due"] = cycles(&TracedTask::due);
  d["asked"] = cycles(&TracedTask::asked);
  d["order"] = cycles(&TracedTask::order);
  d["ready"] = cycles(&TracedTask::ready);
  d["start"] = cycles(&TracedTask::start);
  d["end"] = cycles(&TracedTask::end);
  d["issued_ns"] = cycles(&TracedTask::issued_ns);
  d["started_ns"] = cycles(&TracedTask::started_ns);
  d["ended_ns"] = cycles(&TracedTask::ended_ns);
  d["site"] = number(&TracedTask::site);
  d["lane"] = number(&TracedTask::lane);
  d["window"] = number(&TracedTask::window);
  d["thread"] = number(&TracedTask::thread);
  d["stream_scope"] = number(&TracedTask::stream_scope);
  d["batch"] = number(&TracedTask::batch);
  d["pipeline"] = number(&TracedTask::pipeline);
  d["process"] = number(&TracedTask::process);
  d["pipes"] = pipe_trace(t.pipes(), plan);
  d["stream"] = packed<std::int64_t>(n, [&](std::size_t i) { return t[i].stream; });
  d["waited"] = packed<std::uint8_t>(n, [&](std::size_t i) { return static_cast<std::uint8_t>(t[i].waited); });
  d["stalled"] = packed<std::uint8_t>(n, [&](std::size_t i) { return static_cast<std::uint8_t>(t[i].stalled); });
  d["outcome"] = packed<std::uint8_t>(n, [&](std::size_t i) { return static_cast<std::uint8_t>(t[i].outcome); });
  d["coords"] = packed<std::int64_t>(n * width, [&](std::size_t i) { return t.coords(i / width)[i % width]; });
  d["edges"] = packed<std::int64_t>(2 * t.edges().size(), [&](std::size_t i) { return i % 2 == 0 ? t.edges()[i / 2].from : t.edges()[i / 2].to; });
  d["boundary"] = packed<std::uint8_t>(t.edges().size(), [&](std::size_t i) { return static_cast<std::uint8_t>(t.edges()[i].boundary); });
  d["issue_cost"] = plan.issue_cost();
  d["handover"] = plan.handover();
  d["read_cost"] = plan.read_cost();
  d["start_at"] = plan.demands().start;
  d["batches"] = plan.batches();
  d["lanes"] = plan.lanes();
  return d;
}

// With the columns of its trace, or None.
py::tuple dry_result(const Plan& plan, const DryResult& r) {
  return py::make_tuple(time_stats(r.stats, plan), record(r.failure), trace(r.trace.get(), plan));
}

py::dict remedy_dict(const Remedy& r) {
  py::dict d;
  py::list sizes;
  for (const Remedy::Size& s : r.sizes) sizes.append(py::make_tuple(s.window, s.bytes, s.needed));
  d["sizes"] = sizes;
  d["known"] = r.known;
  d["channels"] = r.channels;
  d["unknown"] = record(r.unknown);
  d["oldest"] = r.oldest_site < 0 ? py::object(py::none()) : py::object(py::make_tuple(r.oldest_site, r.oldest_coords));
  return d;
}

py::object tape(const Instance& instance) {
  const std::shared_ptr<const Tape> tape = instance.tape();
  if (tape == nullptr) return py::none();
  const std::vector<std::int64_t>& n = tape->numbers();
  return py::make_tuple(packed<std::int64_t>(n.size(), [&](std::size_t i) { return n[i]; }), tape->complete());
}

// The numbers of an array of 8 or 4 bytes each; it must stay alive.
template <class T>
std::span<T> numbers(const py::buffer& array) {
  const py::buffer_info info = array.request(!std::is_const_v<T>);
  if (info.ndim != 1 || info.itemsize != sizeof(T) || (info.size > 1 && info.strides[0] != info.itemsize))
    throw std::invalid_argument("an array of numbers of " + std::to_string(sizeof(T)) + " bytes, side by side, is needed");
  return {static_cast<T*>(info.ptr), static_cast<std::size_t>(info.size)};
}

template <class T>
std::span<T> column(const py::dict& columns, const char* name) {
  return columns.contains(name) ? numbers<T>(columns[name]) : std::span<T>();
}

py::dict deadlock_dict(const Simulation::Deadlock& deadlock) {
  py::dict d;
  d["issued"] = deadlock.issued;
  d["retired"] = deadlock.retired;
  if (!deadlock.at) return d;
  const Clock::Blocked& b = *deadlock.at;
  d["at"] = b.at == Clock::Blocked::At::window ? "window" : b.at == Clock::Blocked::At::boundary ? "boundary" : "end";
  d["first"] = b.first;
  if (b.at != Clock::Blocked::At::window) return d;
  d["window"] = b.window;
  d["tasks"] = b.tasks;
  d["bytes"] = b.bytes;
  d["more_bytes"] = b.more_bytes;
  return d;
}

py::dict simulate_dict(const py::dict& columns, const SimulationOptions& options, const py::dict& into) {
  using U = std::uint64_t;
  using I = std::int64_t;
  TaskGraph g;
  g.costs = column<const U>(columns, "costs");
  g.deps = {column<const U>(columns, "deps_indptr"), column<const U>(columns, "deps_indices")};
  g.waits = {column<const U>(columns, "waits_indptr"), column<const U>(columns, "waits_indices")};
  g.lanes = column<const I>(columns, "lanes");
  g.streams = column<const I>(columns, "streams");
  g.priorities = column<const I>(columns, "priorities");
  g.units = column<const I>(columns, "units");
  g.steals = column<const I>(columns, "steals");
  g.windows = column<const I>(columns, "windows");
  g.batches = column<const I>(columns, "batches");
  g.distances = column<const U>(columns, "distances");
  g.bytes = column<const U>(columns, "bytes");
  g.composites = column<const I>(columns, "composites");
  const SimulationTrace trace{column<U>(into, "start"), column<U>(into, "end"), column<std::uint32_t>(into, "lane"),
                              column<U>(into, "issue"), column<U>(into, "ready")};
  Simulation s;
  without_gil([&] {
    s = simulate(g, options, trace);
    return true;
  });
  py::dict d;
  py::list windows, needed;
  for (const WindowStats& w : s.windows) windows.append(window_stats(w));
  for (const Simulation::Needed& x : s.needed) needed.append(py::make_tuple(x.window, x.tasks, x.bytes));
  d["windows"] = windows;
  d["needed"] = needed;
  d["total"] = s.total;
  d["scalar_waits"] = s.scalar_waits;
  d["scalar_wait_cycles"] = s.scalar_wait_cycles;
  d["overflowed"] = s.overflowed;
  d["deadlock"] = s.deadlock ? py::object(deadlock_dict(*s.deadlock)) : py::none();
  return d;
}

// The program and options that Python says a network with.
using ChannelTuple = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::uint64_t>;

NetworkProgram network_program(const py::dict& columns, const std::vector<ChannelTuple>& channels) {
  using U = std::uint64_t;
  std::vector<ChannelSpec> specs;
  for (const auto& [capacity, latency, response, initial] : channels) specs.push_back({capacity, latency, response, initial});
  return {{column<const U>(columns, "first"), column<const U>(columns, "codes"), column<const U>(columns, "values")}, specs};
}

NetworkOptions network_options(std::uint64_t cycles, std::uint64_t actions, bool times) {
  NetworkOptions options;
  options.limits.cycles = cycles;
  options.limits.idle_actions = actions;
  options.times = times;
  options.go_on = check_signals;
  return options;
}

py::dict network_dict(const NetworkResult& r) {
  const auto arrays = [](const std::vector<std::vector<std::uint64_t>>& times) {
    py::list out;
    for (const std::vector<std::uint64_t>& t : times) out.append(py::bytearray(reinterpret_cast<const char*>(t.data()), t.size() * sizeof(t[0])));
    return out;
  };
  py::dict d;
  py::list waiting;
  for (const NetworkResult::Waiting& w : r.waiting) waiting.append(py::make_tuple(w.process, w.sends, w.channel, w.clock));
  d["status"] = name_of(r.status);
  d["clocks"] = r.clocks;
  d["sent"] = r.sent;
  d["received"] = r.received;
  d["sent_at"] = arrays(r.sent_at);
  d["received_at"] = arrays(r.received_at);
  d["waiting"] = waiting;
  d["latest"] = r.latest;
  return d;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The C++ core: plans, their instances, and runs.";
#ifdef PTO_WSP_VERSION
  m.attr("__version__") = PTO_WSP_VERSION;
#endif
  m.attr("VERSION_PLAN") = plan_version;
  py::register_exception<PlanError>(m, "PlanError");

  m.def("opcodes", [] {
    py::dict d;
    for (const OpTraits& o : op_list) d[o.name] = static_cast<int>(o.op);
    return d;
  });
  m.def("dtypes", [] {
    py::dict d;
    for (std::uint32_t i = 0; i < dtype_count; ++i) d[name_of(static_cast<DType>(i))] = i;
    return d;
  });
  m.def(
      "scalar_op",
      [](std::uint32_t op, std::uint32_t type, std::uint32_t to, bool checked, const std::vector<std::uint64_t>& operands) {
        const auto code = static_cast<ScalarOp>(op);
        const auto t = static_cast<DType>(type);
        if (op > static_cast<std::uint32_t>(ScalarOp::cast) || type >= dtype_count || to >= dtype_count || scalar_of(t) != t ||
            !exists(code, t) || operands.size() != arity(code))
          throw std::invalid_argument("there is no such operation");
        const FpEnv environment;
        std::uint64_t bits = 0;
        const ScalarStatus status = compute(code, t, static_cast<DType>(to), checked, operands.data(), bits);
        return py::make_tuple(name_of(status), bits);
      },
      py::arg("op"), py::arg("type"), py::arg("to"), py::arg("checked"), py::arg("operands"));
  m.def("isa", [] { return std::string(name_of(active_isa())); });
  m.def("set_isa", [](const std::string& name) { set_isa(isa_of(name)); });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
      if (supports(isa)) names.emplace_back(name_of(isa));
    return names;
  });
  m.def("run_fma", &run_fma, py::arg("flops"), py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.def(
      "run_read",
      [](std::uintptr_t from, std::size_t size, unsigned threads) { run_read({reinterpret_cast<const std::byte*>(from), size}, threads); },
      py::arg("address"), py::arg("size"), py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.def(
      "run_copy",
      [](std::uintptr_t to, std::uintptr_t from, std::size_t size, unsigned threads) {
        run_copy({reinterpret_cast<std::byte*>(to), size}, {reinterpret_cast<const std::byte*>(from), size}, threads);
      },
      py::arg("to"), py::arg("from_"), py::arg("size"), py::arg("threads"), py::call_guard<py::gil_scoped_release>());
  m.attr("NO_LIMIT") = no_limit;
  py::enum_<WindowMode>(m, "WindowMode")
      .value("stall", WindowMode::stall)
      .value("abort", WindowMode::abort)
      .value("benchmark", WindowMode::benchmark);
  py::class_<WindowLimits>(m, "WindowLimits")
      .def(py::init([](std::uint64_t tasks, std::uint64_t bytes, WindowMode mode) { return WindowLimits{tasks, bytes, mode}; }),
           py::arg("tasks"), py::arg("bytes"), py::arg("mode"));
  py::class_<SimulationOptions>(m, "SimulationOptions")
      .def(py::init<>())
      .def_readwrite("pools", &SimulationOptions::pools)
      .def_readwrite("windows", &SimulationOptions::windows)
      .def_readwrite("batches", &SimulationOptions::batches)
      .def_readwrite("issue_cost", &SimulationOptions::issue_cost)
      .def_readwrite("handover", &SimulationOptions::handover)
      .def_readwrite("read_cost", &SimulationOptions::read_cost)
      .def_readwrite("start", &SimulationOptions::start)
      .def_readwrite("interleave", &SimulationOptions::interleave);
  m.def("simulate", &simulate_dict, py::arg("columns"), py::arg("options"), py::arg("trace"),
        "Semantic time of a task graph; see simulate.hpp. columns and trace: arrays of 64 bit integers by name, and lanes of 32 bits; "
        "those of the trace are written.");

  m.def(
      "simulate_network",
      [](const py::dict& columns, const std::vector<ChannelTuple>& channels, std::uint64_t cycles, std::uint64_t actions, bool times) {
        const NetworkProgram program = network_program(columns, channels);
        return network_dict(dry([&] { return simulate(program, network_options(cycles, actions, times)); }));
      },
      py::arg("columns"), py::arg("channels"), py::arg("cycles"), py::arg("actions"), py::arg("times"),
      "Processes and channels in semantic time; see network_program.hpp. columns: the ProcessLists, arrays of 64 bit integers by name; "
      "channels: (capacity, latency, response, initial) each.");
  m.def(
      "network_remedy",
      [](const py::dict& columns, const std::vector<ChannelTuple>& channels, std::uint64_t cycles, std::uint64_t actions) {
        const NetworkProgram program = network_program(columns, channels);
        NetworkOptions options = network_options(cycles, actions, false);
        options.actions = actions;
        const NetworkRemedy r = dry([&] { return find_remedy(program, options); });
        return py::make_tuple(name_of(r.status), r.capacities);
      },
      py::arg("columns"), py::arg("channels"), py::arg("cycles"), py::arg("actions"), "(status, capacities of all channels)");
  m.attr("MOST_TIMES") = NetworkLimits().times;
  m.attr("MOST_RAISES") = most_raises;

  py::enum_<TraceLevel>(m, "TraceLevel").value("off", TraceLevel::off).value("tasks", TraceLevel::tasks).value("full", TraceLevel::full);
  m.def("outcomes", [] {
    std::vector<std::string> names;
    for (const Outcome o : {Outcome::dropped, Outcome::done, Outcome::failed, Outcome::skipped}) names.emplace_back(name_of(o));
    return names;
  });

  py::class_<Plan, std::shared_ptr<Plan>>(m, "Plan")
      .def(py::init(&decode), py::arg("data"))
      .def("tensors",
           [](const Plan& p) {
             std::vector<std::tuple<std::string, int, int, std::size_t>> out;
             for (const TensorInfo& t : p.tensors())
               out.emplace_back(t.name, static_cast<int>(t.dtype), (t.read ? 1 : 0) | (t.written ? 2 : 0), t.dims.size());
             return out;
           })
      .def("symbols", &Plan::symbols)
      .def(
          "control",
          [](const Plan& p) {
            std::vector<std::string> names;
            for (const ReadSpec& r : p.reads())
              if (!r.wait) names.push_back(p.tensors()[r.tensor].name);
            for (const GatherSpec& g : p.gathers())
              if (!g.wait) names.push_back(p.tensors()[g.tensor].name);
            return names;
          },
          "Tensors that no task writes and that scalars or gathers read; some of them several times")
      .def("foreseeable", &Plan::foreseeable)
      .def("foregone", [](const Plan& p) { return DryRun::foregone(p); })
      .def(
          "channels",
          [](const Plan& p) {
            std::vector<PlanChannel> out;
            for (const ChannelSpec& c : channel_specs(p)) out.push_back(plan_channel(c));
            return out;
          },
          "Of all pipelines, outer ones first: (capacity or None, latency, response, initial tokens)")
      .def("kernels", [](const Plan& p) {
        std::vector<std::string> names;
        for (const Kernel& k : p.kernels()) names.push_back(k.name());
        return names;
      })
      .def("groups", [](const Plan& p, std::size_t kernel) { return groups(p.kernels().at(kernel)); }, py::arg("kernel"),
           "What the steps of a kernel do: groups of steps, as Kernel::groups says.")
      .def(
          "link_native",
          [](const Plan& p, std::size_t kernel, const std::vector<LinkedFrom>& pieces) {
            std::vector<NativePiece> given;
            for (const auto& [first, count, run, sizes, equal] : pieces)
              given.push_back({first, count, reinterpret_cast<Piece>(run), sizes, equal});
            p.kernels().at(kernel).link_native(std::move(given));
          },
          py::arg("kernel"), py::arg("pieces"), "(first step, steps, address, extents asked for, equal extents) each; see Kernel::link_native.")
      .def(
          "link_cpp",
          [](const Plan& p, std::size_t kernel, std::uintptr_t entry) {
            p.kernels().at(kernel).link_cpp(reinterpret_cast<CppEntry>(entry));  // NOLINT(performance-no-int-to-ptr)
          },
          py::arg("kernel"), py::arg("entry"), "Gives a kernel of C++ its compiled function.");

  py::class_<DryRun>(m, "DryRun", "A run in semantic time alone; see dry_run.hpp.")
      .def(py::init(&dry_run), py::arg("plan"), py::arg("symbols"), py::arg("slots"), py::arg("numbers"), py::arg("without_data"))
      .def(
          "bind",
          [](DryRun& r, std::size_t tensor, std::uintptr_t address, const std::vector<std::int64_t>& shape,
             const std::vector<std::int64_t>& strides) {
            r.bind(tensor, reinterpret_cast<std::byte*>(address), shape, strides);  // NOLINT(performance-no-int-to-ptr)
          },
          py::arg("i"), py::arg("address"), py::arg("shape"), py::arg("strides"))
      .def(
          "run",
          [](DryRun& r, const std::optional<std::uint64_t>& trace_limit) {
            return dry_result(r.plan(), dry([&] { return trace_limit ? r.run_traced(*trace_limit) : r.run(); }));
          },
          py::arg("trace_limit") = py::none(), "(figures, what went wrong or None, columns as Instance.trace has them or None)")
      .def(
          "run_until_open",
          [](DryRun& r, std::uint64_t most) { return record(dry([&] { return r.run_until_open(most); })); }, py::arg("most"),
          "What stops it, or None")
      .def("set_pipelines",
           [](DryRun& r, std::optional<std::uint64_t> cycles, std::optional<std::uint64_t> actions, const std::vector<PlanChannel>& channels) {
             r.set_pipelines(pipelines(r.plan(), cycles, actions, channels, true));
           },
           py::arg("cycles"), py::arg("actions"), py::arg("channels"), "As Instance.set_pipelines; channels may have more initial tokens")
      .def(
          "remedy",
          [](DryRun& r, const std::vector<std::pair<std::uint32_t, std::uint32_t>>& buffers) {
            return remedy_dict(dry([&] { return r.remedy(buffers); }));
          },
          py::arg("buffers"));

  py::class_<Resources>(m, "Resources", "How much a run may use; 0: as much as the plan suggests.")
      .def(py::init([](std::uint64_t task_window, std::uint64_t dependence_map, std::uint64_t edges, std::uint64_t arena, std::uint64_t ready_queue) {
             return Resources{task_window, dependence_map, edges, arena, ready_queue};
           }),
           py::kw_only(), py::arg("task_window") = 0, py::arg("dependence_map") = 0, py::arg("edges") = 0, py::arg("arena") = 0,
           py::arg("ready_queue") = 0);

  py::class_<Replay, std::shared_ptr<Replay>>(m, "Replay", "The schedule of an earlier run: arrays of 32 and 64 bit integers; see replay.hpp.")
      .def(py::init([](const py::buffer& workers, const py::buffer& order) {
             return std::make_shared<Replay>(numbers<const std::uint32_t>(workers), numbers<const std::uint64_t>(order));
           }),
           py::arg("workers"), py::arg("order"));

  py::class_<PyInstance>(m, "Instance", py::custom_type_setup(&PyInstance::collect_garbage))
      .def(py::init([](std::shared_ptr<Plan> plan, std::uint32_t threads, const Resources& resources) {
             return std::make_unique<PyInstance>(std::move(plan), threads, resources);
           }),
           py::arg("plan"), py::arg("threads"), py::arg("resources") = Resources())
      .def("set_symbols", [](PyInstance& i, const std::vector<std::int64_t>& values) { i.set_symbols(values); }, py::arg("values"))
      .def("set_slots", [](PyInstance& i, const std::vector<std::pair<std::uint32_t, std::uint64_t>>& values) { i.set_slots(values); },
           py::arg("values"), "(slot, 64 bits) each: what slots hold when a run starts")
      .def("set_hook", &PyInstance::set_hook, py::arg("hook"),
           "None, or a function called with (begin, site, registers) around every task, in program order; what it raises stops the run")
      .def(
          "bind",
          [](PyInstance& i, std::size_t tensor, std::uintptr_t address, const std::vector<std::int64_t>& shape,
             const std::vector<std::int64_t>& strides, std::uint32_t dtype, bool writable) {
            i.bind(tensor, reinterpret_cast<std::byte*>(address), shape, strides, dtype, writable);
          },
          py::arg("i"), py::arg("address"), py::arg("shape"), py::arg("strides"), py::arg("dtype_code"), py::arg("writable"))
      .def("start", [](PyInstance& i, bool keep_going, std::shared_ptr<Replay> replay) {
             return without_gil([&] { return i.start(keep_going, std::move(replay)); });
           },
           py::arg("keep_going") = false, py::arg("replay") = nullptr)
      .def("casualties", &casualties,
           "Of the last run, if it was to keep going: (position, site, coordinates) of tasks, and why it ended early or None")
      .def("wait", &wait, py::arg("seconds"), "(whether the run is over, what went wrong in it or None)")
      .def("cancel", &Instance::cancel)
      .def("is_running", &Instance::is_running)
      .def("waiting_for", [](const PyInstance& i) { return name_of(i.waiting_for()); }, "The name of the reason, or \"\"")
      .def("error", [](const PyInstance& i) { return record(i, i.error()); })
      .def("stats", [](const PyInstance& i) { return stats(i); })
      .def("set_tape", &Instance::set_tape, py::arg("limit"), "Of the next runs; at most `limit` numbers that control reads are kept")
      .def("tape", [](const PyInstance& i) { return tape(i); }, "(numbers of 64 bits, whether these are all), or None")
      .def("set_pipelines",
           [](PyInstance& i, std::optional<std::uint64_t> cycles, std::optional<std::uint64_t> actions, const std::vector<PlanChannel>& channels,
              const std::vector<std::size_t>& checked) {
             i.set_pipelines(pipelines(i.plan(), cycles, actions, channels, false, checked));
           },
           py::arg("cycles"), py::arg("actions"), py::arg("channels"), py::arg("checked"),
           "Of the next runs: bounds or None, channels in place of the plan's as Plan.channels() has them, or none, and the pipelines in\n"
           "which races are looked for, those inside of them too")
      .def("set_trace", &Instance::set_trace, py::arg("level"), py::arg("limit"), "Of the next runs; at most `limit` tasks each are kept")
      .def(
          "set_log",
          [](PyInstance& i, const std::optional<std::vector<std::tuple<std::string, std::vector<std::string>, std::vector<std::string>>>>& sites) {
            if (!sites) return i.set_log(nullptr);
            std::vector<TaskNames> names;
            for (const auto& [kernel, coords, arguments] : *sites) names.push_back({kernel, coords, arguments});
            i.set_log(std::make_shared<TaskLog>(std::move(names)));
          },
          py::arg("sites"), "None, or (kernel, coordinates, arguments) for each site, as TaskNames says: the next runs are logged")
      .def("trace", [](const PyInstance& i) { return trace(i.trace().get(), i.plan()); },
           "None, or columns of the last run's tasks in program order: bytes of 64, 32 or 8 bit integers, all bits set for never");

  add_calls(m);
}
