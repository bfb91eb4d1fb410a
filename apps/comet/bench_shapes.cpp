#include "apps/comet/bench_shapes.h"

#include "comet/models/synthetic.h"

namespace comet::cli {

Result<std::vector<bench::LinearShape>> parse_shapes(const std::vector<std::string>& names) {
  std::vector<bench::LinearShape> shapes;
  for (const std::string& name : names) {
    std::string model = name;
    std::string wanted;
    auto config = models::synthetic_config(model);
    if (const size_t dot = name.rfind('.'); !config && dot != std::string::npos) {
      model = name.substr(0, dot);
      wanted = name.substr(dot + 1);
      config = models::synthetic_config(model);
    }
    if (!config) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--shapes '{}': expected MODEL or MODEL.qkv|o|gate_up|down|lm_head with "
                        "MODEL one of {}",
                        name, models::synthetic_names());
    }
    const int64_t q = config->num_heads * config->head_dim;
    const int64_t kv = config->num_kv_heads * config->head_dim;
    const int64_t ffn = config->intermediate_size;
    const std::vector<bench::LinearShape> all{
        {model + ".qkv", {q, kv, kv}, config->hidden_size},
        {model + ".o", {config->hidden_size}, q},
        {model + ".gate_up", {ffn, ffn}, config->hidden_size},
        {model + ".down", {config->hidden_size}, ffn},
        {model + ".lm_head", {config->vocab_size}, config->hidden_size}};
    const size_t before = shapes.size();
    for (const bench::LinearShape& shape : all) {
      const bool head = shape.name.ends_with(".lm_head");
      const bool named = shape.name.substr(model.size() + 1) == wanted;
      if (wanted.empty() ? !head : named) shapes.push_back(shape);
    }
    if (shapes.size() == before) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--shapes '{}': expected {}.qkv, .o, .gate_up, .down or .lm_head", name,
                        model);
    }
  }
  return shapes;
}

}  // namespace comet::cli
