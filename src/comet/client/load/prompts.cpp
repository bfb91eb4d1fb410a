#include "comet/client/load/prompts.h"

#include "comet/base/rng.h"

namespace comet::client {
namespace {

constexpr int kMaxRounds = 20;  // of fitting a text to its length; three are usual

std::vector<int64_t> random_ids(const PromptOptions& options, uint64_t index, int64_t count) {
  // Prompts of another length share no beginning, which a server may have cached.
  Rng rng(options.seed ^ (static_cast<uint64_t>(options.num_tokens) << 32), index);
  std::vector<int64_t> ids(static_cast<size_t>(count));
  for (int64_t& id : ids) {
    id = options.first_id + static_cast<int64_t>(rng.next_below(
                                static_cast<uint64_t>(options.end_id - options.first_id)));
  }
  return ids;
}

Result<std::string> detokenized(EventLoop& loop, const Target& target,
                                const std::vector<int64_t>& ids) {
  const auto json =
      post_json(loop, target, "/detokenize", {{"model", target.model}, {"tokens", ids}});
  if (!json) return json.error();
  for (const char* field : {"prompt", "content"}) {
    if (json->is_object() && json->contains(field) && json->at(field).is_string()) {
      return json->at(field).get<std::string>();
    }
  }
  return make_error(ErrorCode::kCorrupt, "{}/detokenize: the answer has no field 'prompt'",
                    target.url.text());
}

Result<std::vector<int64_t>> tokenized(EventLoop& loop, const Target& target,
                                       const std::string& text, bool with_special) {
  const auto json =
      post_json(loop, target, "/tokenize",
                {{"model", target.model}, {"prompt", text}, {"add_special_tokens", with_special}});
  if (!json) return json.error();
  std::vector<int64_t> ids;
  if (json->is_object() && json->contains("tokens") && json->at("tokens").is_array()) {
    for (const Json& id : json->at("tokens")) {
      if (id.is_number_integer()) ids.push_back(id.get<int64_t>());
    }
  }
  if (ids.empty()) {
    return make_error(ErrorCode::kCorrupt, "{}/tokenize: the answer has no list 'tokens'",
                      target.url.text());
  }
  return ids;
}

/// Random text is cut and lengthened until the server counts `num_tokens`, its special tokens with
/// them.
Result<std::string> exact_text(EventLoop& loop, const Target& target, const PromptOptions& options,
                               uint64_t index) {
  auto ids = random_ids(options, index, options.num_tokens);
  for (int round = 0; round < kMaxRounds; ++round) {
    auto text = detokenized(loop, target, ids);
    if (!text) return text.error();
    const auto counted = tokenized(loop, target, *text, true);
    if (!counted) return counted.error();
    const int64_t excess = static_cast<int64_t>(counted->size()) - options.num_tokens;
    if (excess == 0) return *std::move(text);
    auto plain = tokenized(loop, target, *text, false);
    if (!plain) return plain.error();
    ids = *std::move(plain);
    if (excess > 0) {
      ids.resize(std::max<size_t>(1, ids.size() - std::min<size_t>(ids.size() - 1, excess)));
    } else {
      const auto more = random_ids(options, index + (uint64_t{1} << 40) * (round + 1), -excess);
      ids.insert(ids.end(), more.begin(), more.end());
    }
  }
  return make_error(ErrorCode::kUnsupported,
                    "{}: no text of exactly {} tokens was found; use --prompts ids",
                    target.url.text(), options.num_tokens);
}

}  // namespace

Result<PromptSource> PromptSource::create(EventLoop& loop, const Target& target,
                                          const PromptOptions& options, int64_t num_texts) {
  PromptSource source(options);
  for (int64_t i = 0; options.as_text && i < num_texts; ++i) {
    auto text = exact_text(loop, target, options, static_cast<uint64_t>(i));
    if (!text) return text.error();
    source.texts_.push_back(*std::move(text));
  }
  return source;
}

Json PromptSource::prompt(uint64_t index) const {
  if (options_.as_text) return texts_[index % texts_.size()];
  return random_ids(options_, index, options_.num_tokens);
}

}  // namespace comet::client
