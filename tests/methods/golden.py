#!/usr/bin/env python3
"""Writes golden.json beside itself: for every distillation method inputs, settings, the loss in its parts and the gradients
that the published formula has for them.

    pip install torch==2.15.0 && python tests/methods/golden.py

Everything here is written from the papers with torch's own functions and differentiated by torch in 64 bits; nothing is
taken from kdc but the names of methods, settings and tensors. crates/train/src/distill/tests/golden.rs holds kdc against the file.
"""

import json
import math
import pathlib

import torch
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
CASES = []


class Case:
    """Tensors by name, made from a fixed seed; those that `leaf` makes are differentiated."""

    def __init__(self, name, method, progress=0.5, **settings):
        self.out = dict(name=name, method=method, settings=settings, progress=progress, inputs={}, pairs=[])
        self.leaves = {}
        self.random = torch.Generator().manual_seed(sum(map(ord, name)))
        CASES.append(self)

    def numbers(self, *shape, scale=1.0):
        """Normal numbers with few digits, so that the file stays small."""
        return (scale * torch.randn(*shape, generator=self.random)).mul(1000).round().div(1000)

    def constant(self, name, value):
        self.out["inputs"][name] = tensor(value)
        return value

    def leaf(self, name, value):
        value = self.constant(name, value).clone().requires_grad_()
        self.leaves[name] = value
        return value

    def logits(self, rows=4, classes=5, scale=2.0, both=True):
        student = self.leaf("student logits", self.numbers(rows, classes, scale=scale))
        return (student, self.constant("teacher logits", self.numbers(rows, classes, scale=scale))) if both else student

    def labels(self, rows=4, classes=5):
        return self.constant("labels", torch.randint(0, classes, (rows,), generator=self.random))

    def pair(self, student, teacher, layout="first"):
        """Activations; their extents as lists."""
        index = len(self.out["pairs"])
        self.out["pairs"].append(layout)
        student = self.leaf(f"student {index}", self.numbers(*student))
        return student, self.constant(f"teacher {index}", self.numbers(*teacher))

    def layer(self, name, *shape):
        return self.leaf(name, self.numbers(*shape, scale=1 / math.sqrt(shape[0])))

    def linear(self, name, *widths):
        """Linear layers with ReLU between them, as a function of rows."""
        layers = [
            (self.layer(f"term.{name}.{i}.weight", a, b), self.leaf(f"term.{name}.{i}.bias", self.numbers(b, scale=0.1)))
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        ]

        def apply(rows):
            for i, (weight, bias) in enumerate(layers):
                rows = (rows.relu() if i else rows) @ weight + bias
            return rows

        return apply

    def done(self, *parts):
        self.out["parts"] = [float(f"{part.item():.9g}") for part in parts]
        sum(parts).backward()
        self.out["gradients"] = {name: tensor(leaf.grad) for name, leaf in self.leaves.items() if leaf.grad is not None}


def tensor(value):
    if value.dtype in (torch.int64, torch.bool):
        return dict(shape=list(value.shape), data=value.flatten().tolist())
    return dict(shape=list(value.shape), data=[float(f"{v:.7g}") for v in value.flatten().tolist()])


def kl(p, log_q):
    return torch.xlogy(p, p).sub(p * log_q).sum(-1)


# Instance-based.


def z_scores(z):
    return (z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True, correction=0)


def soft_label(case, alpha, t, mask=None, weights=None, hidden=None, standardize=False):
    student, teacher = case.logits()
    y = case.labels()
    ce = F.cross_entropy(student, y, reduction="none")
    if weights is not None:
        ce = ce * case.constant("weights", weights)
    if hidden is not None:
        case.constant("lottery", hidden[0])
        ce = torch.where(hidden[0] < hidden[1], 0, ce)
    of_student, of_teacher = (z_scores(z) if standardize else z for z in (student, teacher))
    soft = kl((of_teacher / t).softmax(1), (of_student / t).log_softmax(1))
    rows = slice(None) if mask is None else case.constant("mask", mask).bool()
    case.done((1 - alpha) * ce[rows].mean(), alpha * t**2 * soft[rows].mean())


soft_label(Case("soft labels", "soft-label"), 0.9, 4)
soft_label(Case("soft labels, padding, weights", "soft-label", alpha=0.5, temperature=2.0), 0.5, 2,
           torch.tensor([1.0, 0, 1, 1]), torch.tensor([0.5, 1, 0, 2]))  # fmt: skip
