#include "comet/study/tasks/data/rows.h"

#include <filesystem>

#include "comet/io/file.h"
#include "comet/study/tasks/data/gunzip.h"
#include "comet/text/unicode/utf8.h"

namespace comet::study {
namespace {

constexpr size_t kMaxFileBytes = size_t{1} << 30;
constexpr int kMaxDepth = 32;
constexpr size_t kMaxShown = 60;

/// parse_json() in the file's order of fields.
Result<OrderedJson> parse_ordered(std::string_view text, const std::string& source) {
  bool too_deep = false;
  const auto callback = [&](int depth, OrderedJson::parse_event_t, OrderedJson&) {
    if (depth > kMaxDepth) {
      too_deep = true;
      throw std::length_error("depth");
    }
    return true;
  };
  try {
    return OrderedJson::parse(text.begin(), text.end(), callback);
  } catch (const std::length_error&) {
    return make_error(ErrorCode::kCorrupt, "{}: JSON nested deeper than {} levels", source,
                      kMaxDepth);
  } catch (const OrderedJson::exception& e) {
    return make_error(ErrorCode::kCorrupt, "{}: not valid JSON: {}", source, e.what());
  }
}

Status add_row(OrderedJson value, std::string source, std::vector<DataRow>& rows) {
  if (!value.is_object()) {
    return make_error(ErrorCode::kCorrupt, "{}: expected a JSON object, got {}", source,
                      value.type_name());
  }
  rows.emplace_back(std::move(value), std::move(source));
  return {};
}

Result<std::vector<DataRow>> parse_lines(std::string_view text, const std::string& path) {
  std::vector<DataRow> rows;
  int64_t line_number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    std::string source = fmt::format("{}:{}", path, line_number);
    auto value = parse_ordered(line, source);
    if (!value) return value.error();
    if (const Status added = add_row(*std::move(value), std::move(source), rows); !added) {
      return added.error();
    }
  }
  return rows;
}

Result<std::vector<DataRow>> parse_array(std::string_view text, const std::string& path) {
  auto list = parse_ordered(text, path);
  if (!list) return list.error();
  std::vector<DataRow> rows;
  for (OrderedJson& value : *list) {
    std::string source = fmt::format("{}, entry {}", path, rows.size() + 1);
    if (const Status added = add_row(std::move(value), std::move(source), rows); !added) {
      return added.error();
    }
  }
  return rows;
}

/// One record of RFC 4180, which may go over several lines.
std::vector<std::string> next_record(std::string_view& text, int64_t& line_number) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  size_t at = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '\n') ++line_number;
    if (quoted) {
      if (c != '"') {
        cells.back() += c;
      } else if (at + 1 < text.size() && text[at + 1] == '"') {
        cells.back() += text[++at];
      } else {
        quoted = false;
      }
    } else if (c == '"' && cells.back().empty()) {
      quoted = true;
    } else if (c == ',') {
      cells.emplace_back();
    } else if (c == '\n') {
      break;
    } else if (c != '\r' || (at + 1 < text.size() && text[at + 1] != '\n')) {
      cells.back() += c;
    }
  }
  text.remove_prefix(std::min(at + 1, text.size()));
  return cells;
}

Result<std::vector<DataRow>> parse_csv(std::string_view text, const std::string& path) {
  std::vector<std::string> names;
  std::vector<DataRow> rows;
  int64_t line_number = 1;
  while (!text.empty()) {
    const int64_t first_line = line_number;
    std::vector<std::string> cells = next_record(text, line_number);
    if (cells.size() == 1 && cells[0].empty()) continue;
    if (names.empty() && cells[0] == "question") {
      names = std::move(cells);
      continue;
    }
    if (names.empty()) {
      names = {"question", "choice0", "choice1", "choice2", "choice3", "answer"};
    }
    if (cells.size() != names.size()) {
      return make_error(ErrorCode::kCorrupt, "{}:{}: {} columns, expected {}", path, first_line,
                        cells.size(), names.size());
    }
    OrderedJson value = OrderedJson::object();
    for (size_t i = 0; i < names.size(); ++i) value[names[i]] = std::move(cells[i]);
    rows.emplace_back(std::move(value), fmt::format("{}:{}", path, first_line));
  }
  return rows;
}

