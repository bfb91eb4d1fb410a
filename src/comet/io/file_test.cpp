#include "comet/io/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "support/file_limits.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::TemporaryFolder;

TEST(ReadFile, WholeContent) {
  const TemporaryFolder folder;
  const std::string content = std::string("a\0b\n", 4) + std::string(100'000, 'x');
  EXPECT_EQ(read_file(folder.write("f", content), 1 << 20).value(), content);
  EXPECT_EQ(read_file(folder.write("empty", ""), 0).value(), "");
  EXPECT_EQ(read_file(folder.write("limit", "12345"), 5).value(), "12345");
}

TEST(ReadFile, SizeUnknownToFstat) {
  EXPECT_NE(read_file("/proc/self/status", 1 << 20).value().find("VmRSS"), std::string::npos);
  EXPECT_EQ(read_file("/proc/self/status", 10).error().code, ErrorCode::kCorrupt);
}

TEST(ReadFile, BadPaths) {
  const TemporaryFolder folder;
  const auto missing = read_file(folder.file("missing"), 10);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message.find(folder.file("missing")), std::string::npos);
  EXPECT_NE(read_file(folder.path(), 10).error().message.find("is a folder"), std::string::npos);
  EXPECT_NE(read_file(folder.write("six", "123456"), 5).error().message.find("5 bytes"),
            std::string::npos);
  EXPECT_FALSE(read_file("/dev/zero", 10).ok());
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(read_file(folder.file("pipe"), 10).ok());  // and does not wait for a writer
}

TEST(ReadFile, Unreadable) {
  constexpr uid_t kNobody = 65534;
  const TemporaryFolder folder;
  const std::string path = folder.write("secret", "x");
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  const uid_t user = ::geteuid();
  if (user == 0 && ::seteuid(kNobody) != 0) GTEST_SKIP() << "root reads everything";
  const auto content = read_file(path, 10);
  ASSERT_EQ(::seteuid(user), 0);
  EXPECT_NE(content.error().message.find("permissions"), std::string::npos);
}

TEST(MappedFile, SharesContentAndOutlivesTheName) {
  const TemporaryFolder folder;
  const std::string content(10'000, 'q');
  const std::string path = folder.write("f", content);
  const auto file = MappedFile::open(path).value();
  std::filesystem::remove(path);
  ASSERT_EQ(file->bytes(), content.size());
  file->advise(MappedFile::Access::kWillNeed, 0, SIZE_MAX);
  file->advise(MappedFile::Access::kSequential, 5000, 100);
  file->release(0, SIZE_MAX);
  file->release(20'000, 1);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file->data()), file->bytes()), content);
}

TEST(MappedFile, EmptyAndBadFiles) {
  const TemporaryFolder folder;
  const auto empty = MappedFile::open(folder.write("empty", "")).value();
  EXPECT_EQ(empty->bytes(), 0U);
  empty->advise(MappedFile::Access::kRandom, 0, 1);
  EXPECT_FALSE(MappedFile::open(folder.path()).ok());
  EXPECT_EQ(MappedFile::open(folder.file("none")).error().code, ErrorCode::kNotFound);
}

TEST(OutputFile, WritesAndOverwrites) {
  const TemporaryFolder folder;
  auto file = OutputFile::create(folder.file("f")).value();
  const std::string text = "hello world";
  ASSERT_TRUE(file.write(std::as_bytes(std::span(text))).ok());
  ASSERT_TRUE(file.write_at(6, std::as_bytes(std::span("WORLD", 5))).ok());
  EXPECT_EQ(file.num_bytes(), text.size());
  EXPECT_THROW((void)file.write_at(10, std::as_bytes(std::span(text))), CheckError);
  ASSERT_TRUE(file.close().ok());
  EXPECT_THROW((void)file.write({}), CheckError);
  EXPECT_EQ(folder.read("f"), "hello WORLD");
  EXPECT_FALSE(OutputFile::create(folder.file("no/such/folder")).ok());
}

TEST(OutputFile, FullDisk) {
  auto file = OutputFile::create("/dev/full").value();
  const std::string text = "x";
  const Status status = file.write(std::as_bytes(std::span(text)));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(status.error().message.find("/dev/full"), std::string::npos);
  EXPECT_NE(status.error().message.find("free some space"), std::string::npos);
}

TEST(WriteFileAtomic, ReplacesWhole) {
  const TemporaryFolder folder;
  folder.write("f", "a much longer old content");
  ASSERT_TRUE(write_file_atomic(folder.file("f"), "new").ok());
  EXPECT_EQ(folder.read("f"), "new");
  EXPECT_FALSE(std::filesystem::exists(folder.file("f.tmp")));
}

TEST(WriteFileAtomic, FailureLeavesTheOldFileAlone) {
  const TemporaryFolder folder;
  folder.write("f", "old");
  {
    const comet::testing::FileSizeLimit limit(1000);
    const Status status = write_file_atomic(folder.file("f"), std::string(5000, 'x'));
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  }
  EXPECT_EQ(folder.read("f"), "old");
  EXPECT_FALSE(std::filesystem::exists(folder.file("f.tmp")));
  std::filesystem::create_directory(folder.file("d"));
  EXPECT_FALSE(write_file_atomic(folder.file("d"), "x").ok());
  EXPECT_FALSE(std::filesystem::exists(folder.file("d.tmp")));
}

}  // namespace
}  // namespace comet::io