soft_label(Case("soft labels, some hidden", "soft-label", alpha=0.3, temperature=1.0, **{"strip-labels": 0.4}), 0.3, 1,
           hidden=(torch.tensor([0.1, 0.7, 0.3, 0.9]), 0.4))  # fmt: skip
soft_label(Case("soft labels, standardised", "soft-label", alpha=0.9, temperature=2.0, standardize=True), 0.9, 2,
           standardize=True)  # fmt: skip

case = Case("labels alone", "hard-label")
student, y = case.logits(both=False), case.labels()
mask = case.constant("mask", torch.tensor([1.0, 1, 0, 1]))
case.done(F.cross_entropy(student[mask.bool()], y[mask.bool()]))


def dkd(case, student, teacher, y, alpha, beta, t, w, mask=None):
    rows, classes = student.shape
    p, log_q = (teacher / t).softmax(1), (student / t).log_softmax(1)
    others = torch.stack([torch.tensor([j for j in range(classes) if j != k]) for k in y.tolist()])
    p_y = p.gather(1, y[:, None])
    rest = p.gather(1, others).sum(1, keepdim=True)
    log_pair = torch.cat([log_q.gather(1, y[:, None]), log_q.gather(1, others).logsumexp(1, keepdim=True)], 1)
    tckd = kl(torch.cat([p_y, rest], 1), log_pair)
    nckd = kl((teacher.gather(1, others) / t).softmax(1), (student.gather(1, others) / t).log_softmax(1))
    kept = slice(None) if mask is None else mask.bool()
    ce = F.cross_entropy(student[kept], y[kept])
    case.done(ce, w * t**2 * alpha * tckd[kept].mean(), w * t**2 * beta * nckd[kept].mean())


case = Case("decoupled", "dkd")
dkd(case, *case.logits(), case.labels(), 1, 2, 4, 1)
case = Case("decoupled, early, padding", "dkd", progress=0.025, alpha=0.5, beta=8.0, temperature=2.0)
dkd(case, *case.logits(), case.labels(), 0.5, 8, 2, 0.3, case.constant("mask", torch.tensor([0.0, 1, 1, 1])))
case = Case("decoupled, a very confident teacher", "dkd", temperature=1.0)
student, _ = case.logits()
sure = case.constant("teacher logits", torch.tensor([[40.0, 1, -2, 0, 3], [-3, 25, 4, 1, 0], [0, 1, 2, 60, -5], [1, 0, -1, 2, 90]]))
dkd(case, student, sure, case.constant("labels", torch.tensor([0, 1, 3, 4])), 1, 2, 1, 1)

for standardize in (False, True):
    case = Case(f"logits, {'standardised' if standardize else 'as they are'}", "logit-mse", standardize=standardize)
    student, teacher = case.logits()
    kept = case.constant("mask", torch.tensor([1.0, 0, 1, 1])).bool()
    if standardize:
        student, teacher = z_scores(student), z_scores(teacher)
    case.done(F.mse_loss(student[kept], teacher[kept]))


def pearson(a, b):
    """Of the rows."""
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1)


for name, settings, kept in [
    ("correlation", {}, [1.0, 1, 1, 1]),
    ("correlation, padding", dict(beta=2.0, gamma=0.5, temperature=1.0), [1.0, 1, 0, 1]),
    ("correlation, nearly uniform", dict(temperature=100.0), [1.0, 1, 1, 1]),
]:
    case = Case(name, "dist", **settings)
    student, teacher = case.logits()
    kept, t = case.constant("mask", torch.tensor(kept)).bool(), settings.get("temperature", 4)
    p_s, p_t = (student / t).softmax(1)[kept], (teacher / t).softmax(1)[kept]
    inter, intra = 1 - pearson(p_s, p_t).mean(), 1 - pearson(p_s.T, p_t.T).mean()
    case.done(t**2 * settings.get("beta", 1) * inter, t**2 * settings.get("gamma", 1) * intra)

case = Case("class by class", "binary-kl", temperature=2.0)
student, teacher = case.logits()
kept = case.constant("mask", torch.tensor([1.0, 0, 1, 1])).bool()
each = F.binary_cross_entropy_with_logits(student / 2, (teacher / 2).sigmoid(), reduction="none").sum(1)
case.done(each[kept].mean())

