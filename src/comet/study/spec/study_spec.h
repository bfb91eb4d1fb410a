// A study's spec: models × formats × metrics, and how they are measured (product page §4).
// Callers: the study command, runner, report. Paths are relative to the spec's folder; "${NAME}" in
// them is an environment variable. Every error names the file and the field.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "comet/base/json.h"
#include "comet/client/load/profile.h"

namespace comet::study {

struct StudyModel {
  std::string name;       // in rows: the folder's name, or the shape's
  std::string directory;  // resolved
  std::string synthetic;  // a shape of `comet serve --synthetic`; the model has no folder then
  std::string tokenizer;  // its folder

  [[nodiscard]] bool is_synthetic() const { return !synthetic.empty(); }
};

using StudyFlags = std::vector<std::pair<std::string, std::string>>;

struct StudyFormat {
  std::string name;    // in rows: "name", else "w4ax(fmpq)"
  std::string format;  // bf16, or what `comet quantize --format` takes
  /// Of `comet quantize`, of synthetic models of `comet serve --synthetic`: {"recipe", "fmpq"}.
  StudyFlags flags;
  /// The spec's own flags for every quantized folder, which its name leaves out.
  StudyFlags common_flags;
  double rate_factor = 1;  // times async.first_rate

  [[nodiscard]] bool is_base() const { return format == "bf16" && flags.empty(); }
};

enum class MetricKind { kSize, kText, kTask, kSimilarity, kSync, kAsync };

struct StudyMetric {
  std::string name;  // as in the spec
  MetricKind kind = MetricKind::kSize;
  std::string task;  // for `comet eval --tasks`: a task's name, or text:PATH with the path resolved
};

/// Latency objectives; 0: none.
struct StudySlo {
  double ttft_p99_ms = 0;
  double itl_p99_ms = 0;
};

/// A measured point ends at either bound.
struct LoadBounds {
  double duration_s = 60;
  int64_t num_requests = 100;
  int64_t warmup_tokens = 0;  // of the answer before the clock starts; 0: the profile's
};

/// The points of an asynchronous sweep.
struct AsyncLoad : LoadBounds {
  double window_s = 0;  // above 0: one run whose rate rises in steps, each measured so long
  double first_rate_per_s = 0;
  std::map<std::string, double> first_rates;  // of profiles; before first_rate_per_s
  double rate_step = 1.5;
  int64_t max_in_flight = 1024;  // to which a step of such a run fills the server up

  /// 0: half of what one request at a time gives.
  [[nodiscard]] double first_rate(const std::string& profile) const;
};

struct StudySpec {
  OrderedJson json;  // as written: what results.json remembers
  std::vector<StudyModel> models;
  std::vector<StudyFormat> formats;
  std::vector<StudyMetric> metrics;
  std::vector<client::Profile> profiles;  // scaled
  double profile_scale = 1;
  std::string machine_name;
  double price_per_hour = 0;
  StudySlo slo;
  int64_t limit = 0;       // documents of a task, prompts of similarity; 0: all
  int64_t num_tokens = 0;  // of texts; 0: all
  uint64_t seed = 0;
  std::string data;     // folder of the tasks' files
  std::string prompts;  // file for similarity
  int64_t similarity_tokens = 128;
  StudyFlags serve_flags;  // of `comet serve`, for every server
  LoadBounds sync;
  AsyncLoad async;
  int64_t max_rates = 10;        // of an asynchronous sweep
  double accuracy_floor = 0.98;  // share of BF16's quality that a recommended format keeps

  [[nodiscard]] bool has(MetricKind kind) const;
  /// Whether anything says how good the formats' answers are; else only cost ranks them.
  [[nodiscard]] bool measures_quality() const;
};

/// What reading a spec needs from outside.
struct SpecContext {
  std::string source;     // the file's name
  std::string directory;  // relative paths begin here
  /// An environment variable; nullptr: not set.
  std::function<const char*(const std::string&)> environment;
};

Result<StudySpec> parse_study_spec(const std::string& text, const SpecContext& context);

/// A spec to begin with, and what its fields mean.
std::string study_template();
std::string study_template_help();

}  // namespace comet::study
