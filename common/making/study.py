"""What a study is made of, as its words say: settings, minima, pairs, and where their files lie.

Needs Python's standard library alone.
"""

import os
import shlex
from dataclasses import dataclass, field
from functools import cached_property

from common import settings
from common.making import words
from common.making.words import Words

MORE = "passport-more"  # the volume of a passport with what takes longer


@dataclass(frozen=True)
class Minimum:
    """A folder that holds weights.safetensors; `beside` is what a method left besides its own."""

    setting: str
    seed: int
    beside: str = ""

    @property
    def name(self) -> str:
        """The folder, inside the study's."""
        return f"{self.setting}-{self.seed}" + (f"/{self.beside}" if self.beside else "")


@dataclass
class Study:
    """The words, checked, and what follows from them."""

    words: Words
    flags: dict[str, str] = field(default_factory=dict)  # {stage: the text of its flags file}

    def __post_init__(self):
        self.folder = os.path.normpath(self.words["A"])
        self.seeds = self.words.seeds()
        self.methods = self.words.settings_of("METHODS", "train")
        self.ladders = {
            name: self.words.settings_of(f"LADDER_{name}", "train")
            for name in self.words.names("LADDERS")
        }
        self.paired = self.words.settings_of("PAIRED", "train")
        self._check()
        self.effect = self.words.amount("EFFECT")  # that `make plan` says the seeds for
        self.tasks = self.words.names("TASKS")
        if "pretrain" in self.tasks:
            raise SystemExit("TASKS=pretrain: the pack of pretraining has this name")
        if modes := [task for task in self.tasks if task in words.modules("finetune")]:
            raise SystemExit(f"TASKS={modes[0]}: a mode of finetuning has this name; take another")
        self.modes = self.words.settings_of("MODES", "finetune")
        self.comparisons = self.words.files("COMPARISONS", "eval")
        self.volumes = {  # of a passport
            "passport": self.words.files("MEASUREMENTS", "eval"),
            MORE: self.words.files("MEASUREMENTS_MORE", "eval"),
        }

    def _check(self):
        """SystemExit where the words of the settings do not fit each other."""
        if not self.methods:
            raise SystemExit("METHODS is empty; give at least one, such as METHODS=adam")
        for name, rungs in self.ladders.items():
            if len(rungs) < 2:
                given = " ".join(rungs)
                raise SystemExit(f"LADDER_{name}={given}: a ladder has rungs, two or more")
        for word in self.paired:
            if word not in self.trained_settings:
                hint = words.nearest(word, self.trained_settings)
                raise SystemExit(f"PAIRED={word}: neither METHODS nor a ladder has it{hint}")

    def at(self, *parts: str) -> str:
        """A path in the study's folder."""
        return "/".join([self.folder, *parts])

    def set_flags(self, stage: str, flags: list[str], a_line_each: bool = False):
        """Says what a stage's flags are. make keeps them in a file: changed flags remake it."""
        self.flags[stage] = "\n".join(flags) if a_line_each else shlex.join(flags)

    def flags_file(self, stage: str) -> str:
        """The file in which make keeps the flags of a stage."""
        return self.at("flags", stage)

    @property
    def deterministic(self) -> list[str]:
        return ["--deterministic"] if self.words.switch("DETERMINISTIC") else []

    @cached_property
    def trained_settings(self) -> list[str]:
        """METHODS and the rungs of all ladders, each once."""
        rungs = [rung for ladder in self.ladders.values() for rung in ladder]
        return list(dict.fromkeys([*self.methods, *rungs]))

    def seeds_of(self, setting: str) -> list[int]:
        """SEEDS, or those of its method, SEEDS_swa."""
        name = f"SEEDS_{settings.method(setting)}"
        return self.words.seeds(name) if self.words[name] else self.seeds

    @cached_property
    def trained(self) -> list[Minimum]:
        return [
            Minimum(setting, seed)
            for setting in self.trained_settings
            for seed in self.seeds_of(setting)
        ]

    @cached_property
    def beside(self) -> list[Minimum]:
        """What methods leave beside their minima: for swa/last swa-0/last, swa-1/last, …"""
        minima = []
        for word in self.words.each("CONTROLS"):
            method, slash, name = word.partition("/")
            words.check_file("CONTROLS", method, "train")
            if not slash or not words.NAME.fullmatch(name):
                raise SystemExit(f"CONTROLS={word}: write METHOD/FOLDER, such as swa/last")
            minima += [
                Minimum(minimum.setting, minimum.seed, name)
                for minimum in self.trained
                if settings.method(minimum.setting) == method
            ]
        return minima

    @property
    def minima(self) -> list[Minimum]:
        return self.trained + self.beside

    @cached_property
    def pairs(self) -> list[tuple[Minimum, Minimum]]:
        """a-0--b-1 for a <= b (independent runs), then a-0--b-0 for a < b (a shared start)."""
        ordered = [(a, b) for k, a in enumerate(self.paired) for b in self.paired[k:]]
        pairs = []
        if len(self.seeds) > 1:
            first, second = self.seeds[:2]
            pairs = [(Minimum(a, first), Minimum(b, second)) for a, b in ordered]
        first = self.seeds[0]
        pairs += [(Minimum(a, first), Minimum(b, first)) for a, b in ordered if a != b]
        return [pair for pair in pairs if set(pair) <= set(self.trained)]
