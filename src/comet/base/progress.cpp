#include "comet/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace comet {
namespace {

constexpr double kTerminalPeriodS = 0.1;
constexpr double kPlainPeriodS = 5.0;
constexpr int kBarWidth = 28;

}  // namespace

std::string duration_text(double seconds) {
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

Progress::Progress(std::string label, int64_t total, std::string unit, bool quiet)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      quiet_(quiet),
      terminal_(isatty(STDERR_FILENO) != 0) {
  if (terminal_) print(false);
}

Progress::~Progress() { print(true); }

void Progress::advance(int64_t count, const std::string& note) {
  done_ += count;
  note_ = note;
  const double period = terminal_ ? kTerminalPeriodS : kPlainPeriodS;
  if (started_.seconds() - printed_at_s_ >= period) print(false);
}

void Progress::print(bool last) {
  if (quiet_) return;
  const double elapsed = started_.seconds();
  // A plain log gets no line for a phase that ended before the first period.
  if (last && !terminal_ && elapsed < kPlainPeriodS) return;
  if (!terminal_ && !last && elapsed < kPlainPeriodS) return;
  printed_at_s_ = elapsed;
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  std::string time;
  if (last) {
    time = duration_text(elapsed);
  } else if (done_ > 0) {
    time = fmt::format("{} left", duration_text(elapsed * (1.0 - share) / share));
  }
  const std::string tail =
      fmt::format("{}/{} {}  {}{}{}", done_, total_, unit_, time, note_.empty() ? "" : "  ", note_);
  if (terminal_) {
    const int filled = static_cast<int>(share * kBarWidth);
    fmt::print(stderr, "\r\033[K{} [{:━<{}}{: <{}}] {:3.0f} %  {}{}", label_, "", filled, "",
               kBarWidth - filled, share * 100, tail, last ? "\n" : "");
  } else {
    fmt::print(stderr, "{}: {}\n", label_, tail);
  }
  std::fflush(stderr);
}

}  // namespace comet
