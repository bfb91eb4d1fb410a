"""What check_layers.py and check_style.py share: finding the project's C++ files, and self-tests
on a planted tree."""

import pathlib
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("src", "apps", "tests", "bench", "examples", "tools")
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}


def source_files(root, folders=FOLDERS):
    """Every C++/CUDA file under root's source folders, sorted."""
    found = []
    for folder in folders:
        found += [p for p in (root / folder).rglob("*") if p.suffix in SUFFIXES and p.is_file()]
    return sorted(found)


def self_test(check, good_files, plants):
    """Checks the checker: `check(root)` must find nothing in good_files, and each plant must add a
    message. A plant is (file name, text or None to delete, words that a message must hold)."""
    failures = []
    for plant in [None] + plants:
        files = dict(good_files)
        if plant:
            files[plant[0]] = plant[1]
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                if text is not None:
                    (root / name).parent.mkdir(parents=True, exist_ok=True)
                    (root / name).write_text(text)
            messages = check(root)
        if plant is None and messages:
            failures.append(f"a clean tree gives {messages}")
        if plant and not any(plant[2] in m for m in messages):
            failures.append(f"{plant[0]}: expected '{plant[2]}', got {messages}")
    return failures


def report(messages, what):
    """Prints the messages; the exit status."""
    for message in messages:
        print(message)
    print(f"{what}: {len(messages)} problem(s)" if messages else f"{what}: fine")
    return 1 if messages else 0
