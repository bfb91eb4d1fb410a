#include "comet/formats/schemes/gptq_awq.h"

#include "comet/formats/schemes/config_reader.h"

namespace comet::formats {
namespace {

/// −1 and all channels of a row are 0 in a Scheme.
int64_t read_group_size(ConfigReader& root, std::string_view field) {
  const int64_t size = root.integer(field, kBlock);
  if (size == -1) return 0;
  if (size != 32 && size != 64 && (size < kBlock || size % kBlock != 0)) {
    root.fail(field, "-1, 32, 64 or a multiple of 128");
  }
  return size;
}

/// `scheme` for every linear but the ignored ones and lm_head, which both programs leave dense.
Result<std::shared_ptr<const SchemeTable>> table_of(ConfigReader& root, const Scheme& scheme,
                                                    std::vector<NamePattern> ignore) {
  if (root.error()) return *root.error();
  SchemeTable::Row row;
  row.targets.push_back(*NamePattern::parse("Linear"));
  row.scheme = scheme;
  ignore.push_back(*NamePattern::parse("lm_head"));
  std::vector<SchemeTable::Row> rows{std::move(row)};
  return std::make_shared<const SchemeTable>(root.source(), std::move(rows), std::move(ignore));
}

}  // namespace

Result<std::shared_ptr<const SchemeTable>> read_gptq(const Json& quantization_config,
                                                     const std::string& source) {
  ConfigReader root(&quantization_config, source, "");
  Scheme scheme{.layout = DiskLayout::kGptq};
  root.require("bits", {4}, "4");
  root.require("checkpoint_format", {nullptr, "gptq", "gptq_v2"}, "\"gptq\" or \"gptq_v2\"");
  root.require("is_marlin_format", {nullptr, false}, "false: Marlin's layout is not read");
  root.require("lm_head", {nullptr, false}, "false: the output head stays dense");
  root.require_absent("dynamic", "null: one setting for all linears");
  root.require("pack_dtype", {nullptr, "int32"}, "\"int32\"");
  scheme.group_size = read_group_size(root, "group_size");
  // `sym` says how the zero points were chosen; they are stored either way.
  scheme.symmetric = false;
  scheme.zeros_less_one = root.text("checkpoint_format", "gptq") == "gptq";
  root.flag("sym", true);
  scheme.in_order = !root.flag("desc_act", true);
  return table_of(root, scheme, {});
}

Result<std::shared_ptr<const SchemeTable>> read_awq(const Json& quantization_config,
                                                    const std::string& source) {
  ConfigReader root(&quantization_config, source, "");
  Scheme scheme{.layout = DiskLayout::kAwq};
  const bool short_names = root.find("w_bit") != nullptr;
  root.require(short_names ? "w_bit" : "bits", {4}, "4");
  const std::string version = root.text("version", "gemm");
  if (version != "gemm" && version != "GEMM") root.fail("version", "\"gemm\"");
  scheme.group_size =
      read_group_size(root, root.find("q_group_size") != nullptr ? "q_group_size" : "group_size");
  root.require("zero_point", {nullptr, true}, "true");
  scheme.symmetric = false;
  std::vector<NamePattern> ignore;
  const Json* dense = root.find("modules_to_not_convert");
  constexpr size_t kMaxNames = 256;
  if (dense != nullptr && (!dense->is_array() || dense->size() > kMaxNames)) {
    root.fail("modules_to_not_convert", fmt::format("a list of at most {} names", kMaxNames));
    return *root.error();
  }
  for (const Json& name : dense != nullptr ? *dense : Json::array()) {
    if (!name.is_string() || name.get_ref<const std::string&>().find("\\E") != std::string::npos) {
      root.fail("modules_to_not_convert", "a list of parts of module names");
      break;
    }
    auto pattern = NamePattern::parse("re:.*\\Q" + name.get<std::string>() + "\\E");
    if (!pattern) {
      root.fail("modules_to_not_convert", "parts of module names");
      break;
    }
    ignore.push_back(*std::move(pattern));
  }
  return table_of(root, scheme, std::move(ignore));
}

}  // namespace comet::formats
