#include "comet/io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <set>

#include "comet/base/json.h"
#include "comet/io/safetensors.h"
#include "comet/io/safetensors_header.h"
#include "support/file_limits.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using comet::testing::FileSizeLimit;
using comet::testing::TemporaryFolder;
using comet::testing::TinyDisk;

/// Bytes first, first + 1, ... as a tensor.
Tensor counting(DType dtype, const Shape& shape, int first = 0) {
  const auto num_bytes = static_cast<size_t>(shape.num_elements() * dtype_bytes(dtype));
  auto owner = std::make_shared<std::vector<std::byte>>(num_bytes + 1);
  for (size_t i = 0; i < num_bytes; ++i) (*owner)[i] = static_cast<std::byte>(first + i);
  auto* data = owner->data();
  return {std::make_shared<Storage>(data, num_bytes, std::move(owner)), 0, dtype, shape};
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.num_bytes())) == 0;
}

std::set<std::string> files_of(const TemporaryFolder& folder) {
  std::set<std::string> names;
  for (const auto& item : std::filesystem::directory_iterator(folder.path())) {
    names.insert(item.path().filename().string());
  }
  return names;
}

TEST(SafetensorsWriter, OneFileReadsBack) {
  const TemporaryFolder folder;
  const std::vector<std::pair<std::string, Tensor>> tensors = {
      {"z", counting(DType::kF32, {3, 5})},       {"a.b", counting(DType::kU8, {7}, 9)},
      {"half", counting(DType::kF16, {1, 2, 3})}, {"none", counting(DType::kI32, {0, 4})},
      {"scalar", counting(DType::kBF16, {})},     {"fp8 \"ä\"", counting(DType::kF8E4M3, {3})},
      {"late", counting(DType::kI64, {2}, 77)}};
  auto writer = SafetensorsWriter::create(folder.path()).value();
  for (const auto& [name, tensor] : tensors) ASSERT_TRUE(writer.append(name, tensor).ok());
  EXPECT_EQ(writer.finish().value(), std::vector<std::string>{"model.safetensors"});
  EXPECT_EQ(files_of(folder), std::set<std::string>{"model.safetensors"});

  const auto file = SafetensorsFile::open(folder.file("model.safetensors")).value();
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.names().size(), tensors.size());
  EXPECT_EQ(file.payload_bytes(), writer.payload_bytes());
  EXPECT_EQ(file.find("z")->offset_bytes % 64, 0U);
  for (const auto& [name, tensor] : tensors) {
    EXPECT_TRUE(same_bytes(file.tensor(name).value(), tensor)) << name;
  }
}

TEST(SafetensorsWriter, SameAppendsGiveSameBytes) {
  const TemporaryFolder folders[2];
  for (const TemporaryFolder& folder : folders) {
    auto writer = SafetensorsWriter::create(folder.path()).value();
    ASSERT_TRUE(writer.append("b", counting(DType::kF32, {30})).ok());
    ASSERT_TRUE(writer.append("a", counting(DType::kU8, {5})).ok());
    ASSERT_TRUE(writer.finish().ok());
  }
  EXPECT_EQ(folders[0].read("model.safetensors"), folders[1].read("model.safetensors"));
}

TEST(SafetensorsHeader, WritesTypesThatItDoesNotKnowAsTheyWere) {
  const std::string text = R"({"a":{"dtype":"X\\/\"","shape":[2],"data_offsets":[0,2]}})";
  const auto header = parse_safetensors_header(text, "f");
  ASSERT_TRUE(header.ok()) << header.error().message;
  EXPECT_EQ(header->entries[0].dtype, "X\\/\"");
  EXPECT_EQ(format_safetensors_header(*header), text);
}

TEST(SafetensorsWriter, NoTensors) {
  const TemporaryFolder folder;
  ASSERT_TRUE(SafetensorsWriter::create(folder.path())->finish().ok());
  EXPECT_TRUE(SafetensorsFile::open(folder.file("model.safetensors"))->names().empty());
}

