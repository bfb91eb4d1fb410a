// The files beside the tensors that a model folder keeps whatever becomes of its weights. Callers:
// quantize_model, export_dense.
#pragma once

#include <array>

namespace comet::quant {

constexpr std::array kCompanionFiles{"tokenizer.json",
                                     "tokenizer.model",
                                     "tokenizer_config.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "generation_config.json",
                                     "chat_template.jinja"};

}  // namespace comet::quant
