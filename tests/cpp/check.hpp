// The checks every C++ test uses. A failing check prints its place and values and the test goes on;
// main returns check::result(), which is 1 when any check failed. Checks may run on any thread.
//
//   int main() {
//     CHECK(plan.valid());
//     CHECK_EQ(plan.size(), 3);
//     CHECK_THROWS(PlanError, Plan::decode(bytes));
//     return check::result();
//   }
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <ostream>
#include <source_location>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>

namespace check {

inline std::atomic<int> failures{0};

inline int result() { return failures.load() == 0 ? 0 : 1; }

inline void fail(const std::string& text, const std::source_location& at) {
  failures.fetch_add(1);
  std::fprintf(stderr, "%s:%u: %s\n", at.file_name(), static_cast<unsigned>(at.line()), text.c_str());
}

template <class T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };

template <class T>
concept Integer = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char> &&
                  !std::is_same_v<T, wchar_t> && !std::is_same_v<T, char8_t> && !std::is_same_v<T, char16_t> &&
                  !std::is_same_v<T, char32_t>;

template <class T>
std::string show(const T& value) {
  std::ostringstream out;
  out.precision(17);
  if constexpr (std::is_same_v<T, bool>) {
    out << (value ? "true" : "false");
  } else if constexpr (std::is_enum_v<T>) {
    out << +static_cast<std::underlying_type_t<T>>(value);
  } else if constexpr (Integer<T>) {
    out << +value;
  } else if constexpr (Streamable<T>) {
    out << value;
  } else {
    out << "(a value that cannot be printed)";
  }
  return out.str();
}

template <class A, class B>
bool equal(const A& a, const B& b) {
  if constexpr (Integer<A> && Integer<B>) {
    return std::cmp_equal(a, b);  // 3 equals 3u, -1 equals no unsigned number
  } else if constexpr (std::is_arithmetic_v<A> && std::is_arithmetic_v<B>) {
    return static_cast<double>(a) == static_cast<double>(b);
  } else {
    return a == b;
  }
}

inline void that(bool holds, const char* text, const std::source_location& at) {
  if (!holds) {
    fail(std::string("CHECK(") + text + ")", at);
  }
}

template <class A, class B>
void eq(const A& a, const B& b, const char* text, const std::source_location& at) {
  if (!equal(a, b)) {
    fail(std::string("CHECK_EQ(") + text + "): " + show(a) + " is not " + show(b), at);
  }
}

template <class Error, class Call>
void throws(Call&& call, const char* text, const std::source_location& at) {
  const std::string what = std::string("CHECK_THROWS(") + text + "): ";
  try {
    std::forward<Call>(call)();
  } catch (const Error&) {
    return;
  } catch (const std::exception& error) {
    fail(what + "threw something else: " + error.what(), at);
    return;
  }
  fail(what + "threw nothing", at);
}

}  // namespace check

#define CHECK(...) \
  ::check::that(static_cast<bool>(__VA_ARGS__), #__VA_ARGS__, std::source_location::current())
#define CHECK_EQ(a, ...) \
  ::check::eq((a), (__VA_ARGS__), #a ", " #__VA_ARGS__, std::source_location::current())
#define CHECK_THROWS(type, ...)                                                              \
  ::check::throws<type>([&] { static_cast<void>(__VA_ARGS__); }, #type ", " #__VA_ARGS__, \
                        std::source_location::current())