TEST(SafetensorsWriter, Shards) {
  const TemporaryFolder folder;
  SafetensorsWriterOptions options;
  options.max_shard_bytes = 100;
  auto writer = SafetensorsWriter::create(folder.path(), options).value();
  ASSERT_TRUE(writer.append("a", counting(DType::kU8, {60}, 1)).ok());
  ASSERT_TRUE(writer.append("b", counting(DType::kU8, {40}, 2)).ok());   // fills the first
  ASSERT_TRUE(writer.append("c", counting(DType::kU8, {500}, 3)).ok());  // alone, past the limit
  ASSERT_TRUE(writer.append("d", counting(DType::kU8, {1}, 4)).ok());
  const std::vector<std::string> names = {
      "model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors",
      "model-00003-of-00003.safetensors", "model.safetensors.index.json"};
  EXPECT_EQ(writer.finish().value(), names);
  EXPECT_EQ(files_of(folder), std::set<std::string>(names.begin(), names.end()));

  const Json index = parse_json(folder.read(names[3]), "index").value();
  EXPECT_EQ(index["metadata"]["total_size"], 601);
  EXPECT_EQ(index["weight_map"],
            (Json{{"a", names[0]}, {"b", names[0]}, {"c", names[1]}, {"d", names[2]}}));
  const auto second = SafetensorsFile::open(folder.file(names[1])).value();
  EXPECT_TRUE(same_bytes(second.tensor("c").value(), counting(DType::kU8, {500}, 3)));
}

TEST(SafetensorsWriter, FullHeaderOpensTheNextShard) {
  const TemporaryFolder folder;
  SafetensorsWriterOptions options;
  options.header_bytes = 500;
  auto writer = SafetensorsWriter::create(folder.path(), options).value();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(writer.append("layer." + std::to_string(i), counting(DType::kU8, {i})).ok());
  }
  const auto names = writer.finish().value();
  EXPECT_GT(names.size(), 3U);
  size_t num_tensors = 0;
  for (const std::string& name : names) {
    if (name.ends_with(".json")) continue;
    num_tensors += SafetensorsFile::open(folder.file(name))->names().size();
  }
  EXPECT_EQ(num_tensors, 20U);
}

