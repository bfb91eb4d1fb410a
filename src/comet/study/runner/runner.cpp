#include "comet/study/runner/runner.h"

#include <algorithm>
#include <filesystem>

#include "comet/base/clock.h"
#include "comet/base/log.h"
#include "comet/io/file.h"
#include "comet/study/runner/cell_rows.h"
#include "comet/study/runner/load_cells.h"

namespace comet::study {
namespace {

constexpr size_t kMaxResultBytes = size_t{1} << 30;

/// A name as a part of a file name.
std::string file_part(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.';
    if (plain) {
      out += c;
    } else if (!out.ends_with('-')) {
      out += '-';
    }
  }
  while (out.ends_with('-')) out.pop_back();
  return out;
}

void add_flags(const StudyFlags& flags, std::vector<std::string>& arguments) {
  for (const auto& [flag, value] : flags) {
    arguments.insert(arguments.end(), {"--" + flag, value});
  }
}

std::string model_folder(const std::string& out_directory, const std::string& model,
                         const std::string& format) {
  return fmt::format("{}/models/{}/{}", out_directory, file_part(model), file_part(format));
}

Result<double> size_bytes(const std::string& directory) {
  std::error_code error;
  double bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".safetensors") {
      bytes += static_cast<double>(entry.file_size(error));
    }
  }
  if (error || bytes == 0) {
    return make_error(ErrorCode::kNotFound, "{}: there is no *.safetensors file", directory);
  }
  return bytes;
}

class Runner {
 public:
  Runner(const StudySpec& spec, const RunnerOptions& options, ResultsFile& results)
      : spec_(spec), options_(options), results_(results) {}

