"""What a measurement is: the names that a file of eval/ gives, and what they are where it does not.

A measurement is a file `eval/NAME.py`. It gives two words for the report,

    TITLE, SOURCE        what it is called, and where it comes from

and one of these three functions (the last may stand beside one of the others):

    perturb(images, labels, levels, generator, model)
        A generator. It draws once, then yields the images (N, 3, H, W) perturbed at each of
        `levels`, in their order. `model` is the network, float32, for attacks that need a gradient.
    perturb_weight(weight, levels, generator)
        The same for one weight tensor of the network.
    measure(model, batches, generator)
        {name: number} of the whole network. `batches()` iterates over (images, labels).

The first two need levels, and so does a measurement of clean images alone:

    LEVEL, UNITS         the name of the strength of the perturbation ("sigma"), and its units
    LEVELS               the levels measured by default, ascending; level 0 is the clean network
    LEVEL_TYPE           a type of common.cli that refuses other levels (default: 0 or more)
    REPEATS              how many random draws; or a list of words, each of which is one repeat and
                         is given to `perturb` as its keyword `repeat`

All may give

    BATCHNORM            treatments of BatchNorm's statistics under which it runs: "stored" (the
                         default), "recomputed", or both
    FOLLOWS_GRADIENT     True for an attack: the share of images that have no gradient is measured
                         beside it
    SPLITS               the splits on which it runs (default: train and test)
    OPTIONS              {name: (type, default, help)}: flags of its own, given to `perturb` or
                         `measure` as keywords
    variants(model)      {suffix: variant}, each a group of results. A variant of `perturb` is more
                         keywords for it; one of `perturb_weight` the {name: weight} to perturb
                         (default: all convolutions and linear layers)

`resolve` is the only place that looks for these names; everything else reads a Measurement.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

from torch import nn

from common import cli, provenance
from common.networks import weights

SPLITS = ("train", "test")
TREATMENTS = {  # of BatchNorm's statistics, by the word of --batchnorm
    "stored": ("stored",),
    "recomputed": ("recomputed",),
    "both": ("stored", "recomputed"),
}

# What measured numbers depend on, beside the file of the measurement or comparison itself.
CODE = (
    "common/measuring",
    "common/networks",
    "common/images/packs.py",
    "common/devices.py",
    "common/seeds.py",
)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A measurement with every default filled in; the module's docstring says what each is."""

    name: str  # the file's name; random draws derive from it
    file: str
    title: str
    source: str
    level: str = ""
    units: str = ""
    levels: Sequence[float] = ()
    level_type: Callable[[str], float] = cli.amount
    repeats: int = 1
    repeat_words: Sequence[str] = ()  # empty, or as many as `repeats`
    follows_gradient: bool = False
    batchnorm: Sequence[str] = ("stored",)
    splits: Sequence[str] = SPLITS
    option_flags: dict[str, tuple] = field(default_factory=dict)  # OPTIONS
    options: dict[str, object] = field(default_factory=dict)  # the value of each
    variants: Callable[[nn.Module], dict[str, dict]]
    perturb: Callable | None = None
    perturb_weight: Callable | None = None
    measure: Callable | None = None

    @property
    def family(self) -> str:
        """What is perturbed: "weights", "inputs" (also `clean`: at its one level, nothing), or
        "scalar": there are no levels.
        """
        if self.perturb_weight:
            return "weights"
        return "inputs" if self.levels else "scalar"

    def as_asked(self, args) -> "Measurement":
        """This measurement with the levels, repeats, split and options of the command line; where
        it has levels above 0, also under the treatments of BatchNorm that --batchnorm names.
        """
        given = vars(args)
        levels = given.get(f"{self.name}_levels", self.levels)
        perturbed = any(level > 0 for level in levels)
        split = given.get(f"{self.name}_split", "own")
        return replace(
            self,
            levels=levels,
            splits=self.splits if split == "own" else (split,),
            batchnorm=TREATMENTS.get(args.batchnorm if perturbed else "own", self.batchnorm),
            repeats=given.get(f"{self.name}_repeats", self.repeats),
            options={key: given[f"{self.name}_{key}"] for key in self.option_flags},
        )


