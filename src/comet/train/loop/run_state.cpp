#include "comet/train/loop/run_state.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "comet/io/file.h"
#include "comet/io/safetensors.h"
#include "comet/io/safetensors_writer.h"

namespace comet::train {
namespace {

namespace fs = std::filesystem;

constexpr int kNumKept = 2;
constexpr size_t kMaxJsonBytes = size_t{1} << 20;
constexpr std::string_view kStepPrefix = "step-";

std::string checkpoints_of(const std::string& run_directory) {
  return run_directory + "/checkpoints";
}

Status make_directory(const std::string& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (!code) return {};
  return make_error(ErrorCode::kIo, "{}: the folder cannot be made ({})", path, code.message());
}

Tensor flat_tensor(const std::vector<float>& values) {
  Tensor tensor =
      allocate_tensor(host_allocator(), DType::kF32, Shape{static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), tensor.data<float>());
  return tensor;
}

Result<std::vector<float>> flat_values(const io::SafetensorsFile& file, const std::string& name) {
  const auto tensor = file.tensor(name);
  if (!tensor) return tensor.error();
  const auto* values = tensor->data<float>();
  return std::vector<float>(values, values + tensor->num_elements());
}

Status write_tensors(const std::string& directory, const nn::NamedTensors& tensors) {
  if (const Status made = make_directory(directory); !made) return made;
  auto writer = io::SafetensorsWriter::create(directory);
  if (!writer) return writer.error();
  for (const auto& [name, tensor] : tensors) {
    if (const Status appended = writer->append(name, tensor); !appended) return appended;
  }
  const auto names = writer->finish();
  if (!names) return names.error();
  return {};
}

OrderedJson state_json(const CheckpointInfo& info) {
  const RunState& state = info.state;
  return {{"num_steps", state.num_steps},
          {"num_updates", state.num_updates},
          {"num_skipped_in_a_row", state.num_skipped_in_a_row},
          {"best_top1", state.best_top1},
          {"loss_sum", state.loss_sum},
          {"num_losses", state.num_losses},
          {"num_classes", info.num_classes},
          {"num_batches", info.num_batches},
          {"recipe", to_json(info.recipe)}};
}

Result<CheckpointInfo> read_info(const std::string& directory) {
  const std::string path = directory + "/run.json";
  const auto text = io::read_file(path, kMaxJsonBytes);
  if (!text) return text.error();
  const auto json = parse_json(*text, path);
  if (!json) return json.error();
  const JsonObject fields(*json, path);
  CheckpointInfo info;
  info.directory = directory;
  struct Count {
    const char* name;
    int64_t* value;
  };
  RunState& state = info.state;
  for (const Count& count :
       {Count{"num_steps", &state.num_steps}, Count{"num_updates", &state.num_updates},
        Count{"num_skipped_in_a_row", &state.num_skipped_in_a_row},
        Count{"num_losses", &state.num_losses}, Count{"num_classes", &info.num_classes},
        Count{"num_batches", &info.num_batches}}) {
    const auto value = fields.integer(count.name, 0, INT64_MAX);
    if (!value) return value.error();
    *count.value = value->value_or(0);
  }
  const auto best = fields.number("best_top1", 0, 1);
  if (!best) return best.error();
  state.best_top1 = best->value_or(0);
  const auto loss = fields.number("loss_sum", -1e300, 1e300);
  if (!loss) return loss.error();
  state.loss_sum = loss->value_or(0);
  const Json* recipe = fields.find("recipe");
  if (recipe == nullptr || info.num_classes < 1) {
    return make_error(ErrorCode::kCorrupt, "{}: 'recipe' and 'num_classes' are missing", path);
  }
  auto parsed = parse_recipe(*recipe, path);
  if (!parsed) return parsed.error();
  info.recipe = *std::move(parsed);
  return info;
}

/// Of a checkpoint's folder; −1: another file.
int64_t step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kStepPrefix) || name.size() == kStepPrefix.size()) return -1;
  int64_t step = 0;
  for (const char c : name.substr(kStepPrefix.size())) {
    if (c < '0' || c > '9' || step > int64_t{1} << 50) return -1;
    step = 10 * step + (c - '0');
  }
  return step;
}

