// Whole models in w8a8-int and w8a8-fp8: folders made here by rounding to nearest load as any other
// and keep the function of the original.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "comet/formats/float_input.h"
#include "comet/io/file.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/synthetic.h"
#include "comet/tensor/float8.h"
#include "support/drawn_llama.h"
#include "support/last_logits.h"
#include "support/temporary_folder.h"

namespace comet::models {
namespace {

std::vector<float> floats(const io::Checkpoint& checkpoint, const std::string& name) {
  const Tensor tensor = checkpoint.tensor(name).value();
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = formats::float_element(tensor, static_cast<int64_t>(i));
  }
  return values;
}

/// absmax scales, rounded to BF16 before coding.
formats::QuantizedWeight round_to_nearest(const io::Checkpoint& checkpoint,
                                          const formats::LinearSpec& spec, bool fp8) {
  formats::QuantizedWeight weight;
  weight.name = spec.name;
  weight.parts = spec.parts;
  weight.part_rows = spec.part_rows;
  weight.site.k = spec.k;
  weight.site.k_padded = spec.k;
  weight.site.scale = formats::ActScale::kToken;
  weight.code_type = fp8 ? formats::CodeType::kE4M3 : formats::CodeType::kInt;
  weight.channel_scale_type = DType::kBF16;
  for (const std::string& part : spec.parts) {
    const std::vector<float> values = floats(checkpoint, spec.prefix + part + ".weight");
    for (size_t row = 0; row < values.size(); row += static_cast<size_t>(spec.k)) {
      float absmax = 0;
      for (int64_t i = 0; i < spec.k; ++i) absmax = std::max(absmax, std::fabs(values[row + i]));
      const float scale = to_float(to_bfloat16(absmax / (fp8 ? 448.0F : 127.0F)));
      weight.channel_scale.push_back(scale);
      for (int64_t i = 0; i < spec.k; ++i) {
        const float x = values[row + i] / scale;
        weight.codes.push_back(
            fp8 ? static_cast<int8_t>(to_float8_e4m3(x).bits)
                : static_cast<int8_t>(std::clamp(std::nearbyint(x), -127.0F, 127.0F)));
      }
    }
    if (!spec.has_bias) continue;
    const std::vector<float> bias = floats(checkpoint, spec.prefix + part + ".bias");
    weight.bias.insert(weight.bias.end(), bias.begin(), bias.end());
  }
  return weight;
}

void write_quantized(const std::string& from, const std::string& to, const std::string& format) {
  const auto checkpoint = io::Checkpoint::open(from).value();
  const auto config = io::parse_model_config(checkpoint.config(), from).value();
  const formats::WeightFormat& weights = **formats::find_weight_format(format);
  auto writer = io::SafetensorsWriter::create(to).value();
  std::set<std::string> packed_names;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const formats::LinearSpec& spec : llama_linear_specs(config, layer)) {
      const auto packed =
          weights.pack(round_to_nearest(checkpoint, spec, format == "w8a8-fp8")).value();
      for (const auto& [name, tensor] : packed.tensors) {
        writer.append(name, tensor).value();
        packed_names.insert(name);
      }
    }
  }
  for (const std::string& name : checkpoint.names()) {
    if (packed_names.contains(name)) continue;
    writer.append(name, checkpoint.tensor(name).value()).value();
  }
  writer.finish().value();
  Json json = checkpoint.config();
  json["quantization_config"] = weights.manifest({});
  io::write_file_atomic(to + "/config.json", json.dump()).value();
}

TEST(W8A8Model, LoadsAndKeepsTheFunction) {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 24; ++i) tokens.push_back(3 + i * 11 % 300);
  for (const char* model : {"biases", "llama3"}) {
    const testing::DrawnLlama drawn(model);
    const std::vector<float> want = testing::last_logits(drawn.path(), tokens);
    for (const char* format : {"w8a8-int", "w8a8-fp8"}) {
      const testing::TemporaryFolder folder;
      const std::string path = folder.path() + "/model";
      std::filesystem::create_directories(path);
      write_quantized(drawn.path(), path, format);
      const auto checkpoint = io::Checkpoint::open(path).value();
      const auto config = io::parse_model_config(checkpoint.config(), path).value();
      EXPECT_EQ(parse_model_format(config, path).value().weights->name, format);
      const double error = testing::relative_distance(testing::last_logits(path, tokens), want);
      EXPECT_LT(error, format == std::string("w8a8-int") ? 0.03 : 0.15) << model << " " << format;
      EXPECT_GT(error, 1e-5) << model << " " << format;
    }
  }
}

}  // namespace
}  // namespace comet::models
