#!/usr/bin/env python3
"""timm's image classifiers on one GPU, images a second: the peers of comet bench vision.

BF16 weights and channels_last for inference, FP32 weights under BF16 autocast with fused AdamW for training,
synthetic data on the device; eager, as a CUDA graph, and compiled (inference: mode reduce-overhead, which replays CUDA graphs).
Writes one JSON object {"rows": [{"arch", "mode", "how", "batch", "size", "images_per_s"}], "torch", "timm"}.
Needs PyTorch and timm, which the GPU machine has. Run in the same device call as comet bench vision.
"""
import argparse
import json
import statistics
import sys


def median_seconds(torch, step, min_seconds):
    """Median time of one step by CUDA events, after ten that warm up."""
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    times, total = [], 0.0
    while total < min_seconds or len(times) < 5:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(5):
            step()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 5e3)
        total += times[-1] * 5
    return statistics.median(times)


def infer_step(torch, timm, arch, args, compiled):
    model = timm.create_model(arch).eval().to("cuda", torch.bfloat16, memory_format=torch.channels_last)
    images = torch.randn(args.batch, 3, args.size, args.size, device="cuda", dtype=torch.bfloat16)
    images = images.to(memory_format=torch.channels_last)
    forward = torch.compile(model, mode="reduce-overhead") if compiled else model

    def step():
        with torch.inference_mode():
            forward(images)
    return step


def train_step(torch, timm, arch, args, compiled):
    model = timm.create_model(arch).train().to("cuda", memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05, fused=True, capturable=True)
    images = torch.randn(args.batch, 3, args.size, args.size, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(1000, (args.batch,), device="cuda")
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    forward = torch.compile(model) if compiled else model

    def step():
        with torch.autocast("cuda", torch.bfloat16):
            loss = loss_of(forward(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return step


def graph_step(torch, step):
    """The step as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="inception_next_tiny,convnext_tiny")
    parser.add_argument("--mode", default="infer,train")
    parser.add_argument("--how", default="eager,graph,compiled")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seconds", type=float, default=2.0, help="at least so long a row")
    parser.add_argument("--json", help="file to write")
    args = parser.parse_args()
    import timm  # pylint: disable=import-outside-toplevel
    import torch  # pylint: disable=import-outside-toplevel
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    rows = []
    for arch in args.arch.split(","):
        for mode in args.mode.split(","):
            for how in args.how.split(","):
                row = {"arch": arch, "mode": mode, "how": how, "dtype": "bf16", "batch": args.batch,
                       "size": args.size}
                try:
                    torch.compiler.reset()
                    make = infer_step if mode == "infer" else train_step
                    step = make(torch, timm, arch, args, how == "compiled")
                    if how == "graph":
                        step = graph_step(torch, step)
                    row["images_per_s"] = args.batch / median_seconds(torch, step, args.seconds)
                except Exception as error:  # pylint: disable=broad-except
                    row["error"] = str(error).splitlines()[0][:200]
                rows.append(row)
                print(json.dumps(row), flush=True)
                step = None
                torch.cuda.empty_cache()
    report = {"rows": rows, "torch": torch.__version__, "timm": timm.__version__,
              "gpu": torch.cuda.get_device_name()}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
