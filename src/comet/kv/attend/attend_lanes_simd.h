// Attention of many query rows (prefill): lanes run over query rows, so scores, softmax and values
// need no sums across lanes, and K and V are read as broadcasts. Compiled once per instruction set.
// Query rows are cut into panels of kPanel rows; q, out and scores are stored [dim or key][row].
#pragma once

#include "comet/device/cpu/simd.h"
#include "comet/kv/attend/attend_tile_simd.h"
#include "comet/kv/window/window_rows_simd.h"

namespace comet::kv {
namespace {

// A block of registers: kPanelVectors along query rows × kBlockKeys along keys or head_dim.
constexpr int kPanelVectors = 2;
constexpr int64_t kPanel = kPanelVectors * simd::kLanes;
/// A maximum before any score: finite, because a row may read nothing from its first tiles, and
/// −∞ − (−∞) is NaN.
constexpr float kLowest = -3e38F;
constexpr int kBlockKeys = simd::kLanes == 16 ? 8 : 4;

struct Panel {
  float* q;       // [head_dim][kPanel], scaled by 1/√head_dim
  float* out;     // [dims][kPanel]
  float* limits;  // [kPanel] keys that the row sees
  float* maxima;  // [kPanel]
  float* sums;    // [kPanel]
  int64_t fewest_visible;
  int64_t most_visible;
};

inline Panel init_panel(const AttendTask& task, const TaskShape& shape, int64_t panel_idx, float* q,
                        float* out, float* rows) {
  Panel panel = {q, out, rows, rows + kPanel, rows + 2 * kPanel, 0, 0};
  const int64_t first = panel_idx * kPanel;
  const int64_t last = smaller(first + kPanel, shape.rows) - 1;
  for (int64_t lane = 0; lane < kPanel; ++lane) {
    const int64_t r = smaller(first + lane, last);  // surplus lanes repeat the last row
    const float* x = query_row(task, r);
    for (int64_t i = 0; i < task.head_dim; ++i) q[i * kPanel + lane] = x[i] * shape.scale;
    panel.limits[lane] = static_cast<float>(visible_keys(task, r));
    panel.maxima[lane] = kLowest;
    panel.sums[lane] = 0.0F;
  }
  for (int64_t i = 0; i < shape.dims * kPanel; ++i) out[i] = 0.0F;
  panel.fewest_visible = visible_keys(task, first);
  panel.most_visible = visible_keys(task, last);
  return panel;
}

/// scores[k][row] = tile[k] · q[row] for kBlockKeys keys.
inline void panel_scores(float* scores, const float* q, const float* tile, int64_t head_dim,
                         int64_t dims) {
  using simd::kLanes;
  simd::F32 sums[kBlockKeys][kPanelVectors];
  for (auto& row : sums) {
    for (auto& sum : row) sum = simd::splat(0.0F);
  }
  for (int64_t i = 0; i < head_dim; ++i) {
    simd::F32 x[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) x[v] = simd::load(q + i * kPanel + v * kLanes);
    for (int k = 0; k < kBlockKeys; ++k) {
      const simd::F32 y = simd::splat(tile[k * dims + i]);
      for (int v = 0; v < kPanelVectors; ++v) sums[k][v] = simd::fma(x[v], y, sums[k][v]);
    }
  }
  for (int k = 0; k < kBlockKeys; ++k) {
    for (int v = 0; v < kPanelVectors; ++v) {
      simd::store(scores + k * kPanel + v * kLanes, sums[k][v]);
    }
  }
}

/// −∞ where a row does not read key start + k. Positions are exact in FP32 up to 2²⁴; beyond any of
/// them, only the order counts.
inline void panel_mask(float* scores, const Panel& panel, const KeyRange& range, int64_t start,
                       int64_t keys) {
  using simd::kLanes;
  const auto splat = [](int64_t n) { return simd::splat(static_cast<float>(n)); };
  const simd::F32 hidden = simd::splat(-__builtin_inff());
  for (int64_t v = 0; v < kPanel; v += kLanes) {
    const simd::F32 visible = simd::load(panel.limits + v);
    const simd::F32 low = simd::max(splat(range.first), simd::sub(visible, splat(range.num_ages)));
    const simd::F32 high = simd::min(splat(range.end), simd::sub(visible, splat(range.min_age)));
    for (int64_t k = 0; k < keys; ++k) {
      const simd::F32 key_idx = splat(start + k);
      float* s = scores + k * kPanel + v;
      const simd::F32 below_high = simd::select_less(key_idx, high, simd::load(s), hidden);
      simd::store(s, simd::select_less(key_idx, low, hidden, below_high));
    }
  }
}

/// Scores to probabilities in place; corrections[row] is what earlier sums are multiplied by.
inline void panel_softmax(float* scores, const Panel& panel, float* corrections, int64_t keys) {
  using simd::kLanes;
  for (int64_t v = 0; v < kPanel; v += kLanes) {
    const simd::F32 before = simd::load(panel.maxima + v);
    simd::F32 maximum = before;
    for (int64_t k = 0; k < keys; ++k) {
      maximum = simd::max(maximum, simd::load(scores + k * kPanel + v));
    }
    const simd::F32 correction = simd::exp(simd::sub(before, maximum));
    simd::F32 sum = simd::mul(simd::load(panel.sums + v), correction);
    for (int64_t k = 0; k < keys; ++k) {
      float* s = scores + k * kPanel + v;
      const simd::F32 p = simd::exp(simd::sub(simd::load(s), maximum));
      simd::store(s, p);
      sum = simd::add(sum, p);
    }
    simd::store(panel.maxima + v, maximum);
    simd::store(panel.sums + v, sum);
    simd::store(corrections + v, correction);
  }
}

/// out[i][row] = out[i][row] · corrections[row] + Σ_k tile[k][i] · p[k][row] for kBlockKeys dims.
inline void panel_values(float* out, const float* p, const float* tile, const float* corrections,
                         int64_t keys, int64_t dims) {
  using simd::kLanes;
  simd::F32 sums[kBlockKeys][kPanelVectors];
  for (int i = 0; i < kBlockKeys; ++i) {
    for (int v = 0; v < kPanelVectors; ++v) {
      sums[i][v] = simd::mul(simd::load(out + i * kPanel + v * kLanes),
                             simd::load(corrections + v * kLanes));
    }
  }
  for (int64_t k = 0; k < keys; ++k) {
    simd::F32 x[kPanelVectors];
    for (int v = 0; v < kPanelVectors; ++v) x[v] = simd::load(p + k * kPanel + v * kLanes);
    for (int i = 0; i < kBlockKeys; ++i) {
      const simd::F32 y = simd::splat(tile[k * dims + i]);
      for (int v = 0; v < kPanelVectors; ++v) sums[i][v] = simd::fma(x[v], y, sums[i][v]);
    }
  }
  for (int i = 0; i < kBlockKeys; ++i) {
    for (int v = 0; v < kPanelVectors; ++v) {
      simd::store(out + i * kPanel + v * kLanes, sums[i][v]);
    }
  }
}

inline void store_panel(const AttendTask& task, const TaskShape& shape, const Panel& panel,
                        int64_t panel_idx) {
  const int64_t first = panel_idx * kPanel;
  const int64_t num_rows = smaller(kPanel, shape.rows - first);
  for (int64_t lane = 0; lane < num_rows; ++lane) {
    float* out = output_row(task, first + lane);
    const float factor = 1.0F / panel.sums[lane];
    for (int64_t i = 0; i < task.head_dim; ++i) out[i] = panel.out[i * kPanel + lane] * factor;
  }
}

/// Panels of a task and the scratch that they share.
struct PanelSet {
  static constexpr int64_t kMaxPanels = 64;
  Panel panels[kMaxPanels];
  int64_t num_panels;
  float* tile;    // [kTileTokens][dims]
  float* scores;  // [panel][kTileTokens][kPanel]
};

/// Adds what the rows read from one source.
template <typename Source>
inline void add_panels(const AttendTask& task, const TaskShape& shape, const PanelSet& set,
                       const Source& source, const KeyRange& range) {
  const int64_t end = range.high(visible_keys(task, shape.rows - 1));
  const int64_t first = range.low(task.first_visible);
  for (int64_t start = first / kTileTokens * kTileTokens; start < end; start += kTileTokens) {
    const int64_t keys = smaller(kTileTokens, end - start);
    // Keys that a panel computes: up to what its last row reads, in whole blocks.
    const auto panel_keys = [&](const Panel& panel) {
      if (range.low(panel.fewest_visible) >= start + keys) return int64_t{0};
      return smaller(round_up(keys, kBlockKeys),
                     round_up(range.high(panel.most_visible) - start, kBlockKeys));
    };
    source.load_keys(set.tile, start, keys, shape.dims, first);
    clear_rows(set.tile, keys, kBlockKeys, shape.dims);
    for (int64_t i = 0; i < set.num_panels; ++i) {
      float* s = set.scores + i * kTileTokens * kPanel;
      for (int64_t k = 0; k < panel_keys(set.panels[i]); k += kBlockKeys) {
        panel_scores(s + k * kPanel, set.panels[i].q, set.tile + k * shape.dims, task.head_dim,
                     shape.dims);
      }
    }
    source.load_values(set.tile, start, keys, shape.dims, first);
    clear_rows(set.tile, keys, kBlockKeys, shape.dims);
    for (int64_t i = 0; i < set.num_panels; ++i) {
      const Panel& panel = set.panels[i];
      const int64_t num_keys = panel_keys(panel);
      if (num_keys <= 0) continue;
      float* s = set.scores + i * kTileTokens * kPanel;
      if (start + num_keys > range.high(panel.fewest_visible) ||
          start < range.low(panel.most_visible)) {
        panel_mask(s, panel, range, start, num_keys);
      }
      float corrections[kPanel];
      panel_softmax(s, panel, corrections, num_keys);
      for (int64_t d = 0; d < shape.dims; d += kBlockKeys) {
        panel_values(panel.out + d * kPanel, s, set.tile + d, corrections, num_keys, shape.dims);
      }
    }
  }
}

template <typename Rows>
inline void attend_lanes(const AttendTask& task, const TaskShape& shape) {
  PanelSet set;
  set.num_panels = (shape.rows + kPanel - 1) / kPanel;
  set.tile = task.scratch;
  const int64_t panel_floats = kPanel * shape.dims;
  float* q = set.tile + kTileTokens * shape.dims;
  float* out = q + set.num_panels * panel_floats;
  set.scores = out + set.num_panels * panel_floats;
  float* rows = set.scores + set.num_panels * kTileTokens * kPanel;
  for (int64_t i = 0; i < set.num_panels; ++i) {
    set.panels[i] = init_panel(task, shape, i, q + i * panel_floats, out + i * panel_floats,
                               rows + i * 3 * kPanel);
  }
  clear_padding(set.tile, task.head_dim, shape.dims);

  const AttendWindow& window = task.window;
  add_panels(task, shape, set, PageRows<Rows>(task), page_keys(window));
  if (window.num_first > 0) {
    add_panels(task, shape, set, WindowRows(task), first_keys(window));
  }
  if (window.num_recent > 0) {
    add_panels(task, shape, set, WindowRows(task), recent_keys(window));
  }
  for (int64_t i = 0; i < set.num_panels; ++i) store_panel(task, shape, set.panels[i], i);
}

}  // namespace
}  // namespace comet::kv
