#!/usr/bin/env python3
"""`comet vision classify`, `validate`, `quantize`, `train` and `comet bench vision` from outside: shapes of results, broken
files, bad input.

Two tests read Imagenette from ../shared beside the checkout (or COMET_IMAGENETTE, a folder or .tar.zst) and are
skipped, and counted as such, where it is absent.

usage: vision_test.py BINARY SOURCE_DIR [unittest arguments]
"""
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

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


def png(width, height):
    """A header that says so much, and one row of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(b"\0" + bytes(3 * width))) + chunk(b"IEND", b""))


def imagenette(folder):
    """The data set's folder, unpacked into `folder` where it is an archive."""
    if IMAGENETTE.is_dir():
        return IMAGENETTE
    subprocess.run(["tar", "--zstd", "-xf", IMAGENETTE, "-C", folder], check=True)
    return folder / "imagenette2-128"


needs_imagenette = unittest.skipUnless(IMAGENETTE.is_dir() or (IMAGENETTE.exists() and shutil.which("zstd")),
                                       f"{IMAGENETTE} is absent, or zstd")


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
        process = self.bench("--format", "w4ax")
        self.assertEqual(process.returncode, 2)
        self.assertIn("w4ax not in {dense,w8a8-int,w8a8-fp8}", process.stderr)


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

    def test_extreme_sizes(self):
        for name, width, height in (("one.png", 1, 1), ("wide.png", 30000, 1), ("large.png", 30000, 30000)):
            (self.folder / name).write_bytes(png(width, height))
        result = result_of(vision("classify", MODEL, self.folder, "--json", "-"))
        self.assertEqual([pathlib.Path(image["file"]).name for image in result["images"]], ["one.png", "wide.png"])
        self.assertEqual([pathlib.Path(row["file"]).name for row in result["skipped"]], ["large.png"])
        self.assertIn("30000 x 30000 pixels", result["skipped"][0]["error"])

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

    @needs_imagenette
    def test_the_card_is_reproduced(self):
        data = imagenette(self.folder)
        result = result_of(vision("validate", MODEL, "--data", data, "--json", "-", "--quiet"))
        self.assertEqual(result["num_images"], 3925)
        card = re.search(r"top-1 ([0-9.]+) ", (MODEL / "README.md").read_text())
        self.assertAlmostEqual(result["top1"] * 100, float(card.group(1)), delta=0.1)


class Quantize(Case):
    FORMATS = ("w8a8-int", "w8a8-fp8", "w4a16", "w4ax")

    def quantize(self, *arguments):
        return vision("quantize", *arguments, "--json", "-", "--quiet")

    def test_every_format(self):
        whole = result_of(vision("classify", MODEL, IMAGES, "--json", "-"))
        for name in self.FORMATS:
            out = self.folder / name
            report = result_of(self.quantize(MODEL, "-o", out, "--format", name, "--calib", IMAGES, "--calib-images", 16))
            self.assertEqual(report["format"], name)
            self.assertEqual((report["num_calibration_images"], report["held_back"]["num_images"]), (14, 2))
            self.assertEqual(len(report["layers"]), 29)
            self.assertLess(report["size_bytes"], 3.4e6)
            self.assertEqual(json.loads((out / "quant_report.json").read_text())["layers"], report["layers"])
            result = result_of(vision("classify", out, IMAGES, "--json", "-"))
            agreed = sum(a["predictions"][0]["index"] == b["predictions"][0]["index"]
                         for a, b in zip(whole["images"], result["images"]))
            self.assertGreaterEqual(agreed, 27 if name.startswith("w8") else 24, name)

    def test_bad_input(self):
        out = self.folder / "out"
        self.assert_fails(self.quantize(MODEL, "-o", out, "--format", "w8a8-int"), "--calib DIR is missing", code=2)
        self.assert_fails(self.quantize(MODEL, "-o", out, "--format", "w8a8-fp8", "--weights", "gptq"), "w8a8-fp8", code=2)
        self.assert_fails(self.quantize(SOURCE / "models/demo", "-o", out, "--format", "w8a8-fp8"), "'architecture'", code=2)
        self.assertFalse(out.exists())
        result_of(self.quantize(MODEL, "-o", out, "--format", "w8a8-fp8"))
        self.assert_fails(self.quantize(MODEL, "-o", out, "--format", "w8a8-fp8"), "exists", code=2)
        result_of(self.quantize(MODEL, "-o", out, "--format", "w8a8-fp8", "--force"))
        self.assert_fails(self.quantize(out, "-o", self.folder / "twice", "--format", "w8a8-fp8"), "quantized already", code=2)
        config = json.loads((out / "config.json").read_text())
        config["quantization_config"]["format"] = "q9"
        (out / "config.json").write_text(json.dumps(config))
        self.assert_fails(vision("classify", out, IMAGES), "q9")

    @needs_imagenette
    def test_eight_bits_lose_less_than_a_point(self):
        data = imagenette(self.folder)
        out = self.folder / "w8a8-int"
        result_of(self.quantize(MODEL, "-o", out, "--format", "w8a8-int", "--calib", data / "train"))
        result = result_of(vision("validate", out, "--data", data, "--json", "-", "--quiet"))
        card = re.search(r"top-1 ([0-9.]+) ", (MODEL / "README.md").read_text())
        self.assertGreaterEqual(result["top1"] * 100, float(card.group(1)) - 1)


class Train(Case):
    def train(self, *arguments):
        return vision("train", "--data", self.folder / "data", *arguments, "--quiet")

    def test_a_run_goes_on_only_as_it_was(self):
        for name in ("cat", "dog"):
            for i in range(4):
                self.put(f"data/train/{name}/{i}.jpg")
        run = self.folder / "run"
        recipe = ("--arch", "inception_next_atto", "--image-size", 32, "--batch", 2, "--epochs", 2)
        first = self.train("-o", run, *recipe, "--stop-after-steps", 4, "--tensorboard")
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(len(list(run.glob("events.out.tfevents.*"))), 1)
        self.assert_fails(self.train("-o", run, *recipe), "go on with --resume", code=2)
        self.assert_fails(self.train("--resume", run, "--lr", 0.5), "lr is 0.5, was 0.001", code=2)
        self.assert_fails(self.train("--resume", run, "-o", self.folder / "other"), "leave -o out", code=2)
        self.assert_fails(self.train("--resume", run, "--arch", "convnext_tiny"), 'architecture is "convnext_tiny"', code=2)
        self.put("data/train/dog/another.jpg")
        self.put("data/train/dog/more.jpg")
        self.assert_fails(self.train("--resume", run), "4 batches of 2 images an epoch, this one 5", code=2)
        (self.folder / "data/train/dog/another.jpg").unlink()
        (self.folder / "data/train/dog/more.jpg").unlink()
        rest = self.train("--resume", run)
        self.assertEqual(rest.returncode, 0, rest.stderr)

    def test_weights_of_others_are_refused_by_name(self):
        for name in ("cat", "dog"):
            self.put(f"data/train/{name}/1.jpg")
        self.assert_fails(self.train("-o", self.folder / "run", "--arch", "inception_next_atto", "--initial", MODEL, "--batch", 2),
                          "'head.fc2.weight' has shape [10, 960] instead of [2, 960]", code=2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=1)
