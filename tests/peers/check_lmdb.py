# SPDX-License-Identifier: Apache-2.0
"""LMDB environments by py-lmdb: it reads ours, and we read its."""

import json
import os
import subprocess
import tarfile
from pathlib import Path

import lmdb

from peers import PHOTOS, check

KEYS = sorted(path.stem for path in Path(PHOTOS).glob("*.jpg"))


def entries(path, **options):
    with lmdb.open(str(path), readonly=True, lock=False, **options) as env:
        with env.begin() as txn:
            return {bytes(name): bytes(value) for name, value in txn.cursor()}


def tar_entries(path):
    with tarfile.open(path) as tar:
        return {info.name.encode(): tar.extractfile(info).read() for info in tar}


def without_json(found):
    """prx-shard writes metadata of its own"""
    return {name: value for name, value in found.items() if not name.endswith(b".json")}


def prx(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@check
def ours():
    """py-lmdb reads every entry of ours, and no other"""
    found = entries("photos.lmdb")
    names = {path.name.encode() for path in Path(PHOTOS).iterdir()
             if path.stem in KEYS}
    assert set(found) == names, set(found) ^ names
    for name, value in without_json(found).items():
        assert value == Path(PHOTOS, name.decode()).read_bytes(), name
    index = json.loads(Path("photos.lmdb/index.json").read_text())
    assert index["__kind__"] == "prx-lmdb-index-v1" and index["samples"] == len(KEYS)


@check
def ours_while_locked():
    """py-lmdb opens ours with its locks, and writes to it"""
    with lmdb.open("photos.lmdb", map_size=1 << 30) as env:
        with env.begin(write=True) as txn:
            assert txn.put(b"zz/new.jpg", b"x" * 100000)
        assert env.stat()["entries"] == 3 * len(KEYS) + 1
    assert prx("prx-ls", "photos.lmdb").splitlines()[-1] == "zz/new\tjpg:100000"
    with lmdb.open("photos.lmdb", map_size=1 << 30) as env:
        with env.begin(write=True) as txn:
            assert txn.delete(b"zz/new.jpg")


def write(path, wanted, **options):
    with lmdb.open(path, **options) as env:
        for at in range(0, len(wanted), 100):
            with env.begin(write=True) as txn:
                for name in list(wanted)[at:at + 100]:
                    txn.put(name, wanted[name])


def check_read(path, wanted):
    prx("prx-shard", "-q", "--overwrite", f"lmdb:{path}", "-o", "from-python.tar")
    assert without_json(tar_entries("from-python.tar")) == wanted


PICTURE = Path(PHOTOS, KEYS[0] + ".jpg").read_bytes()
MADE = {}
for i in range(500):
    MADE[b"f%d.x/k%04d.jpg" % (i % 7, i * 7919 % 500)] = PICTURE + os.urandom(i * 9)
    MADE[b"f%d.x/k%04d.txt" % (i % 7, i * 7919 % 500)] = b"t" * (i * 5)


@check
def theirs():
    """we read an environment that py-lmdb has written"""
    write("made", MADE, map_size=1 << 28)
    check_read("made", MADE)


@check
def theirs_sparse():
    """also in a sparse file of its whole map's size, and after deletions"""
    write("sparse", MADE, map_size=1 << 32, writemap=True)
    assert os.path.getsize("sparse/data.mdb") == 1 << 32
    check_read("sparse", MADE)
    kept = dict(list(MADE.items())[:200])
    with lmdb.open("sparse", map_size=1 << 32) as env:
        with env.begin(write=True) as txn:
            for name in MADE:
                if name not in kept:
                    txn.delete(name)
    check_read("sparse", kept)


@check
def theirs_in_one_file():
    """also where the environment is one file, or a compacted copy"""
    write("one.mdb", MADE, map_size=1 << 28, subdir=False)
    check_read("one.mdb", MADE)
    Path("compact").mkdir()
    with lmdb.open("made", readonly=True, lock=False) as env:
        env.copy("compact", compact=True)
    check_read("compact", MADE)


@check
def round_trip():
    """what we make of theirs, py-lmdb reads as it was"""
    prx("prx-shard", "-q", "lmdb:made", "-o", "lmdb:again")
    assert without_json(entries("again")) == MADE


@check
def while_it_is_held():
    """py-lmdb reads ours while we read it"""
    command = ["prx-ls", "lmdb:made", "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes) as ls:
        line = ls.stdout.readline()
        with lmdb.open("made", map_size=1 << 28) as env, env.begin() as txn:
            assert txn.stat()["entries"] == len(MADE)
        ls.stdin.close()
        assert line and ls.stdout.read()
