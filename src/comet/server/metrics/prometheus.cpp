#include "comet/server/metrics/prometheus.h"

#include <fmt/format.h>

#include <algorithm>

namespace comet::server {

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(bucket - bounds_.begin())];
  sum_ += value;
}

std::string metric_label(std::string_view name, std::string_view value) {
  std::string escaped;
  for (const char c : value) {
    if (c == '\n') {
      escaped += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return fmt::format("{}=\"{}\"", name, escaped);
}

void MetricsText::family(std::string_view name, std::string_view help, std::string_view type) {
  text_ += fmt::format("# HELP {0}{1} {2}\n# TYPE {0}{1} {3}\n", prefix_, name, help, type);
}

void MetricsText::sample(std::string_view name, std::string_view more_labels, double value) {
  const std::string_view comma = label_.empty() || more_labels.empty() ? "" : ",";
  text_ += fmt::format("{}{}{{{}{}{}}} {}\n", prefix_, name, label_, comma, more_labels, value);
}

void MetricsText::gauge(std::string_view name, std::string_view help, double value) {
  family(name, help, "gauge");
  sample(name, "", value);
}

void MetricsText::counter(std::string_view name, std::string_view help, double value) {
  family(name, help, "counter");
  sample(name, "", value);
}

void MetricsText::histogram(std::string_view name, std::string_view help,
                            const Histogram& histogram) {
  family(name, help, "histogram");
  int64_t total = 0;
  const std::string bucket = std::string(name) + "_bucket";
  for (size_t i = 0; i < histogram.counts_.size(); ++i) {
    total += histogram.counts_[i];
    const bool last = i == histogram.bounds_.size();
    const std::string bound = last ? "+Inf" : fmt::format("{}", histogram.bounds_[i]);
    sample(bucket, metric_label("le", bound), static_cast<double>(total));
  }
  sample(std::string(name) + "_sum", "", histogram.sum_);
  sample(std::string(name) + "_count", "", static_cast<double>(total));
}

}  // namespace comet::server
