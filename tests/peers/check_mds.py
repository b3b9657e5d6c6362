# SPDX-License-Identifier: Apache-2.0
"""MDS by mosaicml-streaming: it reads what we write, we read what it writes."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from decimal import Decimal
from pathlib import Path

os.environ.setdefault("NO_COLOR", "1")
try:
    import numpy
    from PIL import Image
    from streaming import LocalDataset, MDSWriter, StreamingDataset
    from streaming.base.format.mds import encodings
    from streaming.base.hashing import get_hash
    from streaming.base.util import merge_index
except ImportError as error:
    print(f"# skipped: MDS: {error}")
    sys.exit(0)

from peers import check


def prx_shard(*words):
    subprocess.run(["prx-shard", "-q", "--overwrite", *words], check=True)


def read_tar(path):
    """Samples of a tar: {key: {field: bytes}}."""
    samples = {}
    with tarfile.open(path) as tar:
        for info in tar.getmembers():
            folder, _, base = info.name.rpartition("/")
            key, _, field = base.partition(".")
            key = f"{folder}/{key}" if folder else key
            samples.setdefault(key, {})[field] = tar.extractfile(info).read()
    return samples


# --- what we write ------------------------------------------------------------


def write_ours():
    prx_shard("encoded/index.json", "-o", "mds:ours", "--shard-bytes", "2M")
    prx_shard("encoded/index.json", "-o", "ours.tar")
    return read_tar("ours.tar")


@check
def ours_decoded():
    """streaming decodes every column of ours as the tar has it"""
    samples = write_ours()
    found = LocalDataset("ours")
    assert len(found) == len(samples) > 80 and len(found.shards) > 2
    for got, (key, want) in zip(found, samples.items()):
        assert got["__key__"] == key
        assert got["__fields__"].split("\n") == sorted(want)
        assert got["caption"] == want["txt"].decode()
        assert got["json"] == json.loads(want["json"])
        assert got["image"].format == "PNG"
        pixels = Image.open(io.BytesIO(want["png"]))
        assert got["image"].tobytes() == pixels.tobytes()
        for field in ("latent.npy", "long.text.npy", "short.text.npy"):
            array = numpy.load(io.BytesIO(want[field]))
            assert got[field].dtype == array.dtype == numpy.float16
            assert numpy.array_equal(got[field], array)
        assert len(got) == len(want) + 2


@check
def ours_hashes():
    """streaming's xxh128 of our shards is what our index says"""
    index = json.loads(Path("ours/index.json").read_text())
    for shard in index["shards"]:
        raw = shard["raw_data"]
        stored = Path("ours", raw["basename"]).read_bytes()
        assert len(stored) == raw["bytes"] < 2 << 20
        assert get_hash("xxh128", stored) == raw["hashes"]["xxh128"]


@check
def ours_streamed():
    """StreamingDataset downloads ours and validates the hashes"""
    shutil.rmtree("cache", ignore_errors=True)
    found = StreamingDataset(remote="ours", local="cache", validate_hash="xxh128",
                             shuffle=False, batch_size=1)
    keys = [sample["__key__"] for sample in found]
    assert keys == list(read_tar("ours.tar")) and len(keys) > 80


def npy(array):
    stored = io.BytesIO()
    numpy.save(stored, array)
    return stored.getvalue()


def picture(size, form):
    pixels = numpy.random.default_rng(size).integers(0, 256, (size, 9, 3), "u1")
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format=form)
    return stored.getvalue()


@check
def ours_mixed():
    """streaming decodes samples of ours that have not the same fields"""
    members = [
        ("a.jpg", picture(1, "JPEG")), ("a.txt", b"one"), ("a.x.json", b"[1]"),
        ("b.png", picture(2, "PNG")), ("b.txt", b"\xff"), ("b.bin", b"\0\1"),
        ("c.webp", picture(3, "WEBP")), ("c.y.npy", npy(numpy.arange(6, dtype="f4"))),
        ("d.jpg", picture(4, "JPEG")), ("d.long.txt", b"more"),
        ("d.z.npy", b"no array"),
    ]
    with tarfile.open("mixed.tar", "w") as tar:
        for name, stored in members:
            info = tarfile.TarInfo(name)
            info.size = len(stored)
            tar.addfile(info, io.BytesIO(stored))
    prx_shard("mixed.tar", "-o", "mds:mixed")
    found = {sample["__key__"]: sample for sample in LocalDataset("mixed")}
    assert list(found) == ["a", "b", "c", "d"]
    formats = [sample["image"].format for sample in found.values()]
    assert formats == ["JPEG", "PNG", "WEBP", "JPEG"]
    assert found["a"]["caption"] == b"one" and found["b"]["caption"] == b"\xff"
    assert found["a"]["x.json"] == [1] and found["b"]["x.json"] is None
    assert found["c"]["y.npy"].tolist() == list(range(6))
    assert found["d"]["y.npy"].size == 0
    assert found["d"]["long.txt"] == "more" and found["a"]["long.txt"] == ""
    assert found["d"]["z.npy"] == b"no array" and found["b"]["bin"] == b"\0\1"
    assert found["b"]["__fields__"].split("\n") == ["bin", "json", "png", "txt"]


# --- what it writes -----------------------------------------------------------


