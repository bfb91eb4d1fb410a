#!/usr/bin/env python3
"""Make tests/data/interchange/{gptq,awq}_*: tiny checkpoints in the layouts of AutoGPTQ and AutoAWQ, from their documented packing.

Needs numpy only. Independent of Comet's code: each folder's golden.json holds the CRC-32 of every dequantized linear
in FP32 and the logits of a plain float64 forward pass over those weights.
  GPTQ  qweight I32 [K/8, N]: bits 4i of word j of a column = input row 8j + i; qzeros I32 [K/g, N/8], version 1 less 1;
        scales F16 [K/g, N]; g_idx I32 [K]; w = (q - zero) * scale
  AWQ   qweight I32 [K, N/8]: bits 4i of word j of a row = column 8j + (0, 2, 4, 6, 1, 3, 5, 7)[i]; qzeros likewise
"""
import json
import pathlib
import struct
import zlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/data/interchange"
PROMPT = [1, 7, 33, 50, 12, 5, 61, 40, 28, 19, 3, 44]
LOGIT_ROWS = [0, 1, 5, 11]
VOCAB, HIDDEN, FFN, HEADS, KV_HEADS, EPS, THETA = 64, 128, 128, 2, 1, 1e-6, 10000.0
HEAD_DIM = HIDDEN // HEADS
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
LAYER = "model.layers.0."
LINEARS = {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KV_HEADS * HEAD_DIM, HIDDEN),
           "self_attn.v_proj": (KV_HEADS * HEAD_DIM, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
           "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN)}
NAMES = {np.dtype("int32"): "I32", np.dtype("float16"): "F16"}


def write_safetensors(path, tensors):
    header, payload = {"__metadata__": {"format": "pt"}}, b""
    for name, value in tensors.items():
        data = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape),
                        "data_offsets": [len(payload), len(payload) + len(data)]}
        payload += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def pack(values, axis, order=range(8)):
    """Eight neighbours along `axis` into a word, the one at order[i] in nibble i."""
    values = np.moveaxis(values.astype(np.uint32), axis, -1)
    groups = values.reshape(*values.shape[:-1], -1, 8)
    words = sum((groups[..., o] << np.uint32(4 * i)) for i, o in enumerate(order))
    return np.moveaxis(words.astype(np.uint32), -1, axis).view(np.int32)


def quantize(weight, group_of, num_groups, symmetric):
    """Codes [K, N], scales F16 [G, N] and zero points [G, N] of weight [N, K]."""
    columns = weight.T
    codes = np.empty(columns.shape, np.int64)
    scales = np.empty((num_groups, columns.shape[1]), np.float16)
    zeros = np.empty((num_groups, columns.shape[1]), np.int64)
    for g in range(num_groups):
        rows = columns[group_of == g]
        if symmetric:
            scale = np.abs(rows).max(0) / 7.5
            zero = np.full(rows.shape[1], 8)
        else:
            low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
            scale = (high - low) / 15
            zero = np.clip(np.rint(-low / scale), 0, 15).astype(np.int64)
        scales[g] = scale.astype(np.float16)
        zeros[g] = zero
        codes[group_of == g] = np.clip(np.rint(rows / scales[g].astype(np.float64)) + zero, 0, 15)
    return codes, scales, zeros


def rms_norm(x, gain):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * gain


