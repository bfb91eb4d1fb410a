// Counters and histograms, and their text format (Prometheus exposition 0.0.4). Not thread-safe:
// Metrics holds the lock. No library: Debian's prometheus-cpp brings a web server of its own.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace comet::server {

class Histogram {
 public:
  /// `bounds`: upper bounds, ascending; one for everything above is added.
  explicit Histogram(std::vector<double> bounds)
      : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}
  void observe(double value);

 private:
  friend class MetricsText;
  std::vector<double> bounds_;
  std::vector<int64_t> counts_;  // of each bucket alone
  double sum_ = 0;
};

/// Builds the text of one scrape. Names come without the prefix.
class MetricsText {
 public:
  /// `label`: what every sample carries, model_name="…".
  MetricsText(std::string prefix, std::string label)
      : prefix_(std::move(prefix)), label_(std::move(label)) {}

  void gauge(std::string_view name, std::string_view help, double value);
  /// `name` ends in _total.
  void counter(std::string_view name, std::string_view help, double value);
  void histogram(std::string_view name, std::string_view help, const Histogram& histogram);
  /// HELP and TYPE of a family whose samples follow.
  void family(std::string_view name, std::string_view help, std::string_view type);
  void sample(std::string_view name, std::string_view more_labels, double value);

  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string prefix_;
  std::string label_;
  std::string text_;
};

/// `name="value"` with the value escaped.
std::string metric_label(std::string_view name, std::string_view value);

}  // namespace comet::server
