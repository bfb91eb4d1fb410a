#include "comet/quant/run/run_state.h"

#include <cstring>
#include <filesystem>

#include "comet/io/file.h"

namespace comet::quant {
namespace {

constexpr const char* kStateName = "resume.json";
constexpr std::string_view kActivationsPrefix = "resume-";
constexpr size_t kMaxStateBytes = size_t{256} << 20;

std::string activations_name(int64_t num_layers) {
  return fmt::format("{}{}.f32", kActivationsPrefix, num_layers);
}

/// A value as the error about it shows it.
std::string shown(const Json& value) {
  constexpr size_t kLongest = 60;
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "…";
  return text;
}

/// Removes the activations of other states than the one after `kept` layers; −1: of all.
Status remove_activations(const std::string& folder, int64_t kept) {
  std::error_code code;
  std::vector<std::filesystem::path> stale;
  for (const auto& item : std::filesystem::directory_iterator(folder, code)) {
    const std::string name = item.path().filename().string();
    if (name.starts_with(kActivationsPrefix) && name != activations_name(kept)) {
      stale.push_back(item.path());
    }
  }
  for (const auto& path : stale) {
    if (!std::filesystem::remove(path, code) || code) {
      return make_error(ErrorCode::kIo, "{}: cannot remove it: {}", path.string(), code.message());
    }
  }
  return {};
}

/// Matrices one behind another, of the sizes [[rows, cols], …].
Result<std::vector<Matrix>> read_activations(const std::string& path, const Json& sizes) {
  const auto file = io::MappedFile::open(path);
  if (!file) return file.error();
  const size_t num_values = (*file)->bytes() / sizeof(float);
  size_t offset = 0;
  std::vector<Matrix> all;
  for (const Json& size : sizes) {
    const auto rows = size.at(0).get<uint32_t>();
    const auto cols = size.at(1).get<uint32_t>();
    const size_t count = size_t{rows} * cols;
    if (count > num_values - offset) {
      return make_error(ErrorCode::kCorrupt, "{}: is shorter than resume.json says", path);
    }
    Matrix matrix(rows, cols);
    std::memcpy(matrix.values.data(), (*file)->data() + offset * sizeof(float),
                count * sizeof(float));
    offset += count;
    all.push_back(std::move(matrix));
  }
  return all;
}

}  // namespace

Status RunState::check_fingerprint(const Json& saved) const {
  std::vector<std::string> differences;
  const Json here = fingerprint_.flatten();
  const Json there = saved.flatten();
  for (const auto& [key, value] : here.items()) {
    const Json other = there.contains(key) ? there[key] : Json();
    if (other == value) continue;
    differences.push_back(
        fmt::format("{} was {}, is {}", key.substr(1), shown(other), shown(value)));
  }
  for (const auto& [key, value] : there.items()) {
    if (!here.contains(key)) differences.push_back(key.substr(1) + " was " + shown(value));
  }
  if (differences.empty()) return {};
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: belongs to another run ({}); repeat that run's command with --resume, or "
                    "leave --resume out to begin anew",
                    folder_, fmt::join(differences, "; "));
}

Result<std::optional<SavedRun>> RunState::load() const {
  std::error_code code;
  if (!std::filesystem::exists(path(kStateName), code)) return std::optional<SavedRun>();
  const auto text = io::read_file(path(kStateName), kMaxStateBytes);
  if (!text) return text.error();
  const auto state = parse_json(*text, path(kStateName));
  if (!state) return state.error();
  try {
    const Status same = check_fingerprint(state->at("fingerprint"));
    if (!same) return same.error();
    SavedRun saved;
    saved.num_layers = state->at("num_layers").get<int64_t>();
    saved.parts = state->at("parts");
    auto activations =
        read_activations(path(activations_name(saved.num_layers)), state->at("activations"));
    if (!activations) return activations.error();
    saved.activations = *std::move(activations);
    return std::optional(std::move(saved));
  } catch (const Json::exception& e) {
    return make_error(ErrorCode::kCorrupt, "{}: is damaged ({}); leave --resume out to begin anew",
                      path(kStateName), e.what());
  }
}

Status RunState::save(int64_t num_layers, const Json& parts,
                      std::span<const Matrix* const> activations) {
  const std::string name = activations_name(num_layers);
  auto file = io::OutputFile::create(path(name + ".tmp"));
  if (!file) return file.error();
  Json sizes = Json::array();
  for (const Matrix* matrix : activations) {
    sizes.push_back({matrix->rows, matrix->cols});
    const Status written = file->write(std::as_bytes(std::span(matrix->values)));
    if (!written) return written;
  }
  Status status = file->close();
  if (status) status = io::rename_file(path(name + ".tmp"), path(name));
  if (!status) return status;
  const Json state = {{"fingerprint", fingerprint_},
                      {"num_layers", num_layers},
                      {"activations", sizes},
                      {"parts", parts}};
  status = io::write_file_atomic(path(kStateName), state.dump() + "\n");
  return status ? remove_activations(folder_, num_layers) : status;
}

Status RunState::remove() {
  std::error_code code;
  std::filesystem::remove(path(kStateName), code);
  if (code) {
    return make_error(ErrorCode::kIo, "{}: cannot remove it: {}", path(kStateName), code.message());
  }
  return remove_activations(folder_, -1);
}

}  // namespace comet::quant
