#include "apps/comet/train_log.h"

#include <array>
#include <filesystem>
#include <sstream>

#include "comet/study/report/plots.h"

namespace comet::cli {
namespace {

constexpr size_t kMaxLogBytes = size_t{1} << 30;

OrderedJson evaluation_json(const train::Evaluation& evaluation) {
  return {{"top1", evaluation.top1},
          {"top5", evaluation.top5},
          {"loss", evaluation.loss},
          {"num_images", evaluation.num_images}};
}

/// A plot of the report's, with the colours that its page would give it.
std::string with_style(std::string svg, double top) {
  constexpr std::string_view kOpen = "<svg ";
  svg.replace(0, kOpen.size(), fmt::format("<svg y=\"{}\" width=\"720\" height=\"380\" ", top));
  return svg;
}

constexpr std::string_view kStyle =
    "<style>svg{background:#fdfdfc}text{fill:#5b636e;font:12px sans-serif}.label{font-size:13px}"
    ".name{fill:#1c1f23}.grid{stroke:#dfe2e6}.axis{stroke:#5b636e}.line{fill:none;stroke-width:2}"
    ".mark{stroke:#fff}.s1.line{stroke:#0072b2}.s1.mark{fill:#0072b2}.s2.line{stroke:#c4560a}"
    ".s2.mark{fill:#c4560a}.s3.line{stroke:#00805f}.s3.mark{fill:#00805f}</style>";

study::PlotSeries series_of(const Json& epochs, const std::string& name, size_t style,
                            const std::string& part, const std::string& field, double factor) {
  study::PlotSeries series;
  series.name = name;
  series.style = style;
  for (const Json& line : epochs) {
    const Json* from = &line;
    if (!part.empty()) {
      if (!line.contains(part)) continue;
      from = &line[part];
    }
    const Json& value = (*from)[field];
    if (!value.is_number()) continue;
    study::PlotPoint point;
    point.x = static_cast<double>(line["epoch"].get<int64_t>());
    point.y = factor * value.get<double>();
    point.note = fmt::format("{} after epoch {}: {:.4g}", name, point.x, point.y);
    series.points.push_back(std::move(point));
  }
  return series;
}

std::string plot(const char* title, const char* y_label, std::vector<study::PlotSeries> series) {
  std::erase_if(series, [](const study::PlotSeries& one) { return one.points.empty(); });
  if (series.empty()) return "";
  study::PlotFrame frame;
  frame.title = title;
  frame.x_label = "epoch";
  frame.y_label = y_label;
  frame.lines = true;
  frame.labels = true;
  return study::xy_plot(frame, series);
}

}  // namespace

std::string train_curve(const Json& epochs) {
  const std::string losses =
      plot("Loss over epochs", "loss",
           {series_of(epochs, "training", 1, "", "train_loss", 1),
            series_of(epochs, "validation", 2, "validation", "loss", 1),
            series_of(epochs, "validation, averaged", 3, "average_validation", "loss", 1)});
  const std::string accuracy =
      plot("Accuracy over epochs", "top-1, %",
           {series_of(epochs, "validation", 2, "validation", "top1", 100),
            series_of(epochs, "averaged weights", 3, "average_validation", "top1", 100)});
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {}\" width=\"720\">{}",
      accuracy.empty() ? 380 : 780, kStyle);
  if (!losses.empty()) svg += with_style(losses, 0);
  if (!accuracy.empty()) svg += with_style(accuracy, 400);
  return svg + "</svg>\n";
}