TEST(SafetensorsWriter, BadNamesEndTheWriter) {
  for (const std::string& name :
       {std::string(), std::string("__metadata__"), std::string("a"), std::string(200'000, 'x')}) {
    const TemporaryFolder folder;
    {
      auto writer = SafetensorsWriter::create(folder.path()).value();
      ASSERT_TRUE(writer.append("a", counting(DType::kU8, {1})).ok());
      const Status status = writer.append(name, counting(DType::kU8, {1}));
      EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
      EXPECT_LT(status.error().message.size(), 1000U);
      EXPECT_EQ(writer.append("b", counting(DType::kU8, {1})).error().message,
                status.error().message);
      EXPECT_FALSE(writer.finish().ok());
    }
    EXPECT_TRUE(files_of(folder).empty());
  }
}

TEST(SafetensorsWriter, BrokenPromises) {
  const TemporaryFolder folder;
  auto writer = SafetensorsWriter::create(folder.path()).value();
  EXPECT_THROW((void)writer.append("a", Tensor()), CheckError);
  EXPECT_THROW((void)writer.append("a", counting(DType::kU8, {4, 4}).slice(1, 0, 2)), CheckError);
  ASSERT_TRUE(writer.finish().ok());
  EXPECT_THROW((void)writer.append("a", counting(DType::kU8, {1})), CheckError);
  EXPECT_THROW((void)writer.finish(), CheckError);
}

TEST(SafetensorsWriter, RefusesFoldersThatDoNotFit) {
  const TemporaryFolder folder;
  EXPECT_EQ(SafetensorsWriter::create(folder.file("none")).error().code, ErrorCode::kNotFound);
  folder.write("model.safetensors", "old");
  EXPECT_FALSE(SafetensorsWriter::create(folder.path()).ok());
  EXPECT_EQ(folder.read("model.safetensors"), "old");
}

TEST(SafetensorsWriter, UnfinishedLeavesNothing) {
  const TemporaryFolder folder;
  {
    auto first = SafetensorsWriter::create(folder.path()).value();
    ASSERT_TRUE(first.append("a", counting(DType::kU8, {1})).ok());
    const SafetensorsWriter moved = std::move(first);
    EXPECT_EQ(files_of(folder), std::set<std::string>{"model-00001.safetensors.partial"});
  }
  EXPECT_TRUE(files_of(folder).empty());
}

TEST(SafetensorsWriter, FileSizeLimit) {
  const TemporaryFolder folder;
  {
    const FileSizeLimit limit(200'000);
    auto writer = SafetensorsWriter::create(folder.path()).value();
    ASSERT_TRUE(writer.append("a", counting(DType::kU8, {1000})).ok());
    const Status status = writer.append("b", counting(DType::kU8, {100'000}));
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
    EXPECT_NE(status.error().message.find(folder.path()), std::string::npos);
    EXPECT_FALSE(writer.finish().ok());
  }
  EXPECT_TRUE(files_of(folder).empty());
}

TEST(SafetensorsWriter, FullDisk) {
  const TemporaryFolder folder;
  const TinyDisk disk(folder.path(), 256 << 10);
  if (!disk.ok()) GTEST_SKIP() << "mounting a tmpfs is not allowed here";
  {
    auto writer = SafetensorsWriter::create(folder.path()).value();
    Status status;
    int num_appended = 0;
    for (; status && num_appended < 100; ++num_appended) {
      status = writer.append(std::to_string(num_appended), counting(DType::kU8, {10'000}));
    }
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
    EXPECT_NE(status.error().message.find("free some space"), std::string::npos);
  }
  EXPECT_TRUE(files_of(folder).empty());
}

/// Appends tensors [begin, end) of 100 bytes each.
void append_range(SafetensorsWriter& writer, int begin, int end) {
  for (int i = begin; i < end; ++i) {
    ASSERT_TRUE(writer.append(fmt::format("t{}", i), counting(DType::kU8, {100}, i)).ok());
  }
}

TEST(SafetensorsWriter, ContinuesFromASavePoint) {
  for (const uint64_t max_shard_bytes : {uint64_t{1} << 30, uint64_t{250}}) {
    const SafetensorsWriterOptions options{.max_shard_bytes = max_shard_bytes};
    const TemporaryFolder straight;
    {
      auto writer = SafetensorsWriter::create(straight.path(), options).value();
      append_range(writer, 0, 9);
      ASSERT_TRUE(writer.finish().ok());
    }
    for (const int saved : {0, 1, 2, 3, 4, 9}) {
      for (const bool finished : {false, true}) {
        const TemporaryFolder folder;
        std::string point;
        {
          auto writer = SafetensorsWriter::create(folder.path(), options).value();
          append_range(writer, 0, saved);
          point = writer.save_point().value();
          append_range(writer, saved, 9);  // lost
          if (finished) {
            ASSERT_TRUE(writer.finish().ok());
          }
          writer.keep_files();
        }
        auto writer = SafetensorsWriter::continue_from(folder.path(), point, options);
        ASSERT_TRUE(writer.ok()) << writer.error().message;
        EXPECT_EQ(writer->payload_bytes(), 100U * saved);
        append_range(*writer, saved, 9);
        ASSERT_TRUE(writer->finish().ok());
        EXPECT_EQ(files_of(folder), files_of(straight));
        for (const std::string& name : files_of(straight)) {
          EXPECT_EQ(folder.read(name), straight.read(name)) << name << " " << saved;
        }
      }
    }
  }
}

TEST(SafetensorsWriter, ASavePointNeedsItsFiles) {
  const TemporaryFolder folder;
  std::string point;
  {
    auto writer = SafetensorsWriter::create(folder.path()).value();
    append_range(writer, 0, 3);
    point = writer.save_point().value();
    writer.keep_files();
  }
  const std::string shard = folder.file("model-00001.safetensors.partial");
  std::filesystem::resize_file(shard, std::filesystem::file_size(shard) - 1);
  const auto cut = SafetensorsWriter::continue_from(folder.path(), point);
  ASSERT_FALSE(cut.ok());
  EXPECT_NE(cut.error().message.find("model-00001.safetensors.partial"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(shard));  // a failed attempt removes nothing
  std::filesystem::remove(shard);
  EXPECT_FALSE(SafetensorsWriter::continue_from(folder.path(), point).ok());
  EXPECT_FALSE(SafetensorsWriter::continue_from(folder.path(), "{}").ok());
  EXPECT_FALSE(SafetensorsWriter::continue_from(folder.path(), "no json").ok());
}

}  // namespace
}  // namespace comet::io
