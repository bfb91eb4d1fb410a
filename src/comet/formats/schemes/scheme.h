// Scheme: how one linear's tensors lie in a checkpoint of the ecosystem; SchemeTable: which scheme
// each linear of a model has, as its quantization_config says (docs/formats.md, Interchange). Made
// by the readers of this folder, asked by bind_linear, by models/load and by the exporter.
#pragma once

#include <string>
#include <vector>

#include "comet/formats/format.h"
#include "comet/formats/schemes/name_pattern.h"

namespace comet::formats {

/// Whose layout of bits.
enum class DiskLayout { kDense, kPackQuantized, kGptq, kAwq, kIntQuantized, kFloatQuantized };

struct Scheme {
  DiskLayout layout = DiskLayout::kDense;
  // 4-bit layouts:
  int64_t group_size = kBlock;  // channels of a scale; 0: all of a row
  bool symmetric = true;        // no zero points
  bool zeros_less_one = false;  // GPTQ's first version stores zero − 1
  bool in_order = false;        // g_idx, if there, says nothing (GPTQ without desc_act)
  // 8-bit layouts:
  bool tensor_scale = false;  // one weight scale for all rows of a part
  bool static_input = false;  // input_scale instead of a scale for each token

  bool operator==(const Scheme&) const = default;
};

class SchemeTable final : public FormatConfig {
 public:
  struct Row {
    std::vector<NamePattern> targets;
    Scheme scheme;
  };

  /// `source` names config.json in errors.
  SchemeTable(std::string source, std::vector<Row> rows, std::vector<NamePattern> ignore)
      : source_(std::move(source)), rows_(std::move(rows)), ignore_(std::move(ignore)) {}

  /// Of the linear module of that name; dense when no row targets it or when it is ignored.
  [[nodiscard]] Scheme find(std::string_view module_name) const;
  /// The scheme that all parts of a fused linear share; an error names two that differ.
  [[nodiscard]] Result<Scheme> find(const LinearSpec& spec) const;
  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

 private:
  std::string source_;
  std::vector<Row> rows_;
  std::vector<NamePattern> ignore_;
};

}  // namespace comet::formats
