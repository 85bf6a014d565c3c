"""The battery: runs measurements, NAME… (files of eval/), on one minimum; writes its passport.

Levels are comma-separated: --gaussian-noise-levels 0,0.1,0.2 --gaussian-noise-repeats 5.
"""

import sys
from importlib import import_module
from importlib.util import find_spec

from common.measuring import passport

WITHOUT_VALUE = ("-h", "--help", "--deterministic", "--no-compile")  # all other flags take one


def named(words):
    """Yields the words of a command line that are neither a flag nor a flag's value.

    The measurements must be known before their flags can be.
    """
    words = iter(words)
    for word in words:
        if not word.startswith("-"):
            yield word
        elif "=" not in word and word not in WITHOUT_VALUE:
            next(words, None)


def load(name):
    """The measurement `name`: the module eval.NAME. SystemExit where there is none."""
    module = None
    if name.isidentifier() and find_spec(f"eval.{name}"):
        module = import_module(f"eval.{name}")
    if not hasattr(module, "TITLE") or hasattr(module, "compare"):
        raise SystemExit(f"{name}: no such measurement; each is a file eval/NAME.py with a TITLE")
    return module


if __name__ == "__main__":
    passport.main(__doc__, [load(name) for name in named(sys.argv[1:])])
