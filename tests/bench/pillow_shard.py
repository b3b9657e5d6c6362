# SPDX-License-Identifier: Apache-2.0
"""What people run today: a process a core, each decodes with Pillow, resizes the
shorter side to 256 with Lanczos, centre-crops, saves JPEG quality 95 and appends
picture and caption to a tar of its own.

    python pillow_shard.py FOLDER OUT N_PROCESSES
"""
import io
import multiprocessing
import os
import sys
import tarfile

from PIL import Image


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def work(job):
    i_process, paths, out = job
    with tarfile.open(os.path.join(out, f"{i_process:06d}.tar"), "w") as tar:
        for path in paths:
            with Image.open(path) as image:
                image = image.convert("RGB")
            scale = 256 / min(image.size)
            width, height = (max(256, round(s * scale)) for s in image.size)
            image = image.resize((width, height), Image.LANCZOS)
            x, y = (width - 256) // 2, (height - 256) // 2
            image = image.crop((x, y, x + 256, y + 256))
            jpeg = io.BytesIO()
            image.save(jpeg, "JPEG", quality=95)
            key = os.path.splitext(os.path.basename(path))[0]
            add(tar, key + ".jpg", jpeg.getvalue())
            with open(os.path.splitext(path)[0] + ".txt", "rb") as caption:
                add(tar, key + ".txt", caption.read())


def main():
    folder, out, n_processes = sys.argv[1], sys.argv[2], int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    paths = sorted(os.path.join(root, name) for root, _, names in os.walk(folder)
                   for name in names if name.endswith(".jpg"))
    jobs = [(i, paths[i::n_processes], out) for i in range(n_processes)]
    with multiprocessing.Pool(n_processes) as pool:
        pool.map(work, jobs)


main()
