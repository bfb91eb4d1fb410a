#include "comet/base/check.h"

namespace comet {

void check_failed(const char* condition, const char* file, int line, const std::string& message) {
  throw CheckError(fmt::format("{}:{}: check failed: {}{}{}", file, line, condition,
                               message.empty() ? "" : ": ", message));
}

}  // namespace comet
