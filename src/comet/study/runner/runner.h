// The study's runner: quantizes what is missing, measures cell by cell, and keeps each in
// results.json. Every measurement is a `comet` command in a process of its own (docs/adr/0014): it
// gives the figures that the command gives, and one that crashes costs one cell. Caller: the study
// command.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "comet/study/runner/results_file.h"

namespace comet::study {

struct RunnerOptions {
  std::string binary;                     // of comet
  std::string out_directory;              // models/, logs/, journals/, results.json, report.html
  std::vector<std::string> global_flags;  // for every command: --threads, --device
  double stop_after_s = 0;                // starts no cell after it; 0: never
  // Of the spec, measured now; empty: all.
  std::vector<std::string> only_metrics;
  std::vector<std::string> only_formats;
  std::vector<std::string> only_profiles;  // of sync and async
  /// Before each cell: its place and what it is.
  std::function<void(int64_t cell_idx, int64_t num_cells, const std::string& text)> on_cell;
};

struct RunnerReport {
  int64_t num_cells = 0;
  int64_t num_measured = 0;  // now
  int64_t num_kept = 0;      // from an earlier run
  int64_t num_failed = 0;
  int64_t num_left = 0;  // not begun: stop_after_s, only_*
};

/// Failed cells are kept as failures, and tried again by the next run. An error: nothing can go on
/// (the disk is full).
Result<RunnerReport> run_study(const StudySpec& spec, const RunnerOptions& options,
                               ResultsFile& results);

/// Every cell in the order in which they are measured; a base format has no similarity to itself.
std::vector<CellKey> study_cells(const StudySpec& spec);

/// The arguments of `comet quantize` for a model and a format, without the program's name.
std::vector<std::string> quantize_arguments(const StudyModel& model, const StudyFormat& format,
                                            const std::string& out_directory);

/// The arguments of `comet serve` for a format of a model: of a folder (the model's own or the
/// quantized one), or of a shape. Without the program's name.
std::vector<std::string> serve_arguments(const StudySpec& spec, const StudyModel& model,
                                         const StudyFormat& format, const std::string& directory);

}  // namespace comet::study
