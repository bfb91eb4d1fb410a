// ChildProcess: a command of our own in a process of its own, whose end and last words are seen.
// It dies with us, however we end. Callers: the study's runner and its server.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "comet/base/result.h"

namespace comet::study {

/// How a process ended.
struct ProcessEnd {
  int exit_code = 0;
  int signal = 0;  // 0: it was not killed

  [[nodiscard]] bool well() const { return exit_code == 0 && signal == 0; }
  /// "exit code 1", "killed by signal 9".
  [[nodiscard]] std::string text() const;
};

class ChildProcess {
 public:
  /// Runs `command` (a program's path and its arguments) with both outputs appended to `log_path`.
  static Result<ChildProcess> start(const std::vector<std::string>& command,
                                    const std::string& log_path);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  /// Kills what still runs.
  ~ChildProcess();

  /// nullopt while it runs.
  std::optional<ProcessEnd> poll();
  ProcessEnd wait();
  /// SIGTERM, and SIGKILL after `grace_s`.
  ProcessEnd stop(double grace_s);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}

  pid_t pid_ = -1;
  std::optional<ProcessEnd> end_;
};

/// The last line of a log that says "error", else its last line; for a message.
std::string last_words(const std::string& log_path);

}  // namespace comet::study
