# SPDX-License-Identifier: Apache-2.0
"""Shards by tarfile and webdataset, arrays by numpy."""

import io
import json
import tarfile
from pathlib import Path

import numpy
import webdataset

from peers import PHOTOS, check

SHARDS = sorted(str(path) for path in Path("encoded").glob("*.tar"))
KEYS = sorted(path.stem for path in Path(PHOTOS).glob("*.jpg"))


@check
def members():
    """tarfile lists plain members in order, each sample together"""
    keys = []
    for shard in SHARDS:
        with tarfile.open(shard) as tar:
            infos = tar.getmembers()
        names = [info.name for info in infos]
        assert names == sorted(names)
        for info in infos:
            assert info.isreg() and info.mtime == 0 and info.mode == 0o444, info.name
        keys += dict.fromkeys(name.split(".")[0] for name in names)
    assert keys == KEYS


@check
def stored_bytes():
    """tarfile reads back the very bytes of the photographs"""
    with tarfile.open("whole.tar") as tar:
        for key in KEYS:
            for end in (".jpg", ".txt"):
                stored = tar.extractfile(key + end).read()
                assert stored == Path(PHOTOS, key + end).read_bytes(), key + end


def samples():
    return webdataset.WebDataset(SHARDS, shardshuffle=False)


@check
def webdataset_keys():
    """webdataset finds every sample, in order, with all its fields"""
    found = list(samples())
    assert [sample["__key__"] for sample in found] == KEYS
    for sample in found:
        assert {"png", "txt", "json", "latent.npy"} <= set(sample)
        assert {"long.text.npy", "short.text.npy"} <= set(sample)


@check
def webdataset_shared():
    """webdataset reads what two processes wrote together in the order of the input"""
    shards = sorted(str(path) for path in Path("shared").glob("*.tar"))
    found = webdataset.WebDataset(shards, shardshuffle=False)
    assert [sample["__key__"] for sample in found] == KEYS


@check
def webdataset_decoded():
    """webdataset decodes pictures and metadata"""
    for sample in samples().decode("rgb8"):
        meta = sample["json"]
        assert sample["png"].shape == (meta["height"], meta["width"], 3) == (96, 96, 3)
        assert meta["captions"]["long"] and meta["license"]


@check
def arrays():
    """numpy loads latents and text states, as the metadata tells of them"""
    latents = []
    for sample in samples():
        encode = json.loads(sample["json"])["encode"]
        for part, record in encode.items():
            array = numpy.load(io.BytesIO(sample[part]), allow_pickle=False)
            assert array.dtype == numpy.float16 and list(array.shape) == record["shape"]
            assert numpy.isfinite(array).all()
        latents.append(numpy.load(io.BytesIO(sample["latent.npy"])).astype("f8"))
    latents = numpy.stack(latents)
    assert latents.shape == (len(KEYS), 16, 12, 12)
    assert abs(latents.mean()) < 0.2 and 0.7 < latents.std() < 1.5


@check
def index():
    """index.json counts what the shards hold"""
    shards = json.loads(Path("encoded/index.json").read_text())["shardlist"]
    assert [shard["url"] for shard in shards] == [Path(shard).name for shard in SHARDS]
    assert sum(shard["nsamples"] for shard in shards) == len(KEYS)