/// Newest first.
std::vector<fs::path> checkpoints_in(const std::string& run_directory) {
  std::vector<fs::path> found;
  std::error_code code;
  for (const auto& entry : fs::directory_iterator(checkpoints_of(run_directory), code)) {
    if (step_of(entry.path()) >= 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(),
            [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return found;
}

/// What is not as the network has it, at most a few names of each kind.
class Difference {
 public:
  void add(const std::string& what) {
    if (++count_ <= kMaxListed) text_ += (text_.empty() ? "" : "; ") + what;
  }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::string text() const {
    if (count_ <= kMaxListed) return text_;
    return fmt::format("{}; and {} more", text_, count_ - kMaxListed);
  }

 private:
  static constexpr int64_t kMaxListed = 8;
  int64_t count_ = 0;
  std::string text_;
};

Difference difference_of(const io::SafetensorsFile& file, const nn::ParameterSet& set) {
  Difference difference;
  std::vector<std::string> known;
  for (const auto* list : {&set.parameters(), &set.buffers()}) {
    for (const nn::Parameter& parameter : *list) {
      known.push_back(parameter.name);
      const io::TensorInfo* info = file.find(parameter.name);
      if (info == nullptr) {
        difference.add(fmt::format("'{}' is missing", parameter.name));
      } else if (info->shape != parameter.stored_shape) {
        difference.add(fmt::format("'{}' has shape {} instead of {}", parameter.name,
                                   info->shape.to_string(), parameter.stored_shape.to_string()));
      }
    }
  }
  std::sort(known.begin(), known.end());
  for (const std::string& name : file.names()) {
    if (name.ends_with("num_batches_tracked")) continue;
    if (!std::binary_search(known.begin(), known.end(), name)) {
      difference.add(fmt::format("'{}' belongs to no layer", name));
    }
  }
  return difference;
}

class FileSource final : public formats::TensorSource {
 public:
  explicit FileSource(const io::SafetensorsFile& file) : file_(file) {}
  [[nodiscard]] bool contains(std::string_view name) const override { return file_.contains(name); }
  [[nodiscard]] Result<Tensor> get(std::string_view name, std::span<const DType> dtypes,
                                   const Shape& /*shape*/) const override {
    auto tensor = file_.tensor(name);
    if (tensor && std::find(dtypes.begin(), dtypes.end(), tensor->dtype()) == dtypes.end()) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor '{}' is of {}; expected F32, BF16 or F16",
                        file_.path(), name, dtype_name(tensor->dtype()));
    }
    return tensor;
  }

 private:
  const io::SafetensorsFile& file_;
};

Tensor rounded(const Tensor& x) {
  Tensor out = allocate_tensor(host_allocator(), DType::kBF16, x.shape());
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    out.data<BFloat16>()[i] = to_bfloat16(x.data<float>()[i]);
  }
  return out;
}

}  // namespace

Status write_weights(const std::string& directory, const nn::NamedTensors& tensors,
                     int64_t num_updates, DType dtype) {
  nn::NamedTensors stored;
  for (const auto& [name, tensor] : tensors) {
    stored.emplace_back(name, dtype == DType::kBF16 ? rounded(tensor) : tensor);
    if (!name.ends_with("running_mean")) continue;
    Tensor count = allocate_tensor(host_allocator(), DType::kI64, {});
    *count.data<int64_t>() = num_updates;
    stored.emplace_back(name.substr(0, name.rfind('.')) + ".num_batches_tracked", count);
  }
  std::sort(stored.begin(), stored.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  const std::string partial = directory + "/weights.partial";
  std::error_code code;
  fs::remove_all(partial, code);
  if (const Status written = write_tensors(partial, stored); !written) return written;
  const std::string name = "/model.safetensors";
  if (const Status renamed = io::rename_file(partial + name, directory + name); !renamed) {
    return renamed;
  }
  fs::remove_all(partial, code);
  return {};
}

Status read_weights(Context& ctx, const std::string& directory, nn::ParameterSet& set) {
  const auto file = io::SafetensorsFile::open(directory + "/model.safetensors");
  if (!file) return file.error();
  const Difference difference = difference_of(*file, set);
  if (!difference.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "{} is of another network: {}", file->path(),
                      difference.text());
  }
  return set.load(ctx, FileSource(*file));
}