for k in (2, 5):
    case = Case(f"the {k} likeliest of 5", "topk-kl", k=k, temperature=3.0)
    student, teacher = case.logits()
    p, log_q = (teacher / 3).softmax(1), (student / 3).log_softmax(1)
    each = []
    for row in range(4):
        order = sorted(range(5), key=lambda j: -p[row, j].item())
        known, rest = order[:k], order[k:]
        total = sum(p[row, j] * (p[row, j].log() - log_q[row, j]) for j in known)
        if rest:
            a, b = p[row, rest].sum(), log_q[row, rest].exp().sum()
            total = total + a * (a / b).log()
        each.append(total)
    case.done(9 * torch.stack(each).mean())

case = Case("confident answers as labels", "virtual-label", threshold=0.6)
student, teacher = case.logits(rows=5)
kept = case.constant("mask", torch.tensor([1.0, 1, 0, 1, 1])).bool()
confidence, said = teacher.softmax(1).max(1)
each = torch.where(confidence >= 0.6, F.cross_entropy(student, said, reduction="none"), 0)
assert 0 < (confidence >= 0.6).sum() < 5
case.done(each[kept].mean())

# All other classes are noise, so that there is nothing to draw.
# The teacher may learn along.
case = Case("against noise", "nce-softmax", k=16)
student = case.logits(both=False)
teacher = case.leaf("teacher logits", case.numbers(4, 5, scale=2))
m = teacher.argmax(1)
others = torch.stack([torch.cat([z[:j], z[j + 1 :]]) for z, j in zip(teacher, m.tolist())])
case.done(F.cross_entropy(student, m), 0.1 * others.exp().mean(1).log().mean())

case = Case("two that learn at once", "mutual", temperature=2.0)
student, y = case.logits(both=False), case.labels()
peer = case.leaf("teacher logits", case.numbers(4, 5, scale=2))
kept = case.constant("mask", torch.tensor([1.0, 1, 1, 0])).bool()


def divergence(fixed, moved):
    return 4 * kl((fixed.detach() / 2).softmax(1), (moved / 2).log_softmax(1))[kept].mean()


case.done(F.cross_entropy(student[kept], y[kept]), divergence(peer, student),
          F.cross_entropy(peer[kept], y[kept]), divergence(student, peer))  # fmt: skip

for name, settings in [("squares", {}), ("Huber's loss", dict(delta=0.7))]:
    case = Case(name, "regression", **settings)
    student, teacher = case.logits()
    kept = case.constant("mask", torch.tensor([1.0, 1, 0, 1])).bool()
    case.done(F.huber_loss(student[kept], teacher[kept], delta=0.7) if settings else F.mse_loss(student[kept], teacher[kept]))

case = Case("with targets", "regression", alpha=0.3)
student, teacher = case.logits()
targets = case.constant("targets", case.numbers(4, 5, scale=2.0))
case.done(0.7 * F.mse_loss(student, targets), 0.3 * F.mse_loss(student, teacher))

case = Case("hidden tokens", "masked-lm")
student, y = case.logits(both=False), case.labels()
hidden = case.constant("weights", torch.tensor([1.0, 0, 1, 0]))
case.done(F.cross_entropy(student[hidden.bool()], y[hidden.bool()]))

def smoothed(case, alpha, correct, t):
    student, y = case.logits(both=False), case.labels()
    made = torch.full((4, 5), (1 - correct) / 4).scatter(1, y[:, None], correct)
    # Softening a distribution is softening its logarithms.
    soft = kl((made.log() / t).softmax(1), (student / t).log_softmax(1)).mean()
    case.done((1 - alpha) * F.cross_entropy(student, y), alpha * t**2 * soft)


smoothed(Case("a teacher made by hand", "virtual-teacher"), 0.1, 0.99, 20)
smoothed(Case("a teacher made by hand, less sure", "virtual-teacher", alpha=0.5, correct=0.7, temperature=2.0), 0.5, 0.7, 2)


class Reversal(torch.autograd.Function):
    """Ganin's layer."""

    @staticmethod
    def forward(context, x, factor):
        context.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        return -context.factor * gradient, None


