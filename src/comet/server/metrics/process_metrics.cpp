// What the system says of this process, from /proc.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

#include "comet/server/metrics/metrics.h"

namespace comet::server {
namespace {

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  file >> total_pages >> resident_pages;
  return static_cast<double>(resident_pages * sysconf(_SC_PAGESIZE));
}

double num_open_fds() {
  std::error_code ignored;
  int64_t count = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", ignored);
       it != std::filesystem::directory_iterator(); it.increment(ignored)) {
    ++count;
  }
  return static_cast<double>(count - 1);  // the listing itself has one open
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

std::string process_metrics_text() {
  MetricsText text("process_", "");
  text.gauge("resident_memory_bytes", "Resident memory", resident_bytes());
  text.gauge("open_fds", "Open file descriptors", num_open_fds());
  text.counter("cpu_seconds_total", "CPU time, user and system", cpu_seconds());
  return text.take();
}

}  // namespace comet::server
