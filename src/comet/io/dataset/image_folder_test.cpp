// Folders of classes, and the names of classes.
#include "comet/io/dataset/image_folder.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "comet/base/json.h"
#include "support/temporary_folder.h"

namespace comet::io {
namespace {

using testing::TemporaryFolder;

std::vector<std::string> paths_of(const ImageFolder& folder) {
  std::vector<std::string> paths;
  for (const ImageSample& sample : folder.samples) {
    paths.push_back(std::to_string(sample.label) + sample.path.substr(folder.root.size()));
  }
  return paths;
}

TEST(ImageFolder, ClassesAreSortedFolders) {
  const TemporaryFolder folder;
  for (const char* name : {"b/2.JPG", "b/10.jpeg", "a/x/y.png", "a/z.jpg", "a/notes.txt",
                           "a/.hidden.jpg", "readme.md"}) {
    folder.write(name, "");
  }
  auto found = open_image_folder(folder.path(), nullptr);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->classes, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(paths_of(*found),
            (std::vector<std::string>{"0/a/x/y.png", "0/a/z.jpg", "1/b/10.jpeg", "1/b/2.JPG"}));
  auto listed = list_images({folder.file("b"), "named.gif"});
  ASSERT_TRUE(listed);
  EXPECT_EQ(*listed, (std::vector<std::string>{folder.file("b/10.jpeg"), folder.file("b/2.JPG"),
                                               "named.gif"}));
}

TEST(ImageFolder, AnEmptyClassIsAnError) {
  const TemporaryFolder folder;
  folder.write("cat/1.jpg", "");
  folder.write("dog/readme.txt", "");
  auto found = open_image_folder(folder.path(), nullptr);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().message,
            folder.file("dog") +
                ": the class has no images (.jpg, .jpeg or .png); add some or remove the folder");
  EXPECT_FALSE(list_images({folder.file("dog")}));
  const TemporaryFolder bare;
  EXPECT_FALSE(open_image_folder(bare.path(), nullptr));
  EXPECT_FALSE(open_image_folder(bare.file("none"), nullptr));
}

TEST(ImageFolder, ACircleOfLinksEnds) {
  const TemporaryFolder folder;
  folder.write("cat/1.jpg", "");
  std::filesystem::create_directory_symlink(folder.path(), folder.file("cat/back"));
  EXPECT_FALSE(open_image_folder(folder.path(), nullptr));
}

TEST(ImageFolder, AClassMapGivesTheLabels) {
  const TemporaryFolder folder;
  folder.write("n1/1.jpg", "");
  folder.write("n2/1.jpg", "");
  auto map = read_class_map(folder.write("map.txt", "n2\r\nn0\n\nn1"));
  ASSERT_TRUE(map) << map.error().message;
  auto found = open_image_folder(folder.path(), &*map);
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(paths_of(*found), (std::vector<std::string>{"0/n2/1.jpg", "2/n1/1.jpg"}));
  folder.write("n7/1.jpg", "");
  auto unknown = open_image_folder(folder.path(), &*map);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("/n7: no class has this name"), std::string::npos);
}

TEST(ImageFolder, SplitsAreFolders) {
  const TemporaryFolder folder;
  EXPECT_EQ(split_folder(folder.path(), {"val"}), folder.path());
  folder.write("validation/a/1.jpg", "");
  EXPECT_EQ(split_folder(folder.path(), {"val", "validation"}), folder.file("validation"));
}

TEST(ClassLabels, MapsOfEitherKind) {
  const TemporaryFolder folder;
  auto map = read_class_map(folder.write("map.json", R"({"b": 0, "a": 1})"));
  ASSERT_TRUE(map) << map.error().message;
  EXPECT_EQ(map->names, (std::vector<std::string>{"b", "a"}));
  EXPECT_EQ(map->index_of("a"), 1);
  EXPECT_FALSE(map->index_of("c"));
  for (const char* broken : {R"({"b": 0, "a": 2})", R"({"b": 0, "a": 0})", R"({"b": "x"})", "[]",
                             "{}", R"({"b": -1})"}) {
    EXPECT_FALSE(read_class_map(folder.write("broken.json", broken))) << broken;
  }
  EXPECT_FALSE(read_class_map(folder.write("twice.txt", "a\na\n")));
  EXPECT_FALSE(read_class_map(folder.write("empty.txt", "\n")));
}

Result<ClassLabels> parsed(const char* text) {
  return parse_class_labels(parse_json(text, "c.json").value(), 2, "c.json");
}

TEST(ClassLabels, FieldsAreThoseOfTimm) {
  const auto labels =
      parsed(R"({"label_names": ["n1", "n2"], "label_descriptions": {"n2": "cat", "n1": "dog"}})");
  ASSERT_TRUE(labels) << labels.error().message;
  EXPECT_EQ(labels->text(0), "dog");
  EXPECT_EQ(parsed(R"({"label_names": ["n1", "n2"]})")->text(1), "n2");
  EXPECT_EQ(parsed("{}")->text(1), "1");
  for (const char* broken :
       {R"({"label_names": ["n1"]})", R"({"label_names": [1, 2]})", R"({"label_names": "n"})",
        R"({"label_descriptions": ["a"]})",
        R"({"label_names": ["n1", "n2"], "label_descriptions": {"n1": "dog"}})"}) {
    EXPECT_FALSE(parsed(broken)) << broken;
  }
}

}  // namespace
}  // namespace comet::io