/// PIQA keeps the right answers in a file of their own.
Status add_labels(const std::string& path, std::vector<DataRow>& rows) {
  const size_t dot = path.rfind(".jsonl");
  if (dot == std::string::npos) return {};
  const std::string labels_path = path.substr(0, dot) + "-labels.lst";
  if (!std::filesystem::exists(labels_path)) return {};
  auto text = io::read_file(labels_path, kMaxFileBytes);
  if (!text) return text.error();
  size_t row_idx = 0;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    std::string label = text->substr(begin, end - begin);
    if (!label.empty() && label.back() == '\r') label.pop_back();
    begin = end + 1;
    if (row_idx < rows.size()) rows[row_idx].set("label", text::replace_invalid_utf8(label));
    ++row_idx;
  }
  if (row_idx == rows.size()) return {};
  return make_error(ErrorCode::kCorrupt, "{}: {} lines for the {} rows of {}", labels_path, row_idx,
                    rows.size(), path);
}

}  // namespace

const OrderedJson* DataRow::find(std::string_view field) const {
  const auto it = value_.find(field);
  return it == value_.end() || it->is_null() ? nullptr : &*it;
}

Error DataRow::wrong(std::string_view field, std::string_view expected) const {
  const OrderedJson* value = find(field);
  if (value == nullptr) {
    return make_error(ErrorCode::kCorrupt, "{}: no field '{}'; expected {}", source_, field,
                      expected);
  }
  return make_error(ErrorCode::kCorrupt, "{}: field '{}' is {}; expected {}", source_, field,
                    value->dump(-1, ' ', true).substr(0, kMaxShown), expected);
}

Result<std::string> DataRow::text(std::string_view field) const {
  const OrderedJson* value = find(field);
  if (value == nullptr || !value->is_string()) return wrong(field, "a text");
  return text::replace_invalid_utf8(value->get<std::string>());
}

Result<std::vector<std::string>> DataRow::texts(std::string_view field) const {
  const OrderedJson* value = find(field);
  if (value == nullptr || !value->is_array() || value->empty())
    return wrong(field, "a list of texts");
  std::vector<std::string> result;
  for (const OrderedJson& entry : *value) {
    if (!entry.is_string()) return wrong(field, "a list of texts");
    result.push_back(text::replace_invalid_utf8(entry.get<std::string>()));
  }
  return result;
}

Result<int64_t> DataRow::index(std::string_view field, int64_t high) const {
  const std::string expected = fmt::format("a number from 0 to {}", high);
  const OrderedJson* value = find(field);
  if (value == nullptr) return wrong(field, expected);
  if (value->is_boolean()) return static_cast<int64_t>(value->get<bool>());
  int64_t number = -1;
  if (value->is_number_integer()) {
    number = value->get<int64_t>();
  } else if (value->is_string()) {
    const auto text = value->get<std::string>();
    if (text.size() == 1 && text[0] >= '0' && text[0] <= '9') number = text[0] - '0';
  }
  if (number < 0 || number > high) return wrong(field, expected);
  return number;
}

Result<DataRow> DataRow::object(std::string_view field) const {
  const OrderedJson* value = find(field);
  if (value == nullptr || !value->is_object()) return wrong(field, "an object");
  return DataRow(*value, fmt::format("{}, {}", source_, field));
}

Result<std::vector<DataRow>> DataRow::objects(std::string_view field) const {
  const OrderedJson* value = find(field);
  if (value == nullptr || !value->is_array() || value->empty())
    return wrong(field, "a list of objects");
  std::vector<DataRow> result;
  for (const OrderedJson& entry : *value) {
    if (!entry.is_object()) return wrong(field, "a list of objects");
    result.emplace_back(entry, fmt::format("{}, {}[{}]", source_, field, result.size()));
  }
  return result;
}

Result<std::vector<DataRow>> read_rows(const std::string& path) {
  auto text = io::read_file(path, kMaxFileBytes);
  if (!text) return text.error();
  std::string_view name = path;
  if (name.ends_with(".gz")) {
    text = gunzip(*text, path, kMaxFileBytes);
    if (!text) return text.error();
    name.remove_suffix(3);
  }
  const size_t first = text->find_first_not_of(" \t\r\n");
  const bool is_array = first != std::string::npos && (*text)[first] == '[';
  auto rows = name.ends_with(".csv") ? parse_csv(text::replace_invalid_utf8(*text), path)
              : is_array             ? parse_array(*text, path)
                                     : parse_lines(*text, path);
  if (!rows) return rows.error();
  if (rows->empty()) return make_error(ErrorCode::kCorrupt, "{}: the file has no row", path);
  if (const Status added = add_labels(path, *rows); !added) return added.error();
  return rows;
}

}  // namespace comet::study
