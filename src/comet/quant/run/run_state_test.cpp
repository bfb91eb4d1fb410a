#include "comet/quant/run/run_state.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "support/temporary_folder.h"

namespace comet::quant {
namespace {

Matrix filled(int64_t rows, int64_t cols, float value) {
  Matrix m(rows, cols);
  for (float& x : m.values) x = value++;
  return m;
}

const Json kFingerprint = {{"damp", 0.01}, {"model", {{"size", 7}}}, {"weights", "gptq"}};

TEST(RunState, KeepsTheLastLayer) {
  const testing::TemporaryFolder folder;
  RunState state(folder.path(), kFingerprint);
  ASSERT_FALSE(state.load()->has_value());
  const Matrix a = filled(3, 4, 0.5F);
  const Matrix b = filled(2, 5, -1.25F);
  for (int64_t i = 1; i <= 2; ++i) {
    ASSERT_TRUE(state.save(i, {{"x", i}}, std::array{&a, &b}).ok());
  }
  const auto saved = RunState(folder.path(), kFingerprint).load();
  ASSERT_TRUE(saved.ok()) << saved.error().message;
  EXPECT_EQ((*saved)->num_layers, 2);
  EXPECT_EQ((*saved)->parts, (Json{{"x", 2}}));
  EXPECT_EQ((*saved)->activations[0].values, a.values);
  EXPECT_EQ((*saved)->activations[1].values, b.values);
  EXPECT_EQ((*saved)->activations[1].cols, 5);
  ASSERT_TRUE(state.remove().ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(RunState, AnInterruptedSaveLeavesTheStateBefore) {
  const testing::TemporaryFolder folder;
  RunState state(folder.path(), kFingerprint);
  const Matrix a = filled(3, 4, 0.5F);
  ASSERT_TRUE(state.save(1, {}, std::array{&a}).ok());
  // Killed between the activations and resume.json of layer 2, or within the former.
  std::filesystem::copy(folder.file("resume-1.f32"), folder.file("resume-2.f32"));
  std::filesystem::copy(folder.file("resume-1.f32"), folder.file("resume-2.f32.tmp"));
  EXPECT_EQ(state.load().value()->num_layers, 1);
  ASSERT_TRUE(state.save(2, {}, std::array{&a}).ok());
  EXPECT_EQ(state.load().value()->num_layers, 2);
  ASSERT_TRUE(state.remove().ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(RunState, NamesWhatDiffers) {
  const testing::TemporaryFolder folder;
  const Matrix a = filled(1, 1, 0.0F);
  ASSERT_TRUE(RunState(folder.path(), kFingerprint).save(1, {}, std::array{&a}).ok());
  Json other = kFingerprint;
  other["damp"] = 0.02;
  other["model"]["size"] = 8;
  const auto refused = RunState(folder.path(), other).load();
  ASSERT_FALSE(refused.ok());
  const std::string& message = refused.error().message;
  EXPECT_NE(message.find("damp was 0.01, is 0.02"), std::string::npos) << message;
  EXPECT_NE(message.find("model/size was 7, is 8"), std::string::npos) << message;
  EXPECT_EQ(message.find("gptq"), std::string::npos) << message;
}

TEST(RunState, DamageIsAnError) {
  const testing::TemporaryFolder folder;
  RunState state(folder.path(), kFingerprint);
  const Matrix a = filled(3, 4, 0.5F);
  ASSERT_TRUE(state.save(1, {}, std::array{&a}).ok());
  std::filesystem::resize_file(folder.file("resume-1.f32"), 40);
  EXPECT_FALSE(state.load().ok());
  std::filesystem::remove(folder.file("resume-1.f32"));
  EXPECT_FALSE(state.load().ok());
  std::filesystem::resize_file(folder.file("resume.json"), 20);
  EXPECT_FALSE(state.load().ok());
}

}  // namespace
}  // namespace comet::quant
