# SPDX-License-Identifier: Apache-2.0
"""Write types.parquet: a row of every type that a list may have, in three row groups.

    python3 tests/data/types_parquet.py tests/data/types.parquet

All of it is made here, pictures included, and has this project's licence.
"""

import datetime
import decimal
import struct
import sys
import zlib

import pyarrow as pa
import pyarrow.parquet as pq


def png(red):
    """A picture of 2 by 2 pixels, in one colour"""

    def part(name, content):
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    rows = (b"\0" + bytes([red, 0, 0]) * 2) * 2
    header = struct.pack(">IIBBBBB", 2, 2, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + part(b"IHDR", header)
        + part(b"IDAT", zlib.compress(rows))
        + part(b"IEND", b"")
    )


N = 9
UTC = datetime.timezone.utc
WHEN = datetime.datetime(2024, 5, 1, 10, 30, 0, tzinfo=UTC)


def values(make):
    """A column of which every third value is null"""
    return [None if i % 3 == 2 else make(i) for i in range(N)]


image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
columns = {
    "image": pa.array([{"bytes": png(20 * i), "path": f"{i}.png"} for i in range(N)], image),
    "prompt": pa.array([f"picture {i}" for i in range(N)]),
    "int8": pa.array(values(lambda i: -i), pa.int8()),
    "uint64": pa.array(values(lambda i: 2**64 - 1 - i), pa.uint64()),
    "int64": pa.array(values(lambda i: 2**40 + i), pa.int64()),
    "half": pa.array(values(lambda i: i / 4), pa.float16()),
    "float": pa.array(values(lambda i: float("nan") if i == 1 else i / 2), pa.float32()),
    "double": pa.array(values(lambda i: i / 8), pa.float64()),
    "bool": pa.array(values(lambda i: i % 2 == 0)),
    "large": pa.array(values(lambda i: f"large {i}"), pa.large_string()),
    "dictionary": pa.array(values(lambda i: "ab"[i % 2])).dictionary_encode(),
    "date": pa.array(values(lambda i: WHEN.date())),
    "time": pa.array(values(lambda i: WHEN.time()), pa.time32("s")),
    "when": pa.array(values(lambda i: WHEN), pa.timestamp("ms", "UTC")),
    "naive": pa.array(values(lambda i: WHEN.replace(tzinfo=None)), pa.timestamp("us")),
    "decimal": pa.array(values(lambda i: decimal.Decimal(i) / 4), pa.decimal128(9, 2)),
    "list": pa.array(values(lambda i: list(range(i))), pa.list_(pa.int32())),
    "nested": pa.array(
        values(lambda i: {"a": i, "b": [{"c": str(i)}]}),
        pa.struct([("a", pa.int32()), ("b", pa.list_(pa.struct([("c", pa.string())])))]),
    ),
    "none": pa.nulls(N),
    "blob": pa.array([b"\0\1\2"] * N),
    "map": pa.array([[("k", 1)]] * N, pa.map_(pa.string(), pa.int32())),
}
pq.write_table(
    pa.table(columns),
    sys.argv[1],
    row_group_size=4,
    compression="zstd",
    write_statistics=False,
    write_page_checksum=True,
)
