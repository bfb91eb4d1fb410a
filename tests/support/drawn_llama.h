// The checkpoint of a golden in tests/data/llama, written into a folder of the test's own:
// config.json beside the golden, and FP32 weights drawn by name. Their names and shapes are
// transformers', from the golden's metadata; tools/oracle.py (drawn_parameter) draws the same
// values.
#pragma once

#include <filesystem>
#include <string>

#include "comet/base/json.h"
#include "comet/io/safetensors.h"
#include "comet/io/safetensors_writer.h"
#include "support/drawn.h"
#include "support/temporary_folder.h"

namespace comet::testing {

class DrawnLlama {
 public:
  explicit DrawnLlama(const std::string& name) {
    const std::string source = COMET_SOURCE_DIR "/tests/data/llama/" + name;
    std::filesystem::copy(source + "/config.json", folder_.path());
    const auto golden = io::SafetensorsFile::open(source + "/golden.safetensors").value();
    auto writer = io::SafetensorsWriter::create(folder_.path()).value();
    const Json parameters = Json::parse(golden.metadata().at("parameters"));
    for (const auto& [parameter, sizes] : parameters.items()) {
      const Shape shape(sizes.get<std::vector<int64_t>>());
      writer.append(parameter, draw_parameter(parameter, shape)).value();
    }
    writer.finish().value();
  }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }

 private:
  static Tensor draw_parameter(const std::string& name, const Shape& shape) {
    if (name.find("norm") != std::string::npos) return draw(name, shape, 1.0, 0.5);
    if (name.ends_with("bias")) return draw(name, shape, 0.0, 0.5);
    return draw(name, shape, 0.0, 0.175);
  }

  TemporaryFolder folder_;
};

}  // namespace comet::testing
