#!/usr/bin/env python3
"""Checks that no CUDA kernel of a build spills: a stack frame in any machine code is one too many.

usage: tools/check_spills.py BUILD_FOLDER | --self-test

Reads `cuobjdump --dump-resource-usage` of every object of a room. Ends with 77 (skipped) where there is
no cuobjdump (CUOBJDUMP, PATH or beside nvcc; `pip install nvidia-cuda-cuobjdump` has it) or no CUDA object.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys

SKIPPED = 77
ENTRY = re.compile(r"^ *(?:Function (\S+?):|.*\bREG:\d+ STACK:(\d+) .*\bLOCAL:(\d+))", re.MULTILINE)
SAMPLE = """
Fatbin elf code:
arch = sm_90a
Resource usage:
 Common:
  GLOBAL:0
 Function _Z4goodPi:
  REG:96 STACK:0 SHARED:1024 LOCAL:0 TEXTURE:0 SURFACE:0 SAMPLER:0 CONSTANT[0]:896
 Function _Z5stackPi:
  REG:96 STACK:8 SHARED:0 LOCAL:0 TEXTURE:0 SURFACE:0 SAMPLER:0 CONSTANT[0]:896
 Function _Z5localPi:
  REG:255 STACK:0 SHARED:0 LOCAL:16 TEXTURE:0 SURFACE:0 SAMPLER:0 CONSTANT[0]:896
"""


def read_usage(text):
    """(function, bytes of stack and local memory) of every kernel."""
    usage = []
    function = ""
    for name, stack, local in ENTRY.findall(text):
        if name:
            function = name
        else:
            usage.append((function, int(stack) + int(local)))
    return usage


def find_cuobjdump():
    beside_nvcc = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    places = [os.environ.get("CUOBJDUMP"), "cuobjdump", str(pathlib.Path(beside_nvcc).with_name("cuobjdump"))]
    return next((found for found in map(shutil.which, filter(None, places)) if found), None)


def check(build, cuobjdump):
    """Messages, and how many kernels were looked at."""
    messages = []
    num_kernels = 0
    for path in sorted(build.glob("CMakeFiles/comet_*.dir/**/*.cu.o")):
        done = subprocess.run([cuobjdump, "--dump-resource-usage", path], capture_output=True, text=True, check=True)
        usage = read_usage(done.stdout)
        num_kernels += len(usage)
        name = str(path.relative_to(build)).split(".dir/", 1)[1].removesuffix(".o")
        messages += [f"{name}: {function} has {size} bytes of stack" for function, size in usage if size > 0]
    return messages, num_kernels


def main():
    if sys.argv[1:] == ["--self-test"]:
        expected = [("_Z4goodPi", 0), ("_Z5stackPi", 8), ("_Z5localPi", 16)]
        is_good = read_usage(SAMPLE) == expected
        print("check_spills self-test:", "fine" if is_good else f"{read_usage(SAMPLE)} instead of {expected}")
        return 0 if is_good else 1
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        print("check_spills: skipped, there is no cuobjdump")
        return SKIPPED
    messages, num_kernels = check(pathlib.Path(sys.argv[1]), cuobjdump)
    if num_kernels == 0:
        print("check_spills: skipped, no CUDA object is built")
        return SKIPPED
    print("\n".join(messages + [f"check_spills: {num_kernels} kernels, {len(messages)} spill"]))
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
