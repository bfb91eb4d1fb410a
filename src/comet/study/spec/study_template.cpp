#include "comet/study/spec/study_spec.h"

namespace comet::study {

std::string study_template() {
  return R"({
  "models": ["models/demo"],
  "formats": [
    {"format": "bf16"},
    {"format": "w8a8-fp8"},
    {"format": "w8a8-int"},
    {"format": "w4a16"},
    {"format": "w4ax", "recipe": "w4a8"},
    {"format": "w4ax", "recipe": "fmpq"}
  ],
  "metrics": ["size", "text:models/demo/heldout.txt", "sync", "async"],
  "profiles": ["chat", "rag"],
  "profile_scale": 0.25,
  "machine": {"name": "2 cores", "price_per_hour": 0.1},
  "slo": {"ttft_p99_ms": 2000, "itl_p99_ms": 200},
  "accuracy_floor": 0.95,
  "num_tokens": 16384,
  "sync": {"duration_s": 20, "num_requests": 30},
  "async": {"duration_s": 20, "num_requests": 60},
  "limit": 200,
  "seed": 0
}
)";
}

std::string study_template_help() {
  return R"(Fields of a spec (names that begin with _ are remarks; paths are relative to the spec's folder,
and ${NAME} in them is an environment variable):
  models          model folders (BF16), or {"synthetic": "llama3-8b", "tokenizer": FOLDER} for sync
                  and async of a shape without weights (tools/gpu/fill_vocabulary.py: FOLDER)
  formats         {"format": bf16 | w8a8-fp8 | w8a8-int | w4a16 | w4ax, "name": in tables, and any
                  flag of `comet quantize` ("recipe": "fmpq", "kv": "kv8", "weights": "rtn", ...)}
                  and of `comet serve --synthetic` for such models; "rate_factor": times async's
                  first_rate
  serve           flags of `comet serve` for every server ("max_seqs": 256)
  quantize        flags of `comet quantize` for every format ("calib": FILE, "calib_samples": 32)
  metrics         size; text:PATH and wikitext2 (perplexity, and KL divergence and top-1 agreement
                  with BF16); tasks of `comet eval` (arc_easy, hellaswag, ...); similarity (ROUGE,
                  exact match, ... of greedy answers to `prompts`); sync (latency, one request at a
                  time); async (queries per second: a rising rate until the objectives break)
  profiles        docstring, code-completion, code-fixing, instruction, chat, rag, summarization
  profile_scale   times their prompt and generated tokens, for models of a short context
  machine         {"name", "price_per_hour"}: cost per query
  slo             {"ttft_p99_ms", "itl_p99_ms"}: what a query per second must keep
  accuracy_floor  share of BF16's quality that a recommended format keeps in every metric (0.98)
  limit           documents of a task, prompts of similarity; 0: all
  num_tokens      tokens of a text; 0: all
  data, prompts   folder of the tasks' files; file of similarity's prompts
  similarity_tokens               tokens of an answer (128)
  sync, async     {"duration_s", "num_requests"}: a point ends at either (60 s, 100 requests);
                  "warmup_tokens": of the answer before the clock starts (the profile's)
  async           also "first_rate" (a number, or one for each profile; else half of what one request
                  at a time gives), "rate_step" (1.5); "window_s": one run whose rate rises without
                  draining, each rate measured so long once the server holds what it would hold for
                  ever, at most "max_in_flight" (docs/study.md)
  max_rates       points of an asynchronous sweep (10)
  seed            of prompts and arrivals
)";
}

}  // namespace comet::study
