// libcublasLt through dlopen. Row-major out = x · wᵀ is column-major outᵀ = w · xᵀ, so w is
// cuBLASLt's A (transposed) and x its B: the one form that FP8 has.
#include "comet/device/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <glob.h>

#include <array>
#include <map>
#include <string>
#include <vector>

#include "comet/device/cuda/cuda_check.h"

namespace comet {
namespace {

constexpr size_t kWorkspaceBytes = size_t{64} << 20;

/// The functions used, of the types that the header declares.
struct Library {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
};

/// One matrix product that has been planned.
struct Plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t w = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulAlgo_t algo{};
};

std::vector<std::string> library_paths() {
  std::vector<std::string> paths{"libcublasLt.so.13", "libcublasLt.so"};
  glob_t found{};
  for (const char* pattern :
       {"/usr/local/cuda/lib64/libcublasLt.so.13", "/usr/local/cuda*/lib64/libcublasLt.so.13",
        "/usr/local/cuda*/targets/*/lib/libcublasLt.so.13"}) {
    if (glob(pattern, 0, nullptr, &found) == 0) {
      paths.insert(paths.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    }
    globfree(&found);
    found = {};
  }
  return paths;
}

Result<void*> open_library() {
  std::string tried;
  for (const std::string& path : library_paths()) {
    if (void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); library != nullptr) {
      return library;
    }
    const char* why = dlerror();
    tried += fmt::format("\n  {}", why == nullptr ? path.c_str() : why);
  }
  return make_error(ErrorCode::kNotFound,
                    "cuBLASLt 13 was not found, which products of BF16 weights need. Install CUDA "
                    "13's libcublas (package libcublas-13-0 or pip's nvidia-cublas), and put its "
                    "folder into LD_LIBRARY_PATH. Tried:{}",
                    tried);
}

template <typename Function>
bool load(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

Result<Library> load_functions(void* library) {
  Library lt;
  const bool found = load(library, "cublasLtCreate", lt.create) &&
                     load(library, "cublasLtDestroy", lt.destroy) &&
                     load(library, "cublasLtMatmulDescCreate", lt.desc_create) &&
                     load(library, "cublasLtMatmulDescDestroy", lt.desc_destroy) &&
                     load(library, "cublasLtMatmulDescSetAttribute", lt.desc_set) &&
                     load(library, "cublasLtMatrixLayoutCreate", lt.layout_create) &&
                     load(library, "cublasLtMatrixLayoutDestroy", lt.layout_destroy) &&
                     load(library, "cublasLtMatmulPreferenceCreate", lt.preference_create) &&
                     load(library, "cublasLtMatmulPreferenceDestroy", lt.preference_destroy) &&
                     load(library, "cublasLtMatmulPreferenceSetAttribute", lt.preference_set) &&
                     load(library, "cublasLtMatmulAlgoGetHeuristic", lt.heuristic) &&
                     load(library, "cublasLtMatmul", lt.matmul);
  if (found) return lt;
  return make_error(ErrorCode::kUnsupported,
                    "libcublasLt lacks a function ({}); install the one of CUDA 13", dlerror());
}

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kI8:
      return CUDA_R_8I;
    case DType::kI32:
      return CUDA_R_32I;
    case DType::kF8E4M3:
      return CUDA_R_8F_E4M3;
    default:
      break;
  }
  COMET_CHECK(false, "no matrix product of {}", dtype_name(dtype));
  return CUDA_R_32F;
}

std::string describe(const MatmulDesc& desc) {
  constexpr std::array<std::string_view, 3> kForms{"x · wᵀ", "x · w", "xᵀ · w"};
  return fmt::format("{} of {}, [{}, {}] with k = {}, to {}",
                     kForms[static_cast<size_t>(desc.form)], dtype_name(desc.in), desc.rows, desc.n,
                     desc.k, dtype_name(desc.out));
}

}  // namespace

struct CublasLt {
  CublasLt() = default;
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;
  ~CublasLt();

  Library library;
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<MatmulDesc, Plan> plans;
};

CublasLt::~CublasLt() {
  for (auto& [desc, plan] : plans) {
    for (cublasLtMatrixLayout_t layout : {plan.w, plan.x, plan.out}) {
      if (layout != nullptr) library.layout_destroy(layout);
    }
    if (plan.desc != nullptr) library.desc_destroy(plan.desc);
  }
  if (workspace != nullptr) cudaFree(workspace);
  if (handle != nullptr) library.destroy(handle);
}

