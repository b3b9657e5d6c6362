# SPDX-License-Identifier: Apache-2.0
"""Pictures by Pillow: what we write it reads, and what it resizes we resize alike."""

import io
import tarfile
from pathlib import Path

import numpy
from PIL import Image

from peers import PHOTOS, check

SIZE = 96


def pictures(folder, end):
    for shard in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(shard) as tar:
            for info in tar:
                if info.name.endswith(end):
                    image = Image.open(io.BytesIO(tar.extractfile(info).read()))
                    yield info.name.split(".")[0], image


def by_pillow(key):
    """The photograph, its largest centred square, resized."""
    image = Image.open(Path(PHOTOS, key + ".jpg")).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box=box)


def levels(image):
    return numpy.asarray(image, dtype=numpy.int32)


@check
def png_resized():
    """Pillow reads our PNG, and decodes and resizes as we do, but for 1 level"""
    count = 0
    for key, image in pictures("png", ".png"):
        assert image.format == "PNG" and image.mode == "RGB"
        assert image.size == (SIZE, SIZE)
        difference = abs(levels(image) - levels(by_pillow(key))).max()
        assert difference <= 1, f"{key}: {difference}"
        count += 1
    assert count > 0


def close_to_png(folder, end, format):
    exact = {key: levels(image) for key, image in pictures("png", ".png")}
    count = 0
    for key, image in pictures(folder, end):
        assert image.format == format and image.mode == "RGB"
        # Fine detail at this size loses much to subsampled colours.
        error = ((levels(image) - exact[key]) ** 2).mean()
        psnr = 10 * numpy.log10(255**2 / max(error, 1e-9))
        assert psnr > 25, f"{key}: {psnr:.1f} dB"
        count += 1
    assert count == len(exact) > 0


@check
def jpeg():
    """Pillow reads our JPEG, and sees what the PNG shows"""
    close_to_png("jpeg", ".jpg", "JPEG")


@check
def webp():
    """Pillow reads our WebP, and sees what the PNG shows"""
    close_to_png("webp", ".webp", "WEBP")


@check
def sheet():
    """Pillow reads pictures and sheets of prx-sample"""
    for path in ("sheet.png", "sampled/0000.png"):
        Image.open(path).load()
    assert Image.open("sampled/0000.png").size == (SIZE, SIZE)
