#!/usr/bin/env python3
"""Compare what Comet and timm show a classifier of every image below a folder.

usage: tools/compare_images.py PROBE FOLDER [--size 224] [--crop-pct 0.875] [--limit N]
       (needs Pillow, torchvision, timm; PROBE is the build's image_probe: ninja image_probe)

Prints how many images differ and by how much, as bytes before normalization (1 is 1/255); fails above 1.
"""
import argparse
import pathlib
import subprocess
import sys

import numpy as np
from PIL import Image
from timm.data import create_transform


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("probe")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--crop-pct", type=float, default=0.875)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    paths = sorted(p for p in options.folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = paths[: options.limit]
    size = options.size
    transform = create_transform(input_size=(3, size, size), is_training=False, interpolation="bicubic",
                                 crop_pct=options.crop_pct, mean=(0, 0, 0), std=(1, 1, 1))
    ours = subprocess.run([options.probe, str(size), str(options.crop_pct)], input="".join(f"{p}\n" for p in paths).encode(),
                          stdout=subprocess.PIPE, check=True).stdout
    ours = np.frombuffer(ours, np.uint8).reshape(len(paths), size, size, 3)
    num_different, largest, worst = 0, 0, None
    for path, mine in zip(paths, ours):
        theirs = np.rint(transform(Image.open(path).convert("RGB")).permute(1, 2, 0).numpy() * 255).astype(int)
        difference = int(np.abs(theirs - mine.astype(int)).max())
        num_different += difference > 0
        if difference > largest:
            largest, worst = difference, path
    print(f"{len(paths)} images at {size}, crop {options.crop_pct}: {num_different} differ, by at most {largest} of 255"
          + (f" ({worst})" if worst else ""))
    return 1 if largest > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
