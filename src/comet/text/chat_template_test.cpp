#include "comet/text/chat_template.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "comet/base/json.h"
#include "comet/text/template/json_value.h"

namespace comet::text {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::filesystem::path folder() {
  return std::filesystem::path(COMET_SOURCE_DIR) / "tests/data/templates";
}

OrderedJson read_json(const std::string& name) { return OrderedJson::parse(read(folder() / name)); }

std::tm fixed_time() {  // as tools/template_oracle.py
  std::tm time{};
  time.tm_year = 124;
  time.tm_mon = 6;
  time.tm_mday = 26;
  time.tm_hour = 9;
  time.tm_min = 5;
  time.tm_sec = 3;
  time.tm_wday = 5;
  time.tm_yday = 207;
  return time;
}

ChatTemplate template_of(std::string_view text) {
  ChatTemplate result = ChatTemplate::from_text(text, "chat_template.jinja").value();
  result.set_local_time(fixed_time);
  return result;
}

ChatInput input_of(const OrderedJson& conversation, const OrderedJson& tools) {
  ChatInput input;
  input.messages = value_of(conversation["messages"]);
  if (conversation.contains("tools")) {
    input.tools = value_of(tools[conversation["tools"].get<std::string>()]);
  }
  input.add_generation_prompt = conversation.value("add_generation_prompt", true);
  input.continue_final_message = conversation.value("continue_final_message", false);
  if (conversation.contains("variables")) {
    for (const auto& [name, value] : conversation["variables"].items()) {
      input.variables.emplace_back(name, value_of(value));
    }
  }
  return input;
}

TEST(ChatTemplate, WritesWhatJinja2Writes) {
  const OrderedJson conversations = read_json("conversations.json");
  const OrderedJson tools = read_json("tools.json");
  size_t num_texts = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder() / "goldens")) {
    const std::string name = entry.path().stem();
    const OrderedJson goldens = read_json("goldens/" + name + ".json");
    ChatTemplate chat = template_of(read(folder() / (name + ".jinja")));
    chat.set_special_token("bos_token", "<s>");
    chat.set_special_token("eos_token", "</s>");
    for (const auto& [key, expected] : goldens.items()) {
      if (key == "made_by") continue;
      const Result<std::string> text = chat.render(input_of(conversations[key], tools));
      if (expected.contains("text")) {
        ASSERT_TRUE(text.ok()) << name << ", " << key << ": " << text.error().message;
        EXPECT_EQ(*text, expected["text"].get<std::string>()) << name << ", " << key;
        ++num_texts;
      } else {
        EXPECT_FALSE(text.ok()) << name << ", " << key << ": " << expected << "\n" << *text;
      }
    }
  }
  EXPECT_GE(num_texts, 150U);
}

/// The text, or the error's message.
std::string rendered(std::string_view text, const std::string& variables = "{}",
                     const TemplateLimits& limits = {}) {
  Result<ChatTemplate> chat = ChatTemplate::from_text(text, "t", limits);
  if (!chat) return chat.error().message;
  chat->set_local_time(fixed_time);
  ChatInput input;
  input.limits = limits;
  input.messages = TemplateValue::list({});
  const OrderedJson json = OrderedJson::parse(variables);
  for (const auto& [name, value] : json.items()) {
    input.variables.emplace_back(name, value_of(value));
  }
  const Result<std::string> out = chat->render(input);
  return out ? *out : out.error().message;
}

TEST(ChatTemplate, ErrorsNameLineAndCause) {
  EXPECT_EQ(rendered("a\n{{ x.y }}"), "t: chat template, line 2: 'x' is undefined");
  EXPECT_EQ(rendered("\n\n{{ x.y.z }}", R"({"x": {}})"),
            "t: chat template, line 3: 'dict object' has no attribute 'y'");
  EXPECT_EQ(rendered("{{ raise_exception('No ' ~ 'tools') }}"),
            "t: chat template, line 1: the template refuses the messages: No tools");
  EXPECT_EQ(rendered("{% if x %}\n"), "t: chat template, line 1: 'if' is not closed by 'endif'");
  EXPECT_EQ(rendered("\n{% include 'x' %}"),
            "t: chat template, line 2: the tag 'include' is not supported in a chat template");
  EXPECT_EQ(rendered("{{ 1 | nothing }}"), "t: chat template, line 1: no filter named 'nothing'");
  EXPECT_EQ(rendered("{{ 1 is nothing }}"), "t: chat template, line 1: no test named 'nothing'");
}

