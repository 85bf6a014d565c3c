"""A setting: a method, or a mode of finetuning, with flags of its own, in one word.

    noisy_adam@sigma_0.1     train/noisy_adam.py with --sigma 0.1
    adam@lr_2e-3@epochs_12   train/adam.py with --lr 2e-3 --epochs 12
    sam@adaptive             train/sam.py with --adaptive

`@` begins a flag and `_` its value: flags have dashes, never `_`. (Not `=`: make takes a=b for a
variable, in a rule and on its command line.) Here alone is such a word taken apart; files say
what they are in fields. Needs Python's standard library alone.
"""

import itertools
import re

WORD = re.compile(r"[A-Za-z]\w*(@[a-z][a-z0-9-]*(_[\w.+-]+)?)*", re.ASCII)


def method(word: str) -> str:
    """The file that a setting is of: "noisy_adam" of "noisy_adam@sigma_0.1"."""
    return word.partition("@")[0]


def flags(word: str) -> list[str]:
    """Its flags as on a command line: ["--sigma=0.1"]. SystemExit if it is no setting."""
    if not WORD.fullmatch(word):
        raise SystemExit(
            f"{word}: not a setting; write METHOD@FLAG_VALUE, such as noisy_adam@sigma_0.1 or "
            "adam@lr_2e-3@epochs_12"
        )
    result = {}
    for part in word.split("@")[1:]:
        name, underscore, value = part.partition("_")
        if name in result:
            raise SystemExit(f"{word}: --{name} stands there twice")
        result[name] = f"--{name}={value}" if underscore else f"--{name}"
    return list(result.values())


def expand(word: str) -> list[str]:
    """Several values of a flag stand for several settings: a@x_1,2 is a@x_1 and a@x_2."""
    if "," in method(word):
        raise SystemExit(f"{word}: words are separated by blanks, not by commas")
    choices = []
    for part in word.split("@"):
        first, *others = part.split(",")
        name = first.partition("_")[0]
        choices.append([first, *(f"{name}_{value}" for value in others)])
    return ["@".join(parts) for parts in itertools.product(*choices)]
