#!/usr/bin/env python3
"""kdc's students against those of torch-pruning.

    pruning.py --data DATA [--target T] [--share 8] [--seeds 3] [--epochs 6] KDC TEACHER [-- more of kdc compile's arguments]

torch-pruning (DepGraph, group norm importance, its recommended settings) prunes the teacher to 1/SHARE of its MACs; kdc
derives a student with as many MACs within 2%. Both are then trained by kdc: same data, steps, loss and seeds, so that
only the derivation differs. Prints the test accuracies and the paired differences. Measured.

torch-pruning cannot follow shortcuts that are sliced and padded with zero channels (ResNets for CIFAR): there both sides
get the same teacher with these written as 1x1 convolutions that compute the same.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import tempfile
import warnings

import numpy
import onnx
import onnxruntime
import torch
import torch_pruning
from onnx import helper, numpy_helper
from onnx2torch import convert

warnings.filterwarnings("ignore")
parser = argparse.ArgumentParser()
parser.add_argument("kdc")
parser.add_argument("teacher")
parser.add_argument("--data", required=True)
parser.add_argument("--target", default="raspberry-pi")
parser.add_argument("--share", type=float, default=8)
parser.add_argument("--seeds", type=int, default=3)
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("more", nargs="*")
options = parser.parse_args()


def inspected(path):
    text = subprocess.run([options.kdc, "inspect", str(path), "--json"], capture_output=True, text=True, check=True).stdout
    return json.loads(text)


def compiled(arguments, seed, folder):
    command = [options.kdc, "compile", options.teacher, "--target", options.target, "--data", options.data, "--recipe", "labelled"]
    command += ["--seed", str(seed), "--epochs", str(options.epochs), "--batch-size", "128", "--no-build", "--emit", "onnx"]
    command += ["--max-params", "1000000000", "--max-latency", "100s", "--out", str(folder), *arguments, *options.more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    report = json.loads((folder / "report.json").read_text())
    rows = {row["network"].lower(): row["accuracy"] for row in report["accuracy"]["rows"]}
    return rows["teacher"], next(v for k, v in rows.items() if "f32" in k), report["size"]["student"]


def padded(graph):
    """The Pad nodes that add channels, as (pad, the slices before it, first channel, strides)."""
    made = {output: node for node in graph.node for output in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for pad in (n for n in graph.node if n.op_type == "Pad"):
        pads = constants[pad.input[1]].tolist()
        slices, source, strides = [], pad.input[0], [1, 1]
        while source in made and made[source].op_type == "Slice":
            slices.append(made[source])
            source, starts, _, axes, steps = made[source].input
            for start, axis, step in zip(*(constants[name].tolist() for name in (starts, axes, steps))):
                assert start == 0 and axis >= 2, "a slice that is no stride"
                strides[axis - 2] *= step
        assert len(pads) == 8 and not any(pads[i] for i in (0, 2, 3, 4, 6, 7)), "a pad that is not of channels alone"
        yield pad, slices, source, pads[1], pads[5], strides


def convolved(base):
    """The teacher with its padded shortcuts as convolutions, or as it is where it has none."""
    teacher, path = pathlib.Path(options.teacher), base / "teacher.onnx"
    subprocess.run([options.kdc, "export", str(teacher), "--emit", "onnx", "--force", "--out", str(path)], check=True, capture_output=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    graph, found = model.graph, list(padded(model.graph))
    if not found:
        return str(teacher)
    channels = {v.name: v.type.tensor_type.shape.dim[1].dim_value for v in graph.value_info if v.type.tensor_type.shape.dim[1:]}
    for pad, slices, source, before, after, strides in found:
        count = channels[source]
        weight = numpy.zeros((before + count + after, count, 1, 1), "f4")
        weight[numpy.arange(count) + before, numpy.arange(count)] = 1
        name = pad.output[0] + ".weight"
        graph.initializer.append(numpy_helper.from_array(weight, name))
        at = list(graph.node).index(pad)
        graph.node.insert(at, helper.make_node("Conv", [source, name], pad.output, kernel_shape=[1, 1], strides=strides))
        for node in [pad, *slices]:
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in read]:
        graph.initializer.remove(tensor)
    one = {i.name: [d.dim_value or 1 for d in i.type.tensor_type.shape.dim] for i in graph.input}
    x = {name: numpy.random.default_rng(0).standard_normal(shape).astype("f4") for name, shape in one.items()}
    onnx.save(model, path)
    a, b = (onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, x)[0] for p in (teacher, path))
    assert numpy.abs(a - b).max() <= 1e-4 * numpy.abs(a).max(), "the rewritten teacher computes something else"
    sidecar = teacher.with_suffix(".toml").read_text()
    data = f'path = "{pathlib.Path(options.data).resolve()}"'
    path.with_suffix(".toml").write_text(re.sub("^path = .*$", data, sidecar, flags=re.MULTILINE))
    print(f"{len(found)} padded shortcuts of the teacher written as convolutions, for both")
    return str(path)


class Wrapped(torch.nn.Module):
    """The exporter takes a traced module's `graph` for one of its own."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def pruned(path, macs):
    """torch-pruning's student with at most `macs` as kdc counts them, as an ONNX file."""
    model = onnx.load(options.teacher)
    source = model.graph.input[0]
    shape = [d.dim_value or 1 for d in source.type.tensor_type.shape.dim]
    shape[0] = 1
    example = torch.zeros(shape)
    low, high, best = 0.0, 1.0, None
    for _ in range(12):
        ratio = (low + high) / 2
        network = convert(onnx.load(options.teacher)).eval()
        outputs = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1:]
        pruner = torch_pruning.pruner.BasePruner(
            network, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio, ignored_layers=outputs)
        pruner.step()
        torch.onnx.export(Wrapped(network), example, str(path), input_names=[source.name],
                          output_names=[model.graph.output[0].name], dynamo=False,
                          dynamic_axes={source.name: {0: "batch"}, model.graph.output[0].name: {0: "batch"}})
        count = inspected(path)["cost"]["macs"]
        if count <= macs:
            high, best = ratio, (count, path.read_bytes())
        else:
            low = ratio
    if best is None:
        raise SystemExit("torch-pruning has no student so small")
    path.write_bytes(best[1])
    return best[0]


