// Opening models: from a folder, from memory, or synthetic by name. registry row per architecture.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "comet/io/checkpoint.h"
#include "comet/models/llama.h"

namespace comet::models {

/// A checkpoint's tensors as formats ask for them.
class CheckpointSource final : public formats::TensorSource {
 public:
  explicit CheckpointSource(const io::Checkpoint& checkpoint) : checkpoint_(checkpoint) {}
  [[nodiscard]] bool contains(std::string_view name) const override {
    return checkpoint_.contains(name);
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override {
    return checkpoint_.tensor(name, dtypes, shape);
  }

 private:
  const io::Checkpoint& checkpoint_;
};

/// Tensors held in memory: a layer just quantized, a synthetic model, a test.
class MemorySource final : public formats::TensorSource {
 public:
  void put(const std::string& name, Tensor tensor) { tensors_[name] = std::move(tensor); }
  [[nodiscard]] bool contains(std::string_view name) const override {
    return tensors_.contains(name);
  }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& shape) const override;

 private:
  std::map<std::string, Tensor, std::less<>> tensors_;
};

/// An error that says what was asked for and what is free when a GPU has no room for num_bytes of
/// weights; `source` opens it. Nothing to check on a CPU.
Status check_device_memory(Context& ctx, const std::string& source, int64_t num_bytes);

/// Loads the model of an opened checkpoint; `kv_name` overrides the checkpoint's KV format ("" =
/// keep).
Result<std::unique_ptr<LlamaModel>> load_model(Context& ctx, const io::Checkpoint& checkpoint,
                                               const std::string& kv_name);

}  // namespace comet::models
