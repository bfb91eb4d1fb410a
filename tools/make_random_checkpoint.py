#!/usr/bin/env python3
"""A LLaMA checkpoint with random weights of a published shape, for timing `comet quantize`.

usage: tools/make_random_checkpoint.py OUT [--layers 16] [--hidden 2048] [--heads 32] [--kv-heads 8]
                                       [--ffn 8192] [--vocab 128256] [--context 2048] [--seed 0]

The defaults are the shape of llama3.2-1b (2.5 GB in BF16). The tokenizer is the demo model's: its
ids fit any larger vocabulary, and what the weights say is noise. Needs numpy.
"""

import argparse
import json
import pathlib
import shutil

import numpy

DEMO = pathlib.Path(__file__).resolve().parent.parent / "models/demo"
STEP_VALUES = 1 << 24  # drawn and written at once


def shapes(args):
    """Name → (shape, mean, standard deviation), in the order of the file."""
    head_dim = args.hidden // args.heads
    q, kv = args.heads * head_dim, args.kv_heads * head_dim
    tensors = {"model.embed_tokens.weight": ([args.vocab, args.hidden], 0.0, 0.02)}
    for i in range(args.layers):
        layer = f"model.layers.{i}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{layer}{norm}.weight"] = ([args.hidden], 1.0, 0.2)
        for name, rows, k in (
            ("self_attn.q_proj", q, args.hidden), ("self_attn.k_proj", kv, args.hidden),
            ("self_attn.v_proj", kv, args.hidden), ("self_attn.o_proj", args.hidden, q),
            ("mlp.gate_proj", args.ffn, args.hidden), ("mlp.up_proj", args.ffn, args.hidden),
            ("mlp.down_proj", args.hidden, args.ffn),
        ):  # fmt: skip
            tensors[f"{layer}{name}.weight"] = ([rows, k], 0.0, k**-0.5)
    tensors["model.norm.weight"] = ([args.hidden], 1.0, 0.2)
    return tensors


def bf16_bytes(values):
    bits = values.view(numpy.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # round half to even
    return (rounded >> 16).astype(numpy.uint16).tobytes()


def write_tensors(path, tensors, seed):
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, _, _) in tensors.items():
        end = begin + 2 * int(numpy.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = numpy.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape, mean, deviation in tensors.values():
            count = int(numpy.prod(shape))
            for first in range(0, count, STEP_VALUES):
                size = min(STEP_VALUES, count - first)
                values = rng.standard_normal(size, numpy.float32) * numpy.float32(deviation)
                file.write(bf16_bytes(values + numpy.float32(mean)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    for flag, value in (("layers", 16), ("hidden", 2048), ("heads", 32), ("kv-heads", 8), ("ffn", 8192),
                        ("vocab", 128256), ("context", 2048), ("seed", 0)):  # fmt: skip
        parser.add_argument(f"--{flag}", type=int, default=value)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    config = json.loads((DEMO / "config.json").read_text())
    config.update(
        vocab_size=args.vocab, max_position_embeddings=args.context, hidden_size=args.hidden,
        intermediate_size=args.ffn, num_hidden_layers=args.layers, num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads, head_dim=args.hidden // args.heads, tie_word_embeddings=True,
    )  # fmt: skip
    (args.out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO / name, args.out / name)
    write_tensors(args.out / "model.safetensors", shapes(args), args.seed)


if __name__ == "__main__":
    main()
