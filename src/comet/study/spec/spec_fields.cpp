#include "comet/study/spec/spec_fields.h"

#include <filesystem>

namespace comet::study {

Result<std::vector<std::string>> string_list(const Json& object, const std::string& field,
                                             const SpecContext& context) {
  const auto wrong = [&] {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: field '{}': expected a list of texts, at least one", context.source,
                      field);
  };
  const auto it = object.find(field);
  if (it == object.end() || !it->is_array() || it->empty()) return wrong();
  std::vector<std::string> texts;
  for (const Json& text : *it) {
    if (!text.is_string() || text.get_ref<const std::string&>().empty()) return wrong();
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

Result<std::string> resolve_path(const std::string& path, const std::string& field,
                                 const SpecContext& context) {
  std::string out;
  for (size_t i = 0; i < path.size(); ++i) {
    if (path.compare(i, 2, "${") != 0) {
      out += path[i];
      continue;
    }
    const size_t end = path.find('}', i);
    if (end == std::string::npos) {
      return make_error(ErrorCode::kInvalidArgument, "{}: {}: '{}': '${{' has no '}}'",
                        context.source, field, path);
    }
    const std::string name = path.substr(i + 2, end - i - 2);
    const char* value = context.environment(name);
    if (value == nullptr) {
      return make_error(ErrorCode::kInvalidArgument,
                        "{}: {}: '{}': the environment variable {} is not set", context.source,
                        field, path, name);
    }
    out += value;
    i = end;
  }
  const std::filesystem::path whole = std::filesystem::path(context.directory) / out;
  return whole.lexically_normal().string();
}

}  // namespace comet::study
