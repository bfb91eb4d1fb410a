#include "comet/io/dataset/class_labels.h"

#include <algorithm>
#include <set>

#include "comet/base/json.h"
#include "comet/io/config_fields.h"
#include "comet/io/file.h"

namespace comet::io {
namespace {

constexpr size_t kMaxClassMapBytes = size_t{16} << 20;

Error wrong_list(const std::string& source, std::string_view field, int64_t num_classes) {
  return make_error(ErrorCode::kCorrupt, "{}: {} is not a list of {} texts, one for each class",
                    source, field, num_classes);
}

Result<std::vector<std::string>> list_of_texts(const Json& value, std::string_view field,
                                               int64_t num_classes, const std::string& source) {
  if (!value.is_array() || static_cast<int64_t>(value.size()) != num_classes ||
      !std::ranges::all_of(value, [](const Json& item) { return item.is_string(); })) {
    return wrong_list(source, field, num_classes);
  }
  return value.get<std::vector<std::string>>();
}

/// {name: description} in the order of `names`.
Result<std::vector<std::string>> descriptions_by_name(const Json& value,
                                                      const std::vector<std::string>& names,
                                                      const std::string& source) {
  std::vector<std::string> result;
  for (const std::string& name : names) {
    const auto found = value.find(name);
    if (found == value.end() || !found->is_string()) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: label_descriptions has no text for the class '{}'", source, name);
    }
    result.push_back(found->get<std::string>());
  }
  return result;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (!line.empty()) lines.emplace_back(line);
  }
  return lines;
}

Result<std::vector<std::string>> names_by_index(const Json& map, const std::string& path) {
  std::vector<std::string> names(map.size());
  for (const auto& [name, index] : map.items()) {
    const bool valid = index.is_number_integer() && index >= 0 &&
                       index < static_cast<int64_t>(names.size()) &&
                       names[index.get<size_t>()].empty();
    if (!valid) {
      return make_error(ErrorCode::kCorrupt,
                        "{}: the class '{}' has the index {}; expected each of 0 to {} once", path,
                        name, shown(index), static_cast<int64_t>(names.size()) - 1);
    }
    names[index.get<size_t>()] = name;
  }
  return names;
}

}  // namespace

std::optional<int64_t> ClassLabels::index_of(std::string_view name) const {
  const auto found = std::ranges::find(names, name);
  if (found == names.end()) return std::nullopt;
  return found - names.begin();
}

std::string ClassLabels::text(int64_t class_idx) const {
  const auto i = static_cast<size_t>(class_idx);
  if (i < descriptions.size()) return descriptions[i];
  if (i < names.size()) return names[i];
  return std::to_string(class_idx);
}

Result<ClassLabels> parse_class_labels(const Json& config, int64_t num_classes,
                                       const std::string& source) {
  ClassLabels labels;
  const auto names = config.find("label_names");
  if (names != config.end() && !names->is_null()) {
    auto list = list_of_texts(*names, "label_names", num_classes, source);
    if (!list) return list.error();
    labels.names = *std::move(list);
  }
  const auto descriptions = config.find("label_descriptions");
  if (descriptions != config.end() && !descriptions->is_null()) {
    auto list = descriptions->is_object()
                    ? descriptions_by_name(*descriptions, labels.names, source)
                    : list_of_texts(*descriptions, "label_descriptions", num_classes, source);
    if (!list) return list.error();
    labels.descriptions = *std::move(list);
  }
  return labels;
}

Result<ClassLabels> read_class_map(const std::string& path) {
  auto text = read_file(path, kMaxClassMapBytes);
  if (!text) return text.error();
  ClassLabels labels;
  if (path.ends_with(".json")) {
    const auto map = parse_json(*text, path);
    if (!map) return map.error();
    if (!map->is_object()) {
      return make_error(ErrorCode::kCorrupt, "{}: expected a JSON object {{name: index}}", path);
    }
    auto names = names_by_index(*map, path);
    if (!names) return names.error();
    labels.names = *std::move(names);
  } else {
    labels.names = lines_of(*text);
  }
  if (labels.names.empty()) return make_error(ErrorCode::kCorrupt, "{}: names no class", path);
  std::set<std::string_view> seen;
  for (const std::string& name : labels.names) {
    if (!seen.insert(name).second) {
      return make_error(ErrorCode::kCorrupt, "{}: names the class '{}' twice", path, name);
    }
  }
  return labels;
}

}  // namespace comet::io
