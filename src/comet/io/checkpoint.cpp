#include "comet/io/checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "comet/base/json.h"
#include "comet/io/file.h"

namespace comet::io {
namespace {

constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";
constexpr size_t kMaxConfigBytes = size_t{16} << 20;
constexpr size_t kMaxIndexBytes = size_t{100} << 20;

std::string path_in(const std::string& directory, const std::string& name) {
  return (std::filesystem::path(directory) / name).string();
}

bool exists_in(const std::string& directory, const std::string& name) {
  std::error_code ignored;
  return std::filesystem::exists(path_in(directory, name), ignored);
}

Result<Json> read_json_object(const std::string& path, size_t max_bytes) {
  const auto text = read_file(path, max_bytes);
  if (!text) return text.error();
  auto value = parse_json(*text, path);
  if (value && !value->is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: holds {}; expected a JSON object", path,
                      value->type_name());
  }
  return value;
}

/// Only a plain name stays in the folder. A symbolic link of that name may lead elsewhere (the
/// Hugging Face cache is made of them): the user put it there, not the index.
bool is_plain_shard_name(const std::string& name) {
  return name.ends_with(".safetensors") && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos &&
         name.size() <= 255;
}

/// weight_map of the index: tensor name -> shard name.
Result<std::map<std::string, std::string>> read_weight_map(const std::string& path) {
  const auto index = read_json_object(path, kMaxIndexBytes);
  if (!index) return index.error();
  const Json* map = JsonObject(*index, path).find("weight_map");
  if (map == nullptr || !map->is_object() || map->empty()) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: field 'weight_map' must be an object from tensor names to file names",
                      path);
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !is_plain_shard_name(shard.get_ref<const std::string&>())) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: field 'weight_map' names {} for tensor '{}'; expected the plain name "
                        "of a .safetensors file in this folder",
                        path, shard.dump(-1, ' ', true).substr(0, 200), tensor);
    }
    shards.emplace(tensor, shard.get<std::string>());
  }
  return shards;
}

Error no_weights(const std::string& directory) {
  const bool pytorch = exists_in(directory, "pytorch_model.bin") ||
                       exists_in(directory, "pytorch_model.bin.index.json");
  return make_error(
      ErrorCode::kNotFound, "{}: holds neither {} nor {}{}", directory, kSingleName, kIndexName,
      pytorch ? "; pytorch_model.bin is not read: convert it with save_pretrained in transformers"
              : "; expected a Hugging Face model folder");
}

struct Tensors {
  std::vector<SafetensorsFile> files;
  std::map<std::string, size_t, std::less<>> file_of;
};

Result<Tensors> open_shards(const std::string& directory) {
  const std::string index_path = path_in(directory, kIndexName);
  const auto weight_map = read_weight_map(index_path);
  if (!weight_map) return weight_map.error();
  std::set<std::string> names;
  for (const auto& [tensor, shard] : *weight_map) names.insert(shard);

  Tensors tensors;
  std::map<std::string, size_t> idx_of_shard;
  std::map<std::string, std::string> shard_of;  // of every tensor met, listed or not
  for (const std::string& shard : names) {
    if (!exists_in(directory, shard)) {
      return make_error(ErrorCode::kNotFound,
                        "{}: the shard {} is missing, which {} names; download it too", directory,
                        shard, kIndexName);
    }
    auto file = SafetensorsFile::open(path_in(directory, shard));
    if (!file) return file.error();
    for (const std::string& tensor : file->names()) {
      const auto [it, is_first] = shard_of.emplace(tensor, shard);
      if (!is_first) {
        return make_error(ErrorCode::kCorrupt, "{}: tensor '{}' is in two shards, {} and {}",
                          directory, tensor, it->second, shard);
      }
    }
    idx_of_shard[shard] = tensors.files.size();
    tensors.files.push_back(*std::move(file));
  }
  for (const auto& [tensor, shard] : *weight_map) {
    const auto found = shard_of.find(tensor);
    if (found == shard_of.end() || found->second != shard) {
      return make_error(ErrorCode::kCorrupt, "{}: tensor '{}' is not in {}, where the index has it",
                        index_path, tensor, shard);
    }
    tensors.file_of.emplace(tensor, idx_of_shard.at(shard));
  }
  return tensors;
}