  Result<RunnerReport> run() {
    std::error_code error;
    for (const char* name : {"models", "logs", "journals"}) {
      std::filesystem::create_directories(options_.out_directory + "/" + name, error);
      if (error) {
        return make_error(ErrorCode::kIo, "{}/{}: cannot be made: {}", options_.out_directory, name,
                          error.message());
      }
    }
    const std::vector<CellKey> cells = study_cells(spec_);
    report_.num_cells = static_cast<int64_t>(cells.size());
    const Stopwatch clock;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (results_.has(cells[i])) {
        ++report_.num_kept;
      } else if (!wanted(cells[i]) ||
                 (options_.stop_after_s > 0 && clock.seconds() > options_.stop_after_s)) {
        ++report_.num_left;
      } else if (const Status kept = run_cell(cells[i], static_cast<int64_t>(i)); !kept) {
        return kept.error();
      }
    }
    end_server();
    return report_;
  }

 private:
  [[nodiscard]] bool wanted(const CellKey& cell) const {
    const auto among = [](const std::vector<std::string>& only, const std::string& name) {
      return only.empty() || std::ranges::find(only, name) != only.end();
    };
    return among(options_.only_metrics, cell.metric) && among(options_.only_formats, cell.format) &&
           (cell.profile.empty() || among(options_.only_profiles, cell.profile));
  }

  Status run_cell(const CellKey& cell, int64_t cell_idx) {
    if (options_.on_cell) options_.on_cell(cell_idx, report_.num_cells, cell.text());
    auto rows = measure(cell);
    if (rows) {
      ++report_.num_measured;
      const Status added = results_.add(cell, *std::move(rows));
      if (added || added.error().code != ErrorCode::kCorrupt) return added;
      rows = added.error();
    }
    ++report_.num_failed;
    log_warning("{}: {}", cell.text(), rows.error().message);
    return results_.add_failure(cell, rows.error().message);
  }

  Result<std::vector<ResultRow>> measure(const CellKey& cell) {
    const StudyModel& model = *std::ranges::find(spec_.models, cell.model, &StudyModel::name);
    const StudyFormat& format = *std::ranges::find(spec_.formats, cell.format, &StudyFormat::name);
    const StudyMetric& metric = *std::ranges::find(spec_.metrics, cell.metric, &StudyMetric::name);
    auto directory = prepared_model(model, format);
    if (!directory) return directory.error();
    switch (metric.kind) {
      case MetricKind::kSize: {
        const auto bytes = size_bytes(*directory);
        if (!bytes) return bytes.error();
        return std::vector<ResultRow>{make_row(cell, "", *bytes, "bytes", 1)};
      }
      case MetricKind::kText:
      case MetricKind::kTask:
        return evaluate(cell, model, format, metric, *directory);
      case MetricKind::kSimilarity:
        return compare(cell, model, format, *directory);
      case MetricKind::kSync:
      case MetricKind::kAsync:
        return serve(cell, model, format, *directory);
    }
    return std::vector<ResultRow>{};
  }

  /// The folder that is measured, quantized now if it is not there.
  Result<std::string> prepared_model(const StudyModel& model, const StudyFormat& format) {
    if (format.format == "bf16" || model.is_synthetic()) return model.directory;
    const std::string folder = model_folder(options_.out_directory, model.name, format.name);
    if (std::filesystem::exists(folder + "/config.json")) return folder;
    // What failed an hour ago fails again.
    const auto known = quantize_errors_.find(folder);
    if (known != quantize_errors_.end()) return known->second;
    end_server();  // its threads would slow it down
    std::vector<std::string> arguments = quantize_arguments(model, format, folder);
    if (std::filesystem::exists(folder + ".partial")) arguments.emplace_back("--resume");
    std::filesystem::create_directories(std::filesystem::path(folder).parent_path());
    auto result = run_command(arguments, "quantize-" + file_part(model.name + "-" + format.name));
    if (!result) {
      const Error error{result.error().code, "quantizing failed: " + result.error().message};
      quantize_errors_.emplace(folder, error);
      return error;
    }
    return folder;
  }

  /// The command's JSON result; the error is its last words.
  Result<Json> run_command(std::vector<std::string> arguments, const std::string& name) {
    const std::string json_path = fmt::format("{}/logs/{}.json", options_.out_directory, name);
    const std::string log_path = fmt::format("{}/logs/{}.log", options_.out_directory, name);
    std::error_code ignored;
    std::filesystem::remove(json_path, ignored);
    std::filesystem::remove(log_path, ignored);
    arguments.insert(arguments.begin(), options_.binary);
    arguments.insert(arguments.end(), {"--json", json_path, "--seed", std::to_string(spec_.seed)});
    arguments.insert(arguments.end(), options_.global_flags.begin(), options_.global_flags.end());
    auto process = ChildProcess::start(arguments, log_path);
    if (!process) return process.error();
    const ProcessEnd end = process->wait();
    if (!end.well()) {
      const std::string words = last_words(log_path);
      return make_error(ErrorCode::kIo, "comet {} ended with {}{}{}", arguments[1], end.text(),
                        words.empty() ? "" : ": ", words);
    }
    const auto text = io::read_file(json_path, kMaxResultBytes);
    if (!text) return text.error();
    auto json = parse_json(*text, json_path);
    if (!json) return json.error();
    keep_machine(*json);
    if (!json->contains("result")) {
      return make_error(ErrorCode::kCorrupt, "{}: there is no field 'result'", json_path);
    }
    return json->at("result");
  }

  void keep_machine(const Json& envelope) {
    if (!results_.machine().is_null() || !envelope.contains("machine")) return;
    OrderedJson machine = OrderedJson::parse(envelope.at("machine").dump());
    for (const char* name : {"comet_version", "git_commit", "started_at"}) {
      if (envelope.contains(name)) machine[name] = envelope.at(name).get<std::string>();
    }
    results_.set_machine(std::move(machine));
  }

  static void add_kv(const StudyFormat& format, std::vector<std::string>& arguments) {
    if (format.format == "bf16") add_flags(format.flags, arguments);  // others have their own
  }

  Result<std::vector<ResultRow>> evaluate(const CellKey& cell, const StudyModel& model,
                                          const StudyFormat& format, const StudyMetric& metric,
                                          const std::string& directory) {
    std::vector<std::string> arguments{"eval", directory, "--tasks", metric.task};
    if (!spec_.data.empty()) arguments.insert(arguments.end(), {"--data", spec_.data});
    if (metric.kind == MetricKind::kText) {
      if (!format.is_base()) arguments.insert(arguments.end(), {"--base", model.directory});
      if (spec_.num_tokens > 0) {
        arguments.insert(arguments.end(), {"--num-tokens", std::to_string(spec_.num_tokens)});
      }
    } else if (spec_.limit > 0) {
      arguments.insert(arguments.end(), {"--limit", std::to_string(spec_.limit)});
    }
    add_kv(format, arguments);
    end_server();
    const auto result = run_command(
        arguments, file_part(fmt::format("{}-{}-{}", cell.model, cell.format, cell.metric)));
    if (!result) return result.error();
    if (!result->contains("tasks") || result->at("tasks").size() != 1) {
      return make_error(ErrorCode::kCorrupt, "comet eval gave no result for '{}'", metric.task);
    }
    return rows_of_result(cell, result->at("tasks").front());
  }

  Result<std::vector<ResultRow>> compare(const CellKey& cell, const StudyModel& model,
                                         const StudyFormat& format, const std::string& directory) {
    std::vector<std::string> arguments{"compare",
                                       model.directory,
                                       directory,
                                       "--prompts",
                                       spec_.prompts,
                                       "--max-tokens",
                                       std::to_string(spec_.similarity_tokens),
                                       "--texts"};
    if (spec_.limit > 0) {
      arguments.insert(arguments.end(), {"--limit", std::to_string(spec_.limit)});
    }
    add_kv(format, arguments);
    end_server();
    const auto result =
        run_command(arguments, file_part(fmt::format("{}-{}-similarity", cell.model, cell.format)));
    if (!result) return result.error();
    return rows_of_result(cell, *result);
  }

  /// One server of a model's format for all its cells in a row.
  Result<std::vector<ResultRow>> serve(const CellKey& cell, const StudyModel& model,
                                       const StudyFormat& format, const std::string& directory) {
    if (server_ &&
        (server_model_ != model.name || server_format_ != format.name || server_->ended())) {
      end_server();
    }
    if (!server_) {
      const std::string name =
          options_.out_directory + "/logs/serve-" + file_part(cell.model + "-" + cell.format);
      std::vector<std::string> command = serve_arguments(spec_, model, format, directory);
      command.insert(command.begin(), options_.binary);
      command.insert(command.end(), options_.global_flags.begin(), options_.global_flags.end());
      auto server = StudyServer::start(std::move(command), name + ".json", name + ".log");
      if (!server) return server.error();
      keep_machine(server->envelope());
      server_.emplace(*std::move(server));
      server_model_ = model.name;
      server_format_ = format.name;
    }
    auto rows = cell.metric == "sync" ? measure_sync(spec_, cell, *server_)
                                      : measure_async(spec_, cell, *server_);
    if (!rows) end_server();  // the next cell begins with a sound one
    return rows;
  }

  void end_server() {
    if (server_) server_->stop();
    server_.reset();
  }

  const StudySpec& spec_;
  const RunnerOptions& options_;
  ResultsFile& results_;
  RunnerReport report_;
  std::map<std::string, Error> quantize_errors_;
  std::optional<StudyServer> server_;
  std::string server_model_;
  std::string server_format_;
};

}  // namespace