namespace {

template <typename T>
bool set(const CublasLt& lt, const Plan& plan, cublasLtMatmulDescAttributes_t attribute, T value) {
  const auto* bytes = static_cast<const void*>(&value);
  return lt.library.desc_set(plan.desc, attribute, bytes, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
}

/// plan.desc but for the pointers of the scales; false when cuBLASLt refuses an attribute.
bool describe_product(const CublasLt& lt, const MatmulDesc& desc, Plan& plan) {
  const bool integer = desc.in == DType::kI8;
  const cublasComputeType_t compute = integer ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F;
  if (lt.library.desc_create(&plan.desc, compute, integer ? CUDA_R_32I : CUDA_R_32F) !=
      CUBLAS_STATUS_SUCCESS) {
    return false;
  }
  // A is w and B is x, both seen column by column.
  const bool forward = desc.form == MatmulForm::kForward;
  const bool weight = desc.form == MatmulForm::kWeight;
  bool ok = set(lt, plan, CUBLASLT_MATMUL_DESC_TRANSA, forward ? CUBLAS_OP_T : CUBLAS_OP_N) &&
            set(lt, plan, CUBLASLT_MATMUL_DESC_TRANSB, weight ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (ok && desc.end != MatmulEnd::kNone) {
    ok = set(lt, plan, CUBLASLT_MATMUL_DESC_EPILOGUE,
             desc.end == MatmulEnd::kBias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS);
  }
  if (ok && desc.in == DType::kF8E4M3) {
    ok = set(lt, plan, CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(desc.sum_quickly));
  }
  if (ok && desc.scale == MatmulScale::kOuter) {
    constexpr auto kMode = static_cast<int32_t>(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F);
    ok = set(lt, plan, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, kMode) &&
         set(lt, plan, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, kMode);
  }
  return ok;
}

bool describe_operands(const CublasLt& lt, const MatmulDesc& desc, Plan& plan) {
  const auto layout = [&](cublasLtMatrixLayout_t& made, DType dtype, int64_t rows, int64_t columns,
                          int64_t stride) {
    return lt.library.layout_create(&made, cuda_type(dtype), static_cast<uint64_t>(rows),
                                    static_cast<uint64_t>(columns),
                                    stride) == CUBLAS_STATUS_SUCCESS;
  };
  const auto stride = [](int64_t given, int64_t contiguous) {
    return given == 0 ? contiguous : given;
  };
  // Columns of w and x as they lie: k, but where the form has it the other way round.
  const bool w_by_k = desc.form == MatmulForm::kForward;
  const bool x_by_k = desc.form != MatmulForm::kWeight;
  const int64_t w_rows = w_by_k ? desc.k : desc.n;
  const int64_t w_columns = w_by_k ? desc.n : desc.k;
  const int64_t x_rows = x_by_k ? desc.k : desc.rows;
  const int64_t x_columns = x_by_k ? desc.rows : desc.k;
  return layout(plan.w, desc.in, w_rows, w_columns, stride(desc.w_stride, w_rows)) &&
         layout(plan.x, desc.in, x_rows, x_columns, stride(desc.x_stride, x_rows)) &&
         layout(plan.out, desc.out, desc.n, desc.rows, stride(desc.out_stride, desc.n));
}

/// Points the scales at something, so that the heuristics know that there are some.
bool set_scales(const CublasLt& lt, const MatmulDesc& desc, const Plan& plan, const float* w_scale,
                const float* x_scale) {
  if (desc.scale == MatmulScale::kNone) return true;
  return set(lt, plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(w_scale)) &&
         set(lt, plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(x_scale));
}

/// The same of the bias.
bool set_bias(const CublasLt& lt, const MatmulDesc& desc, const Plan& plan, const void* bias) {
  return desc.end == MatmulEnd::kNone || set(lt, plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
}

bool choose_algorithm(const CublasLt& lt, const MatmulDesc& desc, Plan& plan) {
  cublasLtMatmulPreference_t preference = nullptr;
  if (lt.library.preference_create(&preference) != CUBLAS_STATUS_SUCCESS) return false;
  const auto set_preference = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    return lt.library.preference_set(preference, attribute, &value, sizeof(value)) ==
           CUBLAS_STATUS_SUCCESS;
  };
  bool ok = set_preference(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    ok = ok && set_preference(attribute, uint32_t{desc.align_bytes});
  }
  cublasLtMatmulHeuristicResult_t result{};
  int num_results = 0;
  ok = ok && lt.library.heuristic(lt.handle, plan.desc, plan.w, plan.x, plan.out, plan.out,
                                  preference, 1, &result, &num_results) == CUBLAS_STATUS_SUCCESS;
  lt.library.preference_destroy(preference);
  plan.algo = result.algo;
  return ok && num_results > 0 && result.state == CUBLAS_STATUS_SUCCESS;
}

bool aligned(const void* pointer, const MatmulDesc& desc) {
  return reinterpret_cast<uintptr_t>(pointer) % desc.align_bytes == 0;
}

}  // namespace

Result<CublasLt*> cublaslt_of(CudaResources& cuda) {
  if (cuda.cublaslt != nullptr) return cuda.cublaslt.get();
  // The library stays open: its own threads and kernels outlive a handle.
  const auto library = open_library();
  if (!library) return library.error();
  auto functions = load_functions(*library);
  if (!functions) return functions.error();
  auto lt = std::make_shared<CublasLt>();
  lt->library = *functions;
  if (const cublasStatus_t status = lt->library.create(&lt->handle);
      status != CUBLAS_STATUS_SUCCESS) {
    return make_error(ErrorCode::kUnsupported,
                      "cuBLASLt gives no handle on this GPU (cublasStatus_t {}); is the driver "
                      "one for CUDA 13, and GPU memory free?",
                      static_cast<int>(status));
  }
  if (cudaMalloc(&lt->workspace, kWorkspaceBytes) != cudaSuccess) {
    cudaGetLastError();  // not sticky: the next call must not report it
    lt->workspace = nullptr;
    return make_error(ErrorCode::kResourceExhausted,
                      "the GPU has no {} MiB left for cuBLASLt's workspace; free some memory",
                      kWorkspaceBytes >> 20);
  }
  cuda.cublaslt = std::move(lt);
  return cuda.cublaslt.get();
}

bool cublaslt_is_found() {
  static const bool kIsFound = open_library().ok();
  return kIsFound;
}

Status plan_matmul(CublasLt& lt, const MatmulDesc& desc) {
  if (lt.plans.contains(desc)) return {};
  Plan& plan = lt.plans[desc];
  const auto* somewhere = static_cast<const float*>(lt.workspace);
  if (describe_product(lt, desc, plan) && describe_operands(lt, desc, plan) &&
      set_scales(lt, desc, plan, somewhere, somewhere) && set_bias(lt, desc, plan, lt.workspace) &&
      choose_algorithm(lt, desc, plan)) {
    return {};
  }
  for (cublasLtMatrixLayout_t layout : {plan.w, plan.x, plan.out}) {
    if (layout != nullptr) lt.library.layout_destroy(layout);
  }
  if (plan.desc != nullptr) lt.library.desc_destroy(plan.desc);
  lt.plans.erase(desc);
  return make_error(ErrorCode::kUnsupported, "cuBLASLt has no kernel on this GPU for {}",
                    describe(desc));
}

void run_matmul(CublasLt& lt, const MatmulDesc& desc, const MatmulArgs& args, cudaStream_t stream) {
  if (desc.rows == 0) return;
  auto found = lt.plans.find(desc);
  if (found == lt.plans.end()) {
    plan_matmul(lt, desc).value();
    found = lt.plans.find(desc);
  }
  const Plan& plan = found->second;
  COMET_CHECK(aligned(args.x, desc) && aligned(args.w, desc) && aligned(args.out, desc),
              "{}: operands at {} {} {}", describe(desc), args.x, args.w, args.out);
  COMET_CHECK(aligned(args.x_scale, desc) && aligned(args.w_scale, desc), "{}: scales at {} {}",
              describe(desc), fmt::ptr(args.x_scale), fmt::ptr(args.w_scale));
  COMET_CHECK(aligned(args.bias, desc), "{}: bias at {}", describe(desc), args.bias);
  COMET_CHECK(
      set_scales(lt, desc, plan, args.w_scale, args.x_scale) && set_bias(lt, desc, plan, args.bias),
      "{}", describe(desc));
  const float one = 1.0F;
  const float zero = 0.0F;
  const int32_t integer_one = 1;
  const int32_t integer_zero = 0;
  const bool integer = desc.in == DType::kI8;
  const float* beta = desc.add_to_out ? &one : &zero;
  const cublasStatus_t status = lt.library.matmul(
      lt.handle, plan.desc, integer ? static_cast<const void*>(&integer_one) : &one, args.w, plan.w,
      args.x, plan.x, integer ? static_cast<const void*>(&integer_zero) : beta, args.out, plan.out,
      args.out, plan.out, &plan.algo, lt.workspace, kWorkspaceBytes, stream);
  COMET_CHECK(status == CUBLAS_STATUS_SUCCESS, "cublasLtMatmul of {}: cublasStatus_t {}",
              describe(desc), static_cast<int>(status));
  COMET_CUDA(cudaGetLastError());
}

}  // namespace comet
