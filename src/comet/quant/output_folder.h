// OutputFolder: a model folder that appears whole or not at all. Everything is written into
// OUT.partial; publish() renames it to OUT. Callers: quantize_model and other writers of models.
#pragma once

#include <string>

#include "comet/base/result.h"

namespace comet::quant {

class OutputFolder {
 public:
  /// Makes OUT.partial; one that a dead run left is emptied, or kept as it is when `resume`. An
  /// existing OUT is an error, unless `force` and it is empty or holds a model's config.json; OUT
  /// may not be `source` (the model being read).
  static Result<OutputFolder> create(const std::string& out, const std::string& source, bool force,
                                     bool resume = false);
  OutputFolder(OutputFolder&& other) noexcept;
  OutputFolder& operator=(OutputFolder&&) = delete;
  /// Removes OUT.partial unless it was published or is to be kept.
  ~OutputFolder();

  /// The name of OUT.partial.
  static std::string partial_of(const std::string& out);
  /// Where to write: OUT.partial.
  [[nodiscard]] const std::string& path() const { return partial_; }
  /// Empties OUT.partial.
  Status clear() const;
  /// Leaves OUT.partial to a later run.
  void keep() { kept_ = true; }
  /// Copies the regular file `source`/`name` when there is one.
  Status copy_if_present(const std::string& source, const std::string& name) const;
  /// Puts OUT.partial in the place of OUT: the old OUT is renamed away, then deleted.
  Status publish();

 private:
  OutputFolder(std::string out, std::string partial)
      : out_(std::move(out)), partial_(std::move(partial)) {}

  std::string out_;
  std::string partial_;
  bool kept_ = false;
};

}  // namespace comet::quant
