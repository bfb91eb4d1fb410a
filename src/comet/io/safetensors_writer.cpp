#include "comet/io/safetensors_writer.h"

#include <fmt/core.h>
#include <unistd.h>

#include <filesystem>
#include <utility>

#include "comet/base/json.h"
#include "comet/io/safetensors_header.h"

namespace comet::io {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kAlignBytes = 64;  // of the payload in the file
constexpr const char* kSingleName = "model.safetensors";
constexpr const char* kIndexName = "model.safetensors.index.json";

std::string final_name(size_t shard_idx, size_t num_shards) {
  if (num_shards == 1) return kSingleName;
  return fmt::format("model-{:05}-of-{:05}.safetensors", shard_idx + 1, num_shards);
}

/// An upper bound of what the entry adds to a header's text: its offsets at their longest.
size_t longest_entry_bytes(HeaderEntry entry) {
  entry.begin = entry.end = UINT64_MAX;
  return format_safetensors_header({{std::move(entry)}, {}}).size();
}

std::string partial_path(const std::string& directory, size_t shard_idx) {
  return fmt::format("{}/model-{:05}.safetensors.partial", directory, shard_idx + 1);
}

/// Undoes what finish() does to names: shards get back their partial ones, the index goes.
Status take_back_names(const std::string& directory) {
  std::error_code code;
  std::filesystem::remove(std::filesystem::path(directory) / kIndexName, code);
  std::vector<std::string> names;
  for (const auto& item : std::filesystem::directory_iterator(directory, code)) {
    names.push_back(item.path().filename().string());
  }
  for (const std::string& name : names) {
    const std::string_view numbered = "model-00000-of-";
    const bool shard = name.size() > numbered.size() && name.starts_with("model-") &&
                       name.substr(11, 4) == "-of-" && name.ends_with(".safetensors");
    if (!shard && name != kSingleName) continue;
    const std::string target =
        shard ? fmt::format("{}/{}.safetensors.partial", directory, name.substr(0, 11))
              : partial_path(directory, 0);
    const std::string source = fmt::format("{}/{}", directory, name);
    if (Status status = rename_file(source, target); !status) return status;
  }
  return {};
}

}  // namespace

struct SafetensorsWriter::Shard {
  OutputFile file;
  SafetensorsHeader header;
  size_t header_text_bytes = 0;  // of `header`, formatted
};

SafetensorsWriter::SafetensorsWriter(std::string directory, SafetensorsWriterOptions options)
    : directory_(std::move(directory)), options_(std::move(options)) {
  options_.header_bytes = (options_.header_bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept = default;

SafetensorsWriter::~SafetensorsWriter() {
  if (finished_ || kept_) return;
  shard_.reset();
  for (const std::string& path : paths_) ::unlink(path.c_str());
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& directory,
                                                    SafetensorsWriterOptions options) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(directory, ignored)) {
    return make_error(ErrorCode::kNotFound, "{}: there is no such folder to write a model to",
                      directory);
  }
  for (const char* name : {kSingleName, kIndexName}) {
    if (std::filesystem::exists(std::filesystem::path(directory) / name, ignored)) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: already holds {}; choose an empty folder or remove the file",
                        directory, name);
    }
  }
  return SafetensorsWriter(directory, std::move(options));
}

Status SafetensorsWriter::append(const std::string& name, const Tensor& tensor) {
  COMET_CHECK(!finished_, "tensor '{}' comes after finish()", name);
  COMET_CHECK(tensor.defined() && tensor.contiguous(), "tensor '{}' is not contiguous", name);
  if (!failure_) {
    const Status status = append_checked(name, tensor);
    if (!status) failure_ = status.error();
  }
  return failure_ ? Status(*failure_) : Status();
}

Status SafetensorsWriter::append_checked(const std::string& name, const Tensor& tensor) {
  if (name.empty() || name == "__metadata__" || shard_of_.contains(name)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: tensor name '{}' is empty, reserved or given twice", directory_, name);
  }
  const auto num_bytes = static_cast<uint64_t>(tensor.num_bytes());
  HeaderEntry entry{name, std::string(dtype_name(tensor.dtype())), {}, 0, 0};
  for (int i = 0; i < tensor.shape().rank(); ++i) {
    entry.shape.push_back(static_cast<uint64_t>(tensor.size(i)));
  }
  const size_t text_bytes = longest_entry_bytes(entry);
  const auto fits = [&](const Shard& shard) {
    return shard.header_text_bytes + text_bytes <= options_.header_bytes - kLengthBytes;
  };
  if (shard_ && !shard_->header.entries.empty() &&
      (!fits(*shard_) ||
       shard_->header.entries.back().end + num_bytes > options_.max_shard_bytes)) {
    if (Status status = close_shard(); !status) return status;
  }
  if (!shard_) {
    if (Status status = open_shard(); !status) return status;
  }
  if (!fits(*shard_)) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: the entry of tensor '{}' does not fit a header of {} bytes",
                      shard_->file.path(), name.substr(0, 200), options_.header_bytes);
  }
  entry.begin = shard_->header.entries.empty() ? 0 : shard_->header.entries.back().end;
  entry.end = entry.begin + num_bytes;
  if (Status status = shard_->file.write({tensor.raw(), num_bytes}); !status) return status;
  shard_->header.entries.push_back(std::move(entry));
  shard_->header_text_bytes += text_bytes;
  shard_of_[name] = paths_.size() - 1;
  payload_bytes_ += num_bytes;
  return {};
}

