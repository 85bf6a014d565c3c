"""The tidy table of a study: one row a value, read from the files, filtered by field.

    values.where(source="fgsm", split="test", name="relative")

No column's name is ever taken apart: what a value is stands in its fields. `summary.csv` is the
pivot of this table, with a row a minimum, and the names of its columns are put together for people.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import pandas as pd

from eval.report.results import natural

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Value:
    """One number of one minimum: whose it is, what it is, and how large."""

    minimum: str  # its name: a label, and a unique key
    method: str  # the file in train/
    setting: str  # its word: "swa", "noisy_adam@sigma_0.1", "swa/last"
    seed: int

    kind: str  # of the file: "training", "passport" or "finetune"
    source: str  # "pretraining", "finetuning", or the measurement ("fgsm")
    name: str  # "accuracy", "loss", "relative", "half_accuracy_level", "distance", …
    split: str = ""  # "train", "test", or "" where that makes no difference
    group: str = ""  # the HDF5 group of a measurement: one variant under one treatment of BatchNorm
    variant: str = ""  # of the measurement; "" where there is only one
    batchnorm: str = ""  # "stored" or "recomputed" statistics while it was measured
    levels: str = ""  # the levels over which it is a mean: "" for all, or "to 0.4"
    task: str = ""  # of finetuning: the data set
    mode: str = ""  # of finetuning: the mode's word, "full" or "full@lr_3e-4"
    part: str = ""  # of the network: the parameters of a distance ("all", "batchnorm", "layer1")
    moment: str = ""  # of finetuning: "" at the last epoch, or "at equal loss"
    statistic: str = ""  # "" for the value itself; "std", "least", "most" of runs; "se", "residual"

    value: float  # inf: never reached
    low: float = NAN  # ends of its own 95 % interval, where it has one
    high: float = NAN
    has_interval: bool = False
    limit: float = NAN  # as far as was looked: the largest level, or the last epoch
    step: float = 0  # of an accuracy: what one image more or less changes
    words: str = ""  # what it is, in a sentence


MINIMUM = ("minimum", "method", "setting", "seed")
NUMBERS = ("value", "low", "high", "has_interval", "limit", "step")
QUANTITY = tuple(
    field.name for field in fields(Value) if field.name not in (*MINIMUM, *NUMBERS, "words")
)

# What verdicts and claims are about: BatchNorm as it was stored, the mean over all levels.
MEASURED = {
    "kind": "passport",
    "variant": "",
    "batchnorm": "stored",
    "levels": "",
    "statistic": "",
}
# Of a finetuning, its value at the last epoch.
FINETUNED = {"kind": "finetune", "moment": "", "statistic": ""}


class Quantity(NamedTuple):
    """One quantity of all minima that have it: the fields that say what it is, its values."""

    fields: dict[str, str]
    by_minimum: dict[str, Value]


class Values:
    """The values of a study, a row each, in order of appearance."""

    def __init__(self, values: Iterable[Value] | pd.DataFrame):
        if not isinstance(values, pd.DataFrame):
            columns = [field.name for field in fields(Value)]
            values = pd.DataFrame([vars(value) for value in values], columns=columns)
        self.frame = values

    def where(self, **wanted) -> "Values":
        """The values whose fields are as `wanted`; a list or tuple stands for any of its items."""
        keep = np.ones(len(self.frame), bool)
        for field, value in wanted.items():
            column = self.frame[field]
            keep &= column.isin(value) if isinstance(value, (list, tuple)) else column == value
        return Values(self.frame[keep])

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Value]:
        for row in self.frame.to_dict("records"):
            yield Value(**row)

    def by(self, field: str) -> dict:
        """{the field: its value}, where no two values share it, as minima of one quantity do."""
        if self.frame[field].duplicated().any():
            raise ValueError(
                f"more than one value of one {field}; name more fields: "
                f"{self.frame[list(QUANTITY)].iloc[0]}"
            )
        return dict(zip(self.frame[field], self.frame["value"]))

    def minima(self) -> pd.DataFrame:
        """The minima by method, setting and seed, a row each."""
        frame = self.frame[list(MINIMUM)].drop_duplicates("minimum")
        rows = frame.itertuples(index=False)
        rows = sorted(rows, key=lambda row: (row.method, natural(row.setting), row.seed))
        return pd.DataFrame(rows, columns=list(MINIMUM))

    def aligned(self, minima: Iterable[str], **wanted) -> np.ndarray:
        """The one value (n,) of each of `minima` with these fields, NaN where it has none."""
        by_minimum = self.where(**wanted).by("minimum")
        return np.array([by_minimum.get(minimum, NAN) for minimum in minima], float)

    @property
    def step(self) -> float:
        """The largest step of these values; 0 of what has none."""
        return float(self.frame["step"].max()) if len(self) else 0.0

    def quantities(self) -> list[Quantity]:
        """Everything that was measured, apart by what it is, in order of appearance."""
        result = []
        for key, frame in self.frame.groupby(list(QUANTITY), sort=False):
            by_minimum = {value.minimum: value for value in Values(frame)}
            result.append(Quantity(dict(zip(QUANTITY, key)), by_minimum))
        return result


def column_name(value: Value | dict, several_tasks: bool = False) -> str:
    """A readable name of a quantity, for a column of summary.csv: fgsm_test_relative.

    Only ever put together: whatever must know what a column holds reads the fields.
    """
    value = vars(value) if isinstance(value, Value) else value
    clean = value["source"] == "clean"
    words = [
        value["task"] if several_tasks else "",
        value["mode"],
        value["source"] if value["kind"] == "training" else "",
        "" if clean else value["group"],
        value["split"],
        value["name"],
        value["part"],
        value["levels"],
        value["moment"],
        value["statistic"],
        # A group's own name says it, where it has one.
        "recomputed" if value["batchnorm"] == "recomputed" and (clean or value["mode"]) else "",
    ]
    return "_".join(word.replace(" ", "_") for word in words if word)


def summary_csv(values: Values) -> str:
    """summary.csv: a header, a row a minimum, then a line "# column: what it is" for each.

    Empty: the minimum lacks that; nan: undefined; inf: never reached.
    """
    several_tasks = values.where(kind="finetune").frame["task"].nunique() > 1
    words = {
        "minimum": "its name",
        "method": "how it was pretrained",
        "setting": "the method with flags of its own, in one word",
        "seed": "initial weights and order of images",
    }
    cells = []
    for value in values:
        column = column_name(value, several_tasks)
        cells.append((value.minimum, column, value.value))
        words[column] = value.words
        if value.has_interval:
            for end in "low", "high":
                cells.append((value.minimum, f"{column}_{end}", getattr(value, end)))
                words[f"{column}_{end}"] = f"{value.words}: {end} end of its 95 % interval"

    numbers = pd.DataFrame(cells, columns=["minimum", "column", "number"])
    if (twice := numbers.duplicated(["minimum", "column"])).any():
        column = numbers["column"][twice].iloc[0]
        raise SystemExit(
            f"summary.csv: two quantities would be its column {column}; name one of them otherwise "
            "in the measurement that writes it"
        )
    numbers["number"] = numbers["number"].map(_number)
    pivot = numbers.pivot(index="minimum", columns="column", values="number")
    table = values.minima()[list(MINIMUM)].join(pivot, on="minimum")[list(words)]
    names = ["minimum", "method", "setting"]
    table[names] = table[names].map(no_formula)
    table.columns = [no_formula(column) for column in table.columns]
    out = io.StringIO()
    table.to_csv(out, index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    for column, meaning in words.items():
        line = " ".join(f"{column}: {meaning}".split())
        line = re.sub(r'([,;]"*)(?=[=+@-])', r"\1'", line)  # spreadsheets cut it there
        out.write(f"# {line}\n")
    return out.getvalue()


def _number(value: float) -> str:
    """The shortest text that reads back as this number: 0.25, 15, nan, inf."""
    return np.format_float_positional(value, trim="-")


def no_formula(text: str) -> str:
    """Text for a cell that no spreadsheet takes for a formula: with an apostrophe before it.

    A leading # is a comment in summary.csv, and kept from being one in the same way; a line break,
    which readers take for the end of a row, is a space.
    """
    mark = "'" if text.startswith(("=", "+", "-", "@", "\t", "\r", "#")) else ""
    return mark + re.sub(r"[\r\n]+", " ", text)
