// What both ways out of Comet's formats share: an opened checkpoint is walked tensor by tensor, one
// linear in memory at a time, into a new folder that appears only when it is whole. Callers:
// export_dense, export_compressed_tensors.
#pragma once

#include <functional>
#include <string>

#include "comet/base/json.h"
#include "comet/io/checkpoint.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/load.h"
#include "comet/ops/context.h"

namespace comet::quant {

struct ExportRequest {
  std::string out_dir;
  bool force = false;  // replace an existing out_dir
  /// Called after each layer with the number done.
  std::function<void(int64_t num_layers_done)> on_layer;
};

/// What the stages share.
struct Export {
  Context& ctx;
  const io::Checkpoint& checkpoint;
  io::ModelConfig config;
  models::ModelFormat format;
  models::CheckpointSource source;
  io::SafetensorsWriter* writer = nullptr;
};

/// The form that comes out.
class ExportTarget {
 public:
  virtual ~ExportTarget() = default;
  /// Bytes that the new folder may take.
  [[nodiscard]] virtual int64_t bytes_needed(const Export& e) const = 0;
  /// A float tensor that quantization left alone.
  virtual Status append_floats(Export& e, const std::string& name, const Tensor& tensor) = 0;
  /// A linear of a layer.
  virtual Status append_linear(Export& e, const formats::LinearWeight& weight) = 0;
  /// config.json of the new folder, once all linears are written.
  [[nodiscard]] virtual Json config(const Export& e) const = 0;
};

/// Opens what the walk needs; an error when `checkpoint` is no model that Comet loads.
Result<Export> start_export(Context& ctx, const io::Checkpoint& checkpoint);

/// Writes out_dir by way of out_dir.partial; returns the bytes of all tensors. On an error nothing
/// is left and an existing out_dir is untouched.
Result<int64_t> export_model(Export& e, ExportTarget& target, const ExportRequest& request);

/// The linear's parts as BF16 tensors, with their biases.
Status append_dense_linear(Export& e, const formats::LinearWeight& weight);
Tensor to_bf16(const float* values, const Shape& shape);

}  // namespace comet::quant
