#!/usr/bin/env python3
"""PyTorch's scaled_dot_product_attention beside comet's prefill attention, in one run on one card.

Runs comet bench attention's prefill row, then times PyTorch's causal grouped-query attention in BF16
on the same shape by each of its backends that takes it, then comet's row again; FLOPs are counted causally
(half). Needs PyTorch, which the GPU machine has. Called by ./dev gpu bench sdpa.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128  # LLaMA-3-8B


def comet_prefill(program, batch, length):
    """The row of comet's chosen kernel, and the report it lies in."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "attention.json")
        subprocess.run([program, "bench", "attention", "--device", "cuda", "--kv", "kv16", "--decode", "1x128",
                        "--prefill", f"{batch}x{length}", "--json", path], check=True, stdout=subprocess.DEVNULL)
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    rows = [row for row in report["result"]["rows"] if row["kind"] == "prefill"]
    return min(rows, key=lambda row: row["us"]), report


def torch_prefill(torch, backend, batch, length, num_runs=20):
    """Median microseconds of one call; None where the backend does not take the shape."""
    from torch.nn.attention import sdpa_kernel  # pylint: disable=import-outside-toplevel
    shapes = [(batch, heads, length, HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    query, key, value = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes)
    attend = torch.nn.functional.scaled_dot_product_attention
    try:
        with sdpa_kernel(backend):
            for _ in range(3):
                attend(query, key, value, is_causal=True, enable_gqa=True)
            times = []
            for _ in range(num_runs):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                attend(query, key, value, is_causal=True, enable_gqa=True)
                end.record()
                torch.cuda.synchronize()
                times.append(begin.elapsed_time(end) * 1e3)
    except RuntimeError as error:
        print(f"{backend}: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comet", required=True, help="the program")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--json", required=True, help="the result file")
    arguments = parser.parse_args()
    import torch  # pylint: disable=import-outside-toplevel
    from torch.nn.attention import SDPBackend  # pylint: disable=import-outside-toplevel

    flops = 2 * arguments.batch * HEADS * HEAD_DIM * arguments.length**2  # QK and PV, causal half
    rows = []

    def add(name, us):
        rows.append({"kernel": name, "us": us, "tflops": flops / us / 1e6, "peak_share": flops / us / 1e6 / 989})
        print(f"{name:40} {us:9.1f} us  {rows[-1]['tflops']:6.1f} TFLOP/s", flush=True)

    row, report = comet_prefill(arguments.comet, arguments.batch, arguments.length)
    add(f"comet {row['kernel']}", row["us"])
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        us = torch_prefill(torch, backend, arguments.batch, arguments.length)
        if us is not None:
            add(f"torch {torch.__version__} {backend.name}", us)
    row, report = comet_prefill(arguments.comet, arguments.batch, arguments.length)
    add(f"comet {row['kernel']}, again", row["us"])
    report.update(command="gpu bench sdpa", result={"batch": arguments.batch, "length": arguments.length, "rows": rows})
    with open(arguments.json + ".part", "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
        file.write("\n")
    os.replace(arguments.json + ".part", arguments.json)


if __name__ == "__main__":
    main()
