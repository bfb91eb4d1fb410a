// comet study SPEC.json -o DIR: measures formats of models by a spec, and writes the report.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "apps/comet/command.h"
#include "comet/base/log.h"
#include "comet/io/file.h"
#include "comet/study/report/report.h"
#include "comet/study/runner/runner.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxSpecBytes = size_t{4} << 20;

struct Options {
  std::string spec;
  std::string out;
  bool print_template = false;
  bool report_only = false;
  double stop_after_s = 0;
  std::vector<std::string> metrics;
  std::vector<std::string> formats;
  std::vector<std::string> profiles;
  std::vector<std::string> merged;  // folders of results
};

Result<study::StudySpec> read_spec(const Options& options) {
  const auto text = io::read_file(options.spec, kMaxSpecBytes);
  if (!text) return text.error();
  const auto directory = std::filesystem::absolute(options.spec).parent_path();
  const study::SpecContext context{options.spec, directory.string(), [](const std::string& name) {
                                     return std::getenv(name.c_str());
                                   }};
  return study::parse_study_spec(*text, context);
}

/// A command's arguments as the command itself reads them.
Status check_arguments(void (*add_command)(CLI::App&, const Globals&, Action&),
                       std::vector<std::string> arguments, const std::string& where) {
  CLI::App app;
  Globals globals;
  Action action;
  add_command(app, globals, action);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& e) {
    return make_error(ErrorCode::kInvalidArgument, "{}: {}", where, e.what());
  }
  return {};
}

/// The flags of every format, before the first hour is spent.
Status check_formats(const study::StudySpec& spec, const std::string& source) {
  const bool served = spec.has(study::MetricKind::kSync) || spec.has(study::MetricKind::kAsync);
  for (const study::StudyModel& model : spec.models) {
    for (const study::StudyFormat& format : spec.formats) {
      const std::string where = fmt::format("{}: format '{}'", source, format.name);
      if (format.format != "bf16" && !model.is_synthetic()) {
        const Status checked =
            check_arguments(add_quantize, study::quantize_arguments(model, format, "OUT"), where);
        if (!checked) return checked;
      }
      if (!served) continue;
      const Status checked =
          check_arguments(add_serve, study::serve_arguments(spec, model, format, "OUT"), where);
      if (!checked) return checked;
    }
  }
  return {};
}

/// What --metrics, --formats and --profiles name must be in the spec.
template <typename List>
Status check_names(const std::vector<std::string>& names, const List& list, const char* flag,
                   const std::string& source) {
  for (const std::string& name : names) {
    if (std::ranges::any_of(list, [&](const auto& item) { return item.name == name; })) continue;
    return make_error(ErrorCode::kInvalidArgument, "{} '{}': {} has none of this name", flag, name,
                      source);
  }
  return {};
}

Status check_selection(const study::StudySpec& spec, const Options& options) {
  for (const Status& checked :
       {check_names(options.metrics, spec.metrics, "--metrics", options.spec),
        check_names(options.formats, spec.formats, "--formats", options.spec),
        check_names(options.profiles, spec.profiles, "--profiles", options.spec)}) {
    if (!checked) return checked;
  }
  return {};
}

Status merge_results(const study::StudySpec& spec, const Options& options,
                     study::ResultsFile& results) {
  for (const std::string& folder : options.merged) {
    const std::string path = folder + "/results.json";
    if (!std::filesystem::exists(path)) {
      return make_error(ErrorCode::kNotFound, "--merge {}: there is no results.json", folder);
    }
    const auto other = study::ResultsFile::open(path, spec);
    if (!other) return other.error();
    const auto num_taken = results.merge(*other);
    if (!num_taken) return num_taken.error();
    log_info("{}: {} cells taken", path, *num_taken);
  }
  return {};
}

std::vector<std::string> global_flags(const Globals& globals) {
  std::vector<std::string> flags{"--device", globals.device};
  if (globals.threads > 0) {
    flags.insert(flags.end(), {"--threads", std::to_string(globals.threads)});
  }
  return flags;
}

