// What a trace keeps of pipelines: which is which, where they stand in semantic time, and how much there is room for.
#include <optional>

#include "check.hpp"
#include "pto_wsp/pipe_trace.hpp"

using namespace pto_wsp;

namespace {

using Kind = TracedOperation::Kind;

TracedOperation operation(std::uint32_t pipeline, Kind kind = Kind::send) { return {.pipeline = pipeline, .kind = kind}; }

ClockLog::Issue issue(std::uint64_t position, std::uint64_t order) { return {position, order, 1, 2, false, false}; }

ClockLog::Task task(std::uint64_t position, std::uint64_t order, std::uint64_t end) { return {position, no_lane, 2, 2, 2, end, order}; }

ClockRef ref(std::uint64_t serial, std::uint32_t index = 0) { return {serial, index}; }

void pipelines_inside_know_what_is_around() {
  PipeTrace t(8);
  CHECK_EQ(t.begin(5, none, none, 0, 1), 0u);
  CHECK_EQ(t.begin(6, 0, 2, 30, 0), 1u);
  CHECK_EQ(t.begin(7, 1, 1, 40, 0), 2u);
  t.end(2, 45);
  t.end(1, 50);
  CHECK_EQ(t.begin(6, 0, 2, 60, 0), 3u);  // each time that it runs is one
  const std::vector<TracedPipeline>& p = t.pipelines();
  CHECK(p[0].around == none && p[0].process == none && p[0].outermost == 0 && p[0].origin == 5);
  CHECK(p[1].around == 0 && p[1].process == 2 && p[1].outermost == 0 && p[1].begin == 30 && p[1].end == 50);
  CHECK(p[2].around == 1 && p[2].process == 1 && p[2].outermost == 0 && p[2].end == 45);
  CHECK(p[3].begin == 60 && p[3].end == never);
}

// Only the outermost are tasks of semantic time. What is issued between is none of theirs, and neither is what completes.
void outermost_ones_are_tasks_of_semantic_time() {
  PipeTrace t(8);
  const std::uint32_t first = t.begin(5, none, none, 0, 1);
  t.begin(6, first, 0, 10, 0);
  t.issuing(first, {.lane = no_lane, .window = 3, .batch = 4});
  CHECK(t.issued(issue(0, 0)));
  CHECK(!t.issued(issue(4, 1)));  // a task of its own
  t.issued(first, ref(1, 9), 4);
  const std::uint32_t second = t.begin(5, none, none, 0, 6);
  t.issuing(second, {});
  CHECK(t.issued(issue(5, 2)));
  t.issued(second, ref(6, 9), 7);
  t.completed(task(4, 1, 70));
  t.completed(task(5, 2, 90));
  t.completed(task(0, 0, 100));
  const std::vector<TracedPipeline>& p = t.pipelines();
  CHECK(p[first].window == 3 && p[first].batch == 4 && p[first].issue.order == 0 && p[first].task.end == 100);
  CHECK(p[second].window == 0 && p[second].batch == no_batch && p[second].issue.position == 5 && p[second].task.end == 90);
  CHECK(p[1].task.end == never && p[1].issue.order == never);
}

void serials_of_tasks_say_which_pipeline_they_are_of() {
  PipeTrace t(8);
  const std::uint32_t first = t.begin(5, none, none, 0, 2);
  CHECK(t.find(ref(2)) == first && t.find(ref(1000)) == first);  // it is not over
  t.issued(first, ref(2, 9), 4);
  const std::uint32_t second = t.begin(5, none, none, 0, 6);
  t.issued(second, ref(6, 9), 6);
  CHECK(!t.find(ref(1)));
  for (const std::uint64_t serial : {2u, 3u, 4u}) CHECK(t.find(ref(serial)) == first);
  CHECK(!t.find(ref(5)));
  CHECK(t.find(ref(6)) == second);
  CHECK(!t.find(ref(7)));
  CHECK(!t.find(ref(ClockRef::first_join)));
}

// One without tasks has the serial of what comes behind it, and is told apart by its place in the clock, until that is free again.
void pipelines_without_tasks_are_known_while_they_last() {
  PipeTrace t(8);
  const std::uint32_t empty = t.begin(5, none, none, 0, 3);
  t.issuing(empty, {});
  CHECK(t.issued(issue(2, 2)));
  t.issued(empty, ref(3, 7), 2);
  CHECK(t.find(ref(3, 7)) == empty);
  CHECK(!t.find(ref(3, 8)));
  t.completed(task(2, 2, 11));
  CHECK(!t.find(ref(3, 7)));
  const std::uint32_t behind = t.begin(5, none, none, 0, 3);
  t.issued(behind, ref(3, 7), 5);
  CHECK(t.find(ref(3, 7)) == behind && t.find(ref(5, 1)) == behind);
}

void what_there_is_no_room_for_is_counted() {
  constexpr std::uint64_t most = 2 * PipeTrace::operations_per_task;
  PipeTrace t(2);
  CHECK(t.begin(5, none, none, 0, 1) == 0u && t.begin(6, 0, 0, 0, 0) == 1u);
  CHECK(t.dropped() == 0 && t.enough() == 2);
  const std::uint32_t third = t.begin(6, 0, 0, 9, 0);
  CHECK(third == none && t.pipelines().size() == 2);
  CHECK(t.dropped() == 1 && t.enough() == 3);
  for (std::uint64_t k = 0; k < most; ++k) t.add(operation(0));
  CHECK(t.operations().size() == most && t.dropped() == 1);
  t.add(operation(0, Kind::end));
  CHECK(t.operations().size() == most && t.operations().back().kind == Kind::send);
  CHECK(t.dropped() == 2 && t.enough() == 3);
  t.add(operation(third));
  for (std::uint64_t k = 0; k < most; ++k) t.add(operation(0));
  CHECK_EQ(t.enough(), 5u);  // 66 operations
  CHECK_EQ(t.dropped(), 3 + most);
}

// Of one that is not kept, nothing is, and the one behind it has its own tasks.
void outermost_ones_without_room_still_have_their_tasks() {
  PipeTrace t(1);
  const std::uint32_t kept = t.begin(5, none, none, 0, 1);
  t.issued(kept, ref(1, 1), 2);
  const std::uint32_t lost = t.begin(5, none, none, 0, 3);
  CHECK(lost == none);
  t.issuing(lost, {.window = 1});
  CHECK(t.issued(issue(2, 1)));
  t.issued(lost, ref(3, 2), 4);
  t.end(lost, 8);
  t.completed(task(2, 1, 8));
  CHECK(t.find(ref(1)) == kept && t.find(ref(4)) == none && !t.find(ref(5)));
  CHECK(t.pipelines().size() == 1 && t.pipelines()[0].task.end == never);
}

void channels_are_those_of_the_run() {
  PipeTrace t(1);
  CHECK(t.channels().empty());
  t.set_channels({{.capacity = 2}, {.capacity = 3, .initial = 3}});
  CHECK(t.channels().size() == 2 && t.channels()[1].initial == 3);
}

}  // namespace

int main() {
  pipelines_inside_know_what_is_around();
  outermost_ones_are_tasks_of_semantic_time();
  serials_of_tasks_say_which_pipeline_they_are_of();
  pipelines_without_tasks_are_known_while_they_last();
  what_there_is_no_room_for_is_counted();
  outermost_ones_without_room_still_have_their_tasks();
  channels_are_those_of_the_run();
  return check::result();
}
