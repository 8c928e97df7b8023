"""MNIST-1D (Greydanus and Kobak 2020, https://arxiv.org/abs/2011.14439): signals of 40 points, 10 classes, as npz.

Samples: PyPI mnist1d, which makes them. Teacher: a convolutional network over the signal.
"""

import numpy as np
import torch
from mnist1d.data import get_dataset_args, make_dataset
from torch import nn

from common import accuracy, export, folder, train

SIDECAR = """title = "1-D network for MNIST-1D"

# Arrays x, y, x_test, y_test: names that need no [arrays].
[data]
path = "mnist1d.npz"
format = "npz"
"""


def main():
    out, _ = folder(__doc__)
    options = get_dataset_args()
    options.num_samples = 20000
    made = make_dataset(options)
    arrays = {name: made[name] for name in ("x", "y", "x_test", "y_test")}
    np.savez_compressed(out / "mnist1d.npz", **arrays)

    x, x_test = (torch.as_tensor(made[name], dtype=torch.float32)[:, None] for name in ("x", "x_test"))
    torch.manual_seed(0)
    layers, channels = [], 1
    for width, stride in [(48, 1), (64, 2), (96, 2), (96, 1)]:
        layers += [nn.Conv1d(channels, width, 5, stride, 2), nn.BatchNorm1d(width), nn.ReLU()]
        channels = width
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 10))
    train(model, [x], made["y"], epochs=20)
    export(model, [x[:1]], ["signal"], out / "mnist1d.onnx", SIDECAR)
    print(f"mnist1d: {100 * accuracy(model, [x_test], made['y_test']):.2f}% of {len(x_test)} test signals, by PyTorch")


main()