std::vector<std::string> quantize_arguments(const StudyModel& model, const StudyFormat& format,
                                            const std::string& out_directory) {
  std::vector<std::string> arguments{"quantize",    model.directory, "--out",
                                     out_directory, "--format",      format.format};
  for (const auto* flags : {&format.common_flags, &format.flags}) add_flags(*flags, arguments);
  return arguments;
}

std::vector<std::string> serve_arguments(const StudySpec& spec, const StudyModel& model,
                                         const StudyFormat& format, const std::string& directory) {
  std::vector<std::string> arguments{"serve"};
  if (model.is_synthetic()) {
    arguments.insert(arguments.end(), {"--synthetic", model.synthetic, "--tokenizer",
                                       model.tokenizer, "--format", format.format});
  } else {
    arguments.push_back(directory);
  }
  arguments.insert(arguments.end(), {"--port", "0", "--no-access-log"});
  if (model.is_synthetic() || format.format == "bf16") add_flags(format.flags, arguments);
  add_flags(spec.serve_flags, arguments);
  return arguments;
}

std::vector<CellKey> study_cells(const StudySpec& spec) {
  std::vector<CellKey> cells;
  for (const StudyModel& model : spec.models) {
    for (const StudyFormat& format : spec.formats) {
      for (const StudyMetric& metric : spec.metrics) {
        const bool served = metric.kind == MetricKind::kSync || metric.kind == MetricKind::kAsync;
        if (metric.kind == MetricKind::kSimilarity && format.is_base()) continue;
        if (!served) {
          cells.push_back({model.name, format.name, metric.name, ""});
          continue;
        }
        for (const client::Profile& profile : spec.profiles) {
          cells.push_back({model.name, format.name, metric.name, profile.name});
        }
      }
    }
  }
  return cells;
}

Result<RunnerReport> run_study(const StudySpec& spec, const RunnerOptions& options,
                               ResultsFile& results) {
  return Runner(spec, options, results).run();
}

}  // namespace comet::study
