// Plots as SVG text: points and lines over two axes, and grouped bars. Colours and shapes are by
// series, through classes s0, s1, … of the report's style; each point says its value when pointed
// at. Caller: the report's sections.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace comet::study {

inline constexpr size_t kNumColors = 8;  // classes s0 … s7 of the report's style

struct PlotPoint {
  double x = 0;
  double y = 0;
  double error = 0;  // half the height of its bar; 0: none
  std::string note;  // shown when pointed at
  bool hollow = false;
};

struct PlotSeries {
  std::string name;
  size_t style = 0;  // colour style % kNumColors, shape style % 6
  std::vector<PlotPoint> points;
};

struct PlotFrame {
  std::string title;  // for screen readers
  std::string x_label;
  std::string y_label;
  bool lines = false;
  bool log_y = false;
  bool labels = false;            // the series' name beside its first point
  std::optional<double> y_limit;  // a dashed line
  std::string y_limit_name;
};
std::string xy_plot(const PlotFrame& frame, const std::vector<PlotSeries>& series);

struct BarGroup {
  std::string name;
  std::vector<PlotSeries> bars;  // one point each, x unused
};
std::string bar_plot(const PlotFrame& frame, const std::vector<BarGroup>& groups);

/// Round numbers from `low` to `high`, about `count`.
std::vector<double> ticks(double low, double high, int count);

}  // namespace comet::study
