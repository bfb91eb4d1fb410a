// What the two formats of answers have in common as JSON. Callers: completion_format.cpp,
// chat_format.cpp.
#pragma once

#include "comet/base/json.h"
#include "comet/server/protocol/answer/answer.h"

namespace comet::server {

OrderedJson usage_json(const Usage& usage);
/// id, object, created, model, choices.
OrderedJson answer_json(const AnswerHead& head, const char* object, OrderedJson choices);
/// Adds "usage" to a chunk as the request's stream options ask.
void add_chunk_usage(const AnswerHead& head, const Usage& usage, OrderedJson& chunk);
/// JSON has no -inf: vLLM's -9999 stands for it.
double finite_logprob(double logprob);
std::string json_text(const OrderedJson& value);

}  // namespace comet::server
