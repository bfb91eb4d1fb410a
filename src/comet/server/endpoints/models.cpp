// GET /v1/models and /v1/models/{model}
#include "comet/engine/engine_loop.h"
#include "comet/server/endpoints/endpoints.h"
#include "comet/server/endpoints/generation.h"
#include "comet/server/protocol/answer/answer_json.h"

namespace comet::server::endpoints {
namespace {

OrderedJson model_json(const Service& service) {
  const ServedModel& model = *service.model();
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "comet"},
          {"root", model.name},
          {"parent", nullptr},
          {"max_model_len", service.loop().max_model_len()}};
}

}  // namespace

void list_models(const std::shared_ptr<Call>& call) {
  OrderedJson list = OrderedJson::array();
  if (call->service().model() != nullptr) list.push_back(model_json(call->service()));
  call->respond_json(json_text({{"object", "list"}, {"data", std::move(list)}}));
}

void get_model(const std::shared_ptr<Call>& call) {
  const ServedModel* model = call->service().model();
  if (model == nullptr) return call->respond_error(unavailable("the model is loading"));
  if (const auto error = check_model_name(*model, call->path_argument)) {
    return call->respond_error(*error);
  }
  call->respond_json(json_text(model_json(call->service())));
}

}  // namespace comet::server::endpoints
