#!/usr/bin/env python3
"""`comet vision classify`, `validate` and `comet bench vision` from outside: shapes of results, broken files, bad input.

The last test reads Imagenette from ../shared beside the checkout (or COMET_IMAGENETTE, a folder or .tar.zst) and is
skipped, and counted as such, where it is absent.

usage: vision_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BINARY, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
MODEL = SOURCE / "models/inception_next_atto_imagenette"
IMAGES = SOURCE / "tests/data/vision/images"
IMAGENETTE = pathlib.Path(os.environ.get("COMET_IMAGENETTE", SOURCE.parent / "shared/data/vision/imagenette2-128.tar.zst"))
HANG_SECONDS = 1200  # far beyond what a sanitized build on a busy machine needs


def vision(*arguments):
    return subprocess.run([BINARY, "vision", *map(str, arguments)], capture_output=True, text=True, timeout=HANG_SECONDS)


def result_of(process):
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)["result"]


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="comet-e2e-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def put(self, name, image="photo.jpg", part=1.0):
        """An image, or the first part of its bytes."""
        data = (IMAGES / image).read_bytes()
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: int(len(data) * part)])
        return path

    def assert_fails(self, process, *parts, code=1):
        self.assertEqual(process.returncode, code, process.stderr)
        errors = [line for line in process.stderr.splitlines() if line.startswith("comet: error")]
        self.assertEqual(len(errors), 1, process.stderr)
        for part in parts:
            self.assertIn(part, errors[0])


class Bench(Case):
    def bench(self, *arguments):
        command = [BINARY, "bench", "vision", "--device", "cpu", "--arch", "inception_next_atto", "--size", "64", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)

    def test_rows(self):
        result = result_of(self.bench("--batch", "1,2", "--format", "dense,w8a8-int", "--json", "-"))
        self.assertEqual([(row["arch"], row["mode"], row["dtype"], row["batch"], row["size"]) for row in result["rows"]],
                         [("inception_next_atto", "infer", dtype, batch, 64) for dtype in ("f32", "w8a8-int") for batch in (1, 2)])
        for row in result["rows"]:
            self.assertLessEqual(row["images_per_s"], row["best_images_per_s"])
            self.assertAlmostEqual(row["fma_share"], row["gflop_per_s"] / result["fma_gflop_per_s"])

    def test_bad_input(self):
        self.assert_fails(self.bench("--mode", "train"), "--device cuda")
        self.assert_fails(self.bench("--format", "w4ax"), "w8a8-int", code=2)


class Classify(Case):
    def test_every_kind_of_file(self):
        result = result_of(vision("classify", MODEL, IMAGES, "--top-k", 3, "--json", "-"))
        self.assertEqual(len(result["images"]), 28)
        self.assertEqual(result["skipped"], [])
        for image in result["images"]:
            self.assertEqual(len(image["predictions"]), 3)
            probabilities = [row["prob"] for row in image["predictions"]]
            self.assertEqual(probabilities, sorted(probabilities, reverse=True))
            self.assertLessEqual(sum(probabilities), 1 + 1e-5)
            for row in image["predictions"]:
                self.assertEqual(set(row), {"index", "label", "name", "prob"})
                self.assertRegex(row["name"], "^n[0-9]{8}$")

    def test_batches_change_nothing(self):
        whole = result_of(vision("classify", MODEL, IMAGES, "--json", "-"))
        alone = result_of(vision("classify", MODEL, IMAGES, "--batch", 1, "--workers", 3, "--threads", 1, "--json", "-"))
        self.assertEqual(whole["images"], alone["images"])

    def test_broken_files_are_skipped_by_name(self):
        good, broken = self.put("good.jpg"), self.put("broken.jpg", part=0.5)
        process = vision("classify", MODEL, self.folder, self.folder / "none.jpg", "--json", "-")
        result = result_of(process)
        self.assertEqual([image["file"] for image in result["images"]], [str(good)])
        self.assertEqual([row["file"] for row in result["skipped"]], [str(broken), str(self.folder / "none.jpg")])
        self.assertIn(f"skipped: {broken}: the JPEG file is truncated", process.stderr)
        self.assert_fails(vision("classify", MODEL, broken), "no image could be read", "broken.jpg")

    def test_text(self):
        process = vision("classify", MODEL, IMAGES / "photo.jpg", "--top-k", 2)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(len(process.stdout.splitlines()), 3)
        self.assertTrue(re.search(r"^ +[0-9.]+ %  [A-Za-z ]+$", process.stdout, re.M), process.stdout)

    def test_bad_input(self):
        (self.folder / "empty").mkdir()
        self.assert_fails(vision("classify", MODEL, self.folder / "empty"), "holds no images", code=2)
        self.assert_fails(vision("classify", SOURCE / "models/demo", IMAGES), "'architecture'", code=2)
        other = self.folder / "other"
        shutil.copytree(MODEL, other)
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps({**config, "architecture": "convnext_tiny"}))
        self.assert_fails(vision("classify", other, IMAGES), "not those of convnext_tiny", " missing (", " too many (",
                          "those of inception_next_atto: correct")


class Validate(Case):
    def test_shape_and_classes(self):
        for name in ("n01440764", "n02102040"):
            self.put(f"val/{name}/1.jpg")
            self.put(f"val/{name}/2.png", "rgb.png")
        self.put("val/n02102040/broken.jpg", part=0.5)
        result = result_of(vision("validate", MODEL, "--data", self.folder, "--json", "-", "--quiet"))
        self.assertEqual(result["num_images"], 4)
        self.assertEqual(result["num_skipped"], 1)
        self.assertIn("n02102040/broken.jpg", result["skipped"][0]["file"])
        for name in ("top1", "top5", "images_per_s", "classifier_images_per_s", "loss"):
            self.assertIsInstance(result[name], float, name)
        # The two classes show the same images, so at most one of each pair is right.
        self.assertLessEqual(result["top1"], 0.5)
        limited = result_of(vision("validate", MODEL, "--data", self.folder, "--limit", 2, "--json", "-", "--quiet"))
        self.assertEqual(limited["num_images"], 2)

    def test_bad_input(self):
        self.put("val/n01440764/1.jpg")
        (self.folder / "val/n02102040").mkdir()
        self.assert_fails(vision("validate", MODEL, "--data", self.folder), "n02102040: the class has no images", code=2)
        self.put("val/n02102040/1.jpg")
        self.put("val/cat/1.jpg")
        self.assert_fails(vision("validate", MODEL, "--data", self.folder), "cat: no class has this name", code=2)
        few = self.folder / "few.txt"
        few.write_text("n01440764\nn02102040\ncat\n")
        self.assert_fails(vision("validate", MODEL, "--data", self.folder, "--class-map", few), "3 classes", "has 10", code=2)

    @unittest.skipUnless(IMAGENETTE.is_dir() or (IMAGENETTE.exists() and shutil.which("zstd")),
                         f"{IMAGENETTE} is absent, or zstd")
    def test_the_card_is_reproduced(self):
        data = IMAGENETTE
        if data.is_file():
            subprocess.run(["tar", "--zstd", "-xf", data, "-C", self.folder], check=True)
            data = self.folder / "imagenette2-128"
        result = result_of(vision("validate", MODEL, "--data", data, "--json", "-", "--quiet"))
        self.assertEqual(result["num_images"], 3925)
        card = re.search(r"top-1 ([0-9.]+) ", (MODEL / "README.md").read_text())
        self.assertAlmostEqual(result["top1"] * 100, float(card.group(1)), delta=0.1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
