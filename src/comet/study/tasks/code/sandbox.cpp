#include "comet/study/tasks/code/sandbox.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <thread>

#include "comet/base/clock.h"
#include "comet/study/tasks/code/confine.h"

namespace comet::study {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(2);

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }
  [[nodiscard]] int get() const { return fd_; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

/// An empty folder that goes with its content.
class Folder {
 public:
  Folder() {
    std::error_code ignored;
    path_ = (std::filesystem::temp_directory_path(ignored) / "comet-program-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) path_.clear();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Error refused(std::string_view what) {
  return make_error(ErrorCode::kIo, "the sandbox: {}: {}", what, std::strerror(errno));
}

/// The system's own: what a PATH names may be a version manager's script, which starts others.
Result<std::string> find_python() {
  for (const char* candidate : {"/usr/bin/python3", "/usr/local/bin/python3"}) {
    if (::access(candidate, X_OK) == 0) return std::string(candidate);
  }
  return make_error(ErrorCode::kNotFound,
                    "neither /usr/bin/python3 nor /usr/local/bin/python3 is there to run programs");
}

/// What only a program that reached its end says.
std::string random_word() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}", device(), device(), device());
}

/// Waits for the end or the time limit, then kills the group. false: it was the time limit.
bool wait_for(pid_t pid, double wall_s) {
  const Stopwatch watch;
  int status = 0;
  bool ended = false;
  while (!ended && watch.seconds() < wall_s) {
    ended = ::waitpid(pid, &status, WNOHANG) != 0;
    if (!ended) std::this_thread::sleep_for(kPollInterval);
  }
  ::kill(-pid, SIGKILL);
  if (!ended) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  }
  return ended;
}

/// What came through the pipe so far; processes that escaped may still hold its other end.
std::string read_report(int fd) {
  ::fcntl(fd, F_SETFL, O_NONBLOCK);
  std::array<char, 64> bytes{};
  const ssize_t count = ::read(fd, bytes.data(), bytes.size());
  return {bytes.data(), static_cast<size_t>(std::max<ssize_t>(0, count))};
}

}  // namespace

Result<Sandbox> Sandbox::create(bool without_namespaces, const SandboxLimits& limits) {
  auto python = find_python();
  if (!python) return python.error();
  SandboxLimits patient = limits;
  patient.wall_s = std::max(limits.wall_s, 30.0);  // the interpreter may not be in memory yet
  const Sandbox isolated(*python, true, patient);
  const auto tried = isolated.run("");
  if (tried && *tried == ProgramOutcome::kPassed) return Sandbox(*python, true, limits);
  const std::string reason = tried ? *python + " did not run" : tried.error().message;
  if (without_namespaces) {
    const auto plain = Sandbox(*python, false, patient).run("");
    if (plain && *plain == ProgramOutcome::kPassed) return Sandbox(*python, false, limits);
  }
  return make_error(ErrorCode::kUnsupported,
                    "programs cannot be isolated on this system ({}); where that does not matter "
                    "(a container of its own), --allow-unisolated-code runs them without",
                    reason);
}

Result<ProgramOutcome> Sandbox::run(std::string_view program) const {
  const std::string word = random_word();
  const std::string script =
      fmt::format("{}\nimport os as _os\n_os.write(3, b'{}')\n", program, word);
  const Folder folder;
  if (folder.path().empty()) return refused("no folder for a program");
  Descriptor program_fd(::memfd_create("program", MFD_CLOEXEC));
  if (program_fd.get() < 0 ||
      ::write(program_fd.get(), script.data(), script.size()) !=
          static_cast<ssize_t>(script.size()) ||
      ::lseek(program_fd.get(), 0, SEEK_SET) != 0) {
    return refused("no memory for a program");
  }
  std::array<int, 2> pipe_fds{};
  if (::pipe2(pipe_fds.data(), O_CLOEXEC) != 0) return refused("no pipe");
  const Descriptor report_in(pipe_fds[0]);
  Descriptor report_out(pipe_fds[1]);

  std::string home = "HOME=" + folder.path();
  std::string path = "PATH=/usr/bin:/bin";
  std::string locale = "LC_ALL=C.UTF-8";
  std::array<char*, 4> environment{home.data(), path.data(), locale.data(), nullptr};
  std::string python = python_;
  std::string isolated_flag = "-I";
  std::string from_input = "-";
  std::array<char*, 4> arguments{python.data(), isolated_flag.data(), from_input.data(), nullptr};
  const std::string mount_options = fmt::format("size={},mode=700", limits_.folder_bytes);
  const std::string uid_map = fmt::format("1000 {} 1", ::geteuid());
  const std::string gid_map = fmt::format("1000 {} 1", ::getegid());
  const Confinement confinement{&limits_,
                                folder.path().c_str(),
                                mount_options.c_str(),
                                {uid_map.c_str(), gid_map.c_str()},
                                arguments.data(),
                                environment.data(),
                                program_fd.get(),
                                report_out.get(),
                                isolated_};
  const pid_t pid = ::fork();
  if (pid < 0) return refused("no process");
  if (pid == 0) run_confined(confinement);
  ::setpgid(pid, pid);  // whoever comes first
  report_out.close();
  const bool in_time = wait_for(pid, limits_.wall_s);
  const std::string report = read_report(report_in.get());
  if (report.size() == 2 && report[0] == kRefused) {
    errno = static_cast<unsigned char>(report[1]);
    return refused("a process of its own");
  }
  if (!in_time) return ProgramOutcome::kTimedOut;
  return report == word ? ProgramOutcome::kPassed : ProgramOutcome::kFailed;
}

Error programs_not_allowed(std::string_view task) {
  return make_error(ErrorCode::kInvalidArgument,
                    "{}: runs programs that the model wrote, in a sandbox; "
                    "--allow-code-execution permits it",
                    task);
}

}  // namespace comet::study
