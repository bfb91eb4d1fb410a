#include "comet/study/runner/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>
#include <utility>

#include "comet/base/clock.h"
#include "comet/io/file.h"

namespace comet::study {
namespace {

constexpr size_t kMaxLogBytes = size_t{64} << 20;
constexpr int kCannotRun = 127;

ProcessEnd end_of(int status) {
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

/// In the child: never returns. Only calls that are safe between fork and exec.
[[noreturn]] void become(const std::vector<char*>& arguments, int log_fd, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(kCannotRun);  // it died before the line above
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  const int null_fd = open("/dev/null", O_RDONLY);
  dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  execv(arguments[0], arguments.data());
  _exit(kCannotRun);
}

}  // namespace

std::string ProcessEnd::text() const {
  return signal != 0 ? fmt::format("killed by signal {}", signal)
                     : fmt::format("exit code {}", exit_code);
}

Result<ChildProcess> ChildProcess::start(const std::vector<std::string>& command,
                                         const std::string& log_path) {
  const int log_fd = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd < 0) {
    return make_error(ErrorCode::kIo, "{}: cannot be written: {}", log_path, std::strerror(errno));
  }
  std::vector<std::string> copies = command;
  std::vector<char*> arguments;
  for (std::string& argument : copies) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) become(arguments, log_fd, parent);
  close(log_fd);
  if (pid < 0) {
    return make_error(ErrorCode::kIo, "cannot start a process: {}", std::strerror(errno));
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), end_(other.end_) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(end_, other.end_);
  return *this;
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !end_) stop(0);
}

std::optional<ProcessEnd> ChildProcess::poll() {
  int status = 0;
  if (!end_ && waitpid(pid_, &status, WNOHANG) == pid_) end_ = end_of(status);
  return end_;
}

ProcessEnd ChildProcess::wait() {
  int status = 0;
  while (!end_) {
    if (waitpid(pid_, &status, 0) == pid_) {
      end_ = end_of(status);
    } else if (errno != EINTR) {
      end_ = ProcessEnd{kCannotRun, 0};
    }
  }
  return *end_;
}

ProcessEnd ChildProcess::stop(double grace_s) {
  if (poll()) return *end_;
  kill(pid_, SIGTERM);
  const Stopwatch clock;
  while (!poll() && clock.seconds() < grace_s) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (!end_) kill(pid_, SIGKILL);
  return wait();
}

std::string last_words(const std::string& log_path) {
  const auto text = io::read_file(log_path, kMaxLogBytes);
  if (!text) return "";
  std::string last;
  std::string last_error;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    const std::string line = text->substr(begin, std::min<size_t>(end - begin, 500));
    begin = end + 1;
    if (line.empty()) continue;
    last = line;
    if (line.find("error") != std::string::npos) last_error = line;
  }
  std::string words = last_error.empty() ? last : last_error;
  constexpr std::string_view kPrefix = "comet: error: ";
  if (words.starts_with(kPrefix)) words.erase(0, kPrefix.size());
  return words;
}

}  // namespace comet::study
