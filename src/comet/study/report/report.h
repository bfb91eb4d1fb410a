// report.html: one file without outside assets, made of the spec and results.json alone. Every
// figure carries its row's number in results.json (data-row) and value (data-value), so a reader,
// or a test, can go back to it. Caller: the study command.
#pragma once

#include <string>

#include "comet/study/runner/results_file.h"

namespace comet::study {

std::string report_html(const StudySpec& spec, const ResultsFile& results);

}  // namespace comet::study
