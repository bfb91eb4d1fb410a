#include "comet/quant/vision/quantize_vision.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "comet/base/clock.h"
#include "comet/io/file.h"
#include "comet/io/safetensors_writer.h"
#include "comet/models/load.h"
#include "comet/models/vision/vision_model.h"
#include "comet/models/vision/weights/vision_tensors.h"
#include "comet/quant/fmpq/activation_rows.h"
#include "comet/quant/fmpq/permutation.h"
#include "comet/quant/output_folder.h"
#include "comet/quant/quant_report.h"
#include "comet/quant/vision/product_inputs.h"
#include "comet/quant/vision/vision_manifest.h"
#include "comet/quant/weights/weight_methods.h"

namespace comet::quant {
namespace {

using models::VisionProduct;

/// What the stages of one run share.
struct Run {
  Backend& backend;
  const VisionQuantizeRequest& request;
  models::CheckpointSource tensors;
  const formats::WeightFormat& format;
  ProductInputs inputs;
  io::SafetensorsWriter& writer;
  VisionManifest manifest;
  VisionQuantReport report = {};
};

int64_t num_images(const std::vector<Tensor>& batches) {
  int64_t total = 0;
  for (const Tensor& batch : batches) total += batch.size(0);
  return total;
}

bool all_finite(const std::vector<float>& values) {
  return std::ranges::all_of(values, [](float x) { return std::isfinite(x); });
}

/// Grid of one product: w4a16 has groups of 128 channels, or one of all where that does not divide
/// them.
QuantizeOptions options_of(const QuantizeOptions& options, const VisionProduct& product) {
  QuantizeOptions own = options;
  if (options.act_scale == formats::ActScale::kA16 && product.k() % formats::kBlock != 0) {
    own.granularity = formats::Granularity::kChannel;
  }
  return own;
}

/// The model's order of channels; every block INT8.
formats::SiteLayout layout_of(const QuantizeOptions& options, const VisionProduct& product) {
  const std::vector<float> unsorted(static_cast<size_t>(product.k()));
  const int64_t blocks = SiteShape{product.n(), product.k()}.num_blocks();
  return make_site_layout(product.name + "_in", unsorted, options.int8_share ? blocks : 0,
                          options.act_scale, false);
}

/// Runs the float model over the calibration images.
void observe(Context& ctx, models::VisionModel& model, Run& run, bool needs_hessian) {
  const std::vector<VisionProduct> products = models::vision_products(model.config());
  size_t product_idx = 0;
  model.for_each_product([&](nn::Linear& linear) {
    const VisionProduct& product = products.at(product_idx++);
    COMET_CHECK(linear.spec().name == product.name, "{} is {}", product.name, linear.spec().name);
    if (!models::is_quantized_product(product)) return;
    run.inputs.watch(layout_of(run.request.options, product), product.name, needs_hessian);
    linear.set_observer(&run.inputs);
  });
  int64_t num_done = 0;
  for (const Tensor& images : run.request.calibration) {
    const ArenaScope scope(ctx.arena);
    model.forward(ctx, copy_to_device(ctx, images));
    num_done += images.size(0);
    if (run.request.on_images) run.request.on_images(num_done, num_images(run.request.calibration));
  }
  model.for_each_product([](nn::Linear& linear) { linear.set_observer(nullptr); });
}

Status append_floats(Run& run, const nn::FloatLinear& linear) {
  const auto append = [&](const char* suffix, const std::vector<float>& values,
                          const Shape& shape) {
    Tensor tensor = allocate_tensor(host_allocator(), DType::kF32, shape);
    std::ranges::copy(values, tensor.data<float>());
    return run.writer.append(linear.name + suffix, tensor);
  };
  const Status written = append(".weight", linear.weight, {linear.n, linear.k});
  return written ? append(".bias", linear.bias, {linear.n}) : written;
}

Status quantize_product(Run& run, const VisionProduct& product, nn::FloatLinear linear) {
  const QuantizeOptions options = options_of(run.request.options, product);
  const formats::SiteLayout layout = layout_of(options, product);
  ThreadPool& pool = run.backend.host.pool;
  Matrix weight(linear.n, linear.k);
  weight.values = std::move(linear.weight);
  const bool calibrated = !run.request.calibration.empty();
  const Matrix kept = calibrated ? run.inputs.kept_rows(product.name) : Matrix(0, linear.k);
  if (!all_finite(weight.values) || !all_finite(linear.bias) || !all_finite(kept.values)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "'{}': its weights, or its inputs on the calibration images, hold NaN or "
                      "infinity",
                      product.name);
  }
  const formats::LinearSpec spec = models::linear_spec(product);
  auto quantized = quantize_linear(
      run.backend, options,
      {spec, layout, stored_columns(pool, weight, layout), stored_rows(pool, layout, kept.view()),
       linear.bias, calibrated ? run.inputs.hessian(product.name) : nullptr});
  if (!quantized) return quantized.error();
  if (calibrated) run.inputs.drop(product.name);
  run.report.linears.push_back(std::move(quantized->report));
  const auto packed = run.format.pack(quantized->weight);
  if (!packed) return packed.error();
  run.manifest.add(product, *packed);
  for (const auto& [name, tensor] : packed->tensors) {
    if (const Status written = run.writer.append(name, tensor); !written) return written;
  }
  return {};
}

Status write_products(Run& run, const std::vector<VisionProduct>& products) {
  const auto num_all = static_cast<int64_t>(products.size());
  for (int64_t i = 0; i < num_all; ++i) {
    auto linear = models::fold_product(products[i], run.tensors);
    if (!linear) return linear.error();
    const Status written = models::is_quantized_product(products[i])
                               ? quantize_product(run, products[i], *std::move(linear))
                               : append_floats(run, *linear);
    if (!written) return written;
    if (run.request.on_product) run.request.on_product(i + 1, num_all);
  }
  return {};
}

/// Mixers and the norms that nothing folds, as they are.
Status copy_others(Run& run, const io::Checkpoint& checkpoint, const models::VisionConfig& config) {
  std::set<std::string> folded;
  for (const VisionProduct& product : models::vision_products(config)) {
    for (std::string& name : product.tensor_names()) folded.insert(std::move(name));
  }
  for (const models::VisionTensor& tensor : models::vision_tensors(config)) {
    if (folded.contains(tensor.name)) continue;
    const auto floats = checkpoint.tensor(tensor.name);
    if (!floats) return floats.error();
    if (const Status written = run.writer.append(tensor.name, *floats); !written) return written;
  }
  return {};
}

/// log softmax of a row.
std::vector<double> log_probabilities(const float* logits, int64_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
  std::vector<double> result(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) result[i] = logits[i] - largest - std::log(sum);
  return result;
}

Result<VisionGate> compare(Context& ctx, const models::VisionModel& original,
                           const std::string& written, const std::vector<Tensor>& batches) {
  const auto checkpoint = io::Checkpoint::open(written);
  if (!checkpoint) return checkpoint.error();
  const auto quantized = models::load_vision_model(ctx, *checkpoint);
  if (!quantized) return quantized.error();
  VisionGate gate;
  for (const Tensor& batch : batches) {
    const ArenaScope scope(ctx.arena);
    const Tensor images = copy_to_device(ctx, batch);
    const Tensor expected = copy_to_host(ctx, original.forward(ctx, images));
    const Tensor found = copy_to_host(ctx, (*quantized)->forward(ctx, images));
    const int64_t classes = expected.size(1);
    for (int64_t i = 0; i < batch.size(0); ++i, ++gate.num_images) {
      const auto p = log_probabilities(expected.data<float>() + i * classes, classes);
      const auto q = log_probabilities(found.data<float>() + i * classes, classes);
      gate.top1_agreement +=
          std::ranges::max_element(p) - p.begin() == std::ranges::max_element(q) - q.begin() ? 1
                                                                                             : 0;
      for (int64_t c = 0; c < classes; ++c) gate.kl_mean += std::exp(p[c]) * (p[c] - q[c]);
    }
  }
  gate.top1_agreement /= static_cast<double>(gate.num_images);
  gate.kl_mean /= static_cast<double>(gate.num_images);
  return gate;
}

Status complete(Run& run, const io::Checkpoint& checkpoint, const OutputFolder& folder) {
  const auto finished = run.writer.finish();
  if (!finished) return finished.error();
  run.report.size_bytes = static_cast<int64_t>(run.writer.payload_bytes());
  Json config = checkpoint.config();
  config["quantization_config"] = run.manifest.json(run.format, run.request.options);
  return io::write_file_atomic(folder.path() + "/config.json", config.dump(2) + "\n");
}

Status check_request(const io::Checkpoint& checkpoint, const VisionQuantizeRequest& request) {
  if (const Status fits = check_vision_original(checkpoint); !fits) return fits;
  if (!request.calibration.empty() || !needs_calibration(request.options)) return {};
  return make_error(ErrorCode::kInvalidArgument, "{} needs images to calibrate on",
                    request.options.format);
}

}  // namespace

