#!/usr/bin/env python3
"""Checks that includes and CMake links follow the arrows of tools/layers.txt.

usage: tools/check_layers.py [--self-test]

A room includes itself and the rooms above it, apps include any room, nobody includes what is not
there, and CMakeLists.txt links each room to exactly the rooms of the table that exist so far.
"""

import re
import sys

import source_tree

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
MODULE = re.compile(r"^comet_module\(\s*(\w+)([^)]*)\)", re.MULTILINE)


def read_table(root):
    """{room: its direct dependencies}, in the file's order."""
    table = {}
    for line in (root / "tools/layers.txt").read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            room, _, above = line.partition(":")
            table[room.strip()] = above.split()
    return table


def closure(table):
    """{room: every room it may include}; fails on a room that is not above the one that names it."""
    reach = {}
    for room, above in table.items():
        reach[room] = {room}.union(*(reach[a] for a in above))
    return reach


def check_includes(root, reach):
    messages = []
    for path in source_tree.source_files(root):
        name = path.relative_to(root)
        room = name.parts[2] if name.parts[:2] == ("src", "comet") else None
        if room is not None and room not in reach:
            messages.append(f"{name}: room '{room}' is not in tools/layers.txt")
            continue
        for include in INCLUDE.findall(path.read_text()):
            messages += check_include(root, name, room, include, reach)
    return messages


def check_include(root, name, room, include, reach):
    if not include.startswith("comet/"):
        if room is not None and not include.startswith("support/"):
            return [f'{name}: "{include}" is not written as "comet/<room>/<file>.h"']
        return []
    if not (root / "src" / include).is_file():
        return [f'{name}: "{include}" does not exist']
    target = include.split("/")[1]
    if room is not None and target not in reach[room]:
        return [f"{name}: {room} may not include {target} ({include}); see tools/layers.txt"]
    return []


def check_cmake(root, table):
    messages = []
    text = (root / "CMakeLists.txt").read_text()
    modules = dict(MODULE.findall(text))
    for room, arguments in modules.items():
        if room not in table:
            messages.append(f"CMakeLists.txt: room '{room}' is not in tools/layers.txt")
            continue
        words = arguments.split()
        start = words.index("DEPENDS") + 1 if "DEPENDS" in words else len(words)
        stop = words.index("EXTERNAL") if "EXTERNAL" in words[start:] else len(words)
        linked = set(words[start:stop])
        wanted = {a for a in table[room] if a in modules}
        if linked != wanted:
            messages.append(
                f"CMakeLists.txt: {room} DEPENDS {sorted(linked)}, tools/layers.txt has {sorted(wanted)}"
            )
    rooms = {p.name for p in (root / "src/comet").iterdir() if p.is_dir()} & set(table)
    messages += [f"CMakeLists.txt: no comet_module for src/comet/{r}" for r in sorted(rooms - set(modules))]
    return messages


def check(root):
    table = read_table(root)
    return check_includes(root, closure(table)) + check_cmake(root, table)


GOOD = {
    "tools/layers.txt": "base:\ntext: base\nio: base\nengine: text io  # all\n",
    "CMakeLists.txt": "comet_module(base EXTERNAL fmt)\ncomet_module(text DEPENDS base)\n"
    "comet_module(io\n  DEPENDS base EXTERNAL x)\n",
    "src/comet/base/a.h": "#include <vector>\n",
    "src/comet/text/t.h": '#include "comet/base/a.h"\n',
    "src/comet/io/i_test.cpp": '#include "support/golden.h"\n#include "comet/base/a.h"\n',
    "apps/comet/main.cpp": '#include "comet/text/t.h"\n#include "apps/comet/x.h"\n',
}
PLANTS = [
    ("src/comet/base/b.cpp", '#include "comet/text/t.h"\n', "base may not include text"),
    ("src/comet/io/i.cpp", '  # include "comet/text/t.h"\n', "io may not include text"),
    ("src/comet/io/i.cpp", '#include "comet/base/gone.h"\n', "does not exist"),
    ("src/comet/io/i.cpp", '#include "i.h"\n', "is not written as"),
    ("src/comet/oi/i.cpp", "", "'oi' is not in tools/layers.txt"),
    ("src/comet/engine/e.cpp", "", "no comet_module for src/comet/engine"),
    ("CMakeLists.txt", "comet_module(base)\ncomet_module(text)\ncomet_module(io DEPENDS base)", "text DEPENDS []"),
    ("apps/comet/main.cpp", '#include "comet/io/gone.h"\n', "does not exist"),
]


def main():
    if sys.argv[1:] == ["--self-test"]:
        return source_tree.report(source_tree.self_test(check, GOOD, PLANTS), "check_layers self-test")
    return source_tree.report(check(source_tree.ROOT), "check_layers")


if __name__ == "__main__":
    sys.exit(main())
