// quantize_vision: an image classifier of floats in, one whose products (1×1 convolutions,
// downsampling, the head's linears) have a weight format out. Norms and layer scales are folded
// first, so the output holds no tensor of theirs; mixers, other norms and the stem stay floats.
// Callers: apps. The same inputs give byte-identical files for any number of threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/io/checkpoint.h"
#include "comet/quant/linear/linear_quantizer.h"

namespace comet::quant {

/// What a vision model can become: by `--format`, with the recipe's other settings.
Result<QuantizeOptions> vision_options(std::string_view format);

struct VisionQuantizeRequest {
  QuantizeOptions options;
  std::string out_dir;
  bool force = false;  // replace an existing out_dir
  /// Normalized images [n, size, size, 3] FP32 on the host, batch by batch. Statistics come from
  /// `calibration`; on `held_back` the two models are compared. Both may be empty where
  /// needs_calibration() says so.
  std::vector<Tensor> calibration;
  std::vector<Tensor> held_back;
  // Told what is done, of how many: images of `calibration`, then products.
  std::function<void(int64_t num_done, int64_t num_all)> on_images = {};
  std::function<void(int64_t num_done, int64_t num_all)> on_product = {};
};

/// The quantized model beside the original on the images held back.
struct VisionGate {
  int64_t num_images = 0;
  double top1_agreement = 0;
  double kl_mean = 0;  // KL(original ‖ quantized), nats an image
};

struct VisionQuantReport {
  QuantizeOptions options;
  int64_t num_calibration_images = 0;
  int64_t size_bytes = 0;  // of all tensors
  double seconds = 0;      // not in quant_report.json
  std::vector<LinearReport> linears;
  std::optional<VisionGate> gate;
};
Json report_json(const VisionQuantReport& report);

/// That the checkpoint is a classifier of floats with the tensors of its architecture.
Status check_vision_original(const io::Checkpoint& checkpoint);

/// Writes out_dir by way of out_dir.partial: config.json, model.safetensors, quant_report.json. On
/// an error nothing is left and an existing out_dir is untouched.
Result<VisionQuantReport> quantize_vision(Context& ctx, const io::Checkpoint& checkpoint,
                                          const VisionQuantizeRequest& request);

}  // namespace comet::quant
