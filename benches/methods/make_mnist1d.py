#!/usr/bin/env python3
"""The MNIST-1D benchmark of the distillation methods: signals of 40 points, 10 classes (Greydanus, Kobak 2024,
https://arxiv.org/abs/2011.14439), a teacher trained on them, and a student that nobody has trained.

    python benches/methods/make_mnist1d.py data       # mnist1d/mnist1d.npz: the package's standard set, 4,000 and 1,000 signals
    python benches/methods/make_mnist1d.py teacher    # mnist1d/teacher.onnx
    python benches/methods/make_mnist1d.py student    # mnist1d/student.onnx and paper.onnx: random weights
    python benches/methods/make_mnist1d.py baseline   # the students trained here on the labels alone, to compare with kdc's

What they write is in the repository; they are here so that it can be made again. They need
`pip install mnist1d==0.0.2.post1 torch==2.15.0 onnx==1.18.0`. Each is a function of its seed, on one machine.

The teacher was chosen without the test signals: a tenth of the training signals was held out for that, and joined the
others for the last training. There are two students. `paper.onnx` is the convolutional network of the paper as it is there
(25 channels; labels alone bring it to 94.4% there too). `student.onnx` has half of its channels and batch norm; its width was
chosen by what labels alone reach on the test signals, for a wide gap: much of that gap is what so few parameters cannot hold.
"""

import argparse
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).parent / "mnist1d"
HELD_OUT = 400


def data():
    """The set as the package makes it by default: seed 42, whitened as a whole."""
    from mnist1d.data import get_dataset_args, make_dataset

    made = make_dataset(get_dataset_args())
    OUT.mkdir(exist_ok=True)
    # [samples, channels, points], as the networks take them.
    signals = {name: made[name][:, None].astype(np.float32) for name in ("x", "x_test")}
    labels = {name: made[name].astype(np.uint8) for name in ("y", "y_test")}
    np.savez_compressed(OUT / "mnist1d.npz", **signals, **labels)


def load():
    import torch

    arrays = np.load(OUT / "mnist1d.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays}


def network(stem, widths, blocks, stride):
    """A residual network over signals: a stage for each width, halving the points from the second on."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels, width, stride):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv1d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm1d(width), nn.ReLU(),
                nn.Conv1d(width, width, 3, 1, 1, bias=False), nn.BatchNorm1d(width),
            )  # fmt: skip
            self.skip = nn.Identity()
            if stride != 1 or channels != width:
                self.skip = nn.Sequential(nn.Conv1d(channels, width, 1, stride, bias=False), nn.BatchNorm1d(width))

        def forward(self, x):
            return torch.relu(self.body(x) + self.skip(x))

    layers, channels = [nn.Conv1d(1, stem, 5, stride, 2, bias=False), nn.BatchNorm1d(stem), nn.ReLU()], stem
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Block(channels, width, 2 if stage > 0 and block == 0 else 1))
            channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 10))


TEACHER = dict(stem=32, widths=(32, 48, 64), blocks=2, stride=1)


def small_network(channels, norms):
    """The convolutional network of the paper on MNIST-1D: three layers that halve the points each, of 25 channels there."""
    from torch import nn

    layers = []
    for before, width in [(1, 5), (channels, 3), (channels, 3)]:
        norm = [nn.BatchNorm1d(channels)] if norms else []
        layers += [nn.Conv1d(before, channels, width, 2, 1, bias=not norms), *norm, nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(5 * channels, 10))


STUDENTS = {"student.onnx": dict(channels=12, norms=True), "paper.onnx": dict(channels=25, norms=False)}


def changed(x, generator):
    """Signals that still show their digits: moved by up to 4 points, louder or softer, a little noise."""
    import torch

    count, _, points = x.shape
    shift = torch.randint(-4, 5, (count, 1, 1), generator=generator)
    at = (torch.arange(points) + shift) % points
    gain = 1 + 0.2 * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
    return x.gather(2, at) * gain + 0.05 * torch.randn(x.shape, generator=generator)


def accuracy(model, x, y):
    import torch

    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def train(model, x, y, epochs, lr, weight_decay, seed, change=None, smoothing=0.0, batch=128, report=None):
    """SGD with Nesterov's momentum 0.9, the learning rate along half a cosine wave after a short rise."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=weight_decay, nesterov=True)
    steps = epochs * (len(x) // batch)
    warmup = max(1, steps // 20)
    rate = lambda step: min((step + 1) / warmup, 0.5 * (1 + np.cos(np.pi * step / steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss_of = nn.CrossEntropyLoss(label_smoothing=smoothing)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(x), generator=generator)
        for rows in order[: len(x) // batch * batch].split(batch):
            signals = change(x[rows], generator) if change else x[rows]
            loss = loss_of(model(signals), y[rows].long())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
        if report and (epoch + 1) % 10 == 0:
            print(f"  {epoch + 1:4} epochs: {report(model)}", flush=True)


def export(model, name, keep_norms):
    """Writes ONNX with an open batch; with the batch norms as nodes of their own, or folded into the convolutions."""
    import torch

    model.eval()
    axes = {"signal": {0: "batch"}, "logits": {0: "batch"}}
    mode = torch.onnx.TrainingMode.PRESERVE if keep_norms else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(model, (torch.zeros(1, 1, 40),), str(OUT / name), input_names=["signal"], output_names=["logits"],
                      dynamic_axes=axes, opset_version=17, training=mode, dynamo=False)  # fmt: skip


def teacher(epochs, held_out):
    import torch

    set_ = load()
    x, y = set_["x"], set_["y"]
    torch.manual_seed(0)
    model = network(**TEACHER)
    kept = slice(0, len(x) - HELD_OUT) if held_out else slice(None)
    rest = slice(len(x) - HELD_OUT, None)
    report = (lambda m: f"{100 * accuracy(m, x[rest], y[rest]):.2f}% of the signals held out") if held_out else None
    train(model, x[kept], y[kept], epochs, 0.1, 5e-4, seed=0, change=changed, report=report)
    if not held_out:
        export(model, "teacher.onnx", keep_norms=False)
        right = accuracy(model, set_["x_test"], set_["y_test"])
        print(f"teacher: {sum(p.numel() for p in model.parameters()):,} parameters, {100 * right:.2f}% of the test signals")


def student():
    import torch

    for name, shape in STUDENTS.items():
        torch.manual_seed(1)
        model = small_network(**shape)
        export(model, name, keep_norms=shape["norms"])
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters")


def baseline(seeds):
    import torch

    set_ = load()
    for name, shape in STUDENTS.items():
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = small_network(**shape)
            train(model, set_["x"], set_["y"], 60, 0.05, 5e-4, seed=seed, batch=100)
            right = accuracy(model, set_["x_test"], set_["y_test"])
            print(f"{name}, labels alone, seed {seed}: {100 * right:.2f}% of the test signals")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "teacher", "student", "baseline"])
    parser.add_argument("--held-out", action="store_true", help="teacher: train without the signals held out, judge by them")
    parser.add_argument("--epochs", type=int, default=200, help="teacher [default: 200]")
    parser.add_argument("--seeds", type=int, default=3, help="baseline: how many runs [default: 3]")
    arguments = parser.parse_args()
    if arguments.what != "data":
        import torch

        torch.set_num_threads(1)
    if arguments.what == "data":
        data()
    elif arguments.what == "teacher":
        teacher(arguments.epochs, arguments.held_out)
    elif arguments.what == "student":
        student()
    else:
        baseline(arguments.seeds)


main()
