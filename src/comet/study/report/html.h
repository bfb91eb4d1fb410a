// Pieces of HTML that escape what they are given. Callers: the report's sections.
#pragma once

#include <string>
#include <string_view>

#include "comet/study/runner/row_index.h"

namespace comet::study {

/// For text and for quoted attributes; bytes that are no UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

/// "1.23 %", "28.3 MB", "17.32", "0.0123": for people, by unit.
std::string value_text(double value, const std::string& unit);

/// `17.32 ± 0.21` with the row's number and value in attributes: how the report shows any row.
std::string figure_html(const RowIndex& index, const ResultRow& row);
/// A link to a row in the list at the report's end: "r12".
std::string row_link(const RowIndex& index, const ResultRow& row);

}  // namespace comet::study
