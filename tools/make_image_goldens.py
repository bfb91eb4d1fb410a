#!/usr/bin/env python3
"""Remake tests/data/vision/images: tiny JPEG and PNG files of every kind, and what Pillow and timm see in them.

usage: tools/make_image_goldens.py            (needs Pillow, numpy, safetensors, torchvision and timm; downloads nothing)

The pictures are drawn here. decoded.safetensors: <file> = Pillow's RGB pixels [height, width, 3], EXIF orientation
applied where the file has one. resized.safetensors: timm's evaluation transforms and Pillow's resizing of some of them. augmented.safetensors:
RandAugment's operations as timm applies them.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from timm.data import auto_augment, create_transform

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests/data/vision/images"


def picture(height, width, seed):
    """Slopes, waves, edges and noise in three colours."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    layers = []
    for c in range(3):
        wave = np.sin(x * (0.11 + 0.07 * c) + y * (0.19 - 0.04 * c) + c)
        blocks = ((x // (5 + 3 * c)).astype(int) + (y // (7 + c)).astype(int)) % 2
        layers.append(90 + 60 * wave + 50 * blocks + x / width * 40 + rng.normal(0, 6, (height, width)))
    return np.clip(np.stack(layers, -1), 0, 255).astype(np.uint8)


def jpeg(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


def png(image, **options):
    stream = io.BytesIO()
    image.save(stream, "PNG", **options)
    return stream.getvalue()


def as_ycck(cmyk_jpeg):
    """The same coefficients read as YCCK: Adobe's transform byte 0 becomes 2."""
    at = cmyk_jpeg.index(b"Adobe") + 11
    assert cmyk_jpeg[at] == 0
    return cmyk_jpeg[:at] + b"\2" + cmyk_jpeg[at + 1 :]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(width, height, depth, colour, rows, interlace=0):
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def interlaced(pixels):
    """Adam7."""
    height, width, _ = pixels.shape
    rows = []
    for y0, x0, dy, dx in [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]:
        rows += [row.tobytes() for row in pixels[y0::dy, x0::dx] if row.size]
    return raw_png(width, height, 8, 2, rows, 1)


def make_files():
    rgb = Image.fromarray(picture(37, 53, 1))
    small = Image.fromarray(picture(5, 9, 2))
    files = {
        "rgb_420.jpg": jpeg(rgb, quality=80, subsampling=2),
        "rgb_422.jpg": jpeg(rgb, quality=85, subsampling=1),
        "rgb_444.jpg": jpeg(rgb, quality=90, subsampling=0),
        "progressive.jpg": jpeg(rgb, quality=75, progressive=True),
        "grey.jpg": jpeg(rgb.convert("L"), quality=80),
        "cmyk.jpg": jpeg(rgb.convert("CMYK"), quality=90),
        "pixel.jpg": jpeg(Image.new("RGB", (1, 1), (200, 30, 90))),
        "tall.jpg": jpeg(Image.fromarray(picture(90, 3, 3))),
        "photo.jpg": jpeg(Image.fromarray(picture(150, 201, 4)), quality=70),
        "rgb.png": png(rgb),
        "palette.png": png(rgb.quantize(13)),
        "palette_alpha.png": png(rgb.quantize(7), transparency=2),
        "grey.png": png(rgb.convert("L")),
        "bits.png": png(rgb.convert("1")),
        "grey_alpha.png": png(rgb.convert("LA")),
        "interlaced.png": interlaced(np.array(small)),
    }
    files["ycck.jpg"] = as_ycck(files["cmyk.jpg"])
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(picture(37, 53, 5)[:, :, 0]))
    files["alpha.png"] = png(alpha)
    deep = np.random.default_rng(6).integers(0, 65536, (5, 9, 3)).astype(">u2")
    files["rgb_16.png"] = raw_png(9, 5, 16, 2, [row.tobytes() for row in deep])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files[f"exif_{orientation}.jpg"] = jpeg(small, quality=95, subsampling=0, exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    files["exif_6.png"] = png(small, exif=exif)
    return files


def open_rgb(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


def make_resized(files):
    photo = open_rgb(files["photo.jpg"])
    tall = open_rgb(files["tall.jpg"])
    tensors = {}
    for name, image in {"photo": photo, "turned": photo.transpose(Image.Transpose.ROTATE_90), "tall": tall,
                        "pixel": open_rgb(files["pixel.jpg"])}.items():
        for size, crop_pct, interpolation in [(64, 0.875, "bicubic"), (56, 0.95, "bilinear"), (48, 1.0, "bicubic")]:
            transform = create_transform(input_size=(3, size, size), is_training=False, interpolation=interpolation,
                                         crop_pct=crop_pct)
            value = transform(image).permute(1, 2, 0).contiguous().numpy()
            # Stored as bytes; the test normalizes them.
            mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
            bytes_ = np.rint((value.astype(np.float64) * std + mean) * 255)
            tensors[f"eval.{name}.{size}.{crop_pct}.{interpolation}"] = bytes_.astype(np.uint8)
            if (name, size) == ("photo", 48):
                tensors["normalized"] = value
    for width, height, name in [(17, 23, "bicubic"), (300, 9, "bicubic"), (201, 40, "bilinear"), (31, 150, "bilinear")]:
        # Pillow 13 takes rows first where the height shrinks much more than the width; columns first is the older rule.
        kind = getattr(Image.Resampling, name.upper())
        resized = photo.resize((width, photo.height), kind).resize((width, height), kind)
        tensors[f"resize.{width}.{height}.{name}"] = np.array(resized)
    return tensors


def make_augmented(image):
    """op.<name>.<inc>.<magnitude>.<negative>.<bicubic> = what timm's RandAugment operation makes of the image."""
    names = ["AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
             "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"]
    tensors = {"image": np.array(image)}
    for name in names:
        for inc, magnitude, negative, bicubic in [(1, 9, 0, 0), (1, 6, 1, 1), (0, 3, 0, 1)]:
            full = name + "Increasing" if inc and name + "Increasing" in auto_augment.NAME_TO_OP else name
            level_to_arguments = auto_augment.LEVEL_TO_ARG[full]
            auto_augment.random.random = lambda negative=negative: float(negative)  # the draw of the sign
            arguments = level_to_arguments(magnitude, {}) if level_to_arguments else ()
            options = {"fillcolor": (124, 116, 104), "resample": Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR}
            result = auto_augment.NAME_TO_OP[full](image, *arguments, **options)
            tensors[f"op.{name}.{inc}.{magnitude}.{negative}.{bicubic}"] = np.array(result)
    return tensors


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = make_files()
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)
    save_file({name: np.array(open_rgb(data)) for name, data in files.items()}, FOLDER / "decoded.safetensors")
    save_file(make_resized(files), FOLDER / "resized.safetensors")
    save_file(make_augmented(Image.fromarray(picture(17, 23, 7))), FOLDER / "augmented.safetensors")
    for path in FOLDER.iterdir():
        path.chmod(0o644)
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{FOLDER}: {len(files)} images, {total} bytes")


if __name__ == "__main__":
    main()
