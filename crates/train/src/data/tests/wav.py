"""Odd WAV files and what SciPy reads in them, for wav.json: `python wav.py > wav.json` (SciPy 1.10 or later).

Each case is a file in hexadecimal and the mean of its channels, integers divided by the full scale of their container.
"""

import io, json, os, random, struct, tempfile, warnings
import numpy as np
from scipy.io import wavfile

warnings.simplefilter("ignore")


def chunk(name, body, order, size=None):
    return name + struct.pack(order + "I", len(body) if size is None else size) + body + b"\0" * (len(body) % 2)


def wav(kind, bits, container, channels, frames, extensible=False, form="RIFF", before=(), size=None, after=b""):
    """A file of random numbers, integers of `bits` at the top of `container` bytes."""
    order = ">" if form == "RIFX" else "<"
    data = b""
    for _ in range(frames * channels):
        if kind == "float":
            data += struct.pack(order + ("f" if container == 4 else "d"), random.uniform(-1, 1))
        elif bits <= 8:
            data += bytes([random.randrange(256)])
        else:
            number = random.randrange(-(1 << bits - 1), 1 << bits - 1) << (8 * container - bits)
            data += number.to_bytes(container, "big" if order == ">" else "little", signed=True)
    tag = 3 if kind == "float" else 1
    # In the extensible format the container's bits stand first and the valid ones after.
    said = 8 * container if extensible and bits > 8 else bits
    block = channels * container
    fmt = struct.pack(order + "HHIIHH", 0xFFFE if extensible else tag, channels, 8000, 8000 * block, block, said)
    if extensible:
        guid = struct.pack(order + "I", tag) + (bytes.fromhex("00000010") if order == ">" else bytes.fromhex("00001000")) + bytes.fromhex("800000aa00389b71")
        fmt += struct.pack(order + "HHI", 22, bits, 0) + guid
    body = b"WAVE"
    if form == "RF64":
        body += chunk(b"ds64", struct.pack("<QQQI", 1000, len(data), frames, 0), order)
        size = 0xFFFFFFFF
    body += chunk(b"fmt ", fmt, order)
    for name, length in before:
        body += chunk(name, bytes(random.randrange(256) for _ in range(length)), order)
    body += chunk(b"data", data, order, size) + after
    whole = form.encode() + struct.pack(order + "I", 0xFFFFFFFF if form == "RF64" else len(body)) + body
    return whole


def expected(bytes_, container):
    with tempfile.NamedTemporaryFile(suffix=".wav") as f:
        f.write(bytes_)
        f.flush()
        rate, data = wavfile.read(f.name)
    assert rate == 8000
    data = data.reshape(len(data), -1)
    if data.dtype == np.uint8:
        real = (data.astype(np.float64) - 128) / 128
    elif data.dtype.kind == "i":
        real = data.astype(np.float64) / 2.0 ** (8 * data.dtype.itemsize - 1)
    else:
        real = data.astype(np.float64)
    return [float(np.float32(x)) for x in real.mean(axis=1)]


random.seed(22)
cases = []
def add(name, *args, **more):
    file = wav(*args, **more)
    state = random.getstate()
    if more.get("size") == 0:
        # SciPy believes the size of 0: what it reads in the same file with the right one.
        at = file.index(b"data") + 4
        right = file[:at] + struct.pack("<I", len(file) - at - 4) + file[at + 4:]
        values = expected(right, args[2])
    else:
        values = expected(file, args[2])
    cases.append({"name": name, "file": file.hex(), "values": values})
    random.setstate(state)

for bits, container in [(8, 1), (5, 1), (12, 2), (16, 2), (20, 3), (24, 3), (18, 4), (20, 4), (24, 4), (32, 4), (40, 5), (48, 6), (64, 8)]:
    for extensible in [False, True]:
        for channels in [1, 2]:
            add(f"{bits} bits in {container} bytes, {channels} channels, extensible {extensible}", "int", bits, container, channels, 4, extensible)
for container in [4, 8]:
    for extensible in [False, True]:
        add(f"floats of {container} bytes, extensible {extensible}", "float", 8 * container, container, 2, 4, extensible)
for form in ["RIFX", "RF64"]:
    add(f"{form}, 24 in 3", "int", 24, 3, 2, 4, False, form)
    add(f"{form}, float", "float", 32, 4, 1, 4, True, form)
add("odd chunks before", "int", 16, 2, 1, 5, before=[(b"LIST", 7), (b"JUNK", 1), (b"fact", 4), (b"id3 ", 13)])
add("odd bytes of sound and a chunk after", "int", 8, 1, 1, 5, after=chunk(b"LIST", b"abcd", "<"))
add("the size of a pipe", "int", 16, 2, 2, 6, size=0xFFFFFFFF)
add("the size of another pipe", "int", 24, 3, 1, 6, size=0x7FFFF000)
add("no size", "int", 16, 2, 1, 6, size=0)
print(json.dumps(cases))
