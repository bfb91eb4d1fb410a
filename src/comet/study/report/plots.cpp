#include "comet/study/report/plots.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "comet/study/report/html.h"

namespace comet::study {
namespace {

constexpr double kWidth = 720;
constexpr double kHeight = 380;
constexpr double kLeft = 64;
constexpr double kRight = 20;
constexpr double kTop = 16;
constexpr double kBottom = 52;
constexpr double kLabelSpace = 120;  // right of the points, for their names

std::string tick_text(double value) {
  const double size = std::fabs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return fmt::format("{:.0e}", value);
  return fmt::format("{:g}", std::round(value * 1e6) / 1e6);
}

/// A value's place on an axis of pixels.
class Axis {
 public:
  Axis(double low, double high, double from_px, double to_px, bool log)
      : low_(log ? std::log10(low) : low),
        high_(log ? std::log10(high) : high),
        from_px_(from_px),
        to_px_(to_px),
        log_(log) {}
  [[nodiscard]] double px(double value) const {
    const double v = log_ ? std::log10(value) : value;
    return from_px_ + (v - low_) / (high_ - low_) * (to_px_ - from_px_);
  }

 private:
  double low_;
  double high_;
  double from_px_;
  double to_px_;
  bool log_;
};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void widen(double share) {
    if (!(low <= high)) *this = {0, 1};
    const double span = high > low ? high - low : std::max(std::fabs(high), 1.0) * 0.1;
    low -= span * share;
    high += span * share;
  }
};

std::vector<double> log_ticks(double low, double high) {
  std::vector<double> out;
  for (double decade = std::pow(10, std::floor(std::log10(low))); decade <= high; decade *= 10) {
    for (const double step : {1.0, 2.0, 5.0}) {
      const double value = decade * step;
      if (value >= low && value <= high) out.push_back(value);
    }
  }
  return out;
}

/// One of six shapes, so that series differ without colour.
std::string marker(size_t style, double x, double y, bool hollow) {
  const std::string classes =
      fmt::format("mark s{}{}", style % kNumColors, hollow ? " hollow" : "");
  switch (style % 6) {
    case 0:
      return fmt::format(R"(<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="5"/>)", classes, x, y);
    case 1:
      return fmt::format(R"(<rect class="{}" x="{:.1f}" y="{:.1f}" width="9" height="9"/>)",
                         classes, x - 4.5, y - 4.5);
    case 2:
      return fmt::format(R"(<path class="{}" d="M{:.1f} {:.1f}l5.5 10h-11z"/>)", classes, x, y - 6);
    case 3:
      return fmt::format(R"(<path class="{}" d="M{:.1f} {:.1f}l6 6l-6 6l-6 -6z"/>)", classes, x,
                         y - 6);
    case 4:
      return fmt::format(R"(<path class="{}" d="M{:.1f} {:.1f}l5.5 -10h-11z"/>)", classes, x,
                         y + 6);
    default:
      return fmt::format(R"(<path class="{}" d="M{:.1f} {:.1f}h4v4h4v4h-4v4h-4v-4h-4v-4h4z"/>)",
                         classes, x - 2, y - 6);
  }
}

std::string open_svg(const PlotFrame& frame) {
  return fmt::format(R"(<svg viewBox="0 0 {0} {1}" role="img" aria-label="{2}"><title>{2}</title>)",
                     kWidth, kHeight, escape_html(frame.title));
}

std::string y_axis(const PlotFrame& frame, const Axis& axis, const std::vector<double>& marks,
                   double right_px) {
  std::string svg;
  for (const double value : marks) {
    const double y = axis.px(value);
    svg += fmt::format(
        R"(<line class="grid" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/><text class="tick" x="{3}" y="{4:.1f}" text-anchor="end">{5}</text>)",
        kLeft, right_px, y, kLeft - 8, y + 4, tick_text(value));
  }
  const double middle = (kTop + kHeight - kBottom) / 2;
  svg += fmt::format(
      R"svg(<text class="label" transform="translate(16 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>)svg",
      middle, escape_html(frame.y_label));
  return svg;
}

std::string limit_line(const PlotFrame& frame, const Axis& y, const Range& range, double right_px) {
  if (!frame.y_limit || *frame.y_limit < range.low || *frame.y_limit > range.high) return "";
  const double at = y.px(*frame.y_limit);
  return fmt::format(
      R"(<line class="limit" x1="{0}" x2="{1}" y1="{2:.1f}" y2="{2:.1f}"/><text class="tick" x="{1}" y="{3:.1f}" text-anchor="end">{4}</text>)",
      kLeft, right_px, at, at - 5, escape_html(frame.y_limit_name));
}

std::string series_svg(const PlotFrame& frame, const PlotSeries& series, const Axis& x,
                       const Axis& y) {
  std::string svg;
  if (frame.lines) {
    std::string path;
    for (const PlotPoint& point : series.points) {
      path +=
          fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x.px(point.x), y.px(point.y));
    }
    svg += fmt::format(R"(<path class="line s{}" d="{}"/>)", series.style % kNumColors, path);
  }
  for (const PlotPoint& point : series.points) {
    const double px = x.px(point.x);
    svg +=
        fmt::format("<g><title>{}: {}</title>", escape_html(series.name), escape_html(point.note));
    if (point.error > 0) {
      svg += fmt::format(
          R"(<line class="error s{0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}"/>)",
          series.style % kNumColors, px, y.px(point.y - point.error), y.px(point.y + point.error));
    }
    svg += marker(series.style, px, y.px(point.y), point.hollow) + "</g>";
  }
  return svg;
}