def rotate(x):
    """RoPE of [tokens, heads, head_dim]: pairs (i, i + d/2)."""
    half = HEAD_DIM // 2
    angles = np.arange(len(x))[:, None] * THETA ** (-np.arange(half) / half)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def forward(embedding, gains, weights):
    x = embedding[PROMPT]
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    tokens = len(PROMPT)
    h = rms_norm(x, gains["input_layernorm"])
    q = rotate((h @ w["self_attn.q_proj"].T).reshape(tokens, HEADS, HEAD_DIM))
    k = rotate((h @ w["self_attn.k_proj"].T).reshape(tokens, KV_HEADS, HEAD_DIM))
    v = (h @ w["self_attn.v_proj"].T).reshape(tokens, KV_HEADS, HEAD_DIM)
    heads = []
    for i in range(HEADS):
        j = i * KV_HEADS // HEADS
        scores = q[:, i] @ k[:, j].T / np.sqrt(HEAD_DIM)
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(shares / shares.sum(-1, keepdims=True) @ v[:, j])
    x = x + np.concatenate(heads, -1) @ w["self_attn.o_proj"].T
    h = rms_norm(x, gains["post_attention_layernorm"])
    gate = h @ w["mlp.gate_proj"].T
    x = x + (gate / (1 + np.exp(-gate)) * (h @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
    return rms_norm(x, gains["norm"]) @ embedding.T


def make(name, seed, group_size, symmetric, quantization, desc_act=False, awq=False):
    rng = np.random.default_rng(seed)
    embedding = (0.1 * rng.standard_normal((VOCAB, HIDDEN))).astype(np.float16)
    gains = {key: (1 + 0.3 * rng.standard_normal(HIDDEN)).astype(np.float16)
             for key in ("input_layernorm", "post_attention_layernorm", "norm")}
    tensors = {"model.embed_tokens.weight": embedding, "model.norm.weight": gains["norm"]}
    for key in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"{LAYER}{key}.weight"] = gains[key]
    dense, sums, orders = {}, {}, {}
    for linear, (n, k) in LINEARS.items():
        weight = 0.1 * rng.standard_normal((n, k))
        size = k if group_size == -1 else group_size
        group_of = np.arange(k) // size
        if desc_act:
            site = "o" if "o_proj" in linear else "down" if "down" in linear else linear.split(".")[0]
            order = orders.setdefault(site, rng.permutation(k))
            group_of = np.empty(k, np.int64)
            group_of[order] = np.arange(k) // size
        codes, scales, zeros = quantize(weight, group_of, k // size, symmetric)
        whole = (codes - zeros[group_of]).astype(np.float32) * scales[group_of].astype(np.float32)
        dense[linear] = whole.T
        sums[LAYER + linear] = zlib.crc32(np.ascontiguousarray(whole.T).tobytes())
        prefix = f"{LAYER}{linear}."
        if awq:
            tensors[prefix + "qweight"] = pack(codes, 1, AWQ_ORDER)
            tensors[prefix + "qzeros"] = pack(zeros, 1, AWQ_ORDER)
        else:
            less = 1 if quantization.get("checkpoint_format", "gptq") == "gptq" else 0
            tensors[prefix + "qweight"] = pack(codes, 0)
            tensors[prefix + "qzeros"] = pack((zeros - less) % 16, 1)
            tensors[prefix + "g_idx"] = group_of.astype(np.int32)
        tensors[prefix + "scales"] = scales
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
              "intermediate_size": FFN, "num_hidden_layers": 1, "num_attention_heads": HEADS,
              "num_key_value_heads": KV_HEADS, "max_position_embeddings": 64, "rms_norm_eps": EPS,
              "rope_theta": THETA, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True,
              "hidden_act": "silu", "torch_dtype": "float16", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    logits = forward(embedding.astype(np.float64), {k: v.astype(np.float64) for k, v in gains.items()}, dense)
    rows = [[float(f"{x:.7g}") for x in row] for row in logits[LOGIT_ROWS].tolist()]
    golden = {"prompt": PROMPT, "weights": sums, "logit_rows": LOGIT_ROWS, "logits": rows}
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def main():
    gptq = {"quant_method": "gptq", "bits": 4, "damp_percent": 0.01, "true_sequential": True}
    make("gptq_asym_g32", 1, 32, False, {**gptq, "group_size": 32, "desc_act": False, "sym": False})
    make("gptq_desc_act", 2, 64, True, {**gptq, "group_size": 64, "desc_act": True, "sym": True}, desc_act=True)
    make("gptq_v2_channel", 3, -1, False, {**gptq, "group_size": -1, "desc_act": False, "sym": False,
                                           "checkpoint_format": "gptq_v2"})
    make("awq_gemm", 4, 64, False, {"quant_method": "awq", "bits": 4, "group_size": 64, "zero_point": True,
                                    "version": "gemm", "modules_to_not_convert": None}, awq=True)


if __name__ == "__main__":
    main()
