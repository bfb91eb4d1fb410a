// Which kernel of sm_90a a w4ax product runs by, and how it is cut there: by a table of measured
// cuts (one card of 132 SMs, linears of LLaMA-3), elsewhere what the plans' models give the
// shortest time. Reads shapes alone; builds without CUDA. Callers: backend_cuda.cpp, tests.
#pragma once

#include "comet/formats/w4ax/cuda/gemm_sm90.h"
#include "comet/formats/w4ax/cuda/split/gemm_sm90_split.h"

namespace comet::formats::w4ax::cuda {

struct Sm90Choice {
  bool is_split = false;
  SplitPlan split;  // of gemm_sm90_split.h, where is_split
  Sm90Plan tiles;   // of gemm_sm90.h, elsewhere
  double us = 0;    // as measured, or by estimate
  bool is_measured = false;
};

Sm90Choice choose_gemm_sm90(const GemmArgs& args, int num_sms);

}  // namespace comet::formats::w4ax::cuda
