#include "comet/study/tasks/code/confine.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace comet::study {
namespace {

constexpr int kReportFd = 3;
constexpr int kKeepPrivileges = 38;  // of prctl(2): exec never gains any
constexpr unsigned long kMountPrivate = (1UL << 14) | (1UL << 18);  // MS_REC | MS_PRIVATE
constexpr unsigned long kMountBare = 2 | 4;                         // MS_NOSUID | MS_NODEV

[[noreturn]] void refuse(int report_fd) {
  const std::array<char, 2> report{kRefused, static_cast<char>(errno)};
  [[maybe_unused]] const ssize_t written = ::write(report_fd, report.data(), report.size());
  ::_exit(125);
}

bool write_file(const char* path, const char* text) {
  const int fd = ::open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const auto length = static_cast<ssize_t>(std::strlen(text));
  const bool written = ::write(fd, text, length) == length;
  ::close(fd);
  return written;
}

/// mount and mount_setattr by number: <sys/mount.h> and <linux/mount.h> exclude each other in
/// glibc 2.36.
bool mount_over(const char* kind, const char* target, unsigned long flags, const char* options) {
  return ::syscall(SYS_mount, kind, target, kind, flags, options) == 0;
}

bool make_read_only(const char* target) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID;
  constexpr unsigned kRecursive = 0x8000;  // AT_RECURSIVE
  return ::syscall(SYS_mount_setattr, AT_FDCWD, target, kRecursive, &attributes,
                   sizeof(attributes)) == 0;
}

bool enter_namespaces(const Confinement& c) {
  if (::unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
                CLONE_NEWUTS) != 0) {
    return false;
  }
  return write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", c.id_maps[0]) &&
         write_file("/proc/self/gid_map", c.id_maps[1]) &&
         mount_over(nullptr, "/", kMountPrivate, nullptr) && make_read_only("/") &&
         mount_over("tmpfs", c.folder, kMountBare, c.mount_options);
}

void limit(int resource, int64_t value) {
  const rlimit limits{static_cast<rlim_t>(value), static_cast<rlim_t>(value)};
  ::setrlimit(static_cast<__rlimit_resource>(resource), &limits);
}

[[noreturn]] void become_program(const Confinement& c) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int null_fd = ::open("/dev/null", O_WRONLY);
  // Out of the way first: 0 to 3 may be what the parent holds the two by.
  const int program_fd = ::fcntl(c.program_fd, F_DUPFD, 10);
  const int report_fd = ::fcntl(c.report_fd, F_DUPFD, 10);
  if (null_fd < 0 || ::chdir(c.folder) != 0 || ::dup2(program_fd, 0) < 0 ||
      ::dup2(null_fd, 1) < 0 || ::dup2(null_fd, 2) < 0 || ::dup2(report_fd, kReportFd) < 0) {
    refuse(report_fd);
  }
  ::syscall(SYS_close_range, kReportFd + 1, ~0U, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, c.limits->cpu_s);
  limit(RLIMIT_AS, c.limits->memory_bytes);
  limit(RLIMIT_FSIZE, c.limits->file_bytes);
  limit(RLIMIT_NPROC, c.limits->num_processes);
  limit(RLIMIT_NOFILE, 64);
  ::prctl(kKeepPrivileges, 1, 0, 0, 0);
  ::execve(c.arguments[0], c.arguments, c.environment);
  refuse(kReportFd);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 1; }

/// Waits for a child as the parent of all orphans of a PID namespace, or of one child.
[[noreturn]] void end_as(pid_t child) {
  int status = 0;
  pid_t ended = 0;
  do {
    ended = ::waitpid(-1, &status, 0);
  } while (ended != child && (ended >= 0 || errno == EINTR));
  ::_exit(ended == child ? exit_code(status) : 1);
}

/// Forks; only the child returns.
void go_on_in_child(int report_fd) {
  const pid_t pid = ::fork();
  if (pid < 0) refuse(report_fd);
  if (pid > 0) end_as(pid);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
}

}  // namespace

void run_confined(const Confinement& c) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const int signal : {SIGINT, SIGTERM, SIGPIPE}) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (!c.isolated) become_program(c);
  if (!enter_namespaces(c)) refuse(c.report_fd);
  go_on_in_child(c.report_fd);  // the first of the PID namespace: when it ends, all others there do
  go_on_in_child(c.report_fd);  // the program itself: the first one ignores signals from inside
  become_program(c);
}

}  // namespace comet::study
