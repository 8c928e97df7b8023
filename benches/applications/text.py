#!/usr/bin/env python3
"""Distillation of a transformer over text: a BERT-like teacher that tells spam, and a narrower student of fewer heads that
learns its answers, which tokens attend to which, and its activations.

    python benches/data/spam.py OUT --source SPAM          # teacher, tokenizer, messages
    python benches/applications/text.py OUT KDC --seeds 3

The student is kdc's own derivation, an eighth of the parameters, from random weights. It sees the labels of 300 messages;
the others of the 4,836 training messages are the teacher's to label. Devlin et al. 2018,
https://arxiv.org/abs/1810.04805; Jiao et al. 2019, https://arxiv.org/abs/1909.10351.
"""

import argparse
import pathlib

import runs

FEW = "[data]\nlabels = 300\nlabelled-share = {share}\n\n"
SOFT = FEW.format(share=0.25) + '[[term]]\nmethod = "soft-label"\ntemperature = 2.0\n'
ATTENTION = '\n[[term]]\nmethod = "attention-map"\n'
HINT = '\n[[term]]\nmethod = "hint"\nweight = 1.0\n'

RECIPES = {
    "labels only": FEW.format(share=1.0) + '[[term]]\nmethod = "hard-label"\n',
    "soft labels": SOFT,
    "soft labels, attention maps": SOFT + ATTENTION,
    "soft labels, attention maps, hint": SOFT + ATTENTION + HINT,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("kdc")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    arguments = [given.out / "bert.onnx", "--no-search", "--start", "random", "--epochs", given.epochs, "--optimizer", "adamw"]
    for title, text in RECIPES.items():
        runs.show("bert", title, *runs.distilled(given.kdc, arguments, text, given.seeds, given.out))


main()
