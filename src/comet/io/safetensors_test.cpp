#include "comet/io/safetensors.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "comet/base/rng.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::TemporaryFolder;

std::string length_prefix(uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xFF);
  return bytes;
}

std::string file_bytes(const std::string& header, size_t payload_bytes) {
  std::string payload;
  for (size_t i = 0; i < payload_bytes; ++i) payload += static_cast<char>(i);
  return length_prefix(header.size()) + header + payload;
}

std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return fmt::format(R"("{}":{{"dtype":"{}","shape":{},"data_offsets":{}}})", name, dtype, shape,
                     offsets);
}

std::string object(const std::string& entries) { return fmt::format("{{{}}}", entries); }

/// The error of opening `bytes`, which must name the file; empty when it opens.
std::string open_error(const std::string& bytes) {
  const TemporaryFolder folder;
  const std::string path = folder.write("bad.safetensors", bytes);
  const auto file = SafetensorsFile::open(path);
  if (file.ok()) return "";
  EXPECT_TRUE(file.error().message.starts_with(path)) << file.error().message;
  EXPECT_EQ(file.error().code, ErrorCode::kCorrupt);
  return file.error().message;
}

TEST(Safetensors, ReadsWhatPythonWrote) {
  const auto file =
      SafetensorsFile::open(COMET_SOURCE_DIR "/tests/data/io/golden.safetensors").value();
  EXPECT_EQ(file.names(), (std::vector<std::string>{"bytes", "empty", "half", "mask", "matrix",
                                                    "perm", "scalar", "signed", "wide"}));
  EXPECT_EQ(file.metadata().at("who"), "päivä");
  const Tensor matrix = file.tensor("matrix").value();
  EXPECT_EQ(matrix.shape(), (Shape{2, 3}));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(matrix.data<float>()[i], static_cast<float>(i) / 4);
  EXPECT_EQ(to_float(file.tensor("half").value().data<Float16>()[2]), 65504.0F);
  EXPECT_EQ(file.tensor("bytes").value().data<uint8_t>()[4], 4);
  EXPECT_EQ(file.tensor("signed").value().data<int8_t>()[0], -128);
  EXPECT_EQ(file.tensor("perm").value().data<int32_t>()[1], -1);
  EXPECT_EQ(file.tensor("wide").value().data<int64_t>()[0], -(int64_t{1} << 40));
  const Tensor scalar = file.tensor("scalar").value();
  EXPECT_EQ(scalar.shape().rank(), 0);
  EXPECT_EQ(scalar.data<float>()[0], 2.5F);
  EXPECT_EQ(file.tensor("empty").value().shape(), (Shape{0, 4}));
  EXPECT_EQ(file.find("mask")->dtype, "BOOL");
  EXPECT_EQ(file.tensor("mask").error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(file.tensor("none").error().code, ErrorCode::kNotFound);
  file.release("matrix");
  EXPECT_EQ(matrix.data<float>()[5], 1.25F);
}

TEST(Safetensors, TensorKeepsTheMapAlive) {
  Tensor tensor;
  {
    const TemporaryFolder folder;
    const std::string header = object(entry("a", "U8", "[4]", "[0,4]"));
    tensor = SafetensorsFile::open(folder.write("f", file_bytes(header, 4)))->tensor("a").value();
  }
  EXPECT_EQ(tensor.data<uint8_t>()[3], 3);
}

TEST(Safetensors, UnalignedTensorIsCopied) {
  const TemporaryFolder folder;
  std::string header =
      object(entry("a", "U8", "[1]", "[0,1]") + "," + entry("b", "I32", "[1]", "[1,5]"));
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the payload itself is aligned
  const auto file = SafetensorsFile::open(folder.write("f", file_bytes(header, 5))).value();
  const Tensor b = file.tensor("b").value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(b.raw()) % 64, 0U);
  EXPECT_EQ(b.data<int32_t>()[0], 0x04030201);
}

TEST(Safetensors, LegalOddities) {
  EXPECT_EQ(open_error(file_bytes("{}", 0)), "");
  EXPECT_EQ(open_error(file_bytes("{}    \n", 0)), "");
  EXPECT_EQ(open_error(file_bytes(R"({"__metadata__":{}})", 0)), "");
  EXPECT_EQ(open_error(file_bytes(
                object(entry("b", "U8", "[1]", "[1,2]") + "," + entry("a", "U8", "[1]", "[0,1]") +
                       "," + entry("e", "F32", "[0]", "[1,1]")),
                2)),
            "");
}

struct BadCase {
  const char* what;
  std::string bytes;
  const char* expected;  // part of the message
};

