#include "comet/base/log.h"

// The logger is the only place that sees spdlog: its headers are heavy.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <unistd.h>

#include <atomic>
#include <cstdlib>

namespace comet {
namespace {

std::atomic<LogLevel> g_level{LogLevel::kInfo};

spdlog::logger& logger() {
  static const auto instance = [] {
    const bool color = std::getenv("NO_COLOR") == nullptr && isatty(STDERR_FILENO) != 0;
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
        color ? spdlog::color_mode::always : spdlog::color_mode::never);
    auto made = std::make_shared<spdlog::logger>("comet", std::move(sink));
    made->set_level(spdlog::level::trace);
    made->set_pattern("%^%l%$: %v");
    return made;
  }();
  return *instance;
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  if (name == "off") return LogLevel::kOff;
  return make_error(ErrorCode::kInvalidArgument,
                    "--log-level '{}': expected debug, info, warning, error or off", name);
}

void set_log_level(LogLevel level) { g_level = level; }

bool log_enabled(LogLevel level) { return level >= g_level.load(); }

void log_line(LogLevel level, const std::string& message) {
  switch (level) {
    case LogLevel::kDebug:
      logger().debug(message);
      break;
    case LogLevel::kInfo:
      logger().info(message);
      break;
    case LogLevel::kWarning:
      logger().warn(message);
      break;
    default:
      logger().error(message);
      break;
  }
}

}  // namespace comet
