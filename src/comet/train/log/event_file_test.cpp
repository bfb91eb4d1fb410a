// Event files: the checksum's published values, and a file read back by its definition.
// TensorBoard's own reader: docs/vision_training.md.
#include "comet/train/log/event_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "support/temporary_folder.h"

namespace comet::train {
namespace {

TEST(EventFile, ChecksumsAreThePublishedOnes) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720 §B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  EXPECT_EQ(crc32c(""), 0U);
}

template <typename T>
T number_at(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.substr(at, sizeof(T)).data(), sizeof(T));
  return value;
}

uint32_t masked(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

/// The data of every record; the checksums are checked.
std::vector<std::string> records_of(std::string_view file) {
  std::vector<std::string> records;
  while (!file.empty()) {
    const auto size = number_at<uint64_t>(file, 0);
    EXPECT_EQ(number_at<uint32_t>(file, 8), masked(file.substr(0, 8)));
    records.emplace_back(file.substr(12, size));
    EXPECT_EQ(number_at<uint32_t>(file, 12 + size), masked(records.back()));
    file.remove_prefix(16 + size);
  }
  return records;
}

TEST(EventFile, HoldsVersionStartAndScalars) {
  const testing::TemporaryFolder folder;
  {
    auto file = EventFile::create(folder.path(), 300).value();
    const std::array scalars{Scalar{"loss", 0.5}, Scalar{"lr", 1e-3}};
    ASSERT_TRUE(file.add(301, scalars));
  }
  const auto path = std::filesystem::directory_iterator(folder.path())->path();
  EXPECT_NE(path.filename().string().find("tfevents"), std::string::npos);
  const std::vector<std::string> records = records_of(folder.read(path.filename().string()));
  ASSERT_EQ(records.size(), 3U);
  // Each begins with the wall time: key 1·8 + 1 and eight bytes; then the step: key 2·8.
  for (const std::string& record : records) {
    EXPECT_EQ(record[0], 9);
    EXPECT_GT(number_at<double>(record, 1), 1.6e9);
    EXPECT_EQ(record[9], 16);
  }
  const auto after_time = [&](size_t i) { return records[i].substr(9); };
  EXPECT_EQ(after_time(0), std::string("\x10\x00\x1A\x0D", 4) + "brain.Event:2");
  EXPECT_EQ(after_time(1), std::string("\x10\xAD\x02\x3A\x02\x08\x01", 7));  // step 301: START
  const std::string expected =
      std::string("\x10\xAD\x02\x2A\x18", 5) +                       // step 301, summary
      std::string("\x0A\x0B\x0A\x04loss\x15\x00\x00\x00\x3F", 13) +  // 0.5F
      std::string("\x0A\x09\x0A\x02lr\x15\x6F\x12\x83\x3A", 11);     // 0.001F
  EXPECT_EQ(after_time(2), expected);
}

TEST(EventFile, AFolderThatIsNotThereIsAnError) {
  const auto file = EventFile::create("/nowhere/at/all", 0);
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message.find("/nowhere/at/all"), std::string::npos);
}

}  // namespace
}  // namespace comet::train
