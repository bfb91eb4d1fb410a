// Every way a tokenizer.json can be wrong, or ask for what Comet does not do, gives one error that
// names the file and the field.
#include <gtest/gtest.h>

#include <algorithm>

#include "comet/text/tokenizer.h"
#include "support/tiny_tokenizer.h"

namespace comet::text {
namespace {

Error error_of(const std::string& json) {
  const Result<Tokenizer> tokenizer = Tokenizer::from_json(json, "dir/tokenizer.json");
  if (tokenizer.ok()) {
    ADD_FAILURE() << "accepted: " << json.substr(0, 300);
    return {};
  }
  return tokenizer.error();
}

void expect_error(const std::string& json, ErrorCode code, const std::string& words) {
  const Error error = error_of(json);
  EXPECT_EQ(error.code, code) << error.message;
  EXPECT_TRUE(error.message.starts_with("dir/tokenizer.json")) << error.message;
  EXPECT_NE(error.message.find(words), std::string::npos) << error.message;
  EXPECT_LT(error.message.size(), 700U);
  EXPECT_EQ(error.message.find('\n'), std::string::npos) << error.message;
}

/// The tiny tokenizer with the value at `pointer` (RFC 6901) replaced.
std::string with(const std::string& pointer, const Json& value) {
  Json file = test::tiny_tokenizer_json();
  file[Json::json_pointer(pointer)] = value;
  return file.dump();
}

std::string without(const std::string& parent, const std::string& field) {
  Json file = test::tiny_tokenizer_json();
  EXPECT_EQ(file[Json::json_pointer(parent)].erase(field), 1U);
  return file.dump();
}

struct Case {
  std::string pointer;
  Json value;
  std::string words;  // that the message must hold
};

void expect_all(const std::vector<Case>& cases, ErrorCode code) {
  for (const Case& c : cases) {
    SCOPED_TRACE(c.pointer);
    expect_error(with(c.pointer, c.value), code, c.words);
  }
}

const std::string kSplit = "/pre_tokenizer/pretokenizers/0";
const std::string kByteLevel = "/pre_tokenizer/pretokenizers/1";

TEST(TokenizerJson, TheTinyFileItselfIsFine) {
  EXPECT_TRUE(Tokenizer::from_json(test::tiny_tokenizer_json().dump(), "x").ok());
}

TEST(TokenizerJson, FilesThatAreNoTokenizer) {
  expect_error("", ErrorCode::kCorrupt, "not valid JSON");
  expect_error("{", ErrorCode::kCorrupt, "not valid JSON");
  expect_error(std::string(1000, '\0'), ErrorCode::kCorrupt, "not valid JSON");
  expect_error("\xFF\xFE", ErrorCode::kCorrupt, "not valid JSON");
  expect_error("3", ErrorCode::kInvalidArgument, "expected a JSON object");
  expect_error("[]", ErrorCode::kInvalidArgument, "expected a JSON object");
  expect_error("{}", ErrorCode::kInvalidArgument, "'decoder' is missing");
  expect_error(std::string(100'000, '['), ErrorCode::kCorrupt, "nested deeper");
  const std::string whole = test::tiny_tokenizer_json().dump();
  for (size_t size = 0; size < whole.size(); size += 97) error_of(whole.substr(0, size));
}

TEST(TokenizerJson, SentencePieceModelsAreToldApart) {
  expect_error(std::string("\n\x0E\n\x05<unk>\x15\0\0\0\0\x18\x02\n\f", 18),
               ErrorCode::kUnsupported, "is a SentencePiece model (tokenizer.model)");
  EXPECT_TRUE(Tokenizer::from_json("\n\n\n\n" + test::tiny_tokenizer_json().dump(), "x").ok());
}

TEST(TokenizerJson, HugeFilesAreRefusedUnread) {
  expect_error(std::string((size_t{128} << 20) + 1, ' '), ErrorCode::kCorrupt,
               "more than the limit");
}

TEST(TokenizerJson, StagesThatCometDoesNotHave) {
  const Json nfd = {{"type", "NFD"}};
  const Json regex = {{"type", "Replace"}, {"pattern", {{"Regex", "a"}}}, {"content", "b"}};
  const Json bomb = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aaaaaaaaa"}};
  const Json strip = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  const Json hundred(100, nfd);
  expect_all(
      {
          {"/version", "2.0", "field 'version' is '2.0'"},
          {"/normalizer", nfd, "normalizer: field 'type' is 'NFD'"},
          {"/normalizer", regex, "normalizer.pattern: field 'String' is missing"},
          {"/normalizer", bomb, "field 'content' can make a text more than 8 times"},
          {"/normalizer", {{"type", "Sequence"}, {"normalizers", hundred}}, "has 100 stages"},
          {"/decoder", strip, "decoder: field 'type' is 'Strip'"},
          {"/decoder", {{"type", "Fuse"}}, "the pre_tokenizer is a ByteLevel but the decoder"},
          {"/decoder/type", "WordPiece", "decoder: field 'type' is 'WordPiece'"},
          {"/model/type", "Unigram", "model: field 'type' is 'Unigram'"},
          {"/model/dropout", 0.1, "model: field 'dropout' is 0.1"},
          {"/model/continuing_subword_prefix", "##", "'continuing_subword_prefix' is '##'"},
          {"/model/end_of_word_suffix", "</w>", "'end_of_word_suffix' is '</w>'"},
          {"/pre_tokenizer/type", "Whitespace", "pre_tokenizer: field 'type' is 'Whitespace'"},
          {"/pre_tokenizer/pretokenizers", hundred, "pretokenizers has 100 stages"},
          {kSplit + "/type", "ByteLevel", "pretokenizers[1]: field 'type' is 'ByteLevel'"},
          {kSplit + "/behavior", "Odd", "pretokenizers[0]: field 'behavior' is 'Odd'"},
          {kSplit + "/pattern", {{"String", ""}}, "pattern: field 'String' is empty"},
          {kSplit + "/pattern", {{"Odd", " "}}, "pattern: field 'String' is missing"},
          {kSplit + "/pattern/Regex", R"(\b)",
           R"(the expression '\b' has the escape \b at byte 0)"},
          {kSplit + "/pattern/Regex", "(", "is refused by PCRE2: missing closing parenthesis"},
          {kByteLevel + "/type", "Whitespace", "pretokenizers[1]: field 'type' is 'Whitespace'"},
          {"/pre_tokenizer", nullptr, "the decoder is a ByteLevel but the pre_tokenizer"},
          {"/post_processor/type", "BertProcessing", "post_processor: field 'type'"},
          {"/post_processor/single/1/Sequence/id", "B", "field 'id' is 'B'"},
      },
      ErrorCode::kUnsupported);
}

TEST(TokenizerJson, FieldsOfAWrongType) {
  expect_all(
      {
          {"/version", 1, "field 'version' is 1"},
          {"/decoder", 7, "decoder is 7; expected an object"},
          {"/normalizer", "NFC", "normalizer"},
          {"/normalizer", {{"type", "Prepend"}}, "field 'prepend' is missing"},
          {kByteLevel + "/use_regex", 1, "pretokenizers[1]: field 'use_regex' is 1"},
          {kSplit + "/invert", 1, "pretokenizers[0]: field 'invert' is 1"},
          {"/model", "BPE", "model is \"BPE\"; expected an object"},
          {"/model/vocab", 5, "model.vocab is 5; expected an object"},
          {"/model/vocab", Json::array({"a", "b"}), "model.vocab is [\"a\",\"b\"]"},
          {"/model/merges", 5, "model.merges is 5; expected an array"},
          {"/model/merges", Json::object(), "model.merges is {}; expected an array"},
          {"/model/type", 5, "model: field 'type' is 5"},
          {"/model/ignore_merges", 1, "model: field 'ignore_merges' is 1"},
          {"/model/dropout", "no", "model: field 'dropout'"},
          {"/model/end_of_word_suffix", 3, "'end_of_word_suffix' is 3"},
          {"/added_tokens", "x", "added_tokens is \"x\"; expected an array"},
          {"/added_tokens/1", 4, "added_tokens[1] is 4; expected an object"},
          {"/added_tokens/1/content", 4, "added_tokens[1]: field 'content' is 4"},
          {"/added_tokens/1/content", "", "added_tokens[1]: field 'content' is empty"},
          {"/added_tokens/1/lstrip", 0, "added_tokens[1]: field 'lstrip' is 0"},
          {"/added_tokens/1/rstrip", "", "added_tokens[1]: field 'rstrip'"},
          {"/added_tokens/1/single_word", "", "added_tokens[1]: field 'single_word'"},
          {"/added_tokens/1/normalized", "", "added_tokens[1]: field 'normalized'"},
          {"/added_tokens/1/special", "", "added_tokens[1]: field 'special'"},
          {"/pre_tokenizer", Json::array(), "pre_tokenizer is []; expected an object"},
          {"/pre_tokenizer/pretokenizers", 1, "pre_tokenizer.pretokenizers is 1"},
          {kSplit, 1, "pretokenizers[0] is 1; expected an object"},
          {kSplit + "/pattern", 1, "pretokenizers[0].pattern is 1; expected an object"},
          {kSplit + "/pattern/Regex", 1, "field 'Regex' is 1"},
          {"/post_processor", 1, "post_processor is 1; expected an object"},
          {"/post_processor/single", 1, "post_processor.single is 1; expected an array"},
          {"/post_processor/single/0", 1, "post_processor.single[0] is 1"},
          {"/post_processor/single/0/SpecialToken", 1, "SpecialToken is 1; expected an object"},
          {"/post_processor/single/1/Sequence", 1, "Sequence is 1; expected an object"},
          {"/post_processor/special_tokens", 1, "special_tokens is 1; expected an object"},
      },
      ErrorCode::kInvalidArgument);
}

TEST(TokenizerJson, MissingFields) {
  const std::pair<std::string, std::string> cases[] = {
      {"/model", "vocab"},
      {"/model", "merges"},
      {"/model", "type"},
      {"/added_tokens/0", "id"},
      {"/added_tokens/0", "content"},
      {"/pre_tokenizer", "type"},
      {kSplit, "pattern"},
      {"", "model"},
      {"/post_processor", "single"},
      {"/decoder", "type"},
      {kSplit, "behavior"},
  };
  for (const auto& [parent, field] : cases) {
    expect_error(without(parent, field), ErrorCode::kInvalidArgument,
                 "field '" + field + "' is missing");
  }
}

TEST(TokenizerJson, IdsOutOfRange) {
  for (const Json& id : {Json(-1), Json(1 << 22), Json(uint64_t{1} << 63), Json(1.5), Json("7")}) {
    expect_error(with("/model/vocab/h", id), ErrorCode::kInvalidArgument, "model.vocab: field 'h'");
    expect_error(with("/added_tokens/1/id", id), ErrorCode::kInvalidArgument,
                 "added_tokens[1]: field 'id'");
  }
  expect_error(with("/model/vocab/h", nullptr), ErrorCode::kInvalidArgument,
               "model.vocab: field 'h' is null");
  EXPECT_TRUE(Tokenizer::from_json(with("/added_tokens/1/id", (1 << 22) - 1), "x").ok());
}

TEST(TokenizerJson, IdsAndTokensThatOccurTwice) {
  expect_error(with("/model/vocab/hell", 259), ErrorCode::kCorrupt, "both have the id 259");
  expect_error(with("/added_tokens/1/id", 261), ErrorCode::kCorrupt, "both have the id 261");
  expect_error(with("/added_tokens/1/id", 5), ErrorCode::kCorrupt, "both have the id 5");
  expect_error(with("/added_tokens/1/content", "<s>"), ErrorCode::kCorrupt,
               "the token '<s>' has two ids, 261 and 262");
  expect_error(with("/added_tokens/1/content", "hell"), ErrorCode::kCorrupt,
               "the token 'hell' has two ids, 258 and 262");
  Json twice = test::tiny_tokenizer_json();
  twice["added_tokens"].push_back(twice["added_tokens"][0]);
  expect_error(twice.dump(), ErrorCode::kCorrupt, "both have the id 261");
}

TEST(TokenizerJson, AnAddedTokenMayBeInTheVocabularyToo) {
  Json file = test::tiny_tokenizer_json();
  file["model"]["vocab"]["</s>"] = 262;
  const Result<Tokenizer> tokenizer = Tokenizer::from_json(file.dump(), "x");
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_TRUE(tokenizer->is_special(262));
  EXPECT_EQ(tokenizer->encode("</s>"), (std::vector<int32_t>{261, 262}));
}

TEST(TokenizerJson, VocabulariesThatLackAByte) {
  expect_error(without("/model/vocab", "\u0120"), ErrorCode::kCorrupt,
               "model.vocab has no token '\u0120' for byte 0x20");
  expect_error(with("/model/vocab", Json::object()), ErrorCode::kCorrupt, "for byte 0x00");
}

TEST(TokenizerJson, MergesThatAreNoPair) {
  const std::vector<Json> bad = {"ab",
                                 "a b c",
                                 "",
                                 Json::array({"a"}),
                                 3,
                                 nullptr,
                                 Json::array({"a", 1}),
                                 Json::array({"a", "b", "c"}),
                                 Json::object()};
  for (const Json& merge : bad) {
    expect_error(with("/model/merges/1", merge), ErrorCode::kInvalidArgument,
                 "model.merges[1] is ");
  }
  for (const Json& merge : {Json("h "), Json(" h"), Json(" "), Json::array({"", "h"})}) {
    expect_error(with("/model/merges/1", merge), ErrorCode::kInvalidArgument,
                 "model.merges[1] is ");
  }
}

TEST(TokenizerJson, MergesOfTokensThatAreNotThere) {
  expect_error(with("/model/merges/1", "h zz"), ErrorCode::kCorrupt,
               "model.merges[1] merges 'h' and 'zz', but the token 'zz' is not in model.vocab");
  expect_error(with("/model/merges/1", "zz h"), ErrorCode::kCorrupt, "the token 'zz'");
  expect_error(with("/model/merges/1", "h h"), ErrorCode::kCorrupt, "the token 'hh'");
  // An added token is no token of the model.
  expect_error(with("/model/merges/1", "<s> h"), ErrorCode::kCorrupt, "the token '<s>'");
}

TEST(TokenizerJson, MergesThatOccurTwice) {
  Json file = test::tiny_tokenizer_json();
  file["model"]["merges"].push_back("h e");
  expect_error(file.dump(), ErrorCode::kCorrupt,
               "model.merges[5] merges 'h' and 'e' a second time");
}

TEST(TokenizerJson, MergesInACircleCannotBeWritten) {
  // A merge that gives back one of its sides needs an empty other side.
  Json file = test::tiny_tokenizer_json();
  file["model"]["vocab"][""] = 263;
  file["model"]["merges"].push_back(Json::array({"", "h"}));
  expect_error(file.dump(), ErrorCode::kInvalidArgument, "model.merges[5] is ");
}

TEST(TokenizerJson, AMergeMayComeBeforeTheMergesOfItsSides) {
  Json file = test::tiny_tokenizer_json();
  Json& merges = file["model"]["merges"];
  std::reverse(merges.begin(), merges.end());
  const Result<Tokenizer> tokenizer = Tokenizer::from_json(file.dump(), "x");
  ASSERT_TRUE(tokenizer.ok());
  EXPECT_EQ(tokenizer->encode("hello"), (std::vector<int32_t>{261, 259}));
}

TEST(TokenizerJson, TemplatesThatDoNotFit) {
  const std::string ids = "/post_processor/special_tokens/<s>/ids";
  for (const Json& id : {Json(263), Json(-1), Json(uint64_t{1} << 63), Json("x"), Json(1.0)}) {
    expect_error(with(ids, Json::array({id})), ErrorCode::kInvalidArgument,
                 "special_tokens.<s>.ids[0] is ");
  }
  expect_error(with(ids, 3), ErrorCode::kInvalidArgument, "expected an array");
  expect_error(with(ids, std::vector<int>(1000, 261)), ErrorCode::kUnsupported, "more than 64 ids");
  expect_error(with("/post_processor/single/0/SpecialToken/id", "<x>"), ErrorCode::kInvalidArgument,
               "special_tokens: field '<x>' is missing");
  const Json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  expect_error(with("/post_processor/single", Json::array()), ErrorCode::kInvalidArgument,
               "post_processor.single has no Sequence");
  expect_error(with("/post_processor/single", Json::array({sequence, sequence})),
               ErrorCode::kUnsupported, "single[1] is a second Sequence");
}

TEST(TokenizerJson, ASequenceOfProcessors) {
  const Json tiny = test::tiny_tokenizer_json();
  const Json& processor = tiny["post_processor"];
  const Json byte_level = {{"type", "ByteLevel"}, {"trim_offsets", false}};
  const auto sequence = [](const Json& list) {
    return with("/post_processor", {{"type", "Sequence"}, {"processors", list}});
  };
  const auto good =
      Tokenizer::from_json(sequence(Json::array({byte_level, processor})), "tokenizer.json");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good->encode("hello"), (std::vector<int32_t>{261, 259}));
  expect_error(sequence(Json::array({processor, processor})), ErrorCode::kUnsupported,
               "post_processor.processors[1]: field 'type'");
  expect_error(sequence(3), ErrorCode::kInvalidArgument, "processors is 3; expected an array");
}

TEST(TokenizerJson, MessagesStayShortAndOnOneLine) {
  std::string ugly = "\x01\n";
  for (int i = 0; i < 1000; ++i) ugly += "\u6F22";
  expect_error(with("/model/type", ugly), ErrorCode::kUnsupported, "\\x01\\x0A\u6F22");
  expect_error(with("/model/merges/1", "h " + ugly), ErrorCode::kCorrupt, "...");
  Json file = test::tiny_tokenizer_json();
  file["added_tokens"][1]["content"] = ugly;
  file["added_tokens"][1]["id"] = 261;
  expect_error(file.dump(), ErrorCode::kCorrupt, "both have the id 261");
  file["model"]["vocab"][ugly] = -1;
  expect_error(file.dump(), ErrorCode::kInvalidArgument, "is -1; expected an integer from 0");
}

TEST(TokenizerJson, AddedTokensBeyondTheBound) {
  expect_error(with("/added_tokens/1/content", std::string(size_t{5} << 20, 'x')),
               ErrorCode::kCorrupt, "added_tokens");
}

}  // namespace
}  // namespace comet::text
