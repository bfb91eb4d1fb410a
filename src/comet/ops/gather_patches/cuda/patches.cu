// Patches of NHWC images as rows, and back. rows [images · (height / size) · (width / size), size ·
// size · channels]: `size` runs of size · channels neighbours of a patch, top to bottom.
// Grid: one thread per span of 8 elements of a run (gather) or of an image's row (scatter).
// Floor: the bytes of both at copy rate.
#include <cuda_runtime_api.h>

#include "comet/device/cuda/cuda_check.h"
#include "comet/ops/cuda/image_launches.h"
#include "comet/ops/cuda/vectors.cuh"

namespace comet::ops_cuda {
namespace {

struct Runs {
  int64_t run = 0;         // size · channels
  int64_t out_height = 0;  // patches
  int64_t out_width = 0;
};

Runs runs_of(const PatchesArgs& args) {
  return {int64_t{args.size} * args.sizes.channels, args.sizes.height / args.size,
          args.sizes.width / args.size};
}

__global__ void __launch_bounds__(kThreads)
    gather_kernel(PatchesArgs args, Runs runs, int64_t num_runs, bool is_wide) {
  const Span span = span_of_thread(num_runs, runs.run);
  if (span.count == 0) return;
  // Runs come in the images' order, so that a warp reads neighbours.
  const int64_t px = span.row % runs.out_width;
  const int64_t row = span.row / runs.out_width;  // of all patches' pixel rows
  const int64_t in_image = runs.out_height * args.size;
  const int64_t image = row / in_image;
  const int64_t y = row - image * in_image;
  const int64_t from =
      ((image * args.sizes.height + y) * args.sizes.width) * args.sizes.channels + px * runs.run;
  const int64_t patch = (image * runs.out_height + y / args.size) * runs.out_width + px;
  float v[kSpan];
  load_span(v, args.images, args.image_type, from + span.column, span.count, is_wide);
  store_span(args.rows.data, args.rows.type,
             patch * args.rows.stride + y % args.size * runs.run + span.column, v, span.count,
             is_wide);
}

__global__ void __launch_bounds__(kThreads)
    scatter_kernel(PatchesArgs args, Runs runs, int64_t num_rows, bool is_wide) {
  const int64_t pitch = int64_t{args.sizes.width} * args.sizes.channels;
  const Span span = span_of_thread(num_rows, pitch);
  if (span.count == 0) return;
  const int64_t image = span.row / args.sizes.height;
  const int64_t y = span.row - image * args.sizes.height;
  const bool has_row = y < runs.out_height * args.size;
  float v[kSpan] = {};
  const auto at = [&](int64_t column) {  // element of rows
    const int64_t px = column / runs.run;
    const int64_t patch = (image * runs.out_height + y / args.size) * runs.out_width + px;
    return patch * args.rows.stride + y % args.size * runs.run + column - px * runs.run;
  };
  if (is_wide) {  // runs are whole spans
    if (has_row && span.column < runs.out_width * runs.run) {
      load_span(v, args.rows.data, args.rows.type, at(span.column), span.count, true);
    }
  } else {
#pragma unroll
    for (int j = 0; j < kSpan; ++j) {
      const int64_t column = span.column + j;
      if (j < span.count && has_row && column < runs.out_width * runs.run) {
        v[j] = load_one(args.rows.data, args.rows.type, at(column));
      }
    }
  }
  store_span(args.images, args.image_type, span.row * pitch + span.column, v, span.count, is_wide);
}

/// Whether runs of patches and of images all start 16-byte aligned.
bool has_wide_runs(const PatchesArgs& args, const Runs& runs) {
  return has_wide_rows(args.rows) && runs.run % kSpan == 0 &&
         reinterpret_cast<uintptr_t>(args.images) % 16 == 0 &&
         int64_t{args.sizes.width} * args.sizes.channels % kSpan == 0;
}

}  // namespace

void launch_gather_patches(const PatchesArgs& args, CUstream_st* stream) {
  const Runs runs = runs_of(args);
  const int64_t num_runs = args.sizes.num_images * runs.out_height * args.size * runs.out_width;
  if (num_runs == 0 || runs.run == 0) return;
  gather_kernel<<<span_blocks(num_runs, runs.run), kThreads, 0, stream>>>(
      args, runs, num_runs, has_wide_runs(args, runs));
  COMET_CUDA(cudaGetLastError());
}

void launch_scatter_patches(const PatchesArgs& args, CUstream_st* stream) {
  const Runs runs = runs_of(args);
  const int64_t num_rows = int64_t{args.sizes.num_images} * args.sizes.height;
  const int64_t pitch = int64_t{args.sizes.width} * args.sizes.channels;
  if (num_rows == 0 || pitch == 0) return;
  scatter_kernel<<<span_blocks(num_rows, pitch), kThreads, 0, stream>>>(args, runs, num_rows,
                                                                        has_wide_runs(args, runs));
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet::ops_cuda
