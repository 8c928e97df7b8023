#!/usr/bin/env python3
"""Distillation of a masked language model: a BERT-like teacher that finds hidden tokens of e-mails, and a narrower student.

    python benches/data/spam.py OUT --source SPAM              # messages and tokenizer
    python benches/applications/language.py OUT make           # the teacher
    python benches/applications/language.py OUT run KDC --seeds 3

Judged by the share of hidden tokens that are found. The student is kdc's own derivation, from random weights.
"""

import csv
import pathlib

import runs

LENGTH, WIDTH = 64, 128

SIDECAR = """title = "masked language model of e-mails"

[data]
path = "mails.csv"
format = "csv"
answers = "tokens"

[split]
rule = "part == test"

[text]
column = "text"
tokenizer = "tokenizer.json"
"""


def network(pieces):
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(pieces, WIDTH)
            self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
            self.q, self.k, self.v = (nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2)) for _ in range(3))
            self.out = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
            self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(5))
            self.up = nn.ModuleList(nn.Linear(WIDTH, 2 * WIDTH) for _ in range(2))
            self.down = nn.ModuleList(nn.Linear(2 * WIDTH, WIDTH) for _ in range(2))
            self.head = nn.Linear(WIDTH, pieces)

        def forward(self, ids, mask):
            return self.head(self.body(ids, mask))

        def body(self, ids, mask):
            heads = lambda x: x.reshape(-1, LENGTH, 4, WIDTH // 4).transpose(1, 2)
            bias = (1 - mask.to(torch.float32))[:, None, None, :] * -1e4
            x = self.embed(ids) + self.places
            for i in range(2):
                y = self.norms[2 * i](x)
                scores = heads(self.q[i](y)) @ heads(self.k[i](y)).transpose(2, 3) / (WIDTH // 4) ** 0.5 + bias
                mixed = scores.softmax(3) @ heads(self.v[i](y))
                x = x + self.out[i](mixed.transpose(1, 2).reshape(-1, LENGTH, WIDTH))
                x = x + self.down[i](torch.nn.functional.gelu(self.up[i](self.norms[2 * i + 1](x))))
            return self.norms[4](x)

    return Model()


def make(out, epochs):
    import torch
    from tokenizers import Tokenizer
    from torch.nn import functional as F

    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    with open(out / "mails.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "train"]
    encoded = tokenizer.encode_batch([row["text"] for row in rows])
    ids, mask, special = (torch.tensor([getattr(e, name) for e in encoded])
                          for name in ("ids", "attention_mask", "special_tokens_mask"))  # fmt: skip
    torch.manual_seed(0)
    torch.set_num_threads(2)
    pieces, hide = tokenizer.get_vocab_size(), tokenizer.token_to_id("[MASK]")
    model, batch, lr = network(pieces), 64, 2e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * (len(ids) // batch))
    for epoch in range(epochs):
        order, total = torch.randperm(len(ids)), 0.0
        for at in range(0, len(ids) - batch + 1, batch):
            part = order[at : at + batch]
            hidden = (torch.rand(batch, LENGTH) < 0.15) & (special[part] == 0)
            seen = torch.where(hidden & (torch.rand(batch, LENGTH) < 0.9), hide, ids[part])
            # The vocabulary only where something is hidden.
            loss = F.cross_entropy(model.head(model.body(seen, mask[part])[hidden]), ids[part][hidden])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / (len(ids) // batch):.3f}", flush=True)
    model.eval()
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch"} for name in [*names, "tokens"]}
    torch.onnx.export(model, (ids[:2], mask[:2]), str(out / "language.onnx"), input_names=names, output_names=["tokens"],
                      dynamic_axes=axes, opset_version=17, dynamo=False)  # fmt: skip
    (out / "language.toml").write_text(SIDECAR)


RECIPES = {
    "masked-lm": '[[term]]\nmethod = "masked-lm"\n',
    "masked-lm + soft-label": '[[term]]\nmethod = "masked-lm"\n\n'
                              '[[term]]\nmethod = "soft-label"\nalpha = 1.0\ntemperature = 2.0\n',
}  # fmt: skip


def main():
    given = runs.asked(__doc__, 8)
    if given.what == "make":
        return make(given.out, 5 * given.epochs)
    arguments = [given.out / "language.onnx", "--no-search", "--start", "random", "--epochs", given.epochs,
                 "--optimizer", "adamw"]  # fmt: skip
    runs.compare(given, "language", arguments, RECIPES)


main()
