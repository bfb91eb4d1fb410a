#!/usr/bin/env python3
"""Cuts models/demo/calibration.txt and heldout.txt from the full texts.

usage: tools/cut_demo_text.py SOURCE_DIR [DEST_DIR]

SOURCE_DIR holds calibration.txt and heldout.txt, whose documents end with a line <|endoftext|>.
Whole documents only, evenly spaced over the source (which lists one kind of text after the other),
as many as fit under the cap; written in strided order, so that any prefix is a fair sample of the
kinds. Deterministic: the same source gives the same bytes.
"""

import math
import pathlib
import sys

SEPARATOR = b"<|endoftext|>\n"
CUTS = {  # file: (cap in bytes, longest document taken)
    "calibration.txt": (400_000, 24_000),
    "heldout.txt": (200_000, 12_000),
}
SHORTEST_DOCUMENT_BYTES = 400


def split_documents(text):
    return [part.strip(b"\n") + b"\n" for part in text.split(b"\n" + SEPARATOR) if part.strip()]


def evenly_spaced(documents, cap_bytes):
    """The largest evenly spaced selection whose texts and separators fit in cap_bytes."""
    for count in range(len(documents), 0, -1):
        chosen = [documents[i * len(documents) // count] for i in range(count)]
        if sum(len(d) + len(SEPARATOR) for d in chosen) <= cap_bytes:
            return chosen
    raise SystemExit(f"no document fits in {cap_bytes} bytes")


def strided(documents):
    """The same documents, stepping by about 0.382 of the list (coprime to its length)."""
    count = len(documents)
    step = max(1, round(count * 0.382))
    while math.gcd(step, count) != 1:
        step += 1
    return [documents[i * step % count] for i in range(count)]


def main():
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    source = pathlib.Path(sys.argv[1])
    default = pathlib.Path(__file__).resolve().parent.parent / "models" / "demo"
    dest = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else default
    for name, (cap_bytes, longest_bytes) in CUTS.items():
        documents = split_documents((source / name).read_bytes())
        eligible = [d for d in documents if SHORTEST_DOCUMENT_BYTES <= len(d) <= longest_bytes]
        chosen = strided(evenly_spaced(eligible, cap_bytes))
        text = b"".join(d + SEPARATOR for d in chosen)
        (dest / name).write_bytes(text)
        print(f"{name}: {len(chosen)} of {len(documents)} documents, {len(text)} bytes")


if __name__ == "__main__":
    main()
