"""Reads a model folder on its own, from docs/formats.md §4 alone: every linear becomes a float matrix in stored order
and a description of how its input is quantized. Nothing here is shared with the C++ code.
"""
import dataclasses
import json
import pathlib

import numpy as np

BLOCK = 128


@dataclasses.dataclass
class Site:
    """How the input of a linear is quantized; kind is none (as it is) or w4ax."""
    kind: str
    k: int
    perm: np.ndarray | None = None  # source channel of each stored position, -1 = zero
    k_padded: int = 0
    int8_blocks: int = 0
    clip: float = 1.0
    scale: str = ""  # S1, S2, S2h


@dataclasses.dataclass
class Linear:
    weight: np.ndarray  # [rows, stored channels], dequantized
    bias: np.ndarray | None
    site: Site


class Tensors:
    """All tensors of a folder; BF16 widens to float32, other types stay."""

    TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64,
             "F64": np.float64}

    def __init__(self, folder):
        self.entries = {}
        for path in sorted(folder.glob("*.safetensors")):
            data = np.memmap(path, dtype=np.uint8, mode="r")
            length = int.from_bytes(data[:8].tobytes(), "little")
            for name, entry in json.loads(data[8:8 + length].tobytes()).items():
                if name != "__metadata__":
                    begin, end = entry["data_offsets"]
                    self.entries[name] = (entry, data[8 + length + begin:8 + length + end])

    def __contains__(self, name):
        return name in self.entries

    def __getitem__(self, name):
        entry, data = self.entries[name]
        if entry["dtype"] == "BF16":
            bits = data.view(np.uint16).astype(np.uint32) << 16
            return bits.view(np.float32).reshape(entry["shape"])
        return np.asarray(data.view(self.TYPES[entry["dtype"]])).reshape(entry["shape"])

    def floats(self, name):
        return self[name].astype(np.float32)


def unpack_tile128(packed, signed):
    """[row tiles, blocks, 8192] bytes to [padded rows, padded channels] integers."""
    tiles, blocks, _ = packed.shape
    # half of 64 channels, unit of 16 rows, lane = 4g + t, word r = 2 * (channels 16..31) + (rows 8..15), byte j
    lanes = packed.reshape(tiles, blocks, 2, 8, 8, 4, 2, 2, 4)
    nibbles = np.stack([lanes & 15, lanes >> 4], axis=-1).astype(np.int8)  # the high one is 32 channels on
    #                         tile unit 8row g   block half +32 +16 t j
    order = nibbles.transpose(0, 3, 7, 4, 1, 2, 9, 6, 5, 8)
    codes = order.reshape(tiles * 128, blocks * BLOCK)
    return (codes ^ 8) - 8 if signed else codes


def kept_rows(part_rows):
    """Stored positions of the parts' rows: each part is padded to a multiple of 128."""
    kept, at = [], 0
    for rows in part_rows:
        kept.append(np.arange(at, at + rows))
        at += -(-rows // 128) * 128
    return np.concatenate(kept)


def w4ax_linear(tensors, manifest, entry):
    name = entry["name"]
    granularity = manifest["weights"]["granularity"]
    codes = unpack_tile128(tensors[name + ".weight_packed"], granularity != "progressive").astype(np.float32)
    scale = tensors.floats(name + ".weight_scale")
    per_channel = lambda groups: np.repeat(groups.astype(np.float32).T, BLOCK, axis=1)
    if granularity == "group":
        weight = codes * per_channel(scale)
    else:
        if granularity == "progressive":
            codes = codes * per_channel(tensors[name + ".group_scale"]) + per_channel(tensors[name + ".group_offset"])
        weight = codes * scale[:, None]
    (site,) = [s for s in manifest["sites"] if s["name"] == entry["site"]]
    perm = tensors[site["name"] + ".perm"] if site["name"] + ".perm" in tensors else None
    return Linear(weight[kept_rows(entry["rows"])], tensors.floats(name + ".bias") if name + ".bias" in tensors else None,
                  Site("w4ax", site["k"], perm, site["k_padded"], site["int8_blocks"], site["clip"],
                       manifest["activations"]["scale"]))


def pack_quantized_weight(tensors, name):
    """compressed-tensors' pack-quantized: eight codes + 8 in an int32, the first in the lowest bits; group 128."""
    words = tensors[name + ".weight_packed"].view(np.uint32)
    codes = np.stack([words >> (4 * i) & 15 for i in range(8)], axis=-1).reshape(words.shape[0], -1)
    rows, columns = (int(x) for x in tensors[name + ".weight_shape"])
    codes = codes[:rows, :columns].astype(np.float32) - 8
    return codes * np.repeat(tensors.floats(name + ".weight_scale"), BLOCK, axis=1)[:, :columns]


class Checkpoint:
    def __init__(self, folder, kv=None):
        self.folder = pathlib.Path(folder)
        self.config = json.loads((self.folder / "config.json").read_text())
        self.tensors = Tensors(self.folder)
        self.manifest = self.config.get("quantization_config")
        self.kv = dict((self.manifest or {}).get("kv_cache") or self.config.get("comet_kv_cache") or {"format": "kv16"})
        if kv:
            self.kv["format"] = kv

    def part(self, name):
        """One linear of a dense or w4a16 model, under the model's own name."""
        if name + ".weight_packed" in self.tensors:
            weight = pack_quantized_weight(self.tensors, name)
        else:
            weight = self.tensors.floats(name + ".weight")
        bias = self.tensors.floats(name + ".bias") if name + ".bias" in self.tensors else None
        return weight, bias

    def linear(self, prefix, fused, parts):
        """parts side by side in one matrix, as w4ax stores them."""
        for entry in (self.manifest or {}).get("linears", []):
            if entry["name"] == prefix + fused:
                return w4ax_linear(self.tensors, self.manifest, entry)
        found = [self.part(prefix + part) for part in parts]
        bias = None if found[0][1] is None else np.concatenate([b for _, b in found])
        weight = np.concatenate([w for w, _ in found])
        return Linear(weight, bias, Site("none", weight.shape[1]))

    def lm_head(self):
        """The head's float matrix, and whether its input is quantized to 8 bits per token."""
        if "lm_head.weight_scale" in self.tensors:
            return self.tensors.floats("lm_head.weight") * self.tensors["lm_head.weight_scale"][:, None], True
        name = "lm_head.weight" if "lm_head.weight" in self.tensors else "model.embed_tokens.weight"
        return self.tensors.floats(name), False
