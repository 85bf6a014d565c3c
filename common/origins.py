"""What a file of a study says it was made from, beside what lies there now.

Every result carries the sha256 of its weights (attribute `weights`; a comparison's, a JSON list of
two) and the fingerprint of its pack of images (`data`). Needs Python's standard library alone.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

LONGEST_HEADER = 1 << 24  # bytes of a safetensors file's header
HINT = "run make all, which makes it again, or put back what it was made from"


def metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; none where it is missing, or something else."""
    if not Path(path).is_file():
        return {}
    with suppress(OSError, ValueError, AttributeError), open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length < LONGEST_HEADER:
            return dict(json.loads(file.read(length)).get("__metadata__", {}))
    return {}


def unlike(path: Path, attrs: Mapping, packs: Mapping[str, str]) -> Iterator[str]:
    """Yields a line for each of the weights and the pack from which a result says that it was made,
    where others lie in their places. `attrs` are its attributes; `packs` is {name: fingerprint}.

    Where there are none, or the file does not say, nothing can be compared.
    """
    for minimum, sha256, weights in made_from(path, attrs):
        there = metadata(weights)
        found = there.get("minimum", minimum)
        if found != minimum:
            yield f"{path}: {weights} says that it is the weights of {found}, not of {minimum}"
        elif there.get("sha256", sha256) != sha256:
            yield f"{path}: was made from other weights of {minimum} than {weights}; {HINT}"
    pack = attrs.get("task") or "pretrain"
    data = attrs.get("data")
    if data and packs.get(pack, data) != data:
        yield f"{path}: was made from other images than those of {pack}.h5; {HINT}"


def made_from(path: Path, attrs: Mapping) -> Iterator[tuple[str, str, Path]]:
    """Yields (minimum, sha256 of its weights, where they lie) of a result in its place."""
    if "weights" not in attrs:
        return
    if attrs["kind"] == "comparison":
        minima, sums = json.loads(attrs["minima"]), json.loads(attrs["weights"])
        pair = Path("--".join(minima))
        if path.absolute().parent.parts[-len(pair.parts) :] != pair.parts:
            return  # written to a place of somebody's own
        study = path.absolute().parents[len(pair.parts)]
        for minimum, sha256 in zip(minima, sums):
            yield minimum, sha256, study / minimum / "weights.safetensors"
    else:  # MINIMUM/passport.h5, MINIMUM/TASK/MODE.h5
        folder = path.parent.parent if attrs["kind"] == "finetune" else path.parent
        yield attrs["minimum"], attrs["weights"], folder / "weights.safetensors"
