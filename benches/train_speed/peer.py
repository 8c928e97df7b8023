#!/usr/bin/env python3
"""The PyTorch side of the training comparison: eight networks, their batches, and steps in eager mode.

    peer.py make FOLDER             NAME.onnx (before the first step) and NAME.safetensors (the batches) of each network
    peer.py run FOLDER NAME STEPS   trains on those batches; one line of JSON: seconds of each step, losses, peak memory

Threads by OMP_NUM_THREADS. Both sides do the same: batches of 64 in the same order, softmax cross-entropy, SGD with
Nesterov momentum 0.9, and the same learning rate, from the same start.
"""
import json
import os
import pathlib
import resource
import sys
import time

import onnx
import torch
from safetensors.torch import load_file, save_file
from torch import nn

BATCH = 64
BATCHES = 8
CLASSES = 10
LEARNING_RATE = {"transformer": 0.02}
DEFAULT_LEARNING_RATE = 0.01


def conv(i, o, kernel=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(o))


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, i, o, stride):
        super().__init__()
        self.first, self.second = conv(i, o, 3, stride), conv(o, o)
        self.down = conv(i, o, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.down(x))


class ResNet(nn.Module):
    def __init__(self, channels, widths, blocks):
        super().__init__()
        self.stem = conv(channels, widths[0])
        stages = []
        for index, width in enumerate(widths):
            before = widths[max(index - 1, 0)]
            stages.append(Block(before, width, 2 if index else 1))
            stages += [Block(width, width, 1) for _ in range(blocks - 1)]
        self.body, self.head = nn.Sequential(*stages), nn.Linear(widths[-1], CLASSES)

    def forward(self, x):
        return self.head(self.body(torch.relu(self.stem(x))).mean((2, 3)))


class DsCnn(nn.Module):
    """The keyword spotter of MLPerf Tiny: depthwise separable convolutions over 49x10 features."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU())
        pair = lambda: nn.Sequential(conv(64, 64, 3, groups=64), nn.ReLU(), conv(64, 64, 1), nn.ReLU())
        self.body, self.head = nn.Sequential(*(pair() for _ in range(4))), nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Separable1d(nn.Module):
    """Time-channel separable convolutions (QuartzNet, Kriman et al. 2019), classified by their mean."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(32, 48, 11, 2, 5, bias=False), nn.BatchNorm1d(48), nn.ReLU())
        block = lambda: nn.Sequential(
            nn.Conv1d(48, 48, 13, padding=6, groups=48, bias=False), nn.Conv1d(48, 48, 1, bias=False), nn.BatchNorm1d(48)
        )
        self.blocks, self.head = nn.ModuleList(block() for _ in range(4)), nn.Linear(48, CLASSES)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(block(x) + x)
        return self.head(x.mean(2))


class Layer(nn.Module):
    """An encoder layer (Vaswani et al. 2017), normalised after each sum as BERT is."""

    def __init__(self, width, heads, inner):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mixed, self.up, self.down = nn.Linear(width, width), nn.Linear(width, inner), nn.Linear(inner, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        split = lambda t: t.reshape(t.shape[0], t.shape[1], self.heads, -1).transpose(1, 2)
        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5, -1)
        x = self.first(x + self.mixed((weights @ value).transpose(1, 2).flatten(2)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Transformer(nn.Module):
    def __init__(self, width=64, heads=4, inner=256, layers=4):
        super().__init__()
        self.embedding = nn.Linear(16, width)
        self.layers = nn.Sequential(*(Layer(width, heads, inner) for _ in range(layers)))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.layers(self.embedding(x)).mean(1))


class Recurrent(nn.Module):
    """A recurrent keyword spotter: all steps of a layer or two, classified by their mean."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(96 * (1 + layer.bidirectional), CLASSES)

    def forward(self, x):
        return self.head(self.layer(x)[0].mean(1))


class Pooled(nn.Module):
    """Overlapping windows between convolutions (Krizhevsky et al. 2012), and averaged ones."""

    def __init__(self):
        super().__init__()
        layer = lambda i, o: [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        first = [*layer(3, 16), nn.MaxPool2d(3, 2, 1)]
        second = [*layer(16, 32), nn.MaxPool2d(2), *layer(32, 32), nn.AvgPool2d(3, 2, 1)]
        self.body, self.head = nn.Sequential(*first, *second), nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


NETWORKS = {
    "resnet8": (lambda: ResNet(3, (16, 32, 64), 1), (3, 32, 32)),
    "ds-cnn": (DsCnn, (1, 49, 10)),
    "fashion-student": (lambda: ResNet(1, (8, 17, 34), 2), (1, 28, 28)),
    "separable-1d": (Separable1d, (32, 128)),
    "transformer": (Transformer, (32, 16)),
    "gru": (lambda: Recurrent(nn.GRU(40, 96, batch_first=True)), (49, 40)),
    "lstm": (lambda: Recurrent(nn.LSTM(40, 96, bidirectional=True, batch_first=True)), (49, 40)),
    "pooled": (Pooled, (3, 32, 32)),
}


def make(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (network, shape) in NETWORKS.items():
        torch.manual_seed(len(name))
        model = network().train()
        # Classes with a mean of their own under noise: a loss that falls, and not to zero at once.
        means = torch.randn(CLASSES, *shape)
        labels = torch.randint(0, CLASSES, (BATCHES * BATCH,))
        inputs = 0.15 * means[labels] + torch.randn(BATCHES * BATCH, *shape)
        save_file({"inputs": inputs, "labels": labels}, folder / f"{name}.safetensors")
        torch.save(model.state_dict(), folder / f"{name}.pt")
        options = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False, "dynamo": False}
        axes = {"x": {0: "batch"}, "logits": {0: "batch"}}
        torch.onnx.export(
            model, inputs[:BATCH], str(folder / f"{name}.onnx"), input_names=["x"], output_names=["logits"],
            dynamic_axes=axes, opset_version=17, **options,
        )
        evaluated(folder / f"{name}.onnx")


def evaluated(path: pathlib.Path) -> None:
    """Batch norm kept by the training export, as it is in a network that is evaluated."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
            kept = [a for a in node.attribute if a.name not in ("training_mode", "momentum")]
            del node.attribute[:]
            node.attribute.extend(kept)
    onnx.save(model, path)


def run(folder: pathlib.Path, name: str, steps: int) -> None:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = NETWORKS[name][0]().train()
    model.load_state_dict(torch.load(folder / f"{name}.pt"))
    data = load_file(folder / f"{name}.safetensors")
    batches = list(zip(data["inputs"].split(BATCH), data["labels"].split(BATCH)))
    rate = LEARNING_RATE.get(name, DEFAULT_LEARNING_RATE)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True)
    loss_of = nn.CrossEntropyLoss()
    seconds, losses = [], []
    for step in range(steps):
        inputs, labels = batches[step % len(batches)]
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak}))


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(pathlib.Path(sys.argv[2]))
    else:
        run(pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