@dataclass(frozen=True)
class Group:
    """A group of results in the passport: one variant of a measurement under one BatchNorm."""

    name: str
    suffix: str  # the variant's name; "" where there is only one
    variant: dict  # as `variants` gives it
    batchnorm: str  # "stored" or "recomputed"


def resolve(module: ModuleType) -> Measurement:
    """The Measurement that a module of eval/ describes.

    SystemExit with one line where it lacks what it cannot do without.
    """
    names = vars(module)
    functions = {"perturb", "perturb_weight", "measure"} & set(names)
    if not functions:
        raise SystemExit(f"{module.__file__}: gives none of perturb, perturb_weight and measure")
    needed = {"TITLE", "SOURCE"}
    if functions - {"measure"}:
        needed |= {"LEVEL", "UNITS", "LEVELS"}
    if missing := sorted(needed - set(names)):
        raise SystemExit(f"{module.__file__}: lacks {', '.join(missing)}; add it beside the others")
    for name in ("TITLE", "SOURCE", "LEVEL", "UNITS"):
        if not isinstance(names.get(name, ""), str):
            raise SystemExit(f"{module.__file__}: {name} is {names[name]!r}; give text")
    levels = names.get("LEVELS", ())
    if "LEVELS" in names and not len(levels):
        raise SystemExit(f"{module.__file__}: LEVELS is empty; give one or more")
    if any(low >= high for low, high in zip(levels, levels[1:])):
        raise SystemExit(f"{module.__file__}: LEVELS do not ascend")
    repeats = names.get("REPEATS", 1)
    if not repeats:
        raise SystemExit(f"{module.__file__}: REPEATS is {repeats}; give 1 or more")
    words = repeats if isinstance(repeats, list) else ()
    option_flags = names.get("OPTIONS", {})
    return Measurement(
        name=Path(module.__file__).stem,
        file=module.__file__,
        title=names["TITLE"],
        source=names["SOURCE"],
        level=names.get("LEVEL", ""),
        units=names.get("UNITS", ""),
        levels=levels,
        level_type=names.get("LEVEL_TYPE", cli.amount),
        repeats=len(words) or repeats,
        repeat_words=words,
        follows_gradient=names.get("FOLLOWS_GRADIENT", False),
        batchnorm=names.get("BATCHNORM", ("stored",)),
        splits=names.get("SPLITS", SPLITS),
        option_flags=option_flags,
        options={name: default for name, (_, default, _) in option_flags.items()},
        variants=names.get("variants", all_weights if "perturb_weight" in names else no_variants),
        perturb=names.get("perturb"),
        perturb_weight=names.get("perturb_weight"),
        measure=names.get("measure"),
    )


def all_weights(model: nn.Module) -> dict[str, dict]:
    """One variant: all convolutions and linear layers are perturbed."""
    return {"": weights.conv_linear(model)}


def no_variants(model: nn.Module) -> dict[str, dict]:
    """One variant, without keywords."""
    return {"": {}}


def groups(measurement: Measurement, model: nn.Module) -> list[Group]:
    """The groups of results that a measurement makes of `model`.

    Their names: local_energy, local_energy_recomputed, local_energy_layers_conv1, pgd_10.
    """
    result = []
    for suffix, variant in measurement.variants(model).items():
        for batchnorm in measurement.batchnorm:
            words = [measurement.name, suffix, "" if batchnorm == "stored" else batchnorm]
            name = "_".join(word for word in words if word)
            result.append(Group(name, suffix, variant, batchnorm))
    return result


def source_digest(file: str) -> str:
    """Hex digest of all code that the numbers of a measurement or comparison `file` depend on."""
    return provenance.source(file, *CODE)
