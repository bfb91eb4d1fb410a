#include "comet/quant/export/export_dense.h"

#include "comet/nn/rms_norm.h"

namespace comet::quant {
namespace {

class DenseTarget final : public ExportTarget {
 public:
  [[nodiscard]] int64_t bytes_needed(const Export& e) const override {
    int64_t values = 2 * e.config.vocab_size * e.config.hidden_size;
    for (const formats::LinearSpec& spec : models::llama_linear_specs(e.config, 0)) {
      values += e.config.num_layers * spec.n() * spec.k;
    }
    return 2 * values;
  }

  Status append_floats(Export& e, const std::string& name, const Tensor& tensor) override {
    if (tensor.dtype() == DType::kBF16) return e.writer->append(name, tensor);
    return e.writer->append(name, to_bf16(nn::to_float_vector(tensor).data(), tensor.shape()));
  }

  Status append_linear(Export& e, const formats::LinearWeight& weight) override {
    if (weight.format->pack != nullptr) return append_dense_linear(e, weight);
    const formats::LinearSpec& spec = weight.spec;
    for (size_t i = 0; i < weight.tensors.size(); ++i) {  // the parts, then their biases
      const std::string name = spec.prefix + spec.parts[i % spec.parts.size()];
      const char* suffix = i < spec.parts.size() ? ".weight" : ".bias";
      const Status status = append_floats(e, name + suffix, weight.tensors[i]);
      if (!status) return status;
    }
    return {};
  }

  [[nodiscard]] Json config(const Export& e) const override {
    Json config = e.checkpoint.config();
    config.erase("quantization_config");
    config.erase("comet_kv_cache");
    config[config.contains("dtype") ? "dtype" : "torch_dtype"] = "bfloat16";
    // An output head of its own (--lm-head int8) is not the embedding table any more.
    if (e.checkpoint.contains("lm_head.weight")) config["tie_word_embeddings"] = false;
    return config;
  }
};

}  // namespace

Result<int64_t> export_dense(Context& ctx, const io::Checkpoint& checkpoint,
                             const ExportRequest& request) {
  auto e = start_export(ctx, checkpoint);
  if (!e) return e.error();
  if (e->format.weights->pack == nullptr) {
    return make_error(ErrorCode::kInvalidArgument, "{}: this model is dense already",
                      checkpoint.config_path());
  }
  DenseTarget target;
  return export_model(*e, target, request);
}

}  // namespace comet::quant
