#include "comet/formats/w4ax/cuda/gemm_sm90_choice.h"

namespace comet::formats::w4ax::cuda {

Sm90Choice choose_gemm_sm90(const GemmArgs& args, int num_sms) {
  Sm90Choice choice;
  if (args.tokens == 0 || args.num_tiles == 0) return choice;
  choice.tiles = plan_gemm_sm90(args, num_sms);
  choice.us = time_gemm_sm90_us(args, choice.tiles, num_sms);
  if (args.tokens > kMaxSplitTokens) return choice;
  choice.split = plan_gemm_split(args, num_sms);
  const double split_us = time_gemm_split_us(args, choice.split, num_sms);
  choice.is_split = split_us < choice.us;
  if (choice.is_split) choice.us = split_us;
  return choice;
}

}  // namespace comet::formats::w4ax::cuda
