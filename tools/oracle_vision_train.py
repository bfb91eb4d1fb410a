#!/usr/bin/env python3
"""Remake the goldens of training: tests/data/vision/train_<name>.safetensors (./dev oracle).

Needs torch and timm (1.0 or later); the CPU suffices. Weights, images, targets and which branches drop path drops are
drawn by name, as tools/oracle_vision.py draws: nothing is downloaded. One step of AdamW in FP64 and in FP32 on timm's
model in training mode. A file has, all F32 of FP64 values:
  image_size [height, width, images, classes], logits [images, classes], loss [loss before the step, after it, adamw.*]
  grads, weights   [parameters, 6]: of the gradient, and of value after − value before the step, in the order of sorted
                   names: norm, dot products with drawn("probe.0" + name) and drawn("probe.1" + name), largest
                   magnitude, first element, and the norm of (FP32 − FP64) over the norm
  buffers          [running moments, 6]: the same of the running moments after the step
and for the small network, whose gradients fit, every gradient under "grad." + name.
"""
import argparse
import functools
import pathlib

import numpy as np
import timm
import torch
from drawn import drawn
from oracle_vision import drawn_parameter
from safetensors.numpy import save_file
from timm.models.inception_next import InceptionDWConv2d, MetaNeXt

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_IMAGES = 3
# architecture: height, width (odd ones leave pixels out on the way down), classes
CASES = {
    "small_network": (70, 66, 4),
    "inception_next_atto": (75, 101, 10),
    "inception_next_tiny": (64, 96, 20),
    "inception_next_small": (64, 67, 7),
    "inception_next_base": (64, 64, 5),
    "convnext_tiny": (67, 90, 10),
}
ADAMW = {"lr": 1e-3, "weight_decay": 0.05, "eps": 1e-5}  # an eps that keeps gradients of rounding error small
DROP_RATE = 0.2


class DrawnDropPath(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        keep = (drawn(name, (NUM_IMAGES,)) > -0.4) / (1 - DROP_RATE)
        self.register_buffer("keep", torch.from_numpy(keep).reshape(-1, 1, 1, 1), persistent=False)

    def forward(self, x):
        return x * self.keep.to(x.dtype)


def model_of(name, num_classes):
    if name == "small_network":
        return MetaNeXt(depths=(1, 1, 2, 1), dims=(8, 12, 16, 24), num_classes=num_classes,
                        token_mixers=functools.partial(InceptionDWConv2d, band_kernel_size=5, branch_ratio=0.25))
    return timm.create_model(name, pretrained=False, num_classes=num_classes)


def filled(name, num_classes, dtype):
    model = model_of(name, num_classes)
    state = model.state_dict()
    model.load_state_dict({key: value if key.endswith("num_batches_tracked")
                           else drawn_parameter(key, tuple(value.shape)) for key, value in state.items()})
    for i, stage in enumerate(model.stages):
        for j, block in enumerate(stage.blocks):
            block.drop_path = DrawnDropPath(f"keep.{i}.{j}")
    return model.to(dtype).train()


def drawn_targets(num_classes):
    soft = drawn("targets", (NUM_IMAGES, num_classes)) + 1.0
    return torch.from_numpy(soft / soft.sum(axis=1, keepdims=True)).float()


def one_step(name, dtype):
    height, width, num_classes = CASES[name]
    images = torch.from_numpy(drawn("images", (NUM_IMAGES, height, width, 3)).astype(np.float32)).permute(0, 3, 1, 2)
    targets = drawn_targets(num_classes).to(dtype)
    model = filled(name, num_classes, dtype)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], **ADAMW)
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    logits = model(images.to(dtype))
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    optimizer.step()
    buffers = {key: b.clone() for key, b in model.named_buffers() if "running" in key}
    with torch.no_grad():
        after = torch.nn.functional.cross_entropy(model(images.to(dtype)), targets)
    return {"logits": logits.detach(), "loss": [loss.item(), after.item()],
            "grads": {key: p.grad for key, p in model.named_parameters()},
            "weights": {key: p.detach() - before[key] for key, p in model.named_parameters()}, "buffers": buffers}


def summary(exact, rounded):
    rows = []
    for key in sorted(exact):
        x = exact[key].double().flatten().numpy()
        error = np.linalg.norm(rounded[key].double().flatten().numpy() - x) / max(np.linalg.norm(x), 1e-30)
        probes = [float(x @ drawn(f"probe.{i}{key}", x.shape)) for i in range(2)]
        rows.append([np.linalg.norm(x), *probes, np.abs(x).max(), x[0], error])
    return np.array(rows, np.float32)


def golden_of(name):
    height, width, num_classes = CASES[name]
    exact, rounded = one_step(name, torch.float64), one_step(name, torch.float32)
    tensors = {
        "image_size": np.array([height, width, NUM_IMAGES, num_classes], np.int32),
        "logits": exact["logits"].float().numpy(),
        "loss": np.array([*exact["loss"], ADAMW["lr"], ADAMW["weight_decay"], ADAMW["eps"]], np.float32),
    }
    for part in ("grads", "weights", "buffers"):
        if exact[part]:
            tensors[part] = summary(exact[part], rounded[part])
    if name == "small_network":
        for key, grad in exact["grads"].items():
            tensors["grad." + key] = grad.float().contiguous().numpy()
    largest = tensors["grads"][:, 0].max()
    real = tensors["grads"][:, 0] > 1e-9 * largest
    print(f"{name}: loss {exact['loss'][0]:.6f} then {exact['loss'][1]:.6f}, {len(real)} gradients up to {largest:.3g}, "
          f"{int((~real).sum())} that are zero but for rounding, FP32 of PyTorch from FP64: "
          f"median {np.median(tensors['grads'][real, 5]):.1e}, worst {tensors['grads'][real, 5].max():.1e}")
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/vision")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    for name in CASES:
        save_file(golden_of(name), args.out / f"train_{name}.safetensors",
                  metadata={"made_by": f"tools/oracle_vision_train.py, timm {timm.__version__}, torch {torch.__version__}"})


if __name__ == "__main__":
    main()
