#!/usr/bin/env python3
"""Distillation of a transformer over text: a BERT-like teacher that tells spam, and a narrower student of fewer heads that
learns its answers, which tokens attend to which, and its activations.

    python benches/data/spam.py OUT --source SPAM          # teacher, tokenizer, messages
    python benches/applications/text.py OUT KDC --seeds 3

The student is kdc's own derivation, an eighth of the parameters, from random weights. It sees the labels of 300 messages;
the others of the 4,836 training messages are the teacher's to label. Devlin et al. 2018,
https://arxiv.org/abs/1810.04805; Jiao et al. 2019, https://arxiv.org/abs/1909.10351.
"""

import runs

FEW = "[data]\nlabels = 300\nlabelled-share = {share}\n\n"
SOFT = FEW.format(share=0.25) + '[[term]]\nmethod = "soft-label"\ntemperature = 2.0\n'
ATTENTION = '\n[[term]]\nmethod = "attention-map"\n'
HINT = '\n[[term]]\nmethod = "hint"\nweight = 1.0\n'

RECIPES = {
    "hard-label": FEW.format(share=1.0) + '[[term]]\nmethod = "hard-label"\n',
    "soft-label": SOFT,
    "soft-label + attention-map": SOFT + ATTENTION,
    "soft-label + attention-map + hint": SOFT + ATTENTION + HINT,
}


def main():
    given = runs.asked(__doc__, 4, is_made=False)
    arguments = [given.out / "bert.onnx", "--no-search", "--start", "random", "--epochs", given.epochs, "--optimizer", "adamw"]
    runs.compare(given, "bert", arguments, RECIPES)


main()