/// Names beside first points, moved apart where they would lie on each other.
std::string point_labels(const std::vector<PlotSeries>& series, const Axis& x, const Axis& y) {
  struct Label {
    double x;
    double y;
    const PlotSeries* series;
  };
  std::vector<Label> labels;
  for (const PlotSeries& one : series) {
    if (one.points.empty()) continue;
    labels.push_back({x.px(one.points.front().x) + 10, y.px(one.points.front().y) + 4, &one});
  }
  std::ranges::sort(labels, {}, &Label::y);
  for (size_t i = 1; i < labels.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      const bool beside = std::fabs(labels[i].x - labels[j].x) < kLabelSpace;
      if (beside && labels[i].y - labels[j].y < 14) labels[i].y = labels[j].y + 14;
    }
  }
  std::string svg;
  for (const Label& label : labels) {
    svg += fmt::format(R"(<text class="name" x="{:.1f}" y="{:.1f}">{}</text>)", label.x, label.y,
                       escape_html(label.series->name));
  }
  return svg;
}

}  // namespace

std::vector<double> ticks(double low, double high, int count) {
  if (!(high > low)) return {low};
  const double raw = (high - low) / count;
  const double decade = std::pow(10, std::floor(std::log10(raw)));
  double step = decade * 10;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (decade * factor >= raw) {
      step = decade * factor;
      break;
    }
  }
  std::vector<double> out;
  for (double value = std::ceil(low / step) * step; value <= high + step * 1e-9; value += step) {
    out.push_back(value);
  }
  return out;
}

std::string xy_plot(const PlotFrame& frame, const std::vector<PlotSeries>& series) {
  Range xs;
  Range ys;
  for (const PlotSeries& one : series) {
    for (const PlotPoint& point : one.points) {
      xs.add(point.x);
      ys.add(point.y + point.error);
      if (!frame.log_y || point.y > point.error) ys.add(point.y - point.error);
    }
  }
  if (frame.y_limit && !frame.log_y) ys.add(std::min(*frame.y_limit, ys.high * 1.3));
  xs.widen(0.06);
  const bool positive = xs.low + (xs.high - xs.low) * 0.06 >= 0;
  if (frame.lines && positive) xs.low = 0;
  if (frame.log_y) {
    ys = {ys.low / 1.15, ys.high * 1.15};
  } else {
    ys.widen(0.1);
    if (frame.lines && ys.low < ys.high * 0.5) ys.low = 0;
  }
  const double right = kWidth - kRight - (frame.labels ? kLabelSpace : 0);
  const Axis x(xs.low, xs.high, kLeft, right, false);
  const Axis y(ys.low, ys.high, kHeight - kBottom, kTop, frame.log_y);
  std::string svg = open_svg(frame);
  const double plot_right = kWidth - kRight;
  svg += y_axis(frame, y, frame.log_y ? log_ticks(ys.low, ys.high) : ticks(ys.low, ys.high, 6),
                plot_right);
  for (const double value : ticks(xs.low, xs.high, 7)) {
    svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)",
                       x.px(value), kHeight - kBottom + 20, tick_text(value));
  }
  svg += fmt::format(
      R"(<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text class="label" x="{3:.1f}" y="{4}" text-anchor="middle">{5}</text>)",
      kLeft, plot_right, kHeight - kBottom, (kLeft + plot_right) / 2, kHeight - 8,
      escape_html(frame.x_label));
  svg += limit_line(frame, y, ys, plot_right);
  for (const PlotSeries& one : series) svg += series_svg(frame, one, x, y);
  if (frame.labels) svg += point_labels(series, x, y);
  return svg + "</svg>\n";
}

std::string bar_plot(const PlotFrame& frame, const std::vector<BarGroup>& groups) {
  Range ys;
  ys.add(0);
  size_t num_bars = 1;
  for (const BarGroup& group : groups) {
    num_bars = std::max(num_bars, group.bars.size());
    for (const PlotSeries& bar : group.bars)
      ys.add(bar.points.front().y + bar.points.front().error);
  }
  ys.high = ys.high > 0 ? ys.high * 1.06 : 1;
  const Axis y(ys.low, ys.high, kHeight - kBottom, kTop, false);
  const double right = kWidth - kRight;
  const double group_px = (right - kLeft) / static_cast<double>(std::max<size_t>(1, groups.size()));
  const double bar_px = std::min(28.0, group_px * 0.8 / static_cast<double>(num_bars));
  std::string svg = open_svg(frame) + y_axis(frame, y, ticks(ys.low, ys.high, 6), right);
  for (size_t g = 0; g < groups.size(); ++g) {
    const double middle = kLeft + group_px * (static_cast<double>(g) + 0.5);
    double left = middle - bar_px * static_cast<double>(groups[g].bars.size()) / 2;
    for (const PlotSeries& bar : groups[g].bars) {
      const PlotPoint& point = bar.points.front();
      const double top = y.px(point.y);
      svg += fmt::format(
          R"(<g><title>{}: {}</title><rect class="bar s{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>)",
          escape_html(bar.name), escape_html(point.note), bar.style % kNumColors, left + 1, top,
          bar_px - 2, std::max(0.5, kHeight - kBottom - top));
      if (point.error > 0) {
        svg += fmt::format(
            R"(<line class="whisker" x1="{0:.1f}" x2="{0:.1f}" y1="{1:.1f}" y2="{2:.1f}"/>)",
            left + bar_px / 2, y.px(std::max(0.0, point.y - point.error)),
            y.px(point.y + point.error));
      }
      svg += "</g>";
      left += bar_px;
    }
    svg += fmt::format(R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)",
                       middle, kHeight - kBottom + 20, escape_html(groups[g].name));
  }
  return svg +
         fmt::format(R"(<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/></svg>)", kLeft,
                     right, kHeight - kBottom) +
         "\n";
}

}  // namespace comet::study
