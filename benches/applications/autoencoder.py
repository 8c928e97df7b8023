#!/usr/bin/env python3
"""Distillation of an autoencoder: one that knows how speech sounds, as machines are watched by how they sound. Five frames
of 64 log-mel bands of the Free Spoken Digit Dataset go through a bottleneck of eight numbers and come back.

    python benches/applications/autoencoder.py OUT make --source FSDD
    python benches/applications/autoencoder.py OUT run KDC --seeds 3

Judged by the share of the test samples' variance that the answers explain. Teacher and student are of MLPerf Tiny's
anomaly detection (Banbury et al. 2021, https://arxiv.org/abs/2106.07597): 128 wide in its hidden layers, the student 24.
Test part: takes 0 to 4. Needs what benches/data needs.
"""

import pathlib
import wave

import runs

BANDS, FRAMES, WINDOW, STEP = 64, 5, 256, 128

SIDECAR = """title = "{title}"

[data]
path = "frames.npz"
format = "npz"
answers = "input"
"""


def windows(file):
    """Five frames each, `[count, 320]`, of one recording."""
    import numpy as np

    with wave.open(str(file)) as sound:
        signal = np.frombuffer(sound.readframes(sound.getnframes()), np.int16) / 32768
    count = (len(signal) - WINDOW) // STEP + 1
    if count < FRAMES:
        return np.zeros((0, BANDS * FRAMES), np.float32)
    frames = np.stack([signal[i * STEP :][:WINDOW] for i in range(count)]) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
    edges = 700 * (10 ** (np.linspace(mel(60), mel(4000), BANDS + 2) / 2595) - 1)
    at = np.fft.rfftfreq(512, 1 / 8000)
    rise = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    bands = np.log(power @ np.maximum(0, np.minimum(rise, fall)).T + 1e-6)
    return np.stack([bands[i : i + FRAMES].ravel() for i in range(0, count - FRAMES + 1, 3)]).astype(np.float32)


def network(width):
    from torch import nn

    def layers(*extents):
        for a, b in zip(extents, extents[1:]):
            yield from (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())

    size = BANDS * FRAMES
    return nn.Sequential(*layers(size, *[width] * 4, 8, *[width] * 4), nn.Linear(width, size))


def make(out, source):
    import numpy as np
    import torch
    from torch.nn import functional as F

    sides = {"x": [], "x_test": []}
    for file in sorted((source / "recordings").glob("*.wav")):
        take = int(file.stem.split("_")[2])
        sides["x_test" if take < 5 else "x"].append(windows(file))
    sides = {name: np.concatenate(parts) for name, parts in sides.items()}
    mean, std = sides["x"].mean(), sides["x"].std()
    sides = {name: (x - mean) / std for name, x in sides.items()}
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "frames.npz", **sides)
    print(f"{len(sides['x'])} training and {len(sides['x_test'])} test samples")

    torch.manual_seed(0)
    torch.set_num_threads(2)
    x = torch.tensor(sides["x"])
    teacher, epochs, batch, lr = network(128), 60, 128, 2e-3
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * (len(x) // batch))
    teacher.train()
    for _ in range(epochs):
        order = torch.randperm(len(x))
        for at in range(0, len(x) - batch + 1, batch):
            seen = x[order[at : at + batch]]
            loss = F.mse_loss(teacher(seen), seen)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    for model, stem in [(teacher, "autoencoder"), (network(24), "autoencoder-student")]:
        model.eval()
        axes = {"frames": {0: "batch"}, "again": {0: "batch"}}
        torch.onnx.export(model, (x[:2],), str(out / f"{stem}.onnx"), input_names=["frames"], output_names=["again"],
                          dynamic_axes=axes, opset_version=17, dynamo=False)  # fmt: skip
        (out / f"{stem}.toml").write_text(SIDECAR.format(title=stem))
        print(f"{stem}: {sum(p.numel() for p in model.parameters()):,} parameters")


RECIPES = {
    "regression to the target alone": '[[term]]\nmethod = "regression"\nalpha = 0.0\n',
    "regression to target and teacher": '[[term]]\nmethod = "regression"\n',
    "regression to the teacher alone": '[[term]]\nmethod = "regression"\nalpha = 1.0\n',
    "regression + hint": '[[term]]\nmethod = "regression"\n\n[[term]]\nmethod = "hint"\nweight = 0.1\n',
}


def main():
    given = runs.asked(__doc__, 60, "folder with the set's `recordings`")
    if given.what == "make":
        return make(given.out, given.source)
    arguments = [given.out / "autoencoder.onnx", "--student", given.out / "autoencoder-student.onnx", "--start", "random",
                 "--epochs", given.epochs, "--optimizer", "adamw", "--lr", 5e-3]  # fmt: skip
    runs.compare(given, "autoencoder", arguments, RECIPES)


main()