TEST(ChatTemplate, RefusesWhatTheSandboxForbids) {
  for (const char* text :
       {"{{ ''.__class__.__mro__ }}", "{{ x.append(1) }}", "{{ x.__init__() }}",
        "{{ ''['__class__']['x'] }}", "{{ (x | attr('__class__')).y }}", "{{ d.pop('a') }}",
        "{{ d.update({}) }}", "{{ range.__globals__.x }}", "{{ self.x }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}", "{{ x.append }}{{ x.append.y }}"}) {
    EXPECT_TRUE(
        rendered(text, R"({"x": [], "d": {"a": 1}})").starts_with("t: chat template, line 1"))
        << text;
  }
  EXPECT_EQ(rendered("[{{ ''.__class__ }}]"), "[]");  // as jinja2: undefined until it is used
}

TEST(ChatTemplate, HostileTemplatesEndWithinTheLimits) {
  const std::string loop = "{% for a in range(99999) %}{% for b in range(99999) %}";
  const std::string ends = "{% endfor %}{% endfor %}";
  const std::string deep_list =
      "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}";
  const std::string nested =
      "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
      "{% endfor %}";
  const std::string doubled = "{% set ns = namespace(s='ab') %}{% for i in range(99) %}";
  const std::string deep_string(100'000, '(');
  const std::string chain = "{% for i in range(99999) %}{% set ns = namespace(p=ns) %}";
  std::string sum = "{{ 1";
  for (int i = 0; i < 100'000; ++i) sum += "+1";
  std::string blocks;
  for (int i = 0; i < 10'000; ++i) blocks += "{% if 1 %}";
  const std::vector<std::string> texts = {
      "{% for i in range(10**9) %}x{% endfor %}",
      loop + ends,
      loop + "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" + ends,
      doubled + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
      doubled + "{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor %}",
      "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
      "{% macro m(n) %}{% for i in range(2) %}{{ m(n + 1) }}{% endfor %}{% endmacro %}{{ m(0) }}",
      "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      deep_list,
      nested + "{{ ns.x == [ns.x, 1] }}{{ ns.x }}",
      nested + "{{ ns.x | tojson }}",
      "{{ 'x' * 10**12 }}",
      "{{ [1] * 10**12 }}",
      "{{ 'x'.ljust(10**12) }}",
      "{{ 'x'.center(10**9) | length }}{{ 'x' | center(10**9) }}",
      "{{ '%999999999d' % 1 }}",
      "{{ [[[1]]] | tojson(indent=10**9) }}",
      "{{ 'a' | indent(10**12) }}",
      "{{ 2 ** 64 }}",
      "{{ -9223372036854775807 - 2 }}",
      "{{ 9223372036854775808 }}",
      "{{ " + deep_string,
      "{{ " + std::string(100'000, '-') + "1 }}",
      "{{ " + std::string(100'000, '[') + " }}",
      "{{ x" + std::string(100'000, '.') + " }}",
      sum + " }}",
      blocks,
      "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns.me.me.me }}{{ [ns] | tojson }}",
      chain + "{% set _ = cycler %}{{ x.y }}{% endfor %}",
      "{{ dict([[[1], 2]]) }}",
      "{{ range(-(2**62), 2**62, 1) }}",
      "{{ 'x'.split('') }}",
      "{% for a, b in [1] %}{% endfor %}",
      "{{ [1, 'a'] | sort }}",
      "{{ {} < {} }}",
      "{{ 1 // 0 }}{{ 1 % 0 }}",
      "{{ 1 {% }}",
      "{{ 'x",
      "{# never",
      "{% raw %}never",
      "{% 5 %}",
      "{{ 'x' | int(base=99) }}",
      "{{ '{:>99999999999}'.format('x') }}",
      "{{ '{:.99999999999f}'.format(1.5) }}",
  };
  for (const std::string& text : texts) {
    EXPECT_TRUE(rendered(text).starts_with("t: chat template, line")) << text.substr(0, 200);
  }
  TemplateLimits small;
  small.max_output_bytes = 100;
  EXPECT_NE(
      rendered("{% for i in range(99) %}xx{% endfor %}", "{}", small).find("more than 100 bytes"),
      std::string::npos);
  small.max_template_bytes = 10;
  EXPECT_NE(rendered("12345678901", "{}", small).find("more than 10"), std::string::npos);
}

TEST(ChatTemplate, AMegabyteOfTemplateIsReadQuickly) {
  std::string text;
  while (text.size() < (size_t{1} << 20) - 100) text += "{% set a = 'x' ~ 1 %}{{ a }}{# c #}";
  const std::string out = rendered(text);
  EXPECT_TRUE(out.starts_with("x1x1x1")) << out.substr(0, 200);
}

TEST(ChatTemplate, NamespacesMayReferToThemselves) {
  EXPECT_EQ(rendered("{% set ns = namespace(a=1) %}{% set ns.me = ns %}{{ ns.me.me.a }}"), "1");
  EXPECT_EQ(rendered("{% set ns = namespace(f=none) %}{% for i in [1, 2] %}{% macro m() %}{{ i }}"
                     "{% endmacro %}{% set ns.f = m %}{% endfor %}{{ ns.f() }}"),
            "2");
}

TEST(ChatTemplate, ARecursiveLoopNeedNotRecur) {
  EXPECT_EQ(rendered("{% for x in [1, 2] recursive %}{{ x }}{% endfor %}"), "12");
}

TEST(ChatTemplate, ReadsTheFormsOfTheConfiguration) {
  ChatInput input;
  input.messages = value_of(OrderedJson::parse(R"([{"role": "user", "content": "Hi"}])"));
  const auto one = ChatTemplate::from_config(
      R"({"chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token }}",
          "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "unk_token": null})",
      "tokenizer_config.json");
  EXPECT_EQ(one.value().render(input).value(), "<s>Hi</s>");
  const auto named = ChatTemplate::from_config(
      R"({"chat_template": [{"name": "default", "template": "plain"},
                            {"name": "tool_use", "template": "{{ tools | length }} tools"}]})",
      "tokenizer_config.json");
  EXPECT_EQ(named.value().render(input).value(), "plain");
  input.tools = value_of(OrderedJson::parse(R"([{"type": "function"}])"));
  EXPECT_EQ(named.value().render(input).value(), "1 tools");
  const auto both = ChatTemplate::from_config_and_text(
      R"({"chat_template": "old", "bos_token": "<s>"})", "tokenizer_config.json",
      "{{ bos_token }}jinja", "chat_template.jinja");
  EXPECT_EQ(both.value().render(input).value(), "<s>jinja");
}

TEST(ChatTemplate, WrongConfigurationsNameTheField) {
  const auto message = [](std::string_view json) {
    const auto result = ChatTemplate::from_config(json, "tokenizer_config.json");
    if (!result) return result.error().message;
    const auto text = result->render({});
    return text ? *text : text.error().message;
  };
  EXPECT_NE(message("{}").find("no chat template"), std::string::npos);
  EXPECT_NE(message("[]").find("chat_template"), std::string::npos);
  EXPECT_NE(message("{").find("tokenizer_config.json"), std::string::npos);
  EXPECT_NE(message(R"({"chat_template": 5})").find("chat_template"), std::string::npos);
  EXPECT_NE(message(R"({"chat_template": [5]})").find("chat_template"), std::string::npos);
  EXPECT_NE(message(R"({"chat_template": [{"name": 1, "template": ""}]})").find("chat_template"),
            std::string::npos);
  EXPECT_NE(message(R"({"chat_template": []})").find("'default'"), std::string::npos);
  EXPECT_NE(message(R"({"chat_template": "{{"})").find("line 1"), std::string::npos);
}

TEST(ChatTemplate, ContinuesTheLastMessage) {
  const ChatTemplate chat = template_of("{{ messages[-1].content | trim }}<|end|>");
  ChatInput input;
  input.continue_final_message = true;
  input.messages = value_of(OrderedJson::parse(R"([{"content": " a, b "}])"));
  EXPECT_EQ(chat.render(input).value(), "a, b");
  input.messages = value_of(OrderedJson::parse(R"([{"role": "user"}])"));
  EXPECT_FALSE(template_of("x").render(input).ok());
  input.messages = value_of(OrderedJson::parse(R"([{"content": "gone"}])"));
  EXPECT_FALSE(template_of("x").render(input).ok());
}

TEST(JsonValue, KeepsOrderAndBounds) {
  const auto value = parse_json_value(R"({"z": 1, "a": [true, null, 1.5, -3], "z": "last"})", "s");
  ASSERT_TRUE(value.ok());
  EXPECT_EQ(value->as_dict().entries[0].second.as_text(), "last");
  EXPECT_EQ(value->as_dict().entries[1].second.items().size(), 4U);
  EXPECT_FALSE(parse_json_value("{\"a\": }", "s").ok());
  EXPECT_FALSE(parse_json_value("", "s").ok());
  EXPECT_FALSE(parse_json_value(std::string(200, '['), "s").ok());
  EXPECT_FALSE(parse_json_value("[1] x", "s").ok());
  EXPECT_FALSE(parse_json_value("\"\xFF\"", "s").ok());
  EXPECT_EQ(value_of(Json("\xFF")).as_text(), "\xEF\xBF\xBD");
  EXPECT_EQ(value_of(Json(18446744073709551615ULL)).kind(), jinja::Kind::kFloat);
}

TEST(JsonValue, ReadsAMillionKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 300'000; ++i) text += fmt::format("{}\"k{}\":0", i == 0 ? "" : ",", i);
  EXPECT_EQ(parse_json_value(text + "}", "s").value().as_dict().entries.size(), 300'000U);
}

}  // namespace
}  // namespace comet::text
