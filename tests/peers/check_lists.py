# SPDX-License-Identifier: Apache-2.0
"""Lists that pyarrow, datasets, pandas and the csv module write, read by prx-shard."""

import csv
import json
import subprocess
import tarfile
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet

from peers import PHOTOS, check

datasets.disable_progress_bars()
VERSION = subprocess.run(["prx-ls", "-V"], capture_output=True, check=True).stdout
KEYS = sorted(path.stem for path in Path(PHOTOS).glob("*.jpg"))
HARD = ['a "quoted", one', "two\nlines\r\n", " blanks ", "ünï ☃ 写真", "tab\there", "it's"]


def check_parquet(function):
    """As check(), where the build reads Parquet"""
    if b" parquet=" in VERSION.partition(b"left out:")[0]:
        return check(function)
    print(f"skipped: {function.__doc__}: this build reads no Parquet", flush=True)
    return function


def photo(key):
    return Path(PHOTOS, key + ".jpg").read_bytes()


def caption(i):
    return HARD[i % len(HARD)] + f" {i}"


def packed(*words):
    """The samples that prx-shard makes of a list: {key: {field: bytes}}"""
    command = ["prx-shard", "-q", *words, "-o", "-"]
    run = subprocess.run(command, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr.decode()
    Path("listed.tar").write_bytes(run.stdout)
    samples = {}
    with tarfile.open("listed.tar") as tar:
        for member in tar:
            key, field = member.name.split(".", 1)
            samples.setdefault(key, {})[field] = tar.extractfile(member).read()
    return samples


def same(samples, keys=KEYS, extra=None):
    """Are these the photographs, their captions, and @extra of row i in the metadata?"""
    assert list(samples) == keys
    for i, key in enumerate(keys):
        assert samples[key]["jpg"] == photo(KEYS[i]), key
        assert samples[key]["txt"].decode() == caption(i), key
        meta = json.loads(samples[key]["json"])
        for name, value in (extra(i) if extra else {}).items():
            assert meta.get(name) == value, (key, name, meta.get(name), value)


def rows():
    return [
        {"key": key, "image": f"{PHOTOS}/{key}.jpg", "caption": caption(i), "n": i, "x": i / 8}
        for i, key in enumerate(KEYS)
    ]


def numbers(i):
    return {"n": i, "x": i / 8}


@check
def csv_module():
    """what the csv module writes, in three dialects"""
    for name, options in (
        ("excel.csv", {}),
        ("unix.csv", {"dialect": "unix"}),
        ("tab.tsv", {"dialect": "excel-tab"}),
    ):
        with open(name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows()[0], **options)
            writer.writeheader()
            writer.writerows(rows())
        same(packed("--any-path", name), extra=numbers)


@check
def json_lines():
    """what the json module writes, escaped and not"""
    for name, is_ascii in (("a.jsonl", True), ("u.jsonl", False)):
        with open(name, "w", encoding="utf-8") as file:
            for row in rows():
                file.write(json.dumps(row, ensure_ascii=is_ascii) + "\n")
        same(packed("--any-path", name), extra=numbers)


@check
def pandas_csv():
    """what pandas writes, with its column of row numbers"""
    import pandas

    pandas.DataFrame(rows()).to_csv("pandas.csv")
    same(packed("--any-path", "pandas.csv"), extra=numbers)


@check_parquet
def pandas_parquet():
    """what pandas writes as Parquet, with bytes"""
    import pandas

    frame = pandas.DataFrame(rows())
    frame["image"] = [photo(key) for key in KEYS]
    frame.to_parquet("pandas.parquet")
    same(packed("pandas.parquet"), extra=numbers)


@check_parquet
def datasets_parquet():
    """what datasets writes, its Image feature with the bytes inside"""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "prompt": datasets.Value("string"),
            "llava": datasets.Value("large_string"),
            "llava_status": datasets.ClassLabel(names=["bad", "good"]),
            "tags": datasets.Sequence(datasets.Value("string")),
        }
    )
    data = datasets.Dataset.from_list(
        [
            {
                "image": {"bytes": photo(key), "path": key},
                "prompt": caption(i),
                "llava": "long " + caption(i),
                "llava_status": i % 2,
                "tags": ["a", str(i)],
            }
            for i, key in enumerate(KEYS)
        ],
        features=features,
    )
    data.to_parquet("train-00000-of-00001.parquet", batch_size=10)
    keys = [f"train-00000-of-00001/{i:09}" for i in range(len(KEYS))]
    samples = packed(
        "--caption-column=prompt", "--caption-column=long=llava", "train-00000-of-00001.parquet"
    )
    same(
        samples,
        keys,
        lambda i: {
            "captions": {"long": "long " + caption(i)},
            "llava_status": i % 2,
            "tags": ["a", str(i)],
        },
    )


@check_parquet
def pyarrow_parquet():
    """what pyarrow writes: every compression, page version and dictionary"""
    table = pyarrow.Table.from_pylist(
        [{**row, "image": photo(key)} for row, key in zip(rows(), KEYS)]
    )
    for compression in ("none", "snappy", "gzip", "brotli", "zstd", "lz4"):
        for version in ("1.0", "2.0"):
            pyarrow.parquet.write_table(
                table,
                "pyarrow.parquet",
                compression=compression,
                data_page_version=version,
                use_dictionary=version == "1.0",
                row_group_size=33,
            )
            same(packed("pyarrow.parquet"), extra=numbers)
