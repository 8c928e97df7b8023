#!/usr/bin/env python3
"""Exports one small network of every family from PyTorch, with random weights and its output by ONNX Runtime.

    families.py OUT [NAME…]     OUT/{script,export}-{fixed,open}/NAME.onnx and NAME.npz (inputs by name, and `out`)

`script` is PyTorch's TorchScript exporter (opset 17), `export` the newer one built on torch.export (opset 18); `fixed`
has the batch fixed to 1, `open` leaves it symbolic. models.py reads such folders. Needs
families.txt's packages (about 6 GB): pip install -r benches/families.txt
"""
import pathlib
import sys
import warnings

import numpy as np
import onnxruntime
import torch
import torchvision.models as vision
from torch import nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

IMAGE = 64


class First(nn.Module):
    """The encoder's classification of its first token, as fine-tuned encoders end."""

    def __init__(self, encoder: nn.Module, width: int):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(width, 5)

    def forward(self, input_ids, attention_mask):
        return self.head(self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0])


class Attended(nn.Module):
    """Residual attention (Wang et al. 2017): a trunk gated by a mask that was pooled and resized back."""

    def __init__(self):
        super().__init__()
        block = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
        self.stem, self.trunk, self.low = block(3, 8), block(8, 8), block(8, 8)
        self.gate, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x)
        mask = nn.functional.max_pool2d(x, 2)
        mask = nn.functional.interpolate(self.low(mask), scale_factor=2, mode="bilinear", align_corners=False)
        x = self.trunk(x) * (1 + torch.sigmoid(self.gate(mask)))
        x = nn.functional.interpolate(x, size=(20, 20), mode="nearest")
        return self.head(x.mean(dim=(2, 3)))


class QuartzNet(nn.Module):
    """Time-channel separable convolutions over a spectrogram (Kriman et al. 2019), log-probabilities per step."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(32, 24, 11, stride=2, padding=5, bias=False), nn.BatchNorm1d(24), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(24, 24, 13, padding=6 * d, dilation=d, groups=24, bias=False),
                nn.Conv1d(24, 24, 1, bias=False),
                nn.BatchNorm1d(24),
            )
            for d in (1, 2)
        )
        self.head = nn.Conv1d(24, 29, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(block(x) + x)
        return torch.log_softmax(self.head(x).transpose(1, 2), dim=-1)


class Speller(nn.Module):
    """Listen, attend and spell (Chan et al. 2016): a pyramid of bidirectional LSTMs, and attention over it."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(20, 16, bidirectional=True, batch_first=True)
        self.second = nn.LSTM(64, 16, bidirectional=True, batch_first=True)
        self.query = nn.Parameter(torch.randn(6, 32))
        self.speller, self.head = nn.LSTM(32, 24, batch_first=True), nn.Linear(24, 12)

    def forward(self, x):
        x, _ = self.first(x)
        x = x.reshape(x.shape[0], x.shape[1] // 2, 64)
        x, _ = self.second(x)
        weights = torch.softmax(torch.matmul(self.query, x.transpose(1, 2)) / 32**0.5, dim=-1)
        y, _ = self.speller(torch.matmul(weights, x))
        return self.head(y)


class Spotter(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell, self.head = kind(20, 24, num_layers=2, batch_first=True), nn.Linear(24, 12)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.up = nn.Sequential(nn.ConvTranspose2d(12, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 4, 2, 1))

    def forward(self, x):
        return torch.sigmoid(self.up(self.down(x)))


def image(side=IMAGE):
    return {"x": torch.randn(2, 3, side, side)}


def tokens():
    return {"input_ids": torch.randint(5, 200, (2, 24)), "attention_mask": torch.tensor([[1] * 24, [1] * 24])}


def encoder(config, model):
    small = config(vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    return First(model(small), 32)


FAMILIES = {
    "alexnet": (lambda: vision.AlexNet(num_classes=10), lambda: image(224)),
    "googlenet": (lambda: vision.GoogLeNet(num_classes=10, aux_logits=False, init_weights=False), image),
    "resnet18": (lambda: vision.resnet18(num_classes=10), image),
    "resnext": (lambda: vision.ResNet(vision.resnet.Bottleneck, [1, 1, 1, 1], 10, groups=4, width_per_group=4), image),
    "residual-attention": (Attended, image),
    "mobilenetv2": (lambda: vision.mobilenet_v2(num_classes=10, width_mult=0.25), image),
    "mobilenetv3": (lambda: vision.mobilenet_v3_small(num_classes=10), image),
    "efficientnet": (lambda: vision.efficientnet_b0(num_classes=10), image),
    "densenet": (lambda: vision.DenseNet(8, (2, 2, 2), 16, num_classes=10), image),
    "shufflenetv2": (lambda: vision.shufflenet_v2_x0_5(num_classes=10), image),
    "squeezenet": (lambda: vision.squeezenet1_1(num_classes=10), image),
    "vit": (lambda: vision.VisionTransformer(IMAGE, 16, 2, 4, 32, 64, num_classes=10), image),
    "bert": (lambda: encoder(BertConfig, BertModel), tokens),
    "roberta": (lambda: encoder(RobertaConfig, RobertaModel), tokens),
    "quartznet": (QuartzNet, lambda: {"x": torch.randn(2, 32, 64)}),
    "las": (Speller, lambda: {"x": torch.randn(2, 16, 20)}),
    "gru-kws": (lambda: Spotter(nn.GRU), lambda: {"x": torch.randn(2, 16, 20)}),
    "rnn-kws": (lambda: Spotter(nn.RNN), lambda: {"x": torch.randn(2, 16, 20)}),
    "autoencoder": (Autoencoder, image),
}


def lively(model: nn.Module) -> nn.Module:
    """Running statistics and norms as after training, so that no operator is close to the identity."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight)
    return model.eval()


def export(model, inputs, path: pathlib.Path, newer: bool, symbolic: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = inputs if symbolic else {name: tensor[:1] for name, tensor in inputs.items()}
    names = list(inputs)
    options = {"input_names": names, "output_names": ["out"], "dynamo": newer}
    if newer:
        batch = torch.export.Dim("batch", min=1, max=1024)
        shapes = {name: {0: batch} for name in names} if symbolic else None
        options |= {"dynamic_shapes": shapes, "opset_version": 18, "external_data": False}
    else:
        axes = {name: {0: "batch"} for name in [*names, "out"]}
        options |= {"dynamic_axes": axes if symbolic else None, "opset_version": 17}
    torch.onnx.export(model, tuple(inputs.values()), str(path), **options)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    out = session.run(None, {i.name: arrays[i.name] for i in session.get_inputs()})[0]
    np.savez(path.with_suffix(".npz"), out=out, **arrays)


def main(out: pathlib.Path, chosen: list[str]) -> int:
    warnings.filterwarnings("ignore")
    failed = 0
    for name in chosen or FAMILIES:
        make, sample = FAMILIES[name]
        torch.manual_seed(len(name))
        model, inputs = lively(make()), sample()
        for newer in (False, True):
            for symbolic in (False, True):
                kind = f"{'export' if newer else 'script'}-{'open' if symbolic else 'fixed'}"
                try:
                    export(model, inputs, out / kind / f"{name}.onnx", newer, symbolic)
                except Exception as error:  # the exporter's own failure is a row, not the end
                    failed += 1
                    print(f"{kind} {name}: not exported: {str(error).strip().splitlines()[0]}", flush=True)
        print(name, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2:]))
