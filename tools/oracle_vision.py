#!/usr/bin/env python3
"""Remake the goldens of image classifiers: tests/data/vision/<architecture>.safetensors (./dev oracle).

Needs torch and timm (1.0 or later); the CPU suffices, nothing is downloaded. Weights and images are not stored: both
sides draw them by name from comet::Rng (drawn.py), as tests/support/drawn_vision.h says.
Each file has image_size [height, width], logits [images, classes] as timm computes them in FP32 on the CPU, and for
one architecture the four maps of features_only of image 0, NHWC. It also says how far FP32 is from FP64 there.
"""
import argparse
import math
import pathlib

import numpy as np
import timm
import torch
from drawn import drawn
from safetensors.numpy import save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent
NUM_IMAGES = 2
# architecture: height, width (odd ones leave pixels out on the way down), classes, with features
CASES = {
    "inception_next_atto": (75, 61, 10, True),
    "inception_next_tiny": (64, 64, 1000, False),
    "inception_next_small": (33, 64, 7, False),
    "inception_next_base": (64, 32, 5, False),
    "convnext_tiny": (67, 90, 10, False),
}


def drawn_parameter(name, shape):
    u = drawn(name, shape)
    if name.endswith("running_mean"):
        value = 0.2 * u
    elif name.endswith("running_var"):
        value = 1.0 + 0.5 * u
    elif name.endswith("gamma"):
        value = 0.3 + 0.2 * u
    elif name.endswith("bias"):
        value = 0.1 * u
    elif len(shape) == 1:  # the weight of a norm
        value = 1.0 + 0.2 * u
    else:
        value = math.sqrt(3.0 / math.prod(shape[1:])) * u
    return torch.from_numpy(value.astype(np.float32))


def fill(model):
    state = model.state_dict()
    model.load_state_dict({name: value if name.endswith("num_batches_tracked")
                           else drawn_parameter(name, tuple(value.shape)) for name, value in state.items()})
    return model.eval()


def relative(a, b):
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


@torch.no_grad()
def golden_of(name):
    height, width, num_classes, with_features = CASES[name]
    images = torch.from_numpy(drawn("images", (NUM_IMAGES, height, width, 3)).astype(np.float32)).permute(0, 3, 1, 2)
    model = fill(timm.create_model(name, pretrained=False, num_classes=num_classes))
    logits = model(images)
    tensors = {"image_size": np.array([height, width], np.int32), "logits": logits.numpy()}
    if with_features:
        backbone = timm.create_model(name, pretrained=False, features_only=True)
        # features_only flattens the first names ("stages_0.blocks.…"), not the order of the parameters.
        weights = model.state_dict()
        backbone.load_state_dict({own: weights[own.replace("stages_", "stages.").replace("stem_", "stem.")]
                                  for own in backbone.state_dict()})
        for i, stage in enumerate(backbone.eval()(images[:1])):
            tensors[f"features.{i}"] = np.ascontiguousarray(stage.permute(0, 2, 3, 1).numpy())
    exact = model.double()(images.double())
    print(f"{name}: logits up to {float(exact.abs().max()):.3f}, FP32 of timm is {relative(logits, exact):.1e} from FP64")
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/data/vision")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    for name in CASES:
        save_file(golden_of(name), args.out / f"{name}.safetensors",
                  metadata={"made_by": f"tools/oracle_vision.py, timm {timm.__version__}, torch {torch.__version__}"})


if __name__ == "__main__":
    main()
