#include "comet/client/load/completion_events.h"

#include "comet/base/json.h"

namespace comet::client {
namespace {

constexpr size_t kMaxQuoted = 300;

const Json* member(const Json& object, const char* field) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(field);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

int64_t count_of(const Json& usage, const char* field) {
  const Json* value = member(usage, field);
  return value != nullptr && value->is_number_unsigned() ? value->get<int64_t>() : 0;
}

/// The text of a choice: "text" of a completion, "delta.content" of a chat.
std::string_view text_of(const Json& choice) {
  const Json* text = member(choice, "text");
  if (const Json* delta = member(choice, "delta"); delta != nullptr) {
    text = member(*delta, "content");
  }
  if (text == nullptr || !text->is_string()) return {};
  return text->get_ref<const std::string&>();
}

}  // namespace

bool CompletionEvents::on_event(std::string_view data, double at_s) {
  const auto json = parse_json(data, "event");
  if (!json || !json->is_object()) {
    record_.error_kind = "protocol";
    record_.error = fmt::format("an event is no JSON object: {}", data.substr(0, kMaxQuoted));
    return false;
  }
  if (const Json* error = member(*json, "error"); error != nullptr) {
    const Json* message = member(*error, "message");
    const bool has_text = message != nullptr && message->is_string();
    record_.error_kind = "stream_error";
    record_.error = "the stream failed: " +
                    (has_text ? message->get<std::string>() : error->dump()).substr(0, kMaxQuoted);
    return false;
  }
  if (const Json* usage = member(*json, "usage"); usage != nullptr) {
    has_usage_ = true;
    record_.input_tokens = count_of(*usage, "prompt_tokens");
    record_.output_tokens = count_of(*usage, "completion_tokens");
  }
  const Json* choices = member(*json, "choices");
  if (choices == nullptr || !choices->is_array() || choices->empty()) return true;
  const Json& choice = choices->front();
  const std::string_view text = text_of(choice);
  // A token may give no text yet (half a character), and that is a content chunk too; a role
  // that opens a chat, and a bare finish_reason, are none.
  const bool opens = member(choice, "delta") != nullptr && text.empty();
  if (text.empty() && (opens || member(choice, "finish_reason") != nullptr)) return true;
  if (num_chunks_++ == 0) {
    record_.ttft_s = at_s - sent_s_;
  } else {
    record_.gaps_s.push_back(at_s - last_s_);
  }
  last_s_ = at_s;
  record_.latency_s = at_s - sent_s_;
  if (record_.text.size() + text.size() <= kMaxTextBytes) record_.text += text;
  return true;
}

void CompletionEvents::finish(int64_t prompt_tokens) {
  if (!has_usage_) {
    record_.input_tokens = prompt_tokens;
    record_.output_tokens = num_chunks_;
  }
  if (num_chunks_ == 0 && record_.error_kind.empty()) {
    record_.error_kind = "empty";
    record_.error = "the stream held no token";
  }
}

}  // namespace comet::client
