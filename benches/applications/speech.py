#!/usr/bin/env python3
"""Distillation of networks that spell: a QuartzNet-like teacher (separable convolutions over time, CTC) and a
Listen-Attend-Spell-like one (recurrent, attention, a letter a step), both of the Free Spoken Digit Dataset.

    python benches/applications/speech.py OUT make --source FSDD             # teachers, students, sidecars
    python benches/applications/speech.py OUT run KDC --seeds 3  # students from labels alone, and distilled

A word is right when every letter is. Test part by the set's authors' rule: takes 0 to 4. Needs what benches/data needs.
Kriman et al. 2019, https://arxiv.org/abs/1910.10261; Chan et al. 2015, https://arxiv.org/abs/1508.01211.
"""

import json
import pathlib
import sys

import runs

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
ALPHABET = "_abcdefghijklmnopqrstuvwxyz"
BANDS, POSITIONS = 40, 6

SEQUENCE = """
[sequence]
alphabet = "{alphabet}"
reading = "{reading}"
words = {words}
"""


def networks():
    import torch
    from torch import nn

    class QuartzNet(nn.Module):
        """`[B, 40, 65]` to `[B, 33, 27]`."""

        def __init__(self, width, blocks, kernel):
            super().__init__()
            separable = lambda a, b, k, stride: nn.Sequential(
                nn.Conv1d(a, a, k, stride, k // 2, groups=a, bias=False), nn.Conv1d(a, b, 1, bias=False), nn.BatchNorm1d(b))
            self.first = separable(BANDS, width, kernel, 2)
            self.blocks = nn.ModuleList(
                nn.Sequential(separable(width, width, kernel, 1), nn.ReLU(), separable(width, width, kernel, 1))
                for _ in range(blocks))
            self.head = nn.Conv1d(width, len(ALPHABET), 1)

        def forward(self, x):
            x = torch.relu(self.first(x))
            for block in self.blocks:
                x = torch.relu(x + block(x))
            return self.head(x).transpose(1, 2)

    class Speller(nn.Module):
        """`[B, 40, 65]` to `[B, 6, 27]`: the listener halves time once, the speller attends to it letter by letter and
        reads its own last answer."""

        def __init__(self, width):
            super().__init__()
            self.listen = nn.LSTM(2 * BANDS, width, batch_first=True, bidirectional=True)
            self.step = nn.LSTMCell(2 * width + len(ALPHABET), width)
            self.query = nn.Linear(width, 2 * width)
            self.head = nn.Linear(3 * width, len(ALPHABET))
            self.width = width

        def forward(self, x):
            x = x[:, :, :64].transpose(1, 2).reshape(-1, 32, 2 * BANDS)
            heard, _ = self.listen(x)
            state = heard[:, 0, : self.width] * 0
            state = (state, state)
            context = heard.mean(1)
            said = torch.zeros_like(heard[:, 0, :1]).expand(-1, len(ALPHABET))
            answers = []
            for _ in range(POSITIONS):
                state = self.step(torch.cat([context, said], 1), state)
                scores = (heard @ self.query(state[0]).unsqueeze(2)).squeeze(2)
                context = (scores.softmax(1).unsqueeze(1) @ heard).squeeze(1)
                answers.append(self.head(torch.cat([state[0], context], 1)))
                said = answers[-1].softmax(1)
            return torch.stack(answers, 1)

    return {
        "quartznet": ("ctc", lambda: QuartzNet(128, 4, 11), lambda: QuartzNet(16, 2, 7)),
        "las": ("positions", lambda: Speller(96), lambda: Speller(12)),
    }


def sounds(source):
    import numpy as np
    import torch

    # The features and the sidecar are those of the readers' benchmark.
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "data"))
    import spoken_digits

    weights, sides = spoken_digits.filters(), {"train": ([], []), "test": ([], [])}
    for file in sorted((source / "recordings").glob("*.wav")):
        digit, _, take = file.stem.split("_")
        x, y = sides["test" if int(take) < 5 else "train"]
        x.append((spoken_digits.features(file, weights) - spoken_digits.MEAN) / spoken_digits.STD)
        y.append(int(digit))
    return {side: (torch.tensor(np.stack(x), dtype=torch.float32), y) for side, (x, y) in sides.items()}


