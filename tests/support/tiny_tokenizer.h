// A tokenizer.json small enough to read, for tests of the text room and of what stands on it.
#pragma once

#include <string>

#include "comet/base/json.h"
#include "comet/text/bpe/byte_level.h"

namespace comet::test {

/// Byte b is token b; then "he" 256, "ll" 257, "hell" 258, "hello" 259, " w" 260; special tokens
/// "<s>" 261 (put before every text) and "</s>" 262.
inline Json tiny_tokenizer_json() {
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) {
    vocab[text::byte_spelling(static_cast<uint8_t>(byte))] = byte;
  }
  const std::string blank = text::byte_spelling(' ');
  Json merges = Json::array();
  const auto add_merge = [&](const std::string& left, const std::string& right) {
    const size_t id = vocab.size();
    vocab[left + right] = id;
    merges.push_back(Json::array({left, right}));
  };
  add_merge("h", "e");
  add_merge("l", "l");
  add_merge("he", "ll");
  add_merge("hell", "o");
  add_merge(blank, "w");

  Json file = Json::parse(R"json({
    "version": "1.0",
    "added_tokens": [
      {"id": 261, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 262, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}
    ],
    "normalizer": null,
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex": ""}},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
    ]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [261], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "ignore_merges": false}
  })json");
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  file["model"]["vocab"] = std::move(vocab);
  file["model"]["merges"] = std::move(merges);
  return file;
}

/// As LLaMA-2's: characters with byte fallback. Byte b is token b; then the words below; a blank is
/// put before every text and the decoder drops it.
inline constexpr const char* kTinyWords[] = {"\u2581", "\u2581hi", "x", "h", "i", "hi", "<s>"};

inline Json tiny_sentencepiece_json() {
  Json file = Json::parse(R"json({
    "version": "1.0",
    "added_tokens": [{"id": 262, "content": "<s>", "special": true, "normalized": false}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "byte_fallback": true, "fuse_unk": true,
              "merges": [["h", "i"], ["\u2581", "hi"]]}
  })json");
  Json vocab = Json::object();
  for (int byte = 0; byte < 256; ++byte) vocab[fmt::format("<0x{:02X}>", byte)] = byte;
  for (const char* word : kTinyWords) {
    const size_t id = vocab.size();
    vocab[word] = id;
  }
  file["model"]["vocab"] = std::move(vocab);
  return file;
}

}  // namespace comet::test
