#include "comet/train/log/event_file.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <chrono>

namespace comet::train {
namespace {

// Field numbers of tensorflow/core/util/event.proto and framework/summary.proto.
namespace event {
constexpr uint32_t kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}  // namespace event
namespace summary {
constexpr uint32_t kValue = 1, kTag = 1, kSimpleValue = 2;
}  // namespace summary
namespace session_log {
constexpr uint32_t kStatus = 1, kStart = 1;
}  // namespace session_log

// Wire types of protocol buffers.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

template <typename T>
void append_little_endian(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(value >> (8 * i));
}

void append_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

void append_key(std::string& out, uint32_t field, WireType type) {
  append_varint(out, field << 3 | type);
}

void append_number(std::string& out, uint32_t field, uint64_t value) {
  append_key(out, field, kVarint);
  append_varint(out, value);
}

void append_bytes(std::string& out, uint32_t field, std::string_view bytes) {
  append_key(out, field, kBytes);
  append_varint(out, bytes.size());
  out += bytes;
}

/// TFRecord's, so that a checksum of data that holds checksums is none of them.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xA282EAD8U;
}

std::string record_of(std::string_view data) {
  std::string record;
  append_little_endian<uint64_t>(record, data.size());
  append_little_endian<uint32_t>(record, masked_crc(record));
  record += data;
  append_little_endian<uint32_t>(record, masked_crc(data));
  return record;
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78U : 0);
    table[i] = crc;
  }
  return table;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0U;
  for (const char c : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~crc;
}

Result<EventFile> EventFile::create(const std::string& directory, int64_t num_steps) {
  auto opened =
      io::OutputFile::create(fmt::format("{}/events.out.tfevents.{:010}.{}", directory,
                                         static_cast<int64_t>(unix_seconds()), num_steps));
  if (!opened) return opened.error();
  EventFile file(*std::move(opened));
  std::string version;
  append_bytes(version, event::kFileVersion, "brain.Event:2");
  if (const Status written = file.write_event(0, version); !written) return written.error();
  std::string status, start;
  append_number(status, session_log::kStatus, session_log::kStart);
  append_bytes(start, event::kSessionLog, status);
  if (const Status written = file.write_event(num_steps + 1, start); !written) {
    return written.error();
  }
  return file;
}

Status EventFile::add(int64_t step, std::span<const Scalar> scalars) {
  std::string values, what;
  for (const Scalar& scalar : scalars) {
    std::string value;
    append_bytes(value, summary::kTag, scalar.tag);
    append_key(value, summary::kSimpleValue, kFixed32);
    append_little_endian(value, std::bit_cast<uint32_t>(static_cast<float>(scalar.value)));
    append_bytes(values, summary::kValue, value);
  }
  append_bytes(what, event::kSummary, values);
  return write_event(step, what);
}

Status EventFile::write_event(int64_t step, std::string_view what) {
  std::string message;
  append_key(message, event::kWallTime, kFixed64);
  append_little_endian(message, std::bit_cast<uint64_t>(unix_seconds()));
  append_number(message, event::kStep, static_cast<uint64_t>(step));
  message += what;
  const std::string record = record_of(message);
  return file_.write(std::as_bytes(std::span(record)));
}

}  // namespace comet::train
