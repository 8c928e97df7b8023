"""What the scripts beside this one share: train a small classifier with PyTorch, export it, write its sidecar.

The scripts make what kdc's data readers are tried on, one set and teacher each, into a folder given as argument:

    python benches/data/letter.py OUT        # CSV and Parquet
    kdc eval OUT/letter.onnx

They need `pip install -r benches/data/requirements.txt`; every one says where its samples come from.
"""

import argparse
import pathlib

import numpy as np
import torch
from torch import nn


def folder(text):
    """The folder named on the command line, made."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="folder for data, teacher and sidecar")
    parser.add_argument("--source", type=pathlib.Path, help="where the original files are, if the set needs some")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments.out, arguments.source


def train(model, inputs, labels, epochs, lr=3e-3, batch=128, change=None):
    """AdamW with one cycle of the learning rate. `inputs`: tensors with a sample per row."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    labels = torch.tensor(labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    steps = epochs * (len(labels) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for at in range(0, len(labels) - batch + 1, batch):
            rows = order[at : at + batch]
            parts = [x[rows] for x in inputs]
            loss = loss_of(model(*(change(parts) if change else parts)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()


def accuracy(model, inputs, labels):
    """The share of right answers, by PyTorch."""
    with torch.no_grad():
        parts = [torch.cat([model(*(x[i : i + 512] for x in inputs))]) for i in range(0, len(labels), 512)]
    return float((torch.cat(parts).argmax(1).numpy() == np.asarray(labels)).mean())


def export(model, example, names, path, sidecar):
    """Writes ONNX with an open batch, and the sidecar beside it."""
    model.eval()
    axes = {name: {0: "batch"} for name in [*names, "logits"]}
    torch.onnx.export(model, tuple(example), str(path), input_names=names, output_names=["logits"],
                      dynamic_axes=axes, opset_version=17, dynamo=False)
    path.with_suffix(".toml").write_text(sidecar)
