#!/usr/bin/env python3
"""A distillation as its users write it in PyTorch, of the student that kdc derives: the peer of compare.py.

    peer.py TEACHER.onnx PLAN.toml DATA EPOCHS

The same schedule: batches of 128, SGD with Nesterov momentum 0.9 and weight decay 5e-4 on matrices, learning rate 0.1 with
a warm-up of 5% and a cosine, clipping at 5, shifts and flips, 0.9 of Hinton's loss at temperature 4. The teacher answers in
every step. One line for each epoch: seconds since the start, validation accuracy; then the test accuracy.
"""
import gzip
import math
import pathlib
import sys
import time
import tomllib

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

BATCH, ALPHA, TEMPERATURE, RATE, WARM_UP, VALIDATION = 128, 0.9, 4.0, 0.1, 0.05, 0.05
MEAN, STD = 0.2860, 0.3530


def conv(i, o, kernel, stride, norm):
    parts = [nn.Conv2d(i, o, kernel, stride, kernel // 2, bias=not norm)]
    return nn.Sequential(*parts, *([nn.BatchNorm2d(o)] if norm else []))


class Block(nn.Module):
    def __init__(self, i, inner, o, stride, norm):
        super().__init__()
        self.first, self.second = conv(i, inner, 3, stride, norm), conv(inner, o, 3, 1, norm)
        self.down = conv(i, o, 1, stride, norm) if stride > 1 else nn.Identity()

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.down(x))


class ResNet(nn.Module):
    """Widths: stem, first convolutions of the six blocks, sums of the second and third stage."""

    def __init__(self, widths, norm):
        super().__init__()
        stem, a, b, c, d, e, f, second, third = widths
        self.stem = conv(1, stem, 3, 1, norm)
        self.body = nn.Sequential(
            Block(stem, a, stem, 1, norm), Block(stem, b, stem, 1, norm),
            Block(stem, c, second, 2, norm), Block(second, d, second, 1, norm),
            Block(second, e, third, 2, norm), Block(third, f, third, 1, norm),
        )
        self.head = nn.Linear(third, 10)

    def forward(self, x):
        return self.head(self.body(torch.relu(self.stem(x))).mean((2, 3)))


def load_teacher(path):
    model = onnx.load(path)
    arrays = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm")]
    teacher = ResNet([24, 24, 24, 48, 48, 96, 96, 48, 96], norm=False).eval()
    layers = [m for m in teacher.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    for layer, node in zip(layers, nodes, strict=True):
        layer.weight.data, layer.bias.data = arrays[node.input[1]], arrays[node.input[2]]
    return teacher


def widths_of(plan):
    """As plan.toml has them: by the node that first has a width."""
    widths = tomllib.loads(pathlib.Path(plan).read_text())["student"]["widths"]
    blocks = [f"/body/body.{i}/conv1/Conv" for i in range(6)]
    return [widths[node] for node in ["/stem/stem.0/Conv", *blocks, "/body/body.2/conv2/Conv", "/body/body.4/conv2/Conv"]]


def read(folder, name):
    path = next(pathlib.Path(folder).glob(f"{name}*"))
    data = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read()
    return np.frombuffer(data, np.uint8, offset=16 if "images" in name else 8)


def samples(folder, split):
    images = read(folder, f"{split}-images").reshape(-1, 1, 28, 28).astype(np.float32) / 255
    labels = read(folder, f"{split}-labels").astype(np.int64)
    return torch.from_numpy((images - MEAN) / STD), torch.from_numpy(labels)


def augmented(x):
    padded = F.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    dx, dy = torch.randint(0, 5, (2,)).tolist()
    x = padded[:, :, dy : dy + 28, dx : dx + 28]
    flip = torch.rand(len(x)) < 0.5
    return torch.where(flip[:, None, None, None], x.flip(3), x)


@torch.no_grad()
def accuracy(model, x, y):
    model.eval()
    right = sum((model(a).argmax(1) == b).sum().item() for a, b in zip(x.split(256), y.split(256)))
    model.train()
    return right / len(y)


def main():
    teacher_path, plan, folder, epochs = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    start = time.perf_counter()
    torch.manual_seed(0)
    teacher, student = load_teacher(teacher_path), ResNet(widths_of(plan), norm=True).train()
    (x, y), (test_x, test_y) = samples(folder, "train"), samples(folder, "t10k")
    order = torch.randperm(len(x))
    held = int(VALIDATION * len(x))
    (valid_x, valid_y), (x, y) = (x[order[:held]], y[order[:held]]), (x[order[held:]], y[order[held:]])
    matrices = [p for p in student.parameters() if p.dim() > 1]
    vectors = [p for p in student.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 5e-4}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True)
    per_epoch = len(x) // BATCH
    steps, step = per_epoch * epochs, 0
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(BATCH)[:per_epoch]:
            t = step / steps
            rate = RATE * t / WARM_UP if t < WARM_UP else RATE * 0.5 * (1 + math.cos(math.pi * (t - WARM_UP) / (1 - WARM_UP)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            inputs, labels = augmented(x[batch]), y[batch]
            with torch.no_grad():
                soft = F.softmax(teacher(inputs) / TEMPERATURE, 1)
            logits = student(inputs)
            kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, 1), soft, reduction="batchmean") * TEMPERATURE**2
            loss = (1 - ALPHA) * F.cross_entropy(logits, labels) + ALPHA * kl
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(student.parameters(), 5.0)
            optimizer.step()
            step += 1
        print(f"{time.perf_counter() - start:.1f} {accuracy(student, valid_x, valid_y):.4f}", flush=True)
    print(f"test {accuracy(student, test_x, test_y):.4f}", flush=True)


if __name__ == "__main__":
    main()