Result<TrainLog> TrainLog::open(const std::string& directory, int64_t num_steps,
                                int64_t steps_per_line, bool events) {
  const std::string path = directory + "/log.jsonl";
  std::string kept;
  Json epochs = Json::array();
  if (num_steps > 0 && std::filesystem::exists(path)) {
    const auto text = io::read_file(path, kMaxLogBytes);
    if (!text) return text.error();
    std::istringstream lines(*text);
    for (std::string line; std::getline(lines, line);) {
      const auto json = parse_json(line, path);
      if (!json || !json->is_object()) break;  // a line that a kill cut off
      if (json->value("step", int64_t{0}) > num_steps) break;
      kept += line + "\n";
      if (json->value("type", "") == "epoch") epochs.push_back(*json);
    }
  }
  auto file = io::OutputFile::create(path);
  if (!file) return file.error();
  TrainLog log(*std::move(file), directory, steps_per_line);
  log.epochs_ = std::move(epochs);
  const auto bytes = std::as_bytes(std::span(kept.data(), kept.size()));
  if (const Status written = log.file_.write(bytes); !written) return written.error();
  if (events) {
    auto event_file = train::EventFile::create(directory, num_steps);
    if (!event_file) return event_file.error();
    log.events_ = *std::move(event_file);
  }
  return log;
}

void TrainLog::write(const OrderedJson& line) {
  const std::string text = line.dump() + "\n";
  const Status written = file_.write(std::as_bytes(std::span(text.data(), text.size())));
  if (status_.ok() && !written.ok()) status_ = written;
}

void TrainLog::write_events(int64_t step, std::span<const train::Scalar> scalars) {
  if (!events_) return;
  const Status written = events_->add(step, scalars);
  if (status_.ok() && !written.ok()) status_ = written;
}

void TrainLog::on_step(const train::StepReport& report) {
  num_images_ += report.num_images;
  seconds_ += report.seconds;
  data_wait_s_ += report.data_wait_s;
  if (report.step % steps_per_line_ != 0 && !report.skipped) return;
  images_per_s_ = static_cast<double>(num_images_) / seconds_;
  OrderedJson line{{"type", "step"},
                   {"step", report.step},
                   {"epoch", report.epoch + 1},
                   {"loss", report.loss},
                   {"lr", report.lr},
                   {"grad_norm", report.grad_norm},
                   {"images_per_s", images_per_s_},
                   {"data_wait_share", data_wait_s_ / seconds_}};
  if (report.skipped) line["skipped"] = true;
  write(line);
  write_events(
      report.step,
      std::array{train::Scalar{"train/loss", report.loss}, train::Scalar{"train/lr", report.lr},
                 train::Scalar{"train/grad_norm", report.grad_norm},
                 train::Scalar{"train/images_per_s", images_per_s_},
                 train::Scalar{"train/data_wait_share", data_wait_s_ / seconds_}});
  num_images_ = 0;
  seconds_ = 0;
  data_wait_s_ = 0;
}

void TrainLog::on_epoch(const train::EpochReport& report) {
  OrderedJson line{{"type", "epoch"},
                   {"step", report.step},
                   {"epoch", report.epoch + 1},
                   {"train_loss", report.train_loss},
                   {"lr", report.lr}};
  if (report.validation) line["validation"] = evaluation_json(*report.validation);
  if (report.average_validation) {
    line["average_validation"] = evaluation_json(*report.average_validation);
  }
  write(line);
  write_events(report.step, std::array{train::Scalar{"epoch/train_loss", report.train_loss}});
  const auto write_evaluation = [&](const std::string& name,
                                    const std::optional<train::Evaluation>& evaluation) {
    if (!evaluation) return;
    const std::array tags{name + "/top1", name + "/top5", name + "/loss"};
    write_events(report.step, std::array{train::Scalar{tags[0], evaluation->top1},
                                         train::Scalar{tags[1], evaluation->top5},
                                         train::Scalar{tags[2], evaluation->loss}});
  };
  write_evaluation("validation", report.validation);
  write_evaluation("average_validation", report.average_validation);
  epochs_.push_back(Json::parse(line.dump()));
  const Status drawn = io::write_file_atomic(directory_ + "/curve.svg", train_curve(epochs_));
  if (status_.ok() && !drawn.ok()) status_ = drawn;
}

}  // namespace comet::cli
