#!/usr/bin/env python3
"""Writes golden.safetensors beside itself with the `safetensors` package: what its author's reader
and writer agree on. src/comet/io/safetensors_test.cpp holds the values it expects."""
import pathlib

import numpy as np
from safetensors.numpy import save_file

save_file(
    {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3) / 4,
        "half": np.array([1.0, -2.0, 65504.0], dtype=np.float16),
        "bytes": np.arange(5, dtype=np.uint8),
        "signed": np.array([[-128], [127]], dtype=np.int8),
        "perm": np.array([3, -1, 2], dtype=np.int32),
        "wide": np.array([-(2**40)], dtype=np.int64),
        "scalar": np.array(2.5, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "mask": np.array([True, False]),
    },
    pathlib.Path(__file__).with_name("golden.safetensors"),
    metadata={"format": "np", "who": "päivä"},
)
