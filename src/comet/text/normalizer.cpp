#include "comet/text/normalizer.h"

#include "comet/base/check.h"
#include "comet/text/unicode/nfc.h"

namespace comet::text {
namespace {

struct ApplyStep {
  std::string_view text;

  std::string operator()(const PrependStep& step) const {
    return text.empty() ? std::string() : step.prefix + std::string(text);
  }
  std::string operator()(const ReplaceStep& step) const {
    return replace_all(text, step.from, step.to);
  }
  std::string operator()(const NfcStep& /*step*/) const { return to_nfc(text); }
};

}  // namespace

std::string Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const NormalizerStep& step : steps_) out = std::visit(ApplyStep{out}, step);
  return out;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  COMET_CHECK(!from.empty(), "nothing to replace");
  std::string out;
  out.reserve(text.size());
  while (true) {
    const size_t match = text.find(from);
    out += text.substr(0, match);
    if (match == std::string_view::npos) return out;
    out += to;
    text.remove_prefix(match + from.size());
  }
}

}  // namespace comet::text
