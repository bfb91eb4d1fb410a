#include "comet/io/checkpoint.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "comet/base/json.h"
#include "comet/io/safetensors_writer.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::TemporaryFolder;

Tensor zeros(DType dtype, const Shape& shape) {
  const auto num_bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  auto owner = std::make_shared<std::vector<std::byte>>(num_bytes);
  auto* data = owner->data();
  return {std::make_shared<Storage>(data, num_bytes, std::move(owner)), 0, dtype, shape};
}

constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// Tensors a [2, 3] F32 and b [8] I8, in one file or in two shards.
void write_model(const TemporaryFolder& folder, uint64_t max_shard_bytes) {
  folder.write("config.json", R"({"hidden_size": 7})");
  SafetensorsWriterOptions options;
  options.max_shard_bytes = max_shard_bytes;
  auto writer = SafetensorsWriter::create(folder.path(), options).value();
  writer.append("a", zeros(DType::kF32, {2, 3})).value();
  writer.append("b", zeros(DType::kI8, {8})).value();
  (void)writer.finish().value();
}

std::string open_error(const TemporaryFolder& folder) {
  const auto checkpoint = Checkpoint::open(folder.path());
  return checkpoint ? "" : checkpoint.error().message;
}

void expect_holds(const std::string& message, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

TEST(Checkpoint, OneFileAndShardsAlike) {
  for (const uint64_t max_shard_bytes : {1000, 24}) {
    const TemporaryFolder folder;
    write_model(folder, max_shard_bytes);
    const auto checkpoint = Checkpoint::open(folder.path()).value();
    EXPECT_EQ(checkpoint.names(), (std::vector<std::string>{"a", "b"}));
    EXPECT_TRUE(checkpoint.contains("a"));
    EXPECT_FALSE(checkpoint.contains("c"));
    EXPECT_EQ(checkpoint.total_bytes(), 32U);
    EXPECT_EQ(checkpoint.config()["hidden_size"], 7);
    EXPECT_EQ(checkpoint.tensor("a")->shape(), (Shape{2, 3}));
    EXPECT_EQ(checkpoint.find("b")->dtype, "I8");
    EXPECT_EQ(checkpoint.source("b"),
              folder.file(max_shard_bytes == 24 ? kShard2 : "model.safetensors"));
    EXPECT_EQ(checkpoint.source("c"), "");
    checkpoint.release("a");
    checkpoint.release("c");
  }
}

TEST(Checkpoint, TensorAsExpectedOrAnErrorThatSaysWhatIsThere) {
  const TemporaryFolder folder;
  write_model(folder, 1000);
  const auto checkpoint = Checkpoint::open(folder.path()).value();
  EXPECT_TRUE(checkpoint.tensor("a", {DType::kBF16, DType::kF32}, {2, 3}).ok());
  expect_holds(checkpoint.tensor("a", {DType::kF32}, {3, 2}).error().message,
               {folder.file("model.safetensors"), "'a'", "[2, 3]", "[3, 2]"});
  expect_holds(checkpoint.tensor("a", {DType::kBF16, DType::kF16}, {2, 3}).error().message,
               {folder.file("model.safetensors"), "'a'", "F32", "BF16 or F16"});
  expect_holds(checkpoint.tensor("c", {DType::kF32}, {1}).error().message, {folder.path(), "'c'"});
  EXPECT_EQ(checkpoint.tensor("c").error().code, ErrorCode::kNotFound);
}

TEST(Checkpoint, BadFolders) {
  const TemporaryFolder folder;
  EXPECT_EQ(Checkpoint::open(folder.file("none")).error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(Checkpoint::open(folder.write("file", "")).ok());
  expect_holds(open_error(folder), {"config.json"});
  folder.write("config.json", "[]");
  expect_holds(open_error(folder), {"config.json", "object"});
  folder.write("config.json", "{");
  expect_holds(open_error(folder), {"config.json", "JSON"});
  folder.write("config.json", "");
  expect_holds(open_error(folder), {"config.json", "JSON"});
  folder.write("config.json", std::string(100'000, '[') + std::string(100'000, ']'));
  expect_holds(open_error(folder), {"config.json", "deeper"});
  folder.write("config.json", "{}");
  expect_holds(open_error(folder), {"model.safetensors"});
  folder.write("pytorch_model.bin", "x");
  expect_holds(open_error(folder), {"pytorch_model.bin", "save_pretrained"});
  std::filesystem::create_directory(folder.file("model.safetensors"));
  expect_holds(open_error(folder), {"model.safetensors", "folder"});
}

TEST(Checkpoint, BadShards) {
  const TemporaryFolder folder;
  write_model(folder, 24);
  ASSERT_EQ(open_error(folder), "");
  std::filesystem::rename(folder.file(kShard2), folder.file("away"));
  expect_holds(open_error(folder), {kShard2, "missing"});
  std::filesystem::copy(folder.file(kShard1), folder.file(kShard2));
  expect_holds(open_error(folder), {"'a'", "two shards", kShard1, kShard2});
  folder.write(kShard2, "xx");
  expect_holds(open_error(folder), {folder.file(kShard2), "too short"});
  std::filesystem::rename(folder.file("away"), folder.file(kShard2));
  ASSERT_EQ(open_error(folder), "");

  const auto index = [](const std::string& a, const std::string& b) {
    return Json{{"weight_map", {{"a", a}, {"b", b}}}}.dump();
  };
  folder.write(kIndex, index(kShard2, kShard1));
  expect_holds(open_error(folder), {kIndex, "'a'", "not in", kShard2});
  folder.write(kIndex, Json{{"weight_map", {{"a", kShard1}, {"c", kShard1}}}}.dump());
  expect_holds(open_error(folder), {kIndex, "'c'", "not in", kShard1});
}

TEST(Checkpoint, IndexCannotLeaveTheFolder) {
  const TemporaryFolder outer;
  outer.write("stolen.safetensors", std::string("\2\0\0\0\0\0\0\0{}", 10));
  std::filesystem::create_directory(outer.file("model"));
  outer.write("model/config.json", "{}");
  for (const std::string& name :
       {std::string("../stolen.safetensors"), outer.file("stolen.safetensors"), std::string(".."),
        std::string(""), std::string("."), std::string("sub/x.safetensors"),
        std::string("..\\stolen.safetensors"), std::string("a\0.safetensors", 14),
        std::string("config.json"), std::string(300, 'x') + ".safetensors"}) {
    outer.write(std::string("model/") + kIndex, Json{{"weight_map", {{"a", name}}}}.dump());
    const auto checkpoint = Checkpoint::open(outer.file("model"));
    ASSERT_FALSE(checkpoint.ok()) << name;
    expect_holds(checkpoint.error().message, {kIndex, "plain name"});
  }
}

TEST(Checkpoint, BadIndexes) {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  for (const char* text : {"", "[]", "{}", R"({"weight_map":null})", R"({"weight_map":[]})",
                           R"({"weight_map":{}})", R"({"weight_map":{"a":1}})"}) {
    folder.write(kIndex, text);
    expect_holds(open_error(folder), {kIndex});
  }
}

}  // namespace
}  // namespace comet::io