def read(logits, reading):
    """The word of one answer, greedily."""
    word, before = "", 0
    for symbol in logits.argmax(1).tolist():
        if reading == "positions" and symbol == 0:
            break
        if symbol != 0 and (reading == "positions" or symbol != before):
            word += ALPHABET[symbol]
        before = symbol
    return word


def make(out, source):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(2)
    set_ = sounds(source)
    import spoken_digits

    x, y = set_["train"]
    letters = [[ALPHABET.index(c) for c in word] for word in WORDS]
    padded = torch.tensor([word + [0] * (POSITIONS - len(word)) for word in letters])
    lengths = torch.tensor([len(word) for word in letters])
    out.mkdir(parents=True, exist_ok=True)
    for name, (reading, teacher, student) in networks().items():
        torch.manual_seed(0)
        model = teacher()
        labels, epochs, batch, lr = torch.tensor(y), 30, 64, 2e-3
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
        steps = epochs * (len(y) // batch)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
        for _ in range(epochs):
            model.train()
            order = torch.randperm(len(y))
            for at in range(0, len(y) - batch + 1, batch):
                rows = order[at : at + batch]
                seen = torch.roll(x[rows], int(torch.randint(-4, 5, ())), 2)
                logits = model(seen)
                words = padded[labels[rows]]
                if reading == "ctc":
                    targets = torch.cat([word[:n] for word, n in zip(words, lengths[labels[rows]])])
                    ends = torch.full((batch,), logits.shape[1])
                    loss = F.ctc_loss(logits.log_softmax(2).transpose(0, 1), targets, ends, lengths[labels[rows]])
                else:
                    counts = (torch.arange(POSITIONS) <= lengths[labels[rows]][:, None]).flatten()
                    each = F.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none")
                    loss = (each * counts).sum() / counts.sum()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 5.0)
                optimizer.step()
                schedule.step()
        model.eval()
        with torch.no_grad():
            said = [read(logits, reading) for logits in model(set_["test"][0])]
        right = sum(word == WORDS[digit] for word, digit in zip(said, set_["test"][1])) / len(said)
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters, {100 * right:.2f}% of the test words, by PyTorch")
        torch.manual_seed(1)
        small = student()
        print(f"  student: {sum(p.numel() for p in small.parameters()):,} parameters")
        sidecar = spoken_digits.SIDECAR.format(path=(source / "recordings").resolve())
        sidecar += SEQUENCE.format(alphabet=ALPHABET, reading=reading, words=json.dumps(WORDS))
        for network, stem in [(model, name), (small, f"{name}-student")]:
            network.eval()
            axes = {"features": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(network, (x[:2],), str(out / f"{stem}.onnx"), input_names=["features"], output_names=["logits"],
                              dynamic_axes=axes, opset_version=17, dynamo=False)
            (out / f"{stem}.toml").write_text(sidecar)


RECIPES = {
    "quartznet": {
        "ctc": '[[term]]\nmethod = "ctc"\n',
        "soft-label by frame": '[[term]]\nmethod = "soft-label"\nalpha = 1.0\ntemperature = 2.0\n',
        "ctc + soft-label by frame": '[[term]]\nmethod = "ctc"\nweight = 0.5\n\n'
                                      '[[term]]\nmethod = "soft-label"\nalpha = 1.0\ntemperature = 2.0\n',
    },
    "las": {
        "hard-label": '[[term]]\nmethod = "hard-label"\n',
        "soft-label by letter": '[[term]]\nmethod = "soft-label"\nalpha = 0.9\ntemperature = 2.0\n',
    },
}  # fmt: skip


def run(given):
    for name, recipes in RECIPES.items():
        arguments = [given.out / f"{name}.onnx", "--student", given.out / f"{name}-student.onnx", "--start", "random",
                     "--epochs", given.epochs, "--batch-size", 64, "--optimizer", "adamw", "--lr", 5e-3]  # fmt: skip
        runs.compare(given, name, arguments, recipes)


def main():
    given = runs.asked(__doc__, 30, "folder with the set's `recordings`")
    if given.what == "make":
        make(given.out, given.source)
    else:
        run(given)


main()
