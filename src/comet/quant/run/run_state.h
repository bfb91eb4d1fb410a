// RunState: what an interrupted quantization needs to go on, in OUT.partial beside the tensors:
// resume.json (the run's fingerprint, how far it came, what its parts want to know) and one file of
// activations. Callers: quantize_model. Saved after every layer so that a kill at any moment leaves
// the state of the last whole layer.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "comet/base/json.h"
#include "comet/base/result.h"
#include "comet/quant/matrix.h"

namespace comet::quant {

/// How far a run came.
struct SavedRun {
  int64_t num_layers = 0;  // finished
  Json parts;              // as given to save()
  std::vector<Matrix> activations;
};

class RunState {
 public:
  /// `fingerprint`: an object of everything that decides the result, settings under the names that
  /// a user knows.
  RunState(std::string folder, Json fingerprint)
      : folder_(std::move(folder)), fingerprint_(std::move(fingerprint)) {}

  /// What was saved in the folder; nothing when no layer was finished there. An error names the
  /// settings that differ, or the file that is damaged.
  [[nodiscard]] Result<std::optional<SavedRun>> load() const;
  /// The state after `num_layers` layers, on the disk before the earlier one goes.
  Status save(int64_t num_layers, const Json& parts, std::span<const Matrix* const> activations);
  /// Bytes that save() takes while two states lie beside each other.
  [[nodiscard]] static int64_t bytes_for(int64_t num_values) { return 2 * 4 * num_values; }
  /// Removes the state: the folder becomes a model.
  Status remove();

 private:
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  [[nodiscard]] Status check_fingerprint(const Json& saved) const;

  std::string folder_;
  Json fingerprint_;
};

}  // namespace comet::quant
