// CheckpointWriter: turns quantized layers into the tensors and the manifest of a checkpoint
// (docs/formats.md §4), and binds each layer as a loader would, so that calibration runs on exactly
// what is in the file. Callers: quantize_model.
#pragma once

#include <memory>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/llama.h"
#include "comet/quant/layer/layer_quantizer.h"
#include "comet/quant/recipe.h"

namespace comet::quant {

class CheckpointWriter {
 public:
  /// Writes into `directory`; embedding, final norm and an untied lm_head come from `checkpoint`.
  static Result<CheckpointWriter> create(const std::string& directory,
                                         const io::Checkpoint& checkpoint,
                                         const io::ModelConfig& config,
                                         const QuantizeOptions& options);

  /// Goes on after the layers of save_point(); the other arguments are those of create().
  static Result<CheckpointWriter> continue_from(const std::string& directory,
                                                const io::Checkpoint& checkpoint,
                                                const io::ModelConfig& config,
                                                const QuantizeOptions& options,
                                                const Json& save_point);
  /// Syncs what is written and says what continue_from() must know.
  Result<Json> save_point();
  /// Unfinished files stay for continue_from().
  void keep_files() { writer_.keep_files(); }

  /// Packs and writes the layer; returns it loaded from the packed tensors.
  Result<models::LlamaLayer> append_layer(const Caps& caps, int64_t layer_idx,
                                          QuantizedLayer layer);
  /// Writes what is left and closes the files; returns the bytes of all tensors.
  Result<int64_t> finish();
  /// Complete after finish().
  [[nodiscard]] Json quantization_config() const;
  /// The cache that the options ask for, as config.json says it.
  [[nodiscard]] Json kv_cache() const;

  [[nodiscard]] const io::ModelConfig& config() const { return config_; }
  [[nodiscard]] const kv::KvFormat& kv_format() const { return *kv_format_; }

 private:
  CheckpointWriter(const io::Checkpoint& checkpoint, io::ModelConfig config,
                   QuantizeOptions options, io::SafetensorsWriter writer)
      : checkpoint_(&checkpoint),
        config_(std::move(config)),
        options_(std::move(options)),
        writer_(std::move(writer)) {}
  Status find_formats();
  [[nodiscard]] Json manifest(const Json& sites, const Json& linears) const;
  Status copy_tensor(const std::string& name);
  Result<Tensor> norm_tensor(const std::string& name, const std::vector<float>& values) const;
  Status append_int8_lm_head();

  const io::Checkpoint* checkpoint_;
  io::ModelConfig config_;
  QuantizeOptions options_;
  io::SafetensorsWriter writer_;
  const formats::WeightFormat* format_ = nullptr;
  const kv::KvFormat* kv_format_ = nullptr;
  Json sites_ = Json::array();
  Json linears_ = Json::array();
};

}  // namespace comet::quant
