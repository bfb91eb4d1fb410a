#!/usr/bin/env python3
"""Checks that every C++ and CUDA file is formatted as .clang-format says; `./dev fmt` mends it.

usage: tools/check_format.py CLANG_FORMAT
"""

import subprocess
import sys

import source_tree


def main():
    files = [str(f) for f in source_tree.source_files(source_tree.ROOT)]
    command = [sys.argv[1], "--dry-run", "-Werror", "--ferror-limit=1", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bad = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error:" in line})
    if done.returncode != 0 and not bad:
        bad = [done.stderr.strip()]
    return source_tree.report([f"{name}: not formatted; run ./dev fmt" for name in bad], "check_format")


if __name__ == "__main__":
    sys.exit(main())