Status write_checkpoint(Context& ctx, const std::string& run_directory, const CheckpointInfo& info,
                        const nn::ParameterSet& set, const Optimizer& optimizer) {
  const std::string final_path =
      fmt::format("{}/{}{:09}", checkpoints_of(run_directory), kStepPrefix, info.state.num_steps);
  const std::string partial = final_path + ".partial";
  std::error_code code;
  if (fs::exists(final_path, code)) return {};  // the same step has the same state
  fs::remove_all(partial, code);
  const Status weights = write_weights(partial + "/model", set.stored_tensors(ctx, set.values()),
                                       info.state.num_updates, DType::kF32);
  if (!weights) return weights;
  const OptimizerState state = optimizer.state(ctx);
  nn::NamedTensors tensors{{"first", flat_tensor(state.first)},
                           {"second", flat_tensor(state.second)}};
  if (!state.average.empty()) {
    tensors.emplace_back("average", flat_tensor(state.average));
    tensors.emplace_back("average_buffers", flat_tensor(state.average_buffers));
  }
  if (const Status written = write_tensors(partial + "/state", tensors); !written) return written;
  const Status json = io::write_file_atomic(partial + "/run.json", state_json(info).dump(2) + "\n");
  if (!json) return json;
  if (const Status renamed = io::rename_file(partial, final_path); !renamed) return renamed;
  const auto all = checkpoints_in(run_directory);
  for (size_t i = kNumKept; i < all.size(); ++i) fs::remove_all(all[i], code);
  return {};
}

Result<CheckpointInfo> find_checkpoint(const std::string& run_directory) {
  const auto all = checkpoints_in(run_directory);
  if (all.empty()) {
    return make_error(ErrorCode::kNotFound,
                      "{}: no checkpoint to go on from; expected folders step-<n> in it",
                      checkpoints_of(run_directory));
  }
  return read_info(all.front().string());
}

Status read_checkpoint(Context& ctx, const CheckpointInfo& info, nn::ParameterSet& set,
                       Optimizer& optimizer) {
  if (const Status read = read_weights(ctx, info.directory + "/model", set); !read) return read;
  const auto file = io::SafetensorsFile::open(info.directory + "/state/model.safetensors");
  if (!file) return file.error();
  OptimizerState state;
  struct Part {
    const char* name;
    std::vector<float>* values;
    int64_t size;
  };
  const int64_t size = set.values().num_elements();
  const int64_t average_size = optimizer.has_average() ? size : 0;
  for (const Part& part : {Part{"first", &state.first, size}, Part{"second", &state.second, size},
                           Part{"average", &state.average, average_size},
                           Part{"average_buffers", &state.average_buffers,
                                average_size == 0 ? 0 : set.buffer_values().num_elements()}}) {
    if (part.size == 0) continue;
    const io::TensorInfo* found = file->find(part.name);
    if (found == nullptr || found->dtype != "F32" || found->shape != Shape{part.size}) {
      return make_error(ErrorCode::kCorrupt, "{}: '{}' is not F32 [{}]; the checkpoint is damaged",
                        file->path(), part.name, part.size);
    }
    auto values = flat_values(*file, part.name);
    if (!values) return values.error();
    *part.values = *std::move(values);
  }
  optimizer.set_state(ctx, state);
  return {};
}

}  // namespace comet::train