Result<QuantizeOptions> vision_options(std::string_view format) {
  auto options = options_of_recipe(format == "w4ax" ? "w4a8" : format, "auto", false);
  if (!options) return options.error();
  // Nothing in front of a product takes a channel's scale or another order.
  options->equalize = false;
  options->smoothing = Smoothing::kOff;
  options->sort_channels = false;
  options->search_activation_clip = false;
  options->smooth_keys = false;
  options->kv = "kv16";
  options->kv_options = {};
  if (options->codes != WeightCodes::kS4) options->scale_type = DType::kF32;
  return options;
}

Status check_vision_original(const io::Checkpoint& checkpoint) {
  if (models::is_quantized(checkpoint)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: this model is quantized already; quantize its original",
                      checkpoint.config_path());
  }
  return models::check_vision_checkpoint(checkpoint);
}

Json report_json(const VisionQuantReport& report) {
  const QuantizeOptions& o = report.options;
  Json layers = Json::array();
  for (const LinearReport& linear : report.linears) {
    layers.push_back(linear_json(linear));
    layers.back()["format"] = o.format;
  }
  Json json = {{"format", o.format},
               {"act_scale", formats::act_scale_name(o.act_scale)},
               {"w4", formats::granularity_name(o.granularity)},
               {"weights", o.weights},
               {"damp", o.damp},
               {"num_calibration_images", report.num_calibration_images},
               {"size_bytes", report.size_bytes},
               {"layers", std::move(layers)},
               {"held_back", Json()}};
  if (report.gate) {
    json["held_back"] = {{"num_images", report.gate->num_images},
                         {"top1_agreement", report.gate->top1_agreement},
                         {"kl_mean", report.gate->kl_mean}};
  }
  return json;
}

