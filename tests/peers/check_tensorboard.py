# SPDX-License-Identifier: Apache-2.0
"""Event files by TensorBoard's own reader."""

import io
import json
import logging
import math
from pathlib import Path

import numpy
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from peers import check

logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells what it drops
TAGS = ("loss", "grad_norm", "lr", "samples_per_s", "tokens_per_s", "gflop_per_s",
        "peak_share", "step_s", "data_wait_s")


def read(run):
    # 0: keep all, where the default keeps a sample.
    events = EventAccumulator(f"{run}/tensorboard", {"scalars": 0, "images": 0})
    return events.Reload()


def compare(run):
    events = read(run)
    lines = [json.loads(line) for line in Path(run, "log.jsonl").open()]
    assert len(lines) > 10
    assert sorted(events.Tags()["scalars"]) == sorted(TAGS)
    for tag in TAGS:
        scalars = events.Scalars(tag)
        assert [s.step for s in scalars] == [line["step"] for line in lines], tag
        for scalar, line in zip(scalars, lines):
            assert math.isclose(scalar.value, line[tag], rel_tol=1e-6), (tag, line)


@check
def numbers():
    """TensorBoard reads the numbers of log.jsonl"""
    assert len(list(Path("trained/tensorboard").iterdir())) == 1
    compare("trained")


@check
def resumed():
    """TensorBoard drops the steps that a resumed run has taken again"""
    assert len(list(Path("resumed/tensorboard").iterdir())) == 2
    compare("resumed")


@check
def grids():
    """TensorBoard reads the grids of a run, which are its files"""
    events = read("trained").Images("samples")
    assert [e.step for e in events] == [8, 16, 20]
    for event in events:
        png = Path(f"trained/samples/step-{event.step:07d}.png").read_bytes()
        assert event.encoded_image_string == png
        image = Image.open(io.BytesIO(png))
        assert (image.mode, image.size) == ("RGB", (event.width, event.height))
        assert image.width > 2 * 96 and image.height > 96


@check
def picture():
    """TensorBoard reads a picture"""
    (event,) = read("board").Images("samples/a red cup")
    assert (event.step, event.width, event.height) == (300, 40, 24)
    image = Image.open(io.BytesIO(event.encoded_image_string))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (40, 24))
    y, x = numpy.mgrid[:24, :40]
    want = numpy.stack([6 * x, 10 * y, 0 * x + 128], axis=-1)
    assert (numpy.asarray(image) == want).all()
