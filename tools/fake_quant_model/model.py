"""The LLaMA forward pass in float32 with quantization faked: activations, keys and values are rounded to what their
integers mean (docs/formats.md §1 to §3) and multiplied as floats. One window of tokens at a time, without a cache.
"""
import math

import numpy as np

F32 = np.float32


def hadamard(x):
    """Sylvester order over the last axis, divided by sqrt(n)."""
    n = x.shape[-1]
    stride = 1
    while stride < n:
        pairs = x.reshape(*x.shape[:-1], n // (2 * stride), 2, stride)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        stride *= 2
    return x * F32(1 / math.sqrt(n))


def quantized(x, levels, clip=1.0):
    """x rounded to `levels` steps of one scale over the last axis."""
    absmax = F32(clip) * np.abs(x).max(axis=-1, keepdims=True)
    small = absmax < F32(2.0 ** -100)
    safe = np.where(small, F32(1), absmax)
    codes = np.clip(np.rint(x * (F32(levels) / safe)), -levels, levels)
    return np.where(small, F32(0), codes * (safe / F32(levels)))


def site_input(site, x):
    """Rows [tokens, k] in stored order with their quantization faked."""
    if site.kind == "none":
        return x
    if site.perm is None:
        x = np.pad(x, ((0, 0), (0, site.k_padded - site.k)))
    else:
        x = np.where(site.perm < 0, F32(0), x[:, site.perm])
    blocks = x.reshape(len(x), -1, 128)
    num_int4 = blocks.shape[1] - site.int8_blocks
    four, eight = blocks[:, :num_int4], blocks[:, num_int4:]
    if site.scale == "S2h":
        four = hadamard(four)
    if site.scale != "S1":  # one scale a segment
        four, eight = (segment.reshape(len(x), 1, -1) for segment in (four, eight))
    parts = [quantized(segment, levels, clip).reshape(len(x), -1)
             for segment, levels, clip in ((four, 7, site.clip), (eight, 127, 1.0)) if segment.size]
    return np.concatenate(parts, axis=1)


def to_bf16(x):
    bits = np.ascontiguousarray(x, dtype=F32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(F32)


def half_bound(x, up):
    """The nearest FP16 not below (up) or not above x, as float32; saturates."""
    half = np.clip(x, -65504, 65504).astype(np.float16)
    wrong = half.astype(F32) < x if up else half.astype(F32) > x
    half = np.where(wrong, np.nextafter(half, np.float16(np.inf if up else -np.inf)), half)
    return np.clip(half.astype(F32), -65504, 65504)


def cached(x, kv_format):
    """Rows [..., head_dim] as the cache gives them back."""
    if kv_format == "kv16":
        return to_bf16(x)
    if kv_format == "kv8":
        scale = half_bound(np.abs(x).max(axis=-1, keepdims=True) / F32(127), up=True)
        safe = np.where(scale == 0, F32(1), scale)
        return np.clip(np.rint(x / safe), -127, 127) * scale
    low = half_bound(x.min(axis=-1, keepdims=True), up=False)
    scale = half_bound((x.max(axis=-1, keepdims=True) - low) / F32(15), up=True)
    safe = np.where(scale == 0, F32(1), scale)
    return np.where(scale == 0, F32(0), np.clip(np.rint((x - low) / safe), 0, 15)) * scale + low


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


class Model:
    def __init__(self, checkpoint):
        config = self.config = checkpoint.config
        if config.get("rope_scaling"):
            raise SystemExit("fake_quant: rope_scaling is not known here")
        self.eps = F32(config["rms_norm_eps"])
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = config.get("head_dim") or config["hidden_size"] // self.heads
        self.kv = checkpoint.kv
        tensors = checkpoint.tensors
        self.embedding = tensors.floats("model.embed_tokens.weight")
        self.head, self.quantized_head = checkpoint.lm_head()
        self.final_norm = tensors.floats("model.norm.weight")
        self.layers = []
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            attention, mlp = layer + "self_attn.", layer + "mlp."
            self.layers.append({
                "attn_norm": tensors.floats(layer + "input_layernorm.weight"),
                "mlp_norm": tensors.floats(layer + "post_attention_layernorm.weight"),
                "qkv": checkpoint.linear(attention, "qkv_proj", ["q_proj", "k_proj", "v_proj"]),
                "o": checkpoint.linear(attention, "o_proj", ["o_proj"]),
                "gate_up": checkpoint.linear(mlp, "gate_up_proj", ["gate_proj", "up_proj"]),
                "down": checkpoint.linear(mlp, "down_proj", ["down_proj"])})

    def norm(self, x, weight):
        mean = np.mean(x.astype(np.float64) ** 2, axis=-1, keepdims=True)
        return (x / np.sqrt(mean + self.eps)).astype(F32) * weight

    @staticmethod
    def apply(linear, x):
        y = site_input(linear.site, x) @ linear.weight.T
        return y if linear.bias is None else y + linear.bias

    def rope(self, x):
        """x [tokens, heads, head_dim]; pairs (i, i + head_dim / 2)."""
        half = self.head_dim // 2
        frequencies = 1.0 / self.config.get("rope_theta", 10000.0) ** (np.arange(half) / half)
        angles = np.arange(len(x))[:, None, None] * frequencies
        cos, sin = np.cos(angles).astype(F32), np.sin(angles).astype(F32)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attention(self, q, k, v):
        """[tokens, heads, head_dim] each; the BF16 window replaces the rows near a query and the first ones."""
        if self.kv.get("rotate") and self.kv["format"] != "kv16":
            q, k = hadamard(q), hadamard(k)
        first, recent = self.kv.get("window", [0, 0]) if self.kv["format"] != "kv16" else (0, 0)
        positions = np.arange(len(q))
        behind = positions[:, None] - positions[None, :]
        causal = behind >= 0
        window = (positions[None, :] < first) | (behind < recent)
        group = self.heads // self.kv_heads
        out = np.empty_like(q)
        k_narrow, v_narrow = cached(k, self.kv["format"]), cached(v, self.kv["format"])
        k_window, v_window = to_bf16(k), to_bf16(v)
        scale = F32(1 / math.sqrt(self.head_dim))
        for h in range(self.heads):
            g = h // group
            scores = q[:, h] @ k_narrow[:, g].T
            if first or recent:
                scores = np.where(window, q[:, h] @ k_window[:, g].T, scores)
            weights = softmax(np.where(causal, scores * scale, F32(-np.inf)))
            if first or recent:
                out[:, h] = (weights * ~window) @ v_narrow[:, g] + (weights * window) @ v_window[:, g]
            else:
                out[:, h] = weights @ v_narrow[:, g]
        return out.reshape(len(q), -1)

    def logits(self, tokens):
        x = self.embedding[tokens]
        q_size, kv_size = self.heads * self.head_dim, self.kv_heads * self.head_dim
        for layer in self.layers:
            qkv = self.apply(layer["qkv"], self.norm(x, layer["attn_norm"]))
            q, k, v = (part.reshape(len(tokens), -1, self.head_dim)
                       for part in np.split(qkv, [q_size, q_size + kv_size], axis=1))
            x = x + self.apply(layer["o"], self.attention(self.rope(q), self.rope(k), v))
            gate, up = np.split(self.apply(layer["gate_up"], self.norm(x, layer["mlp_norm"])), 2, axis=1)
            x = x + self.apply(layer["down"], gate / (1 + np.exp(-gate)) * up)
        x = self.norm(x, self.final_norm)
        return (quantized(x, 127) if self.quantized_head else x) @ self.head.T

    def log_probs(self, tokens):
        """log p(tokens[i + 1] | tokens[: i + 1]) for each i."""
        logits = self.logits(tokens[:-1]).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        chosen = np.take_along_axis(logits, np.asarray(tokens[1:])[:, None], axis=1)[:, 0]
        return chosen - np.log(np.exp(logits).sum(axis=-1))
