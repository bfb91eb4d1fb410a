#include "comet/kv/kv8_fp8/kv8_fp8.h"

#include "comet/kv/cache_driver.h"

namespace comet::kv {
namespace {

PageLayout layout_of(const KvShape& shape) { return {shape, kPageTokens * shape.head_dim}; }

int64_t page_bytes(const KvShape& shape) { return layout_of(shape).page_bytes(); }

int64_t append(Context& ctx, const KvShape& shape, std::byte* pages, View<const float, 3> k,
               View<const float, 3> v, const Batch& batch) {
  return append_rows(ctx, kv_kernels(ctx.caps.cpu_isa).kv8_fp8, layout_of(shape), pages, k, v,
                     batch);
}

void attend(Context& ctx, const KvShape& shape, const KvLayer& layer, View<float, 2> out,
            View<const float, 3> q, const Batch& batch) {
  attend_batch(ctx, kv_kernels(ctx.caps.cpu_isa).kv8_fp8, layout_of(shape), layer, out, q, batch);
}

void gather(const KvShape& shape, const std::byte* pages, View<float, 3> k, View<float, 3> v,
            const Batch& batch, int64_t seq_idx) {
  gather_rows(kKvKernelsPortable.kv8_fp8, layout_of(shape), pages, k, v, batch, seq_idx);
}

constexpr KvFormat kFormat = {.name = "kv8_fp8",
                              .narrow = false,
                              .has_scales = true,
                              .page_bytes = page_bytes,
                              .append = append,
                              .attend = attend,
                              .gather = gather};

}  // namespace

const KvFormat& kv8_fp8_format() { return kFormat; }

}  // namespace comet::kv
