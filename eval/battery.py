"""The battery: runs the measurements NAME… (files of eval/) on one minimum and writes its passport.

Levels are comma-separated: --gaussian-noise-levels 0,0.1,0.2 --gaussian-noise-repeats 5.
"""

import sys
from importlib import import_module
from importlib.util import find_spec

from common.measuring import passport


def named(words):
    """The words that are neither a flag nor a flag's value; every flag of the battery takes one, but for these."""
    words = iter(words)
    for word in words:
        if not word.startswith("-"):
            yield word
        elif "=" not in word and word not in ("-h", "--help", "--deterministic", "--no-compile"):
            next(words, None)


def load(name):
    """The measurement `name`: the module eval.NAME."""
    module = (
        import_module(f"eval.{name}") if name.isidentifier() and find_spec(f"eval.{name}") else None
    )
    if not hasattr(module, "TITLE"):
        raise SystemExit(f"{name}: no such measurement; each is a file eval/NAME.py with a TITLE")
    return module


if __name__ == "__main__":
    passport.main(__doc__, [load(name) for name in named(sys.argv[1:])])
