#include "apps/comet/termination.h"

#include <csignal>
#include <cstdlib>
#include <ctime>

namespace comet::cli {
namespace {

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  return set;
}

}  // namespace

Termination::Termination() {
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout or log is an error code, not the end
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

Termination::~Termination() {
  stopping_ = true;
  thread_.join();
}

void Termination::watch() {
  const sigset_t set = watched_signals();
  constexpr timespec kPoll = {0, 50'000'000};
  while (!stopping_) {
    if (sigtimedwait(&set, nullptr, &kPoll) < 0) continue;
    if (!graceful_) std::_Exit(0);
    const std::lock_guard lock(mutex_);
    if (++num_signals_ > 1) std::_Exit(1);
    signalled_.notify_all();
  }
}

void Termination::wait() {
  std::unique_lock lock(mutex_);
  signalled_.wait(lock, [this] { return num_signals_ > 0; });
}

}  // namespace comet::cli