Result<VisionQuantReport> quantize_vision(Context& ctx, const io::Checkpoint& checkpoint,
                                          const VisionQuantizeRequest& request) {
  const Stopwatch stopwatch;
  if (const Status valid = check_request(checkpoint, request); !valid) return valid.error();
  const auto format = formats::find_weight_format(request.options.format);
  if (!format) return format.error();
  const auto method = find_weight_method(request.options.weights);
  if (!method) return method.error();
  const auto model = models::load_vision_model(ctx, checkpoint);
  if (!model) return model.error();
  const models::VisionConfig& config = (*model)->config();
  auto folder = OutputFolder::create(request.out_dir, checkpoint.directory(), request.force);
  if (!folder) return folder.error();
  auto writer = io::SafetensorsWriter::create(folder->path());
  if (!writer) return writer.error();
  const auto backend = make_backend(ctx);
  Run run{*backend,
          request,
          models::CheckpointSource(checkpoint),
          **format,
          ProductInputs(*backend, static_cast<int64_t>(request.calibration.size())),
          *writer,
          {}};
  run.report.options = request.options;
  run.report.num_calibration_images = num_images(request.calibration);
  if (!request.calibration.empty()) observe(ctx, **model, run, (*method)->needs_hessian);
  Status status = write_products(run, models::vision_products(config));
  if (status) status = copy_others(run, checkpoint, config);
  if (status) status = complete(run, checkpoint, *folder);
  if (!status) return status.error();
  if (!request.held_back.empty()) {
    const auto gate = compare(ctx, **model, folder->path(), request.held_back);
    if (!gate) return gate.error();
    run.report.gate = *gate;
  }
  status = io::write_file_atomic(folder->path() + "/quant_report.json",
                                 report_json(run.report).dump(2) + "\n");
  if (status) status = folder->publish();
  if (!status) return status.error();
  run.report.seconds = stopwatch.seconds();
  return std::move(run.report);
}

}  // namespace comet::quant
