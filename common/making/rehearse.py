"""Starts commands of a study and stops each where its work would begin.

So that, before anything is trained, it is known whether every flag is one that its script has, with
a value that it takes; whether two settings are the same; and whether settings that are compared
have one architecture.
"""

import json
import runpy
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from common import cli, devices, files

# Where, not what: no part of a setting.
LABELS = ("setting", "out", "seed", "minimum", "minima", "data", "source")


class Begun(Exception):
    """A script has understood its flags, and would begin to work."""


def main():
    parser = cli.Parser(__doc__)
    parser.fromfile_prefix_chars = "@"  # an argument a line of a file
    parser.add_argument("--out", required=True, metavar="FILE", help="written when all is well")
    parser.add_argument("--paired", default="", help="the settings that are compared in pairs")
    parser.add_argument("commands", nargs="+", metavar="COMMAND", help="'train.adam --epochs 8'")
    args = parser.parse_args()
    understood = {}  # {(script, setting): the values of its flags}
    for command in args.commands:
        module, *flags = shlex.split(command)
        values = rehearse(module, flags)
        if module.startswith(("train.", "finetune.")):
            # A mode is tried on several tasks, which differ in --data alone.
            check_new(values, module, understood)
    check_paired(args.paired.split(), understood)
    with files.atomic(Path(args.out)) as part:
        part.write_text("".join(f"{command}\n" for command in args.commands))


def rehearse(module: str, flags: list[str]) -> SimpleNamespace:
    """The values of a script's flags, defaults too. SystemExit as the script's own."""
    with stopped_at_work() as parsed:
        sys.argv = [module, *flags]
        sys.modules.pop(module, None)  # a script is executed anew
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except Begun:
            return parsed[-1] if parsed else SimpleNamespace()
        except SystemExit as end:
            if end.code:
                raise
    raise SystemExit(
        f"{module}: ends before it does anything; see CONTRIBUTING.md for what it calls"
    )


@contextmanager
def stopped_at_work() -> Iterator[list[SimpleNamespace]]:
    """A block in which a script stops when it asks for its device, which all do first; yields the
    list to which what scripts parsed is added.
    """
    parsed, choose, parse_args = [], devices.choose, cli.Parser.parse_args

    def stop(*arguments):
        raise Begun

    def remember(self, *arguments):
        parsed.append(parse_args(self, *arguments))
        return parsed[-1]

    devices.choose, cli.Parser.parse_args = stop, remember
    try:
        yield parsed
    finally:
        devices.choose, cli.Parser.parse_args = choose, parse_args


def check_new(values: SimpleNamespace, module: str, understood: dict):
    """Adds a setting to those `understood`; SystemExit where it is the same as one of them."""
    own = {name: value for name, value in vars(values).items() if name not in LABELS}
    key = json.dumps([module, own, str(values.data)], sort_keys=True, default=str)
    for (_, other), (other_key, _) in understood.items():
        if other_key == key and other != values.setting:
            raise SystemExit(
                f"{other} and {values.setting} are the same setting: every flag of {module} has "
                "the same value; leave one out"
            )
    understood[module, values.setting] = key, own


def check_paired(paired: list[str], understood: dict):
    """SystemExit where settings of several architectures are compared."""
    architectures = {
        setting: values["arch"]
        for (module, setting), (_, values) in understood.items()
        if setting in paired and module.startswith("train.")
    }
    for word, arch in architectures.items():
        first = next(iter(architectures))
        if arch != architectures[first]:
            raise SystemExit(
                f"PAIRED: {first} is a {architectures[first]} and {word} a {arch}; two minima of "
                f"different architecture cannot be compared: leave one out of PAIRED"
            )


if __name__ == "__main__":
    main()
