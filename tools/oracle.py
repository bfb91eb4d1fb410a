#!/usr/bin/env python3
"""Remake the goldens that need PyTorch and transformers (./dev oracle).

Writes tests/data/llama/<name>/{config.json, golden.safetensors} of tiny models of LLaMA-2, LLaMA-3, LLaMA-3.2, Mistral,
Qwen2 and Qwen3 make: what transformers computes for them in FP32 on the CPU (logits of a prompt, greedy continuation).
Weights are not stored: both sides draw them by name from comet::Rng (drawn.py, tests/support/drawn_llama.h); the
golden's metadata has "parameters", their names and shapes. Of models/demo, tests/data/llama/demo/golden.safetensors has
the same results. The goldens are committed; `./dev test` needs neither package.
"""
import argparse
import json
import pathlib
import shutil

import numpy as np
import torch
from drawn import drawn
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, CONFIG_MAPPING

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT_TOKENS = 40
GREEDY_TOKENS = 24

COMMON = dict(vocab_size=320, hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4,
              max_position_embeddings=128, bos_token_id=1, eos_token_id=2)
VARIANTS = {
    "llama2": dict(num_key_value_heads=4, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False),
    "llama3": dict(num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=500000.0, tie_word_embeddings=False),
    # Scaling that bites inside 128 positions, tied embeddings, head_dim unlike hidden/heads.
    "llama3_2": dict(num_key_value_heads=1, head_dim=32, rms_norm_eps=1e-6, rope_theta=500000.0,
                     tie_word_embeddings=True,
                     rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                       original_max_position_embeddings=32)),
    "biases": dict(num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False,
                   attention_bias=True, mlp_bias=True),
    # The prompt and its continuation stay within the sliding window.
    "mistral": dict(model_type="mistral", num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0,
                    sliding_window=64, tie_word_embeddings=False),
    "qwen2": dict(model_type="qwen2", num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=1000000.0,
                  use_sliding_window=False, tie_word_embeddings=True),
    "qwen3": dict(model_type="qwen3", num_key_value_heads=2, head_dim=32, rms_norm_eps=1e-6, rope_theta=1000000.0,
                  use_sliding_window=False, tie_word_embeddings=False),
}


@torch.no_grad()
def run(model, prompt, logit_rows):
    """Logits [rows, vocab] at `logit_rows` of the prompt, and the greedy continuation, computed without a cache."""
    logits = model(prompt[None]).logits[0].float()
    tokens = prompt
    for _ in range(GREEDY_TOKENS):
        row = model(tokens[None]).logits[0, -1]
        tokens = torch.cat([tokens, row.argmax()[None]])
    return {"prompt": prompt.to(torch.int32), "logit_rows": logit_rows.to(torch.int32),
            "logits": logits[logit_rows].contiguous(), "greedy": tokens[len(prompt):].to(torch.int32).contiguous()}


def drawn_parameter(name, shape):
    u = drawn(name, shape)
    value = 1.0 + 0.5 * u if "norm" in name else (0.5 if name.endswith("bias") else 0.175) * u
    return torch.from_numpy(value.astype(np.float32))


@torch.no_grad()
def make_variant(name, settings, out):
    settings = dict(settings)
    config = CONFIG_MAPPING[settings.pop("model_type", "llama")](**COMMON, **settings, dtype="float32")
    model = AutoModelForCausalLM.from_config(config).float().eval()
    config.architectures = [type(model).__name__]
    parameters = {}
    for key, value in model.named_parameters():  # a tied lm_head is not among them
        value.copy_(drawn_parameter(key, tuple(value.shape)))
        parameters[key] = list(value.shape)
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    config.save_pretrained(folder)
    # Any tokens but the special ones.
    u = (drawn(f"prompt of {name}", (PROMPT_TOKENS,)) + 1) / 2
    prompt = torch.from_numpy(3 + u * (COMMON["vocab_size"] - 3)).long()
    save_file(run(model, prompt, torch.arange(PROMPT_TOKENS)), folder / "golden.safetensors",
              metadata={"parameters": json.dumps(parameters)})


def make_demo(out):
    model = AutoModelForCausalLM.from_pretrained(ROOT / "models/demo", dtype=torch.float32).eval()
    # Any tokens do; these are spread over the vocabulary behind BOS.
    prompt = torch.tensor([8176] + [(37 * i * i + 11 * i + 260) % 8000 for i in range(PROMPT_TOKENS)])
    folder = out / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(run(model, prompt, torch.tensor([0, 1, PROMPT_TOKENS // 2, PROMPT_TOKENS])),
              folder / "golden.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/llama")
    args = parser.parse_args()
    for name, settings in VARIANTS.items():
        make_variant(name, settings, args.out)
    make_demo(args.out)
    versions = {"torch": torch.__version__}
    import transformers
    versions["transformers"] = transformers.__version__
    (args.out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
    print("wrote", args.out, versions)


if __name__ == "__main__":
    main()
