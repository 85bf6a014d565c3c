"""The words of a study, as make hands them over, and what is wrong with them.

A word is a variable of the Makefile or of a profile. Whatever nothing knows is one line, with the
nearest that is known. Needs Python's standard library alone.
"""

import difflib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common import settings

ASSIGNMENT = re.compile(r"^(?:export |override )*([A-Z]\w*) *[:?+]?=", re.MULTILINE)
RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")  # a number, or a range
NAME = re.compile(r"[A-Za-z]\w*", re.ASCII)  # of a module, and of a task
# Make and the shell take a path of these as it stands.
PLACE = re.compile(r"[\w./+,][\w./+,@-]*")
# A variable that begins like this ends with the name of a file in the folder (TRAIN_swa).
OF_FILES = {
    "TRAIN_": "train",
    "SEEDS_": "train",
    "MEASURE_": "eval",
    "COMPARE_": "eval",
    "FINETUNE_": "finetune",
}
# And like this, with a word of another variable (TASK_digits).
OF_WORDS = {"TASK_": "TASKS", "LADDER_": "LADDERS", "FOLDER_": "TASKS", "FINETUNE_": "TASKS"}
FOLDERS = ("IMAGENET", "CIFAR")  # people's own images
SOURCES = ("PRETRAIN_DATA", "TASK_")  # what packs are made of
MOST_SEEDS = 10_000
PROFILE = "profiles/{}.mk"
SWITCHES = {"": False, "0": False, "no": False, "1": True, "yes": True}


@dataclass
class Words:
    """{variable: value}, the values as the scripts should get them; which of them were typed."""

    values: dict[str, str]
    typed: set[str]

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "").strip()

    def each(self, name: str) -> list[str]:
        """The words of a variable, separated by blanks. SystemExit where one stands twice."""
        words = self[name].split()
        for word in words:
            if words.count(word) > 1:
                raise SystemExit(f"{name}={self[name]}: {word} stands there twice")
        return words

    def flags(self, *names: str) -> list[str]:
        """Flags of a script, taken apart as a shell would; nothing in them is run."""
        result = []
        for name in names:
            try:
                result += shlex.split(self[name])
            except ValueError as error:  # a quotation that does not end
                raise SystemExit(f"{name}={self[name]}: {str(error).lower()}") from None
        return result

    def number(self, name: str) -> int:
        """A whole number of 1 or more."""
        if not re.fullmatch(r"[0-9]{1,9}", self[name]) or int(self[name]) < 1:
            raise SystemExit(f"{name}={self[name]}: not a whole number of 1 or more")
        return int(self[name])

    def amount(self, name: str) -> float:
        """A number above 0; 0 where none was given."""
        if self[name] and not re.fullmatch(r"(?=.*[1-9])\d{1,6}(\.\d{1,6})?", self[name]):
            raise SystemExit(f"{name}={self[name]}: not a number above 0, such as 2.5")
        return float(self[name] or 0)

    def switch(self, name: str) -> bool:
        """Whether a variable is on: 1 or yes; 0, no or nothing is off."""
        if self[name].lower() not in SWITCHES:
            raise SystemExit(f"{name}={self[name]}: give 1 or yes; nothing, 0 or no is off")
        return SWITCHES[self[name].lower()]

    def seeds(self, name: str = "SEEDS") -> list[int]:
        """What a variable names, whole numbers and ranges: 0-5 or 0 1 2."""
        seeds = []
        for word in self.each(name):
            ends = RANGE.fullmatch(word)
            if not ends:
                raise SystemExit(
                    f"{name}={self[name]}: {word} is not a whole number of 0 or more, nor a "
                    "range such as 0-5"
                )
            first, last = int(ends[1]), int(ends[2] or ends[1])
            if last < first or last >= MOST_SEEDS:
                problem = (
                    "ends before it begins" if last < first else f"seeds are below {MOST_SEEDS}"
                )
                raise SystemExit(f"{name}={self[name]}: {word}: {problem}")
            seeds += range(first, last + 1)
        if not seeds or len(set(seeds)) < len(seeds):
            problem = "a seed stands there twice" if seeds else "no seed; give 0, or 0-5"
            raise SystemExit(f"{name}={self[name]}: {problem}")
        return seeds

    def settings_of(self, name: str, folder: str) -> list[str]:
        """The settings that a variable names, each a file of `folder` with flags of its own."""
        result = []
        for word in self.each(name):
            for setting in in_variable(name, settings.expand, word):
                in_variable(name, settings.flags, setting)
                check_file(name, settings.method(setting), folder)
                if setting in result:
                    raise SystemExit(f"{name}={self[name]}: {setting} stands there twice")
                result.append(setting)
        return result

    def files(self, name: str, folder: str) -> list[str]:
        """The files of `folder` that a variable names."""
        for word in self.each(name):
            check_file(name, word, folder)
        return self.each(name)

    def names(self, name: str) -> list[str]:
        """Words that become part of a path."""
        for word in self.each(name):
            if not NAME.fullmatch(word):
                raise SystemExit(f"{name}={word}: not a name; letters, digits and _ are")
        return self.each(name)


