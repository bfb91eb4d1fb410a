#!/usr/bin/env python3
"""Build an ONNX graph of an InceptionNeXt or ConvNeXt checkpoint, and time ONNX Runtime on it.

usage: tools/export_onnx.py MODEL -o OUT.onnx [--opset 20]
       tools/export_onnx.py MODEL --time 1,8 [--size 224] [--threads 2] [--repeats 20] [--json FILE]
                            [--beside build/bin/comet [--rounds 3]]
       (needs numpy, safetensors, onnx; --time needs onnxruntime; all from PyPI)

MODEL is a folder with config.json and model.safetensors under timm's names. Batch norms and layer scale are folded into
the convolutions beside them in FP64, as the loader does; GELU is one node (opset 20). Images are [n, 3, height, width],
normalized; the batch is free. --time prints the best and the median of images a second for each batch.
--beside runs `comet bench vision` of the same architecture between rounds of ONNX Runtime, FP32 and w8a8-int, and
prints the ratio of the best of either: on a machine that others use, the rounds see the same neighbours.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

NORM_EPS = {"batch": 1e-5, "layer": 1e-6}


class Graph:
    """Nodes in order, each named by what it puts out."""

    def __init__(self, tensors):
        self.tensors = {name: value.astype(np.float64) for name, value in tensors.items()}
        self.nodes, self.weights = [], []

    def constant(self, name, value, dtype=np.float32):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x, name, weight, bias, **attributes):
        weights = [self.constant(name + ".weight", weight), self.constant(name + ".bias", bias)]
        return self.add("Conv", [x, *weights], name, kernel_shape=list(weight.shape[2:]), **attributes)

    def gemm(self, x, name, weight, bias):
        weights = [self.constant(name + ".weight", weight), self.constant(name + ".bias", bias)]
        return self.add("Gemm", [x, *weights], name, transB=1)

    def affine(self, prefix):
        return self.tensors[prefix + "weight"], self.tensors[prefix + "bias"]

    def batch_norm(self, prefix):
        """Scale and shift."""
        weight, bias = self.affine(prefix)
        scale = weight / np.sqrt(self.tensors[prefix + "running_var"] + NORM_EPS["batch"])
        return scale, bias - scale * self.tensors[prefix + "running_mean"]

    def layer_norm(self, x, name, prefix, axis=-1):
        weight, bias = self.affine(prefix)
        weights = [self.constant(name + ".weight", weight), self.constant(name + ".bias", bias)]
        return self.add("LayerNormalization", [x, *weights], name, axis=axis, epsilon=NORM_EPS["layer"])

    def layer_norm_2d(self, x, name, prefix):
        rows = self.add("Transpose", [x], name + ".rows", perm=[0, 2, 3, 1])
        rows = self.layer_norm(rows, name + ".norm", prefix)
        return self.add("Transpose", [rows], name, perm=[0, 3, 1, 2])


def fold_input(weight, bias, scale, shift):
    """conv(scale·x + shift) as a convolution; without padding."""
    return weight * scale[None, :, None, None], bias + np.einsum("oihw,i->o", weight, shift)


def inception_block(graph, x, prefix):
    t = graph.tensors
    channels = t[prefix + "gamma"].shape[0]
    branch = t[prefix + "token_mixer.dwconv_hw.weight"].shape[0]
    sizes = graph.constant(prefix + "sizes", [channels - 3 * branch, branch, branch, branch], np.int64)
    parts = [prefix + f"part.{i}" for i in range(4)]
    graph.nodes.append(helper.make_node("Split", [x, sizes], parts, name=prefix + "split", axis=1))
    for i, kind in enumerate(("dwconv_hw", "dwconv_w", "dwconv_h")):
        weight, bias = graph.affine(f"{prefix}token_mixer.{kind}.")
        height, width = weight.shape[2] // 2, weight.shape[3] // 2
        parts[i + 1] = graph.conv(parts[i + 1], f"{prefix}{kind}", weight, bias, group=branch, pads=[height, width, height, width])
    mixed = graph.add("Concat", parts, prefix + "mixed", axis=1)
    fc1 = fold_input(*graph.affine(prefix + "mlp.fc1."), *graph.batch_norm(prefix + "norm."))
    return mlp(graph, x, mixed, prefix, *fc1)


def convnext_block(graph, x, prefix):
    weight, bias = graph.affine(prefix + "conv_dw.")
    mixed = graph.conv(x, prefix + "conv_dw", weight, bias, group=weight.shape[0], pads=[3, 3, 3, 3])
    normed = graph.layer_norm_2d(mixed, prefix + "norm", prefix + "norm.")
    weight, bias = graph.affine(prefix + "mlp.fc1.")
    return mlp(graph, x, normed, prefix, weight[:, :, None, None], bias)


def mlp(graph, x, mixed, prefix, weight1, bias1):
    gamma = graph.tensors[prefix + "gamma"]
    weight2, bias2 = graph.affine(prefix + "mlp.fc2.")
    weight2 = weight2.reshape(*weight2.shape[:2], 1, 1) * gamma[:, None, None, None]
    hidden = graph.conv(mixed, prefix + "fc1", weight1, bias1)
    hidden = graph.add("Gelu", [hidden], prefix + "gelu")
    out = graph.conv(hidden, prefix + "fc2", weight2, bias2 * gamma)
    return graph.add("Add", [x, out], prefix + "out")


def downsample(graph, x, prefix, inception):
    weight, bias = graph.affine(prefix + "1.")
    if inception:
        weight, bias = fold_input(weight, bias, *graph.batch_norm(prefix + "0."))
    else:
        x = graph.layer_norm_2d(x, prefix + "norm", prefix + "0.")
    return graph.conv(x, prefix + "conv", weight, bias, strides=[2, 2])


def stem(graph, x, inception):
    weight, bias = graph.affine("stem.0.")
    if inception:
        scale, shift = graph.batch_norm("stem.1.")
        return graph.conv(x, "stem", weight * scale[:, None, None, None], bias * scale + shift, strides=[4, 4])
    return graph.layer_norm_2d(graph.conv(x, "stem", weight, bias, strides=[4, 4]), "stem.norm", "stem.1.")


def head(graph, x, inception):
    pooled = graph.add("GlobalAveragePool", [x], "pool")
    rows = graph.add("Flatten", [pooled], "rows")
    if not inception:
        return graph.gemm(graph.layer_norm(rows, "head.norm", "head.norm."), "logits", *graph.affine("head.fc."))
    hidden = graph.gemm(rows, "head.fc1", *graph.affine("head.fc1."))
    hidden = graph.add("Gelu", [hidden], "head.gelu")
    return graph.gemm(graph.layer_norm(hidden, "head.norm", "head.norm."), "logits", *graph.affine("head.fc2."))


def build(folder, opset):
    architecture = json.loads((folder / "config.json").read_text())["architecture"]
    inception = architecture.startswith("inception_next")
    if not inception and not architecture.startswith("convnext"):
        raise SystemExit(f"{folder}/config.json: architecture '{architecture}'; expected inception_next… or convnext…")
    graph = Graph(load_file(folder / "model.safetensors"))
    x = stem(graph, "images", inception)
    for stage in range(4):
        if stage:
            x = downsample(graph, x, f"stages.{stage}.downsample.", inception)
        block = 0
        while f"stages.{stage}.blocks.{block}.gamma" in graph.tensors:
            x = (inception_block if inception else convnext_block)(graph, x, f"stages.{stage}.blocks.{block}.")
            block += 1
    logits = head(graph, x, inception)
    num_classes = graph.tensors["head.fc2.bias" if inception else "head.fc.bias"].shape[0]
    model = helper.make_model(
        helper.make_graph(graph.nodes, architecture,
                          [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, "height", "width"])],
                          [helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["n", num_classes])], graph.weights),
        opset_imports=[helper.make_opsetid("", opset)], producer_name="comet", ir_version=10)
    onnx.checker.check_model(model)
    return model


def open_session(model, threads):
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def time_batches(session, options, seconds):
    """Adds a round of each batch to `seconds`."""
    for batch in seconds:
        images = np.random.default_rng(0).normal(size=(batch, 3, options.size, options.size)).astype(np.float32)
        for _ in range(3):
            session.run(None, {"images": images})
        for _ in range(options.repeats):
            start = time.perf_counter()
            session.run(None, {"images": images})
            seconds[batch].append(time.perf_counter() - start)


def time_comet(architecture, options):
    """Rows of one run of `comet bench vision`."""
    command = [options.beside, "bench", "vision", "--device", "cpu", "--threads", str(options.threads), "--arch", architecture,
               "--batch", options.time, "--size", str(options.size), "--format", "dense,w8a8-int", "--json", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["result"]["rows"]


def time_model(model, options):
    import onnxruntime

    session = open_session(model, options.threads)
    seconds = {int(batch): [] for batch in options.time.split(",")}
    comet = {}
    for _ in range(options.rounds if options.beside else 1):
        time_batches(session, options, seconds)
        for row in time_comet(model.graph.name, options) if options.beside else []:
            key = row["batch"], row["dtype"]
            comet[key] = max(comet.get(key, 0), row["best_images_per_s"])
    rows = []
    for batch, taken in seconds.items():
        rows.append({"batch": batch, "size": options.size, "threads": options.threads,
                     "name": f"onnxruntime {onnxruntime.__version__} f32", "images_per_s": batch / min(taken),
                     "median_images_per_s": batch / statistics.median(taken)})
        print(f"ONNX Runtime {onnxruntime.__version__}, batch {batch}: {rows[-1]['images_per_s']:.1f} images/s at best, "
              f"{rows[-1]['median_images_per_s']:.1f} in the median of {len(taken)}")
        for (of_batch, dtype), images_per_s in comet.items():
            if of_batch == batch:
                ratio = images_per_s / rows[-1]["images_per_s"]
                print(f"  Comet {dtype}: {images_per_s:.1f} at best, {ratio:.2f} of it")
        rows += [{"batch": batch, "size": options.size, "threads": options.threads, "name": f"comet {dtype}",
                  "images_per_s": images_per_s} for (of_batch, dtype), images_per_s in comet.items() if of_batch == batch]
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path)
    parser.add_argument("--opset", type=int, default=20)
    parser.add_argument("--time", help="batches, as in 1,8")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--beside", help="a comet executable")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    model = build(options.model, options.opset)
    if options.output:
        onnx.save(model, options.output)
    if options.time:
        time_model(model, options)


if __name__ == "__main__":
    main()