Result<Tensors> open_single(const std::string& directory) {
  auto file = SafetensorsFile::open(path_in(directory, kSingleName));
  if (!file) return file.error();
  Tensors tensors;
  for (const std::string& name : file->names()) tensors.file_of.emplace(name, 0);
  tensors.files.push_back(*std::move(file));
  return tensors;
}

}  // namespace

Result<Checkpoint> Checkpoint::open(const std::string& directory) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    return make_error(ErrorCode::kNotFound,
                      "{}: there is no such folder; expected a Hugging Face "
                      "model folder",
                      directory);
  }
  Checkpoint checkpoint;
  checkpoint.directory_ = directory;
  auto config = read_json_object(checkpoint.config_path(), kMaxConfigBytes);
  if (!config) return config.error();
  checkpoint.config_ = std::make_shared<const Json>(*std::move(config));
  // As transformers does: a single file wins over an index.
  const bool single = exists_in(directory, kSingleName);
  if (!single && !exists_in(directory, kIndexName)) return no_weights(directory);
  auto tensors = single ? open_single(directory) : open_shards(directory);
  if (!tensors) return tensors.error();
  checkpoint.files_ = std::move(tensors->files);
  checkpoint.file_of_ = std::move(tensors->file_of);
  return checkpoint;
}

bool Checkpoint::contains(std::string_view name) const { return file_of_.contains(name); }

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  names.reserve(file_of_.size());
  for (const auto& [name, file_idx] : file_of_) names.push_back(name);
  return names;
}

const TensorInfo* Checkpoint::find(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? nullptr : files_[it->second].find(name);
}

Result<Tensor> Checkpoint::tensor(std::string_view name) const {
  const auto it = file_of_.find(name);
  if (it == file_of_.end()) {
    return make_error(ErrorCode::kNotFound,
                      "{}: the model has no tensor '{}'; its files are incomplete or of another "
                      "architecture",
                      directory_, name);
  }
  return files_[it->second].tensor(name);
}

Result<Tensor> Checkpoint::tensor(std::string_view name, std::span<const DType> dtypes,
                                  const Shape& expected) const {
  const TensorInfo* info = find(name);
  if (info == nullptr) return tensor(name);  // the error
  if (info->shape != expected) {
    return make_error(ErrorCode::kCorrupt, "{}: tensor '{}' has shape {}; config.json asks for {}",
                      source(name), name, info->shape.to_string(), expected.to_string());
  }
  const auto is_allowed = [&](DType dtype) { return dtype_name(dtype) == info->dtype; };
  if (std::none_of(dtypes.begin(), dtypes.end(), is_allowed)) {
    std::vector<std::string_view> allowed;
    for (const DType dtype : dtypes) allowed.push_back(dtype_name(dtype));
    return make_error(ErrorCode::kUnsupported, "{}: tensor '{}' has dtype {}; expected {}",
                      source(name), name, info->dtype, fmt::join(allowed, " or "));
  }
  return tensor(name);
}

void Checkpoint::release(std::string_view name) const {
  const auto it = file_of_.find(name);
  if (it != file_of_.end()) files_[it->second].release(name);
}

size_t Checkpoint::total_bytes() const {
  size_t total = 0;
  for (const auto& [name, file_idx] : file_of_) total += files_[file_idx].find(name)->num_bytes;
  return total;
}

std::string Checkpoint::config_path() const { return path_in(directory_, "config.json"); }

std::string Checkpoint::source(std::string_view name) const {
  const auto it = file_of_.find(name);
  return it == file_of_.end() ? "" : files_[it->second].path();
}

}  // namespace comet::io