case = Case("a learned temperature", "dynamic-temperature", progress=0.25, alpha=0.6, low=0.5, range=8.0)
student, teacher = case.logits()
y, theta = case.labels(), case.leaf("term.theta", torch.tensor([0.3]))
t = 0.5 + 8 * Reversal.apply(theta, 0.5 * (1 - math.cos(0.25 * math.pi))).sigmoid()
soft = kl((teacher / t).softmax(1), (student / t).log_softmax(1)).mean()
# Both logits are divided by the temperature, and both move it.
case.done(0.4 * F.cross_entropy(student, y), (0.6 * t**2 * soft).sum())

# Feature-based. Where a case has no logits of interest, they still say how many rows there are.


def rows_of(maps):
    """[B, C, …] as a row for each position."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


case = Case("hint, as many channels", "hint")
case.logits(3)
student, teacher = case.pair([3, 4, 6], [3, 4, 6])
case.done(F.mse_loss(student, teacher))

case = Case("hint, linear, images of different extents", "hint")
case.logits(2)
student, teacher = case.pair([2, 3, 4, 2], [2, 4, 2, 3])
project = case.linear("projection0", 3, 4)
a, b = F.adaptive_avg_pool2d(student, (2, 2)), F.adaptive_avg_pool2d(teacher, (2, 2))
case.done(F.mse_loss(project(rows_of(a)), rows_of(b)))

case = Case("hint, two layers, signals of 7 and 5 points", "hint", projection="mlp")
case.logits(2)
student, teacher = case.pair([2, 2, 7], [2, 3, 5])
project = case.linear("projection0", 2, 6, 3)
case.done(F.mse_loss(project(rows_of(F.adaptive_avg_pool1d(student, 5))), rows_of(teacher)))

case = Case("hint, tokens, padding", "hint", **{"always-project": True})
case.logits(6)
student, teacher = case.pair([2, 3, 4], [2, 3, 4], layout="last")
project = case.linear("projection0", 4, 4)
kept = case.constant("mask", torch.tensor([1.0, 1, 0, 1, 0, 0])).bool()
case.done(F.mse_loss(project(student.reshape(6, 4)[kept]), teacher.reshape(6, 4)[kept]))

case = Case("hint, two pairs", "hint", stages="all")
case.logits(2)
pairs = [case.pair([2, 2, 4], [2, 2, 4]), case.pair([2, 3], [2, 3])]
case.done(sum(F.mse_loss(s, t) for s, t in pairs) / 2)


def attention_of(maps):
    return F.normalize(maps.square().mean(1).flatten(1))


case = Case("attention, two stages", "attention")
case.logits(2)
s0, t0 = case.pair([2, 3, 4, 4], [2, 5, 2, 2])
s1, t1 = case.pair([2, 2, 3, 1], [2, 6, 3, 1])
first = F.mse_loss(attention_of(F.adaptive_avg_pool2d(s0, (2, 2))), attention_of(t0))
case.done(first + F.mse_loss(attention_of(s1), attention_of(t1)))

case = Case("attention, tokens, padding", "attention")
case.logits(6)
student, teacher = case.pair([2, 3, 4], [2, 3, 2], layout="last")
kept = case.constant("mask", torch.tensor([1.0, 1, 0, 1, 1, 1])).reshape(2, 3)
maps = [F.normalize(f.square().mean(2) * kept) for f in (student, teacher)]
case.done((maps[0] - maps[1]).square().sum() / 5)


def attention_pair(case, student, teacher):
    """Probabilities instead of numbers."""
    case.out["pairs"].append("first")
    p_s = case.leaf("student 0", case.numbers(*student).softmax(-1).mul(1e6).round().div(1e6))
    return p_s, case.constant("teacher 0", case.numbers(*teacher).softmax(-1).mul(1e6).round().div(1e6))


case = Case("attention maps", "attention-map")
case.logits(2)
p_s, p_t = attention_pair(case, [2, 2, 3, 3], [2, 2, 3, 3])
case.done(kl(p_t, p_s.log()).mean())

case = Case("attention maps, other heads, padding", "attention-map")
case.logits(6)
p_s, p_t = attention_pair(case, [2, 1, 3, 3], [2, 4, 3, 3])
kept = case.constant("mask", torch.tensor([1.0, 1, 1, 1, 0, 0])).reshape(2, 3).bool()
case.done(kl(p_t.mean(1), p_s.mean(1).log())[kept].mean())

case = Case("relations of values", "attention-map", of="relations", **{"relation-heads": 2})
case.logits(8)
student, teacher = case.pair([2, 4, 4], [2, 4, 6], layout="last")
mask = case.constant("mask", torch.tensor([1.0, 1, 1, 0, 1, 1, 0, 0])).reshape(2, 4).bool()
total = 0
for b in range(2):
    for head in range(2):
        relations = []
        for values in (student, teacher):
            width = values.shape[2] // 2
            v = values[b][mask[b]][:, head * width : (head + 1) * width]
            relations.append((v @ v.T / math.sqrt(width)).log_softmax(1))
        total = total + kl(relations[1].exp(), relations[0]).sum() / 2
case.done(total / mask.sum())


def relational(case, student, teacher):
    def distances(e):
        d = torch.stack([torch.stack([(a - b).norm() if a is not b else torch.zeros(()) for b in e]) for a in e])
        return d / d[d > 0].mean()

    def angles(e):
        n, out = len(e), []
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    if i == j or i == k:
                        out.append(torch.zeros(()))
                    else:
                        out.append(F.cosine_similarity(e[j] - e[i], e[k] - e[i], dim=0))
        return torch.stack(out)

    student, teacher = list(student), list(teacher)
    d = F.smooth_l1_loss(distances(student), distances(teacher))
    case.done(25 * d, 50 * F.smooth_l1_loss(angles(student), angles(teacher)))


case = Case("distances and angles", "relational")
case.logits(4)
relational(case, *case.pair([4, 3], [4, 5]))
case = Case("distances and angles, one sample left out", "relational")
case.logits(5)
student, teacher = case.pair([5, 3, 2], [5, 2, 4])
kept = case.constant("mask", torch.tensor([1.0, 1, 0, 1, 1])).bool()
relational(case, student.mean(2)[kept], teacher.mean(2)[kept])


def gram(f):
    f = f.flatten(1)
    return F.normalize(f @ f.T)


case = Case("similar samples", "similarity")
case.logits(4)
student, teacher = case.pair([4, 2, 3], [4, 3, 2, 2])
case.done((gram(teacher) - gram(student)).square().sum() / 16)
case = Case("similar samples, one left out", "similarity", stages="all")
case.logits(4)
pairs = [case.pair([4, 2, 3], [4, 2, 4]), case.pair([4, 3], [4, 6])]
kept = case.constant("mask", torch.tensor([1.0, 0, 1, 1])).bool()
case.done(sum((gram(t[kept]) - gram(s[kept])).square().sum() / 9 for s, t in pairs))


def contrastive(case, batch, channels, samples, scales=None, kept=None, dim=4, t=0.07, momentum=0.5):
    case.logits(batch)
    student, teacher = case.pair([batch, channels[0]], [batch, channels[1]])
    seen = case.constant("samples", torch.randperm(samples, generator=case.random)[:batch])
    case.out["kept samples"] = samples
    banks = {side: F.normalize(case.numbers(samples, dim)) for side in ("student", "teacher")}
    embedded = {}
    for side, f, width in (("student", student, channels[0]), ("teacher", teacher, channels[1])):
        embedded[side] = F.normalize(case.linear(side, width, dim)(f))
        case.constant(f"term.{side}.bank", banks[side])
    case.constant("term.scale", torch.tensor(scales or [0.0, 0.0]))
    rows = torch.ones(batch).bool() if kept is None else case.constant("mask", kept).bool()
    k, parts, now = samples - 1, [], []
    for index, (side, other) in enumerate((("student", "teacher"), ("teacher", "student"))):
        scores = (embedded[side] @ banks[other].T / t).exp()
        z = scales[index] if scales else (scores.mean() * samples).item()
        now.append(z)
        p = scores / z
        noise = k / samples + 1e-7
        total = 0
        for row in torch.arange(batch)[rows].tolist():
            own = int(seen[row])
            total = total - (p[row, own] / (p[row, own] + noise)).log()
            for j in range(samples):
                if j != own:
                    total = total - (k / samples / (p[row, j] + noise)).log()
        parts.append(total / rows.sum())
    after = {}
    for side in ("student", "teacher"):
        bank = banks[side].clone()
        for row in torch.arange(batch)[rows].tolist():
            bank[seen[row]] = F.normalize(momentum * bank[seen[row]] + (1 - momentum) * embedded[side][row].detach(), dim=0)
        after[f"term.{side}.bank"] = tensor(bank)
    after["term.scale"] = tensor(torch.tensor(now))
    case.out["after"] = after
    case.done(*parts)


contrastive(Case("contrast, the first batch", "contrastive", dim=4), 3, (2, 3), 5)
contrastive(Case("contrast, later, one sample left out", "contrastive", dim=4, temperature=0.5, momentum=0.75), 3, (2, 3), 6,
            [9.5, 12.25], torch.tensor([1.0, 0, 1]), t=0.5, momentum=0.75)  # fmt: skip


for name, channels, settings, factor in [
    ("discriminator", (3, 3), {}, 2 / (1 + math.exp(-3)) - 1),
    ("discriminator, other channels", (2, 3), {"lambda": 0.25}, 0.25),
]:
    case = Case(name, "adversarial", progress=0.3, hidden=4, **settings)
    case.logits(3)
    student, teacher = case.pair([3, channels[0], 2], [3, channels[1], 5])
    if channels[0] != channels[1]:
        project = case.linear("projection0", *channels)
    else:
        project = lambda x: x
    judge = case.linear("discriminator0", channels[1], 4, 4, 1)
    of_teacher = judge(teacher.mean(2))
    of_student = judge(Reversal.apply(project(student.mean(2)), factor))
    right = F.binary_cross_entropy_with_logits(of_teacher, torch.ones(3, 1))
    case.done(right + F.binary_cross_entropy_with_logits(of_student, torch.zeros(3, 1)))

# A student that goes on from a mix: 0.25 of progress in 0.5 of training is half its own.
case = Case("a mixed layer", "distilled-layer", progress=0.25, own={"warmup": {"to": 1.0, "over": 0.5}})
student, y = case.logits(2, both=False), case.labels(2)
own, theirs = case.pair([2, 2, 3], [2, 3, 6])
case.leaves.pop("student 0")
mixer = case.linear("mixer0", 5, 2)
both = torch.cat([own, F.adaptive_avg_pool1d(theirs, 3)], 1)
helped = mixer(rows_of(both)).reshape(2, 3, 2).transpose(1, 2)
case.out["mixed"] = [tensor((0.5 * own + 0.5 * helped).detach())]
case.done(F.cross_entropy(student, y))

# Model-based.

case = Case("the labels of a relay", "progressive-replacement")
student, y = case.logits(both=False), case.labels()
case.done(F.cross_entropy(student, y))

case = Case("blocks by themselves", "distilled-module")
case.logits(2)
pairs = [case.pair([2, 2, 4], [2, 3, 4]), case.pair([2, 2, 4], [2, 2, 3])]
total = 0
for i, (student, teacher) in enumerate(pairs):
    case.linear(f"enter{i}", teacher.shape[1], 2)
    leave = case.linear(f"leave{i}", 2, teacher.shape[1])
    made, target = leave(rows_of(F.adaptive_avg_pool1d(student, teacher.shape[2]))), rows_of(teacher)
    total = total + F.mse_loss(made, target) / target.var(0, correction=0).mean()
case.done(total)


def flow_matrix(a, b):
    """[B, C_a, C_b], at the positions of the smaller."""
    size = [min(x, y) for x, y in zip(a.shape[2:], b.shape[2:])]
    pool = F.adaptive_avg_pool1d if len(size) == 1 else F.adaptive_avg_pool2d
    a, b = pool(a, size), pool(b, size)
    return torch.einsum("bip,bjp->bij", a.flatten(2), b.flatten(2)) / math.prod(size)


case = Case("flow, three stages", "flow")
case.logits(2)
pairs = [case.pair([2, 2, 4, 4], [2, 2, 4, 4]), case.pair([2, 3, 4, 4], [2, 3, 4, 2]), case.pair([2, 2, 2, 2], [2, 2, 2, 1])]
steps = [(flow_matrix(a[0], b[0]), flow_matrix(a[1], b[1])) for a, b in zip(pairs, pairs[1:])]
case.done(sum(F.mse_loss(s, t) for s, t in steps))

case = Case("flow, other channels", "flow")
case.logits(2)
pairs = [case.pair([2, 2, 5], [2, 3, 8]), case.pair([2, 2, 3], [2, 2, 4])]
project = case.linear("projection0", 2, 3)
early = F.adaptive_avg_pool1d(pairs[0][0], 3)
early = project(rows_of(early)).reshape(2, 3, 3).transpose(1, 2)
case.done(F.mse_loss(flow_matrix(early, pairs[1][0]), flow_matrix(pairs[0][1], pairs[1][1])))


def factor_transfer(case, student, teacher, size, power):
    case.logits(2)
    batch, channels, dims = student[0], (student[1], teacher[1]), len(student) - 2
    student, teacher = case.pair(student, teacher)
    pool = F.adaptive_avg_pool1d if dims == 1 else F.adaptive_avg_pool2d
    student, teacher = pool(student, size), pool(teacher, size)
    factors = channels[1] // 2

    def coder(name, widths, transposed=False):
        layers = []
        for i, (a, b) in enumerate(zip(widths, widths[1:])):
            weight = case.leaf(f"term.{name}0.{i}.weight", case.numbers(b, a, 3, 3, scale=1 / math.sqrt(3**dims * a)))
            layers.append((weight, case.leaf(f"term.{name}0.{i}.bias", case.numbers(b, scale=0.1))))

        def apply(x):
            for weight, bias in layers:
                weight = weight if dims == 2 else weight[:, :, 1]
                if transposed:
                    # A transposed convolution reads its kernel the other way round, from output to input.
                    weight = weight.flip(*range(2, 2 + dims)).transpose(0, 1)
                    x = (F.conv_transpose1d if dims == 1 else F.conv_transpose2d)(x, weight, bias, padding=1)
                else:
                    x = (F.conv1d if dims == 1 else F.conv2d)(x, weight, bias, padding=1)
                x = F.leaky_relu(x, 0.1)
            return x

        return apply

    paraphrase = coder("paraphraser", [channels[1], channels[1], factors, factors])
    rebuild = coder("rebuilder", [factors, factors, channels[1], channels[1]], transposed=True)
    translate = coder("translator", [channels[0], channels[0], factors, factors])
    of_teacher = paraphrase(teacher)
    rebuilt = F.mse_loss(rebuild(of_teacher), teacher)
    unit = lambda f: F.normalize(f.flatten(1))
    distance = unit(of_teacher.detach()) - unit(translate(student))
    case.done(distance.abs().pow(power).mean(), 0.002 * rebuilt)


factor_transfer(Case("factors, signals", "factor-transfer"), [2, 2, 6], [2, 4, 4], (4,), 1)
factor_transfer(Case("factors, images", "factor-transfer", power=2), [2, 2, 3, 4], [2, 2, 3, 3], (3, 3), 2)


def exits(case, stages, alpha, t, **settings):
    student = case.logits(3, both=False)
    y = case.labels(3)
    own = (student / t).softmax(1).detach()
    labels = taught = 0
    for i, shape in enumerate(stages):
        index = len(case.out["pairs"])
        case.out["pairs"].append("first")
        f = case.leaf(f"student {index}", case.numbers(*shape))
        z = case.linear(f"exit{i}", shape[1], 5)(f.flatten(2).mean(2))
        labels = labels + F.cross_entropy(z, y)
        taught = taught + kl(own, (z / t).log_softmax(1)).mean()
    case.done(F.cross_entropy(student, y), (1 - alpha) * labels, alpha * t**2 * taught)


exits(Case("exits", "deep-supervision"), [[3, 2, 4], [3, 3, 2, 2]], 0.3, 3)


# Sequences.


def ctc(case):
    """Words of different lengths, one with a symbol twice in a row."""
    words = [[1, 2, 3], [2, 2], [3]]
    student = case.leaf("student logits", case.numbers(3 * 6, 4, scale=2.0))
    case.constant("samples", torch.tensor([0, 1, 2]))
    case.constant("words", torch.tensor([word + [0] * (3 - len(word)) for word in words]))
    log_p = student.reshape(3, 6, 4).log_softmax(2).transpose(0, 1)
    targets = torch.tensor([symbol for word in words for symbol in word])
    loss = F.ctc_loss(log_p, targets, torch.tensor([6] * 3), torch.tensor([len(w) for w in words]), reduction="none")
    case.done(loss.mean())


ctc(Case("words", "ctc"))


def main():
    out = pathlib.Path(__file__).parent / "golden.json"
    lines = ",\n".join(json.dumps(case.out, separators=(",", ":")) for case in CASES)
    out.write_text(f"[\n{lines}\n]\n")
    print(f"{out}: {len(CASES)} cases, {out.stat().st_size} bytes")


main()
