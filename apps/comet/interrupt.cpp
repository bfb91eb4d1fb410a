#include "apps/comet/interrupt.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>

namespace comet::cli {
namespace {

constexpr int kExitFailed = 1;

sigset_t watched_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

Interrupt::Interrupt() {
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  thread_ = std::thread([this] { watch(); });
}

Interrupt::~Interrupt() {
  ending_ = true;
  thread_.join();
  const sigset_t set = watched_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void Interrupt::begin_steps(std::string note) {
  note_ = std::move(note);
  stepping_ = true;
}

void Interrupt::watch() {
  const sigset_t set = watched_signals();
  constexpr timespec kPoll = {0, 50'000'000};
  while (!ending_) {
    if (sigtimedwait(&set, nullptr, &kPoll) < 0) continue;
    if (!stepping_ || requested_) std::_Exit(kExitFailed);
    requested_ = true;
    std::fprintf(stderr, "\ncomet: %s\n", note_.c_str());
  }
}

}  // namespace comet::cli
