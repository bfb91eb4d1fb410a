// comet info MODEL: what a model is, byte by byte, and which kernel each layer would run here.
#include <cstdio>
#include <map>

#include "apps/comet/command.h"
#include "comet/formats/format.h"

namespace comet::cli {
namespace {

struct Options {
  std::string model;
  SyntheticFlags synthetic;
  std::string kv;
};

Json describe(const models::LlamaModel& model) {
  const io::ModelConfig& config = model.config();
  Json layers = Json::array();
  int64_t linear_bytes = 0;
  int64_t num_params = config.vocab_size * config.hidden_size;
  const auto add_linear = [&](const nn::Linear& linear) {
    const formats::LinearWeight& weight = linear.weight();
    linear_bytes += weight.bytes();
    num_params += linear.spec().n() * linear.spec().k;
    layers.push_back({{"name", linear.spec().name},
                      {"n", linear.spec().n()},
                      {"k", linear.spec().k},
                      {"format", weight.format->name},
                      {"size_bytes", weight.bytes()},
                      {"kernel", weight.kernel->name}});
  };
  for (const models::LlamaLayer& layer : model.layers()) {
    for (const nn::Linear* linear :
         {&layer.qkv, &layer.out_proj, &layer.gate_up, &layer.down_proj}) {
      add_linear(*linear);
    }
  }
  const int64_t linears_bytes = linear_bytes;
  const bool tied = config.tie_word_embeddings;
  if (!tied) num_params += config.vocab_size * config.hidden_size;
  const FormatTraits traits = format_traits(model);
  const int64_t kv_page = model.format().kv->page_bytes(model.kv_shape());
  Json result = {
      {"architecture", config.architecture},
      {"num_parameters", num_params + config.hidden_size * (2 * config.num_layers + 1)},
      {"hidden_size", config.hidden_size},
      {"num_layers", config.num_layers},
      {"num_heads", config.num_heads},
      {"num_kv_heads", config.num_kv_heads},
      {"head_dim", config.head_dim},
      {"intermediate_size", config.intermediate_size},
      {"vocab_size", config.vocab_size},
      {"max_position_embeddings", config.max_position_embeddings},
      {"format", model.format().weights->name},
      {"lm_head", model.format().lm_head->name},
      {"kv", model.format().kv->name},
      {"bytes",
       {{"linears", linears_bytes},
        {"embedding", model.embedding_bytes()},
        {"lm_head",
         tied && model.format().lm_head->name == "dense" ? 0 : model.lm_head().weight().bytes()}}},
      {"bytes_read_per_token", model.bytes_read_per_step()},
      {"kv_bytes_per_token", kv_page * config.num_layers / kv::kPageTokens},
      {"act_scale", traits.act_scale},
      {"w4", traits.w4},
      {"int4_activation_share", traits.int4_activation_share},
      {"int4_block_share", traits.int4_block_share},
  };
  layers.push_back({{"name", "lm_head"},
                    {"n", config.vocab_size},
                    {"k", config.hidden_size},
                    {"format", model.format().lm_head->name},
                    {"size_bytes", model.lm_head().weight().bytes()},
                    {"kernel", model.lm_head().weight().kernel->name}});
  result["layers"] = layers;
  return result;
}

void print_info(const Json& r, const Caps& caps) {
  const auto bytes = [&](const char* part) { return bytes_text(r["bytes"][part].get<int64_t>()); };
  fmt::print(
      "{}: {} layers, hidden {}, {} heads ({} KV) of {}, FFN {}, vocabulary {}, context {}\n",
      r["architecture"].get<std::string>(), r["num_layers"].get<int64_t>(),
      r["hidden_size"].get<int64_t>(), r["num_heads"].get<int64_t>(),
      r["num_kv_heads"].get<int64_t>(), r["head_dim"].get<int64_t>(),
      r["intermediate_size"].get<int64_t>(), r["vocab_size"].get<int64_t>(),
      r["max_position_embeddings"].get<int64_t>());
  fmt::print("parameters   {:.1f} M\n", r["num_parameters"].get<double>() / 1e6);
  fmt::print("bytes        linears {}, embedding {}, lm_head {}; a token reads {} of weights\n",
             bytes("linears"), bytes("embedding"), bytes("lm_head"),
             bytes_text(r["bytes_read_per_token"].get<int64_t>()));
  fmt::print("format       {}, lm_head {}, cache {} ({} a token)\n", r["format"].get<std::string>(),
             r["lm_head"].get<std::string>(), r["kv"].get<std::string>(),
             bytes_text(r["kv_bytes_per_token"].get<int64_t>()));
  if (!r["act_scale"]
           .get<std::string>()
           .empty()) {  // the format's inputs are blocks of 4 or 8 bits
    fmt::print("INT4 share   {:.1f} % of multiply-accumulates, {:.1f} % of blocks\n",
               r["int4_activation_share"].get<double>() * 100,
               r["int4_block_share"].get<double>() * 100);
  }
  fmt::print("device       {} ({}), {} threads\n\n", caps.cpu_name, cpu_isa_name(caps.cpu_isa),
             caps.num_threads);
  fmt::print("{:<44} {:>7} {:>7}  {:<9} {:>10}  {}\n", "linear", "n", "k", "format", "size",
             "kernel");
  for (const Json& layer : r["layers"]) {
    fmt::print("{:<44} {:>7} {:>7}  {:<9} {:>10}  {}\n", layer["name"].get<std::string>(),
               layer["n"].get<int64_t>(), layer["k"].get<int64_t>(),
               layer["format"].get<std::string>(), bytes_text(layer["size_bytes"].get<int64_t>()),
               layer["kernel"].get<std::string>());
  }
}

Status run_info(const Globals& globals, const Options& options) {
  auto runtime = make_runtime(globals);
  if (!runtime) return runtime.error();
  Context& ctx = (*runtime)->context();
  std::unique_ptr<models::LlamaModel> model;
  if (!options.synthetic.name.empty()) {
    auto made = make_synthetic(ctx, globals, options.synthetic, options.kv);
    if (!made) return made.error();
    model = *std::move(made);
  } else {
    auto checkpoint = io::Checkpoint::open(options.model);
    if (!checkpoint) return checkpoint.error();
    auto loaded = models::load_model(ctx, *checkpoint, options.kv);
    if (!loaded) return loaded.error();
    model = *std::move(loaded);
  }
  const Json result = describe(*model);
  if (prints_text(globals)) print_info(result, ctx.caps);
  return write_json_result(globals, "info", result);
}

}  // namespace

void add_info(CLI::App& app, const Globals& globals, Action& action) {
  auto options = std::make_shared<Options>();
  CLI::App& command =
      *app.add_subcommand("info", "What a model is, and which kernels it would run");
  auto* model = command.add_option("MODEL", options->model, "Model folder");
  add_synthetic_flags(command, options->synthetic);
  command.add_option("--kv", options->kv, "Cache format: kv16, kv8 or kv4");
  command.callback([&globals, &action, options, model, &command] {
    if (model->count() + command.get_option("--synthetic")->count() != 1) {
      throw CLI::ValidationError("info", "give a MODEL folder or --synthetic NAME");
    }
    action = [&globals, options] { return run_info(globals, *options); };
  });
}

}  // namespace comet::cli
