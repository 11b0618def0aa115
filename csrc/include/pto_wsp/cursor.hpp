#pragma once
// Reads the plan's byte stream: LEB128 integers, f64, strings. Every read is checked against what is left; nothing is
// allocated for a count before `count` has compared it with the bytes that could hold that many items.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>

namespace pto_wsp {

// A plan (or a kernel in it) is damaged or breaks a rule of the format.
class PlanError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  std::size_t remaining() const noexcept { return bytes_.size() - at_; }
  std::size_t position() const noexcept { return at_; }

  // Unsigned LEB128 of at most 64 bits.
  std::uint64_t u() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const std::uint64_t byte = u8();
      if (shift == 63 && byte > 1) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw PlanError("an integer is longer than 64 bits");
  }

  // An unsigned integer that must not exceed `max`; `what` names it in the message.
  std::uint64_t u(std::uint64_t max, const char* what) {
    const std::uint64_t value = u();
    if (value > max) throw PlanError(std::string(what) + " is " + std::to_string(value) + ", at most " + std::to_string(max) + " is possible");
    return value;
  }

  // A number of items that follow, each at least `bytes_each` long.
  std::size_t count(const char* what, std::size_t bytes_each = 1) {
    const std::uint64_t value = u();
    const std::uint64_t most = remaining() / bytes_each;  // what is left behind the number itself
    if (value > most) throw PlanError(std::string(what) + " is " + std::to_string(value) + ", at most " + std::to_string(most) + " is possible");
    return static_cast<std::size_t>(value);
  }

  // Signed: zigzag over LEB128.
  std::int64_t s() {
    const std::uint64_t z = u();
    return static_cast<std::int64_t>((z >> 1) ^ (~(z & 1) + 1));
  }

  double f64() { return std::bit_cast<double>(bits()); }

  // Eight bytes, little-endian.
  std::uint64_t bits() {
    if (remaining() < 8) throw PlanError("the plan ends inside a number");
    std::uint64_t value = 0;
    for (unsigned i = 0; i < 8; ++i) value |= static_cast<std::uint64_t>(bytes_[at_ + i]) << (8 * i);
    at_ += 8;
    return value;
  }

  // Length-prefixed valid UTF-8.
  std::string str() {
    const std::size_t n = count("a string's length");
    std::string text(n, '\0');
    if (n != 0) std::memcpy(text.data(), bytes_.data() + at_, n);
    at_ += n;
    if (!valid_utf8(text)) throw PlanError("a string is not valid UTF-8");
    return text;
  }

 private:
  std::uint8_t u8() {
    if (at_ == bytes_.size()) throw PlanError("the plan ends inside an integer");
    return static_cast<std::uint8_t>(bytes_[at_++]);
  }

  static bool valid_utf8(const std::string& text) noexcept {
    const auto* p = reinterpret_cast<const unsigned char*>(text.data());
    const auto* end = p + text.size();
    while (p != end) {
      const unsigned lead = *p++;
      if (lead < 0x80) continue;
      const int more = lead >= 0xf0 && lead <= 0xf4 ? 3 : lead >= 0xe0 && lead < 0xf0 ? 2 : lead >= 0xc2 && lead < 0xe0 ? 1 : 0;
      if (more == 0 || end - p < more) return false;
      // Overlong forms, surrogates and code points past U+10FFFF show in the second byte.
      const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
      const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
      if (*p < low || *p > high) return false;
      for (int i = 1; i < more; ++i)
        if ((p[i] & 0xc0) != 0x80) return false;
      p += more;
    }
    return true;
  }

  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

}  // namespace pto_wsp