Status write_report(const study::StudySpec& spec, const study::ResultsFile& results,
                    const std::string& out) {
  const std::string html = study::report_html(spec, results);
  return io::write_file_atomic(out + "/report.html", html);
}

void print_end(const study::RunnerReport& report) {
  fmt::print("{} of {} cells measured now, {} kept from before", report.num_measured,
             report.num_cells, report.num_kept);
  if (report.num_failed > 0) fmt::print(", {} FAILED", report.num_failed);
  if (report.num_left > 0) fmt::print(", {} left: run the same command again", report.num_left);
  fmt::print("\n");
}

Status run_study_command(const Globals& globals, const Options& options) {
  if (options.print_template) {
    fmt::print("{}", study::study_template());
    return {};
  }
  if (options.spec.empty() || options.out.empty()) {
    return make_error(ErrorCode::kInvalidArgument,
                      "give a SPEC.json and -o DIR; `comet study --template` prints a spec");
  }
  const auto spec = read_spec(options);
  if (!spec) return spec.error();
  if (const Status checked = check_formats(*spec, options.spec); !checked) return checked;
  if (const Status checked = check_selection(*spec, options); !checked) return checked;
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  auto results = study::ResultsFile::open(options.out + "/results.json", *spec);
  if (!results) return results.error();
  if (const Status merged = merge_results(*spec, options, *results); !merged) return merged;
  study::RunnerReport report;
  if (!options.report_only) {
    study::RunnerOptions runner;
    runner.binary = std::filesystem::read_symlink("/proc/self/exe", error).string();
    runner.out_directory = options.out;
    runner.global_flags = global_flags(globals);
    runner.stop_after_s = options.stop_after_s;
    runner.only_metrics = options.metrics;
    runner.only_formats = options.formats;
    runner.only_profiles = options.profiles;
    runner.on_cell = [](int64_t cell_idx, int64_t num_cells, const std::string& text) {
      log_info("{}/{} {}", cell_idx + 1, num_cells, text);
    };
    const auto ran = study::run_study(*spec, runner, *results);
    if (!ran) return ran.error();
    report = *ran;
  }
  if (const Status written = write_report(*spec, *results, options.out); !written) return written;
  if (prints_text(globals)) {
    if (!options.report_only) print_end(report);
    fmt::print("{}/report.html\n", options.out);
  }
  const Status written = write_json_result(globals, "study", Json::parse(results->json().dump()));
  if (!written) return written;
  if (report.num_failed > 0) {
    return make_error(ErrorCode::kIo,
                      "{} of {} cells failed; results.json and the report name them, and the same "
                      "command tries them again",
                      report.num_failed, report.num_cells);
  }
  return {};
}

}  // namespace

void add_study(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand("study", "Measure formats of models, and recommend one");
  command.add_option("SPEC", options->spec, "What is measured (JSON)");
  command.add_option("-o,--out", options->out,
                     "Folder for results.json, report.html and the quantized models");
  command.add_flag("--template", options->print_template, "Print a spec to begin with");
  command.add_flag("--report-only", options->report_only, "Measure nothing");
  command
      .add_option("--stop-after", options->stop_after_s,
                  "Seconds after which no further cell begins; 0: all")
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--metrics", options->metrics,
                  "Measure only these of the spec's now, comma-separated; the rest later, here "
                  "or elsewhere")
      ->delimiter(',');
  command.add_option("--formats", options->formats, "Likewise, of the formats' names")
      ->delimiter(',');
  command.add_option("--profiles", options->profiles, "Likewise, of the use cases")->delimiter(',');
  command
      .add_option("--merge", options->merged,
                  "Take over what other folders of the same spec have measured (repeatable)")
      ->allow_extra_args(false);
  command.footer(study::study_template_help());
  command.callback([&globals, &action, options] {
    action = [&globals, options] { return run_study_command(globals, *options); };
  });
}

}  // namespace comet::cli