with tempfile.TemporaryDirectory() as base:
    base = pathlib.Path(base)
    options.teacher = convolved(base)
    whole = inspected(options.teacher)["cost"]["macs"]
    theirs = pruned(base / "pruned.onnx", whole / options.share)
    print(f"teacher {whole:,} MACs; torch-pruning's student {theirs:,} (counted)")
    differences, all_ours, all_theirs = [], [], []
    for seed in range(options.seeds):
        teacher, b, size = compiled(["--student", str(base / "pruned.onnx"), "--max-macs", "1000000000000"], seed, base / f"b{seed}")
        _, a, own = compiled(["--no-search", "--max-macs", str(int(theirs * 1.01))], seed, base / f"a{seed}")
        ratio = own["macs"] / theirs
        print(f"seed {seed}: kdc {100 * a:.2f}% ({own['macs']:,} MACs, {ratio:.3f} of theirs, {own['params']:,} parameters), "
              f"torch-pruning {100 * b:.2f}% ({size['params']:,} parameters)", flush=True)
        differences.append(100 * (a - b))
        all_ours.append(100 * a)
        all_theirs.append(100 * b)
    mean = statistics.mean
    print(f"\nteacher {100 * teacher:.2f}%; kdc {mean(all_ours):.2f}%, torch-pruning {mean(all_theirs):.2f}%; "
          f"mean paired difference {mean(differences):+.2f} points over {options.seeds} seeds (measured)")