def in_variable(name: str, function, word: str):
    """What `function` makes of a word; its error says in which variable the word stands."""
    try:
        return function(word)
    except SystemExit as error:
        raise SystemExit(f"{name}={error}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; did you mean X?" with the nearest that is known, or nothing."""
    found = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def modules(folder: str) -> list[str]:
    """The names of the scripts in a folder."""
    return sorted(path.stem for path in Path(folder).glob("[!_.]*.py"))


def check_file(name: str, word: str, folder: str):
    """SystemExit where a word names no file of `folder`."""
    known = modules(folder)
    if not NAME.fullmatch(word):
        raise SystemExit(f"{name}={word}: a file of {folder}/ is named with letters, digits and _")
    if word not in known:
        hint = nearest(word, known) or f"; there are {', '.join(known)}"
        raise SystemExit(f"{name}={word}: there is no {folder}/{word}.py{hint}")


def read(typed: str, values: list[str]) -> Words:
    """The words, from the names of those that were typed and all of them as NAME=value."""
    return Words(dict(value.split("=", 1) for value in values), set(typed.split()))


def check_profile(given: Words):
    """SystemExit where PROFILE names no profile."""
    name = given["PROFILE"]
    if not Path(PROFILE.format(name)).is_file():
        known = sorted(path.stem for path in Path("profiles").glob("*.mk"))
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise SystemExit(f"PROFILE={name}: no such profile{hint}")


def assigned(path: str) -> set[str]:
    """The variables that a makefile assigns."""
    return set(ASSIGNMENT.findall(Path(path).read_text()))


def check_names(words: Words, makefiles: list[str]):
    """SystemExit where a variable was typed, or stands in the profile, that nothing knows."""
    profile = PROFILE.format(words["PROFILE"])
    known = {name for path in makefiles for name in assigned(path)}
    read = set(re.findall(r"\$\((\w+)\)", Path(profile).read_text()))  # by the profile itself
    for name in sorted(assigned(profile) - known - read):
        of = OF_WORDS.get(name[: name.find("_") + 1])
        if of not in words.typed:  # typed LADDERS need not have all of the profile's
            check_name(words, name, known, f"{profile}: ")
    for name in sorted(words.typed - known - assigned(profile)):
        check_name(words, name, known | assigned(profile))


def check_name(words: Words, name: str, known: set[str], where: str = ""):
    """SystemExit where a variable is not one that ends with the name of a file, or of a word."""
    prefix = name[: name.find("_") + 1]
    if prefix not in OF_FILES | OF_WORDS:
        hint = nearest(name, known) or "; make help lists them"
        raise SystemExit(f"{where}{name}: no such variable{hint}")
    ends, problems = [], []
    if folder := OF_FILES.get(prefix):
        ends += modules(folder)
        problems.append(f"there is no {folder}/{name.removeprefix(prefix)}.py")
    if variable := OF_WORDS.get(prefix):
        ends += words[variable].split()
        ends += ["pretrain"] if prefix == "FOLDER_" else []  # a pack, and no task
        problems.append(f"{variable} has no such word")
    if name.removeprefix(prefix) not in ends:
        hint = nearest(name, [f"{prefix}{end}" for end in ends])
        raise SystemExit(f"{where}{name}: {', and '.join(problems)}{hint}")


def check_values(words: Words):
    """SystemExit where a number, a place or a folder of images makes no sense."""
    for name in "RUNS", "EPOCHS", "THREADS", "TOGETHER", "TUNE_RUNS":
        words.number(name)
    for name in "JOBS", "GPUS":  # empty: as the machine allows
        if words[name]:
            words.number(name)
    for word in words.each("SECONDS"):
        if not re.fullmatch(r"[a-z]+:[0-9.]+", word):
            raise SystemExit(f"SECONDS={word}: write KIND:SECONDS, such as pretrain:20")
    if not PLACE.fullmatch(words["A"]):
        raise SystemExit(
            f"A={words['A']}: make cannot work in a folder of this name; "
            "letters, digits and ./+,@_- are fine"
        )
    sources = words.flags(*(name for name in words.values if name.startswith(SOURCES)))
    for name in words.typed.intersection(FOLDERS):
        folder = words[name]
        if folder and folder not in sources:
            raise SystemExit(
                f"{name}={folder}: PROFILE={words['PROFILE']} takes no folder of images"
            )
        if folder and ":" not in folder and not Path(folder).exists():
            raise SystemExit(f"{name}={folder}: no such folder")