Status SafetensorsWriter::open_shard() {
  SafetensorsHeader header{{}, options_.metadata};
  const size_t text_bytes = format_safetensors_header(header).size();
  if (text_bytes + kLengthBytes > options_.header_bytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: {} bytes of metadata do not fit a header of {} bytes", directory_,
                      text_bytes, options_.header_bytes);
  }
  const std::string path = partial_path(directory_, paths_.size());
  auto file = OutputFile::create(path);
  if (!file) return file.error();
  paths_.push_back(path);
  shard_ = std::make_unique<Shard>(Shard{*std::move(file), std::move(header), text_bytes});
  const std::string room(options_.header_bytes, ' ');
  return shard_->file.write(std::as_bytes(std::span(room)));
}

Status SafetensorsWriter::close_shard() {
  std::string text = format_safetensors_header(shard_->header);
  COMET_CHECK(text.size() + kLengthBytes <= options_.header_bytes, "{} bytes of header",
              text.size());
  text.resize(options_.header_bytes - kLengthBytes, ' ');
  std::string length(kLengthBytes, '\0');
  for (size_t i = 0; i < kLengthBytes; ++i) {
    length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  }
  const std::string bytes = length + text;
  Status status = shard_->file.write_at(0, std::as_bytes(std::span(bytes)));
  if (status) status = shard_->file.close();
  shard_.reset();
  return status;
}

Result<std::string> SafetensorsWriter::save_point() {
  COMET_CHECK(!finished_, "save_point() comes after finish()");
  if (failure_) return *failure_;
  Json point;
  point["payload_bytes"] = payload_bytes_;
  point["closed"] = Json::array();
  const size_t num_closed = paths_.size() - (shard_ ? 1 : 0);
  for (size_t i = 0; i < num_closed; ++i) point["closed"].push_back(Json::array());
  for (const auto& [name, shard_idx] : shard_of_) {
    if (shard_idx < num_closed) point["closed"][shard_idx].push_back(name);
  }
  if (shard_) {
    if (const Status status = shard_->file.sync(); !status) return status.error();
    point["open"] = format_safetensors_header(shard_->header);
  }
  return point.dump();
}

Result<SafetensorsWriter> SafetensorsWriter::continue_from(const std::string& directory,
                                                           std::string_view save_point,
                                                           SafetensorsWriterOptions options) {
  const auto point = parse_json(save_point, directory);
  if (!point) return point.error();
  if (const Status status = take_back_names(directory); !status) return status.error();
  SafetensorsWriter writer(directory, std::move(options));
  writer.kept_ = true;  // until all is known to be well
  try {
    writer.payload_bytes_ = point->at("payload_bytes").get<uint64_t>();
    for (const Json& names : point->at("closed")) {
      for (const Json& name : names) writer.shard_of_[name] = writer.paths_.size();
      writer.paths_.push_back(partial_path(directory, writer.paths_.size()));
      if (!std::filesystem::is_regular_file(writer.paths_.back())) {
        return make_error(ErrorCode::kNotFound, "{}: is missing; it cannot be continued",
                          writer.paths_.back());
      }
    }
    if (point->contains("open")) {
      const Status status = writer.reopen_shard(point->at("open"));
      if (!status) return status.error();
    }
  } catch (const Json::exception& e) {
    return make_error(ErrorCode::kCorrupt, "{}: the save point is damaged: {}", directory,
                      e.what());
  }
  writer.kept_ = false;
  return writer;
}

Status SafetensorsWriter::reopen_shard(const std::string& header_text) {
  const std::string path = partial_path(directory_, paths_.size());
  auto header = parse_safetensors_header(header_text, path);
  if (!header) return header.error();
  const uint64_t payload = header->entries.empty() ? 0 : header->entries.back().end;
  auto file = OutputFile::continue_at(path, options_.header_bytes + payload);
  if (!file) return file.error();
  size_t text_bytes = format_safetensors_header({{}, header->metadata}).size();
  for (const HeaderEntry& entry : header->entries) {
    text_bytes += longest_entry_bytes(entry);
    shard_of_[entry.name] = paths_.size();
  }
  paths_.push_back(path);
  shard_ = std::make_unique<Shard>(Shard{*std::move(file), *std::move(header), text_bytes});
  return {};
}

Result<std::vector<std::string>> SafetensorsWriter::finish() {
  COMET_CHECK(!finished_, "finish() called twice");
  if (failure_) return *failure_;
  Status status;
  if (paths_.empty()) status = open_shard();
  if (status && shard_) status = close_shard();
  auto names = status ? publish() : Result<std::vector<std::string>>(status.error());
  if (!names) {
    failure_ = names.error();
  } else {
    finished_ = true;
  }
  return names;
}

/// The index comes last: until it is there, a folder of shards does not load.
Result<std::vector<std::string>> SafetensorsWriter::publish() {
  std::vector<std::string> names;
  for (size_t i = 0; i < paths_.size(); ++i) {
    names.push_back(final_name(i, paths_.size()));
    const std::string path = (std::filesystem::path(directory_) / names[i]).string();
    if (const Status status = rename_file(paths_[i], path); !status) return status.error();
    paths_[i] = path;
  }
  if (names.size() > 1) {
    if (const Status status = write_index(names); !status) return status.error();
    names.emplace_back(kIndexName);
  }
  return names;
}

Status SafetensorsWriter::write_index(const std::vector<std::string>& names) const {
  Json index;
  index["metadata"]["total_size"] = payload_bytes_;
  for (const auto& [tensor, shard_idx] : shard_of_) index["weight_map"][tensor] = names[shard_idx];
  return write_file_atomic((std::filesystem::path(directory_) / kIndexName).string(),
                           index.dump(2) + "\n");
}

}  // namespace comet::io
