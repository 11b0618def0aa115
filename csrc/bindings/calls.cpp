#include "calls.hpp"

#include <pybind11/functional.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>

#include "failures.hpp"
#include "pto_wsp/call_table.h"
#include "pto_wsp/callee.hpp"

namespace py = pybind11;
using namespace pto_wsp;

namespace {

// The programs that have been called, by the hashes of their artifacts: each is decoded and verified once.
class Callees {
  static constexpr std::size_t most = 1024;

  // What Python raises comes out as an exception of C++ that holds no object of Python's.
  template <class F>
  static auto with_gil(F&& f) {
    const PyGILState_STATE state = take_gil();
    using Result = decltype(f());
    std::optional<Result> result;
    std::string why;
    try {
      result.emplace(f());
    } catch (py::error_already_set& e) {
      why = py::str(e.value());
    } catch (const std::exception& e) {
      why = e.what();
    }
    PyGILState_Release(state);
    if (!result) throw std::invalid_argument(why);
    return std::move(*result);
  }

 public:
  // Never destroyed: calls may come while the process ends.
  static Callees& instance() {
    static Callees* const callees = new Callees;
    return *callees;
  }

  void serve(py::function decode, py::function explain) {
    decode_ = new py::function(std::move(decode));
    explain_ = new py::function(std::move(explain));
  }

  std::shared_ptr<Callee> get(std::string_view key, std::string_view artifact) {
    {
      const std::shared_lock lock(mutex_);
      if (const auto found = known_.find(key); found != known_.end()) return found->second;
    }
    std::shared_ptr<Callee> made = decode(key, artifact);
    const std::unique_lock lock(mutex_);
    if (const auto found = known_.find(key); found != known_.end()) return found->second;  // another thread was faster
    if (known_.size() >= most) {
      known_.erase(known_.find(oldest_.front()));
      oldest_.pop_front();
    }
    const std::string& name = oldest_.emplace_back(key);
    known_.emplace(std::string_view(name), made);
    return made;
  }

  // Why a run of this artifact failed, in words.
  std::pair<bool, std::string> explain(std::string_view key, std::string_view artifact, const std::optional<Failure>& failure) const {
    return with_gil([&] { return (*explain_)(std::string(key), py::bytes(artifact.data(), artifact.size()), record(failure)).cast<std::pair<bool, std::string>>(); });
  }

 private:
  std::shared_ptr<Callee> decode(std::string_view key, std::string_view artifact) const {
    return with_gil([&] {
      const py::object made = (*decode_)(std::string(key), py::bytes(artifact.data(), artifact.size()));
      return made.cast<std::shared_ptr<Callee>>();
    });
  }

  std::shared_mutex mutex_;
  std::unordered_map<std::string_view, std::shared_ptr<Callee>> known_;  // the names are those in oldest_
  std::list<std::string> oldest_;
  const py::function* decode_ = nullptr;
  const py::function* explain_ = nullptr;
};

// What is called, without a lock where this thread has called it lately.
std::shared_ptr<Callee> recent(std::string_view key, std::string_view artifact) {
  struct Recent {
    std::string key;
    std::shared_ptr<Callee> callee;
  };
  thread_local std::array<Recent, 16> all;
  Recent& entry = all[key.empty() ? 0 : static_cast<unsigned char>(key.back()) % all.size()];
  if (!entry.callee || entry.key != key) {
    std::shared_ptr<Callee> callee = Callees::instance().get(key, artifact);
    entry.callee = nullptr;
    entry.key = key;
    entry.callee = std::move(callee);
  }
  return entry.callee;
}

char no_memory[] = "there is not enough memory";  // even to say more: null would mean that all went well

char* copied(const std::string& text) noexcept {
  char* const out = static_cast<char*>(std::malloc(text.size() + 1));
  if (out == nullptr) return no_memory;
  std::memcpy(out, text.c_str(), text.size() + 1);
  return out;
}

char* call(const PtoWspCall* c, int* invalid) noexcept {
  *invalid = 1;
  const std::string_view key(c->key, c->key_size), artifact(c->artifact, c->artifact_size);
  try {
    const CallNumbers numbers = numbers_of({c->numbers, c->n_numbers});  // of which version it is, before anything else
    Callees& callees = Callees::instance();
    const std::shared_ptr<Callee> callee = recent(key, artifact);
    const std::optional<Failure> failure = callee->call({c->buffers, c->n_buffers}, numbers);
    if (!failure) return nullptr;
    const auto [is_invalid, text] = callees.explain(key, artifact, failure);
    *invalid = is_invalid ? 1 : 0;
    return copied(text);
  } catch (const std::bad_alloc&) {
    *invalid = 0;
    return no_memory;
  } catch (const std::exception& e) {
    return copied(e.what());
  }
}

void release(char* message) noexcept {
  if (message != no_memory) std::free(message);
}

}  // namespace

void add_calls(py::module_& m) {
  static const PtoWspCallTable table{pto_wsp_call_table_version, &call, &release};
  py::class_<Callee, std::shared_ptr<Callee>>(m, "Callee", "A plan that others call; see callee.hpp.")
      .def(py::init([](std::shared_ptr<Plan> plan, const std::vector<std::size_t>& checked) {
             PipelineOptions options;
             options.checked.assign(plan->pipelines().size(), false);
             for (const std::size_t p : checked) options.checked.at(p) = true;
             return std::make_shared<Callee>(std::move(plan), std::move(options));
           }),
           py::arg("plan"), py::arg("checked"), "checked: the pipelines in which races are looked for");
  m.def(
      "serve_calls",
      [](py::function decode, py::function explain) {
        Callees::instance().serve(std::move(decode), std::move(explain));
        return reinterpret_cast<std::uintptr_t>(&table);
      },
      py::arg("decode"), py::arg("explain"),
      "The address of a PtoWspCallTable. decode(key, artifact) gives a Callee; explain(key, artifact, failure) whether the inputs were at\n"
      "fault, and the message. Both may be called from any thread.");
}