std::vector<BadCase> bad_files() {
  const auto one = [](const std::string& entries, size_t payload_bytes) {
    return file_bytes(object(entries), payload_bytes);
  };
  const std::string good = entry("a", "U8", "[2]", "[0,2]");
  const std::string big = "1000000000000";
  return {
      {"empty file", "", "too short"},
      {"seven bytes", "1234567", "too short"},
      {"header past the end", length_prefix(3) + "{}", "truncated"},
      {"1 GB header", length_prefix(1'000'000'000) + "{}", "more than the format's"},
      {"2^64 - 1 header", length_prefix(UINT64_MAX) + "{}", "more than the format's"},
      {"no header", length_prefix(0), "not valid JSON"},
      {"array header", file_bytes("[]", 0), "expected an object"},
      {"string header", file_bytes("\"a\"", 0), "expected an object"},
      {"cut JSON", file_bytes("{\"a\":", 0), "not valid JSON"},
      {"text behind", file_bytes("{} x", 0), "not valid JSON"},
      {"bad UTF-8", file_bytes("{\"\xFF\":1}", 0), "not valid JSON"},
      {"deep JSON", file_bytes(std::string(1'000'000, '['), 0), "expected an object"},
      {"deep shape", one(R"("a":{"shape":[[[[[[)", 0), "holds an array"},
      {"deep entry", one(R"("a":{"dtype":{"dtype":{}}})", 0), "holds"},
      {"entry is a number", one("\"a\":3", 0), "expected an object"},
      {"entry is null", one("\"a\":null", 0), "expected an object"},
      {"metadata of numbers", one(R"("__metadata__":{"a":1})", 0), "expected a string"},
      {"metadata twice", one(R"("__metadata__":{},"__metadata__":{})", 0), "twice"},
      {"metadata key twice", one(R"("__metadata__":{"a":"","a":""})", 0), "twice"},
      {"tensor twice", one(good + "," + good, 2), "twice"},
      {"field twice", one(R"("a":{"dtype":"U8","dtype":"U8"})", 0), "twice"},
      {"unknown field", one(R"("a":{"stride":[1]})", 0), "unknown field"},
      {"missing field", one(R"("a":{"dtype":"U8","shape":[0]})", 0), "needs dtype"},
      {"one offset", one(entry("a", "U8", "[2]", "[0]"), 2), "two data_offsets"},
      {"three offsets", one(entry("a", "U8", "[2]", "[0,1,2]"), 2), "more than two"},
      {"unknown dtype", one(entry("a", "U7", "[2]", "[0,2]"), 2), "unknown dtype 'U7'"},
      {"negative size", one(entry("a", "U8", "[-2]", "[0,2]"), 2), "negative"},
      {"fraction", one(entry("a", "U8", "[2.5]", "[0,2]"), 2), "fraction"},
      {"huge number", one(entry("a", "U8", "[1e400]", "[0,2]"), 2), "not valid JSON"},
      {"six axes", one(entry("a", "U8", "[1,1,1,1,1,2]", "[0,2]"), 2), "more than 5 axes"},
      {"overflow", one(entry("a", "U8", fmt::format("[{0},{0}]", big), "[0,2]"), 2), "larger"},
      {"overflow to 0", one(entry("a", "U8", "[4294967296,4294967296]", "[0,0]"), 0), "larger"},
      {"huge beside 0", one(entry("a", "U8", fmt::format("[0,{0},{0}]", big), "[0,0]"), 0),
       "larger"},
      {"2^64 size", one(entry("a", "U8", "[18446744073709551615]", "[0,2]"), 2), "larger"},
      {"wrong length", one(entry("a", "F32", "[2]", "[0,2]"), 2), "takes 8 bytes"},
      {"offsets turned", one(entry("a", "U8", "[2]", "[2,0]"), 2), "data_offsets are [2, 0]"},
      {"offsets wrap",
       one(entry("a", "U8", "[2]", "[18446744073709551615,18446744073709551615]"), 2),
       "takes 2 bytes"},
      {"far away", one(entry("a", "U8", "[2]", "[18446744073709551612,18446744073709551614]"), 2),
       "hole"},
      {"hole in front", one(entry("a", "U8", "[2]", "[1,3]"), 3), "hole"},
      {"hole between", one(good + "," + entry("b", "U8", "[1]", "[3,4]"), 4), "hole"},
      {"overlap", one(good + "," + entry("b", "U8", "[2]", "[1,3]"), 3), "overlapping"},
      {"bytes behind", one(good, 3), "end at byte 2"},
      {"truncated payload", one(good, 1), "truncated"},
      {"no payload", one(good, 0), "truncated"},
  };
}

TEST(Safetensors, BadFilesAreErrorsThatSayWhy) {
  for (const BadCase& bad : bad_files()) {
    const std::string message = open_error(bad.bytes);
    EXPECT_NE(message.find(bad.expected), std::string::npos) << bad.what << ": " << message;
    EXPECT_LT(message.size(), 1000U) << bad.what;
  }
}

TEST(Safetensors, FolderOrNothingThere) {
  const TemporaryFolder folder;
  EXPECT_FALSE(SafetensorsFile::open(folder.path()).ok());
  EXPECT_EQ(SafetensorsFile::open(folder.file("x")).error().code, ErrorCode::kNotFound);
}

/// Damaged files either do not open or give tensors whose every byte can be read.
TEST(Safetensors, SurvivesRandomDamage) {
  const TemporaryFolder folder;
  const std::string good = file_bytes(
      object(entry("ab", "F32", "[2,3]", "[0,24]") + "," + entry("c", "U8", "[5]", "[24,29]")), 29);
  ASSERT_EQ(open_error(good), "");
  Rng rng(7);
  int num_opened = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = good;
    const uint64_t num_damaged = 1 + rng.next_below(3);
    for (uint64_t i = 0; i < num_damaged; ++i) {
      bytes[rng.next_below(bytes.size())] = "0123456789[]{},:\"\\- \xFF"[rng.next_below(21)];
    }
    if (rng.next_below(8) == 0) bytes.resize(rng.next_below(bytes.size()));
    std::filesystem::remove(folder.file("f"));  // rewriting in place makes ext4 wait for the disk
    const auto file = SafetensorsFile::open(folder.write("f", bytes));
    if (!file) continue;
    ++num_opened;
    for (const std::string& name : file->names()) {
      const auto tensor = file->tensor(name);
      if (!tensor) continue;
      int sum = 0;
      for (int64_t i = 0; i < tensor->num_bytes(); ++i) {
        sum += std::to_integer<int>(tensor->raw()[i]);
      }
      EXPECT_GE(sum, 0);
    }
  }
  EXPECT_GT(num_opened, 100);
  EXPECT_LT(num_opened, 2900);
}

}  // namespace
}  // namespace comet::io
