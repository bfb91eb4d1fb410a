#include "comet/client/load/profile.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace comet::client {
namespace {

std::string spelling(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (c == '_' || c == ' ') {
      out += '-';
    } else {
      out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
  }
  return out;
}

/// Other names that people use.
std::string_view alias_of(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kAliases{{
      {"instruction-following", "instruction"},
      {"multi-turn-chat", "chat"},
      {"docstring-generation", "docstring"},
      {"retrieval", "rag"},
      {"summary", "summarization"},
      {"completion", "code-completion"},
  }};
  for (const auto& [alias, target] : kAliases) {
    if (alias == name) return target;
  }
  return name;
}

}  // namespace

std::span<const Profile> profiles() {
  static const std::array<Profile, 7> kProfiles{{
      {"docstring", "Docstring generation", 768, 128},
      {"code-completion", "Code completion", 256, 1024},
      {"code-fixing", "Code fixing", 1024, 1024},
      {"instruction", "Instruction following", 256, 128},
      {"chat", "Multi-turn chat", 512, 256},
      {"rag", "RAG", 1024, 128},
      {"summarization", "Summarization", 4096, 512},
  }};
  return kProfiles;
}

Result<Profile> find_profile(const std::string& name) {
  const std::string spelt = spelling(name);
  const std::string_view wanted = alias_of(spelt);
  std::string names;
  for (const Profile& profile : profiles()) {
    if (profile.name == wanted) return profile;
    names += (names.empty() ? "" : ", ") + profile.name;
  }
  return make_error(ErrorCode::kInvalidArgument, "profile '{}' is not known; there are {}", name,
                    names);
}

Profile scaled(const Profile& profile, double factor) {
  Profile out = profile;
  out.input_tokens =
      std::max<int64_t>(1, std::llround(static_cast<double>(profile.input_tokens) * factor));
  out.output_tokens =
      std::max<int64_t>(2, std::llround(static_cast<double>(profile.output_tokens) * factor));
  return out;
}

}  // namespace comet::client
