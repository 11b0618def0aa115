// The pool's threads are not in a forked child; the child gets its own. And leaving the process waits for nobody.
#include <sys/wait.h>
#include <unistd.h>

#include "check.hpp"
#include "run_helpers.hpp"

using namespace helpers;

namespace {

struct TwoLoops {
  pto_wsp::Instance instance;
  std::vector<Array> arrays;

  explicit TwoLoops(std::uint32_t threads) : instance(decode(two_loops(500).bytes()), threads) {
    for (std::size_t i = 0; i < 3; ++i) {
      arrays.emplace_back(std::vector<std::int64_t>{500, 8}, 1.0f);
      arrays.back().bind(instance, i);
    }
  }
  bool right() { return run(instance) && arrays[2].data.back() == 4; }
};

[[maybe_unused]] int status_of_child(int (*body)(TwoLoops&), TwoLoops& parent) {
  const pid_t child = fork();
  if (child == 0) _exit(body(parent));
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

[[maybe_unused]] int new_and_old_instances_run(TwoLoops& parent) {
  TwoLoops own(4);
  if (!own.right()) return 1;
  if (!parent.right()) return 2;
  own.instance.start();  // the pool's threads progress without anybody waiting
  for (int i = 0; i < 2000 && own.instance.is_running(); ++i) usleep(5000);
  return own.instance.is_running() ? 3 : 0;
}

// Leaves with a run in progress that would take for ever.
[[maybe_unused]] int exit_while_running(TwoLoops&) {
  static writer::Plan p = chain(1'000'000'000'000, false);
  static pto_wsp::Instance* instance = new pto_wsp::Instance(decode(p.bytes()), 2);
  static Array a({1, 8});
  a.bind(*instance, 0);
  instance->start();
  instance->wait(0.01);
  std::exit(0);
}

}  // namespace

int main() {
// The allocators of the sanitizers are not safe to fork while other threads use them: the child may wait for ever for a lock
// that a thread of the parent held.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
  TwoLoops parent(4);
  CHECK(parent.right());
  CHECK_EQ(status_of_child(new_and_old_instances_run, parent), 0);
  CHECK(parent.right());

  writer::Plan endless = chain(1'000'000'000'000, false);
  pto_wsp::Instance running(decode(endless.bytes()), 2);
  Array a({1, 8});
  a.bind(running, 0);
  running.start();
  static pto_wsp::Instance* const started = &running;
  CHECK_EQ(status_of_child(
               [](TwoLoops&) {
                 if (!started->wait(10)) return 1;
                 return started->error() && started->error()->kind == pto_wsp::ErrorKind::cancelled ? 0 : 2;
               },
               parent),
           0);
  running.cancel();
  CHECK(running.wait(10));
  CHECK_EQ(status_of_child(exit_while_running, parent), 0);
#endif
  return check::result();
}
