#include "comet/study/runner/results_file.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "comet/io/file.h"

namespace comet::study {
namespace {

constexpr size_t kMaxResultsBytes = size_t{256} << 20;
constexpr int64_t kVersion = 1;

OrderedJson row_json(const ResultRow& row) {
  OrderedJson json = {{"model", row.model},
                      {"format", row.format},
                      {"metric", row.metric},
                      {"profile", row.profile.empty() ? OrderedJson() : OrderedJson(row.profile)},
                      {"value", row.value},
                      {"stderr", row.std_error ? OrderedJson(*row.std_error) : OrderedJson()},
                      {"n", row.n},
                      {"unit", row.unit}};
  if (row.rate_per_s) json["rate"] = *row.rate_per_s;
  if (row.within_slo) json["within_slo"] = *row.within_slo;
  return json;
}

OrderedJson cell_json(const CellKey& cell) {
  return {{"model", cell.model},
          {"format", cell.format},
          {"metric", cell.metric},
          {"profile", cell.profile}};
}

// Throws Json exceptions on what this program did not write; read() turns them into an error.
CellKey cell_of(const OrderedJson& json) {
  return {json.at("model").get<std::string>(), json.at("format").get<std::string>(),
          json.at("metric").get<std::string>(), json.at("profile").get<std::string>()};
}

ResultRow row_of(const OrderedJson& json) {
  ResultRow row;
  row.model = json.at("model").get<std::string>();
  row.format = json.at("format").get<std::string>();
  row.metric = json.at("metric").get<std::string>();
  if (!json.at("profile").is_null()) row.profile = json.at("profile").get<std::string>();
  row.value = json.at("value").get<double>();
  if (!json.at("stderr").is_null()) row.std_error = json.at("stderr").get<double>();
  row.n = json.at("n").get<int64_t>();
  row.unit = json.at("unit").get<std::string>();
  if (json.contains("rate")) row.rate_per_s = json.at("rate").get<double>();
  if (json.contains("within_slo")) row.within_slo = json.at("within_slo").get<bool>();
  return row;
}

/// "formats, limit": where two specs differ; remarks do not count.
std::string differing_fields(const OrderedJson& a, const OrderedJson& b) {
  std::set<std::string> names;
  for (const auto& [name, value] : a.items()) {
    if (!b.contains(name) || b.at(name) != value) names.insert(name);
  }
  for (const auto& [name, value] : b.items()) {
    if (!a.contains(name)) names.insert(name);
  }
  std::string text;
  for (const std::string& name : names) {
    if (name.starts_with("_") || name == "comment") continue;
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

std::string CellKey::text() const {
  return fmt::format("{} · {} · {}{}{}", model, format, metric, profile.empty() ? "" : " · ",
                     profile);
}

Result<ResultsFile> ResultsFile::open(const std::string& path, const StudySpec& spec) {
  ResultsFile file(path, spec.json);
  if (!std::filesystem::exists(path)) return file;
  const auto text = io::read_file(path, kMaxResultsBytes);
  if (!text) return text.error();
  if (const auto checked = parse_json(*text, path); !checked) return checked.error();
  const OrderedJson json = OrderedJson::parse(*text);
  if (!json.is_object() || !json.contains("spec") || !json.contains("rows")) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: the file is there, and is no study's results; choose another -o", path);
  }
  const std::string differing = differing_fields(json.at("spec"), spec.json);
  if (!differing.empty()) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "{}: these are the results of another spec (it differs in: {}); choose another "
        "-o, or remove the file",
        path, differing);
  }
  if (const Status read = file.read(json); !read) return read.error();
  return file;
}

Status ResultsFile::read(const OrderedJson& json) {
  try {
    if (json.at("version").get<int64_t>() != kVersion) {
      return make_error(ErrorCode::kUnsupported, "{}: version {}; this program writes version {}",
                        path_, json.at("version").dump(), kVersion);
    }
    machine_ = json.at("machine");
    for (const OrderedJson& cell : json.at("done")) done_.insert(cell_of(cell));
    for (const OrderedJson& row : json.at("rows")) rows_.push_back(row_of(row));
    for (const OrderedJson& failure : json.at("failures")) {
      failures_.push_back({cell_of(failure.at("cell")), failure.at("error").get<std::string>()});
    }
  } catch (const OrderedJson::exception& e) {
    return make_error(ErrorCode::kCorrupt,
                      "{}: not as this program writes it ({}); remove it to begin anew", path_,
                      e.what());
  }
  return {};
}

OrderedJson ResultsFile::json() const {
  OrderedJson json = {{"version", kVersion}, {"spec", spec_}, {"machine", machine_}};
  json["rows"] = OrderedJson::array();
  json["done"] = OrderedJson::array();
  json["failures"] = OrderedJson::array();
  for (const ResultRow& row : rows_) json["rows"].push_back(row_json(row));
  for (const CellKey& cell : done_) json["done"].push_back(cell_json(cell));
  for (const CellFailure& failure : failures_) {
    json["failures"].push_back({{"cell", cell_json(failure.cell)}, {"error", failure.error}});
  }
  return json;
}

Status ResultsFile::write() const {
  // A row a line: a change of one row is a change of one line.
  std::string text = "{\n";
  const OrderedJson whole = json();
  constexpr auto kReplace = OrderedJson::error_handler_t::replace;
  size_t num_left = whole.size();
  for (const auto& [name, value] : whole.items()) {
    text += OrderedJson(name).dump() + ": ";
    if (value.is_array() && !value.empty()) {
      text += "[\n";
      for (size_t i = 0; i < value.size(); ++i) {
        text += value[i].dump(-1, ' ', false, kReplace) + (i + 1 < value.size() ? ",\n" : "\n");
      }
      text += "]";
    } else {
      text += value.dump(1, ' ', false, kReplace);
    }
    text += --num_left > 0 ? ",\n" : "\n";
  }
  return io::write_file_atomic(path_, text + "}\n");
}

Status ResultsFile::add(const CellKey& cell, std::vector<ResultRow> rows) {
  for (const ResultRow& row : rows) {
    if (!std::isfinite(row.value)) {
      return make_error(ErrorCode::kCorrupt, "{}: {} is no number", cell.text(), row.metric);
    }
  }
  std::erase_if(failures_, [&](const CellFailure& failure) { return failure.cell == cell; });
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  done_.insert(cell);
  return write();
}

Status ResultsFile::add_failure(const CellKey& cell, std::string error) {
  std::erase_if(failures_, [&](const CellFailure& failure) { return failure.cell == cell; });
  failures_.push_back({cell, std::move(error)});
  return write();
}

Result<int64_t> ResultsFile::merge(const ResultsFile& other) {
  int64_t num_taken = 0;
  for (const CellKey& cell : other.done_) num_taken += has(cell) ? 0 : 1;
  for (const ResultRow& row : other.rows_) {
    const bool known = std::ranges::any_of(done_, [&](const CellKey& cell) {
      return cell.model == row.model && cell.format == row.format && cell.profile == row.profile &&
             (row.metric == cell.metric || row.metric.starts_with(cell.metric + "/"));
    });
    if (!known) rows_.push_back(row);
  }
  done_.insert(other.done_.begin(), other.done_.end());
  failures_.insert(failures_.end(), other.failures_.begin(), other.failures_.end());
  std::set<CellKey> failed;
  std::erase_if(failures_, [&](const CellFailure& failure) {
    return has(failure.cell) || !failed.insert(failure.cell).second;
  });
  if (machine_.is_null()) machine_ = other.machine_;
  if (const Status written = write(); !written) return written.error();
  return num_taken;
}

}  // namespace comet::study
