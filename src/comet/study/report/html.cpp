#include "comet/study/report/html.h"

#include <cmath>

namespace comet::study {
namespace {

/// Bytes of the UTF-8 character that `text` begins with; 0: none does.
size_t character_bytes(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text.front());
  const size_t count = lead < 0x80                   ? 1
                       : lead >= 0xC2 && lead < 0xE0 ? 2
                       : lead >= 0xE0 && lead < 0xF0 ? 3
                       : lead >= 0xF0 && lead < 0xF5 ? 4
                                                     : 0;
  if (count == 0 || text.size() < count) return 0;
  for (size_t i = 1; i < count; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 0;
  }
  return count;
}

std::string bytes_text(double bytes) {
  const char* unit = "B";
  for (const char* larger : {"kB", "MB", "GB", "TB"}) {
    if (bytes < 999.95) break;
    bytes /= 1e3;
    unit = larger;
  }
  return fmt::format("{:.1f} {}", bytes, unit);
}

/// Decimal places that show four significant digits; −1: an exponent is better.
int decimals(double value) {
  const double size = std::fabs(value);
  if (size == 0 || size >= 1000) return 0;
  if (size >= 100) return 1;
  if (size >= 10) return 2;
  if (size >= 1) return 3;
  return size >= 1e-4 ? 4 : -1;
}

std::string with_decimals(double value, int count) {
  return count < 0 ? fmt::format("{:.2e}", value) : fmt::format("{:.{}f}", value, count);
}

/// As many decimals as its value has.
std::string error_text(const ResultRow& row) {
  if (row.unit == "share") return fmt::format("{:.1f}", *row.std_error * 100);
  if (row.unit == "bytes" || row.unit == "$") return value_text(*row.std_error, row.unit);
  return with_decimals(*row.std_error, decimals(row.value));
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t count = character_bytes(text);
    const char c = text.front();
    if (count == 0) {
      out += "\xEF\xBF\xBD";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, count);
    }
    text.remove_prefix(std::max<size_t>(1, count));
  }
  return out;
}

std::string value_text(double value, const std::string& unit) {
  if (unit == "bytes") return bytes_text(value);
  if (unit == "share") return fmt::format("{:.1f} %", value * 100);
  if (unit == "$") return fmt::format("${:.3g}", value);
  if (unit == "requests") return fmt::format("{:.0f}", value);
  return with_decimals(value, decimals(value));
}

std::string figure_html(const RowIndex& index, const ResultRow& row) {
  std::string text = value_text(row.value, row.unit);
  if (row.std_error && *row.std_error > 0) {
    text += fmt::format("<small> ± {}</small>", escape_html(error_text(row)));
  }
  return fmt::format(
      R"(<a class="figure" href="#row-{0}" data-row="{0}" data-value="{1}" title="{2} {3} {4}, n = {5}">{6}</a>)",
      index.number(row), row.value, escape_html(row.format), escape_html(row.metric),
      escape_html(row.profile), row.n, text);
}

std::string row_link(const RowIndex& index, const ResultRow& row) {
  return fmt::format(R"(<a class="ref" href="#row-{0}" data-row="{0}">r{0}</a>)",
                     index.number(row));
}

}  // namespace comet::study
