// FNV-1a, 64 bits: keys of journals and of runs that go on, random streams by name. For files that
// outlive a program: the value of given bytes never changes. No defence against made collisions.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace comet {

class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) add_byte(static_cast<uint8_t>(c));
  }
  /// The lowest `num_bytes` bytes, the lowest first.
  void add_number(uint64_t number, int num_bytes = 8) {
    for (int i = 0; i < num_bytes; ++i) add_byte(static_cast<uint8_t>(number >> (8 * i)));
  }
  [[nodiscard]] uint64_t value() const { return state_; }
  /// 16 hexadecimal digits.
  [[nodiscard]] std::string text() const { return fmt::format("{:016x}", state_); }

 private:
  void add_byte(uint8_t byte) { state_ = (state_ ^ byte) * 0x100000001B3ULL; }
  uint64_t state_ = 0xCBF29CE484222325ULL;
};

}  // namespace comet
