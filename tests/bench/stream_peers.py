# SPDX-License-Identifier: Apache-2.0
"""stream_peers.py PEER SRC WORKERS BATCH SECONDS [full] - samples a second of a peer.

Pictures to float batches [B, 3, 256, 256], centre crop (of larger ones the shorter
side is made 256 first, "full"), mirrored at random, by what its users write.
datago makes no batches: its samples are counted as they come.
"""
import json
import sys
import time

import numpy as np

PEER, SRC, WORKERS, BATCH, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), \
    int(sys.argv[4]), float(sys.argv[5])
SIZE = 256


def to_tensor(image):
    import torch
    from PIL import Image, ImageOps

    image = image.convert("RGB")
    if image.size != (SIZE, SIZE):
        image = ImageOps.fit(image, (SIZE, SIZE), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    if np.random.rand() < 0.5:
        pixels = pixels[:, ::-1]
    chw = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return chw.to(torch.float32).div_(127.5).sub_(1)


def batches_of_webdataset():
    import glob

    import torch
    import webdataset as wds

    shards = sorted(glob.glob(SRC + "/*.tar"))
    data = (wds.WebDataset(shards, shardshuffle=len(shards), resampled=True,
                           empty_check=False)
            .shuffle(1000).decode("pil").to_tuple("jpg").map_tuple(to_tensor)
            .batched(BATCH))
    return torch.utils.data.DataLoader(data, batch_size=None, num_workers=WORKERS,
                                       prefetch_factor=4)


def batches_of_streaming():
    import torch
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    class Pictures(StreamingDataset):
        def __getitem__(self, i):
            return to_tensor(super().__getitem__(i)["image"])

    data = Pictures(local=SRC, shuffle=True, batch_size=BATCH, num_canonical_nodes=1)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, num_workers=WORKERS,
                                         prefetch_factor=4)
    while True:
        yield from loader


def samples_of_datago():
    import datago

    while True:
        client = datago.DatagoClient(json.dumps({
            "source_type": "file",
            "source_config": {"root_path": SRC, "random_sampling": True, "rank": 0,
                              "world_size": 1},
            "image_config": {"crop_and_resize": True, "default_image_size": SIZE,
                             "downsampling_ratio": 32, "min_aspect_ratio": 1.0,
                             "max_aspect_ratio": 1.0, "pre_encode_images": False},
            "limit": 1_000_000, "samples_buffer_size": 64}))
        client.start()
        n = 0
        while (sample := client.get_sample()) is not None and sample.id:
            n += 1
            yield sample
        client.stop()
        if n == 0:
            raise SystemExit("datago gives no samples")


def main():
    stream, n_each = {
        "webdataset": (batches_of_webdataset, BATCH),
        "streaming": (batches_of_streaming, BATCH),
        "datago": (samples_of_datago, 1),
    }[PEER]
    batches = iter(stream())
    for _ in range(3 if n_each > 1 else 100):  # workers have started
        next(batches)
    start, n = time.monotonic(), 0
    while time.monotonic() - start < SECONDS:
        next(batches)
        n += n_each
    print(f"{n / (time.monotonic() - start):.0f}", flush=True)
    import os

    os._exit(0)  # workers are not waited for


main()
