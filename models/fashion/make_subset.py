#!/usr/bin/env python3
"""Make data/ from the full Fashion-MNIST set: the first 600 training and 200 test images of each class, in order of appearance.

    make_subset.py /usr/share/datasets/fashion-mnist data

FULL holds the four IDX files, gzipped or not. The same input gives the same pixels and labels; with the same zlib, the same bytes.
"""

import gzip
import pathlib
import struct
import sys

TRAIN_PER_CLASS = 600
TEST_PER_CLASS = 200


def read(folder, name):
    """The contents of an IDX file: its extents and its bytes."""
    packed = folder / (name + ".gz")
    raw = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
    zero, kind, rank = struct.unpack_from(">HBB", raw)
    if zero != 0 or kind != 0x08:
        sys.exit(f"{folder / name}: not an IDX file of unsigned bytes")
    extents = struct.unpack_from(f">{rank}I", raw, 4)
    return extents, raw[4 + 4 * rank :]


def write(folder, name, extents, contents):
    raw = struct.pack(f">HBB{len(extents)}I", 0, 0x08, len(extents), *extents) + contents
    # No time and no file name in the gzip header: the bytes depend on nothing else.
    (folder / (name + ".gz")).write_bytes(gzip.compress(raw, compresslevel=9, mtime=0))


def subset(full, out, part, per_class):
    (count, height, width), pixels = read(full, f"{part}-images-idx3-ubyte")
    (labelled,), labels = read(full, f"{part}-labels-idx1-ubyte")
    if count != labelled:
        sys.exit(f"{full}: {count} images but {labelled} labels in part {part}")
    taken = dict.fromkeys(set(labels), 0)
    chosen = []
    for i, label in enumerate(labels):
        if taken[label] < per_class:
            taken[label] += 1
            chosen.append(i)
    size = height * width
    images = b"".join(pixels[i * size : (i + 1) * size] for i in chosen)
    write(out, f"{part}-images-idx3-ubyte", (len(chosen), height, width), images)
    write(out, f"{part}-labels-idx1-ubyte", (len(chosen),), bytes(labels[i] for i in chosen))


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    full, out = map(pathlib.Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    subset(full, out, "train", TRAIN_PER_CLASS)
    subset(full, out, "t10k", TEST_PER_CLASS)


if __name__ == "__main__":
    main()
