// From what a command or a load run says to a cell's rows. Callers: runner, load_cells.
#pragma once

#include "comet/client/load/summary.h"
#include "comet/client/ramp/rate_window.h"
#include "comet/study/runner/results_file.h"

namespace comet::study {

/// Every number of a result object whose name is no count: {"acc": x, "acc_stderr": x,
/// "num_samples": n} is one row.
std::vector<ResultRow> rows_of_result(const CellKey& cell, const Json& result);

/// "perplexity", "share", "nats/token", …
std::string unit_of(const std::string& figure);

/// A row of a cell.
ResultRow make_row(const CellKey& cell, const std::string& figure, double value,
                   const std::string& unit, int64_t n);

/// $ a query of a machine that is used for `seconds` a query.
double cost_per_query(double price_per_hour, double seconds);

/// Latencies of one load run: mean, p50, p95 and p99, or only mean and p99 of a sweep's points.
std::vector<ResultRow> rows_of_load(const CellKey& cell, const client::LoadSummary& summary,
                                    bool only_mean_and_p99);

/// Of one rate of a run whose rate rises: what the window gives, and how it was.
std::vector<ResultRow> rows_of_window(const CellKey& cell, const client::RateWindow& window);

}  // namespace comet::study