class BFloat16(encodings.Encoding):
    """PRX's addition: dims, then the upper halves of float32."""

    def encode(self, obj):
        dims = numpy.array([obj.ndim, *obj.shape], "u4")
        return dims.tobytes() + (obj.view("u4") >> 16).astype("u2").tobytes()

    def decode(self, data):
        raise NotImplementedError


encodings._encodings["bf16"] = BFloat16

COLUMNS = {
    "image": "jpeg", "mask": "png", "thumb": "pil", "caption": "str",
    "caption_short": "str", "url": "str", "n": "int", "u8": "uint8", "i16": "int16",
    "f16": "float16", "f32": "float32", "f64": "float64", "big": "str_int",
    "real": "str_float", "price": "str_decimal", "tags": "json", "raw": "bytes",
    "latent": "ndarray:float16", "fixed": "ndarray:int32:2,3", "free": "ndarray",
    "embeds": "bf16",
}


def their_sample(i):
    pixels = numpy.random.default_rng(i).integers(0, 256, (24 + i, 32, 3), "u1")
    image = Image.fromarray(pixels)
    halves = numpy.arange(-5, 5, 0.5, dtype="f4").reshape(2, -1) * (i + 1)
    return {
        "image": image, "mask": image.convert("L"), "thumb": image.resize((8, 5)),
        "caption": f"caption {i}: \u00e9", "caption_short": "short",
        "url": f"http://h/{i}", "n": -i, "u8": i, "i16": -300 - i, "f16": 0.5 * i,
        "f32": 0.1, "f64": 1 / 3, "big": 10**30 + i, "real": i / 7,
        "price": Decimal("1.10"), "tags": {"a": [i, None]}, "raw": bytes([i, 0, 255]),
        "latent": (pixels / 7).astype("f2"),
        "fixed": numpy.arange(6, dtype="i4").reshape(2, 3) - i,
        "free": numpy.full((1, 300, i + 1), i, "i8"), "embeds": halves,
    }


def write_theirs(folder, compression, n_samples=30):
    shutil.rmtree(folder, ignore_errors=True)
    with MDSWriter(columns=COLUMNS, out=folder, compression=compression,
                   hashes=["sha1", "xxh128"], size_limit=100000) as writer:
        for i in range(n_samples):
            writer.write(their_sample(i))


def compare(got, i):
    want = their_sample(i)
    meta = json.loads(got["json"])
    stored = io.BytesIO()
    want["image"].save(stored, format="JPEG")
    assert got["jpg"] == stored.getvalue()
    for field, column in (("mask.png", want["mask"]), ("thumb.png", want["thumb"])):
        assert Image.open(io.BytesIO(got[field])).convert(column.mode).tobytes() \
            == column.tobytes(), field
    assert got["txt"].decode() == want["caption"]
    assert meta["captions"] == {"short": "short"}
    for name in ("url", "n", "u8", "i16", "f16", "f64", "real", "tags"):
        assert meta[name] == want[name], name
    assert meta["f32"] == float(numpy.float32(0.1))
    assert meta["big"] == str(want["big"]) and meta["price"] == "1.10"
    assert got["raw"] == want["raw"]
    for name in ("latent", "fixed", "free", "embeds"):
        array = numpy.load(io.BytesIO(got[name + ".npy"]), allow_pickle=False)
        assert array.dtype == want[name].dtype and array.shape == want[name].shape, name
        exact = want[name].view("u4") & 0xFFFF0000 if name == "embeds" else want[name]
        assert array.tobytes() == exact.tobytes(), name


@check
def theirs():
    """prx-shard reads what MDSWriter writes, plain and compressed by zstd, gz, bz2"""
    for compression in (None, "zstd:7", "gz", "bz2"):
        write_theirs("theirs", compression)
        prx_shard("theirs", "-o", "theirs.tar")
        samples = read_tar("theirs.tar")
        assert len(samples) == 30 and len(list(Path("theirs").glob("shard.*"))) > 2
        for i, (key, got) in enumerate(samples.items()):
            shard, _, number = key.partition("-")
            assert len(shard) == 5 and len(number) == 6, key
            compare(got, i)


@check
def theirs_merged():
    """prx-shard reads the index that merge_index makes, and trees without one"""
    shutil.rmtree("merged", ignore_errors=True)
    for name in ("0.500", "1.000"):
        write_theirs(f"merged/{name}", None, 5)
    keys = [f"{name}/00000-{i:06}" for name in ("0.500", "1.000") for i in range(5)]
    prx_shard("merged", "-o", "merged.tar")
    assert sorted(read_tar("merged.tar")) == keys
    merge_index("merged", keep_local=True)
    assert Path("merged/index.json").exists()
    prx_shard("merged", "-o", "merged.tar")
    samples = read_tar("merged.tar")
    assert sorted(samples) == keys
    for key, got in samples.items():
        compare(got, int(key[-6:]))


@check
def theirs_pickled():
    """prx-shard never unpickles"""
    shutil.rmtree("pickled", ignore_errors=True)
    with MDSWriter(columns={"x": "pkl"}, out="pickled") as writer:
        writer.write({"x": [1]})
    run = subprocess.run(["prx-shard", "--overwrite", "--rejects", "pickled.jsonl",
                          "pickled", "-o", "pickled.tar"], check=False,
                         stderr=subprocess.DEVNULL)
    assert run.returncode == 3
    said = Path("pickled.jsonl").read_text()
    assert "column x is pickled, which is never read" in said
