"""The folder of a study: whether it is one, and which make has it.

Needs Python's standard library alone.
"""

import os
import shutil
import sys
from pathlib import Path

from common import origins, parts
from common.making import journal, plan
from common.making.study import Study


def check_layout(folder: str):
    """SystemExit where an older version made the folder's files, in other places."""
    older = ("*-*/finetune-*.h5", "*-*/last.safetensors", "*--*/pair.h5", "data/finetune.h5")
    for pattern in older:
        for path in Path(folder).glob(pattern):
            raise SystemExit(
                f"{path}: made by an older version, whose files lay in other places; make the "
                f"study in another folder (A=artifacts/NAME), or give {folder} another name"
            )


def check_minima(study: Study):
    """SystemExit where weights say that they are those of another minimum than their folder."""
    for minimum in study.minima:
        path = study.at(minimum.name, "weights.safetensors")
        found = origins.metadata(path).get("minimum", minimum.name)
        if found != minimum.name:
            raise SystemExit(
                f"{path}: says that it is the weights of {found}; put each file of weights into "
                "its own folder again, or move this one away, and run make again"
            )


def check_own(folder: str):
    """SystemExit where `folder` holds what is not of a study, or lies in another study."""
    for above in Path(folder).absolute().parents:
        if (above / journal.LOCK).exists() or (above / "weights.safetensors").exists():
            raise SystemExit(
                f"A={folder}: lies in {above}, which is a study's; give another folder"
            )
    if Path(folder).is_dir() and not Path(folder, journal.LOCK).exists():
        foreign = [
            name
            for name in sorted({*os.listdir(folder)} - {"data", "flags"})
            if not Path(folder, name, "weights.safetensors").exists()
        ]
        if foreign:
            raise SystemExit(
                f"A={folder}: holds {foreign[0]}, and no study; give a folder of its own"
            )


def take(study: Study, goals: list[str], steps: list[plan.Step]):
    """Takes the folder for this make, and notes there what it sets out to do."""
    journal.lock(study.folder, " ".join(goals), os.getppid())
    for path in parts.files_in(study.folder):
        # What a kill left; not what another process is writing.
        if path.match(".*.part") and parts.abandoned(path):
            path.unlink(missing_ok=True)
    for line in plan.made_again(steps):
        print(f"{study.folder}: {line}", file=sys.stderr)  # stdout is for make
    stages = [step.rule.stage for step in steps if step.rule.stage]
    stages += [stage for stage in study.flags if study.flags_file(stage) in goals]
    new = Path(study.at("flags/new"))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for stage in stages:
        if plan.flags_changed(study.flags_file(stage), study.flags[stage]):
            Path(new, stage).write_text(study.flags[stage])
    expected = plan.profile_seconds(study.words)
    to_make = plan.count(steps)
    journal.Journal(study.folder).write("make", goals=goals, to_make=to_make, expected=expected)


def take_to_remove(folder: str):
    """SystemExit where `make clean` would remove what is no study; else takes the folder for it."""
    if Path(folder).is_dir():
        if not Path(folder, journal.LOCK).exists():
            raise SystemExit(f"A={folder}: no make was at work there; it is not ours to remove")
        journal.lock(folder, "clean", os.getppid())
