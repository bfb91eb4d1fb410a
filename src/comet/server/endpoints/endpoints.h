// The endpoints: each reads its Call and answers it once, at once or later. Named by routes.cpp.
// Those with needs_model find a model; the others may run while it loads.
#pragma once

#include <memory>

namespace comet::server {

class Call;

namespace endpoints {

void completions(const std::shared_ptr<Call>& call);
void chat(const std::shared_ptr<Call>& call);
void tokenize(const std::shared_ptr<Call>& call);
void detokenize(const std::shared_ptr<Call>& call);
void tokenizer_info(const std::shared_ptr<Call>& call);
void list_models(const std::shared_ptr<Call>& call);
void get_model(const std::shared_ptr<Call>& call);
void health(const std::shared_ptr<Call>& call);
void livez(const std::shared_ptr<Call>& call);
void metrics(const std::shared_ptr<Call>& call);
void openapi(const std::shared_ptr<Call>& call);

}  // namespace endpoints
}  // namespace comet::server
