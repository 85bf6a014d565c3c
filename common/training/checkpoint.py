"""A training run's checkpoint: what it needs to go on after a kill.

An HDF5 file of ours around torch's own bytes, because torch.load has no checksum.
"""

import io

import numpy as np
import torch

from common import files
from common.training import processes
from common.training.run import Run


def save(run: Run, optimizer, state, identity: str, epoch: int):
    """Writes all that the run needs to go on after `epoch`.

    `identity` says what the result depends on (loop.identity_of); `state` may be None.
    """
    if not processes.first():
        return
    content = io.BytesIO()
    torch.save(
        {
            "epoch": epoch,
            "model": run.model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": run.scaler.state_dict(),
            "state": state.state_dict() if state else None,
            "curves": dict(run.curves),
        },
        content,
    )
    with files.write(run.checkpoint) as file:
        file.attrs["identity"] = identity
        file["saved"] = np.frombuffer(content.getbuffer(), np.uint8)


def load(run: Run, optimizer, state, identity: str) -> int:
    """Loads the checkpoint if it belongs to this run; returns the number of epochs done."""
    if not run.checkpoint.exists():
        return 0
    files.demand_regular(run.checkpoint)  # it could not be written either
    try:
        with files.read(run.checkpoint) as file:
            if file.attrs.get("identity") != identity:
                raise SystemExit(
                    f"{run.checkpoint}: of another run, or settings, data or code changed since"
                )
            content = io.BytesIO(file["saved"][()])
    except SystemExit as error:
        print(f"{run.name} starts over: {error}", flush=True)
        return 0
    saved = torch.load(content, map_location=run.device, weights_only=True)
    run.model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    run.scaler.load_state_dict(saved["scaler"])
    if state:
        state.load_state_dict(saved["state"])
    run.curves.update({name: list(values) for name, values in saved["curves"].items()})
    print(f"{run.name}: continues after epoch {saved['epoch']} of {run.args.epochs}", flush=True)
    return saved["epoch"]
