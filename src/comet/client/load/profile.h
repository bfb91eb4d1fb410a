// The seven use cases of "Give Me BF16 or Give Me Death?" as prompt and generated tokens (product
// page §4), and others by numbers. Callers: bench serve, the study.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "comet/base/result.h"

namespace comet::client {

struct Profile {
  std::string name;
  std::string title;  // for people
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
};

std::span<const Profile> profiles();
/// Spelt with '-', '_' or blanks, in any case; "code_completion", "Code completion". The error
/// lists the names.
Result<Profile> find_profile(const std::string& name);
/// Both counts times `factor`, rounded, at least 1 and 2: for models of a short context.
Profile scaled(const Profile& profile, double factor);

}  // namespace comet::client
