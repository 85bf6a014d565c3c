"""Sweeps: one measurement on one network, at all its levels, over all repeats and splits.

Common random numbers: a perturbation draws once and serves all levels, and the generator that it
draws from is seeded from (seed, measurement, repeat, split, block) alone, or, for weights, from
(seed, measurement, repeat). So every level, and every minimum, sees the same noise, and what
differs between them is not the luck of the draw. Draws are made on the CPU and moved to the device:
the same numbers everywhere.

Level 0 is never perturbed: it is the clean network, to the last bit.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from common import seeds
from common.measuring import summary
from common.measuring.bench import Bench
from common.measuring.measurement import Group, Measurement

# A split, a repeat, loss (L, N) in nats and correctness (L, N) of all images at L levels.
Result = tuple[str, int, Tensor, Tensor]


def measure_group(bench: Bench, measurement: Measurement, group: Group) -> dict[str, np.ndarray]:
    """One group of results of the passport, as datasets {path in the group: array}."""
    arrays = {}
    if measurement.measure:
        arrays |= measure_scalars(bench, measurement, group)
    if measurement.levels:
        arrays |= measure_levels(bench, measurement, group)
    return arrays


def measure_scalars(bench: Bench, measurement: Measurement, group: Group) -> dict[str, np.ndarray]:
    """What `measure` gives for each split: {"train/name": array (1,)}."""
    arrays = {}
    with bench.under(group.batchnorm):
        for split in measurement.splits:
            numbers = measurement.measure(
                bench.model,
                partial(bench.batches, split),
                seeds.generator("cpu", bench.seed, measurement.name, split),
                **measurement.options,
            )
            for name, value in numbers.items():
                arrays[f"{split}/{name}"] = array = np.array([value])
                if array.shape != (1,) or array.dtype.kind not in "biuf":
                    raise SystemExit(
                        f"{measurement.file}: measure gives {name} as {value!r:.60}; give a number"
                    )
    return arrays


def measure_levels(bench: Bench, measurement: Measurement, group: Group) -> dict[str, np.ndarray]:
    """Curves over levels (L,) and R repeats, with summaries.

    `levels` (L,); of each split `loss`, `accuracy` (L, R), means over images; `loss_by_image`,
    `correct_by_image` (L, N), mean and sum over repeats; for an attack `without_gradient` (1,), the
    share of images whose gradient is exactly 0; and `summary/` as common.measuring.summary
    describes it.
    """
    levels, repeats = measurement.levels, measurement.repeats
    above_0 = [level for level in levels if level > 0]
    first = len(levels) - len(above_0)  # where they begin
    clean = {
        split: [values.cpu().numpy() for values in bench.clean(group.batchnorm)[split]]
        for split in measurement.splits
    }
    loss, correct = {}, {}
    for split, (clean_loss, clean_correct) in clean.items():
        shape = len(levels), repeats, len(clean_loss)
        loss[split], correct[split] = np.empty(shape, np.float32), np.empty(shape, bool)
        loss[split][:first], correct[split][:first] = clean_loss, clean_correct

    for split, repeat, new_loss, new_correct in results_at(above_0, bench, measurement, group):
        if len(new_loss) != len(above_0):
            raise SystemExit(
                f"{measurement.name}: yielded {len(new_loss)} levels of {len(above_0)}"
            )
        loss[split][first:, repeat] = new_loss.cpu().numpy()
        correct[split][first:, repeat] = new_correct.cpu().numpy()

    arrays = {"levels": np.array(levels, np.float64)}
    for split in measurement.splits:
        arrays |= {
            f"{split}/loss": loss[split].mean(2, dtype=np.float64),
            f"{split}/accuracy": correct[split].mean(2),
            f"{split}/loss_by_image": loss[split].mean(1, dtype=np.float64).astype(np.float32),
            f"{split}/correct_by_image": correct[split].sum(1, dtype=np.uint8),
        }
        if measurement.follows_gradient:
            share = bench.without_gradient(group.batchnorm, split)
            arrays[f"{split}/without_gradient"] = np.array([share])
        summaries = summary.summarise(levels, loss[split], correct[split], *clean[split])
        arrays |= {f"summary/{split}/{name}": value for name, value in summaries.items()}
    return arrays


def results_at(
    levels: list[float], bench: Bench, measurement: Measurement, group: Group
) -> Iterator[Result]:
    """Yields the results of all repeats and splits at `levels`, all above 0."""
    if not levels:
        return
    if measurement.family == "weights":
        with bench.restored_after():
            yield from perturb_weights(bench, measurement, group, levels)
    else:
        with bench.under(group.batchnorm):
            yield from perturb_inputs(bench, measurement, group, levels)


def perturb_inputs(bench, measurement, group, levels) -> Iterator[Result]:
    """Yields the results of a perturbation of images: a draw for each repeat, split and block."""
    for split in measurement.splits:
        for repeat in range(measurement.repeats):
            keywords = group.variant | measurement.options
            if measurement.repeat_words:
                keywords["repeat"] = measurement.repeat_words[repeat]
            loss, correct = bench.evaluate(
                split, measurement.perturb, levels, (measurement.name, repeat), **keywords
            )
            yield split, repeat, loss, correct


def perturb_weights(bench, measurement, group, levels) -> Iterator[Result]:
    """Yields the results of a perturbation of weights: a draw for each repeat."""
    for repeat in range(measurement.repeats):
        results = {split: [] for split in measurement.splits}
        for _ in at_each_level(bench, measurement, group.variant, levels, repeat):
            bench.settle(group.batchnorm == "recomputed")
            for split in measurement.splits:
                results[split].append(bench.evaluate(split))  # (1, N) at this level
        for split, by_level in results.items():
            losses, corrects = zip(*by_level)
            yield split, repeat, torch.cat(losses), torch.cat(corrects)


@torch.no_grad()
def at_each_level(
    bench: Bench,
    measurement: Measurement,
    tensors: dict[str, Tensor],
    levels: list[float],
    repeat: int,
) -> Iterator[None]:
    """Pauses at each of `levels`, while `tensors`, weights of the network, are perturbed at it.

    One generator draws for all tensors in turn. They are put back at the end.
    """
    generator = seeds.generator("cpu", bench.seed, measurement.name, repeat)
    with bench.restored_after():
        draws = [
            measurement.perturb_weight(weight.clone(), levels, generator)
            for weight in tensors.values()
        ]
        for values in zip(*draws, strict=True):  # of one level, a value for each tensor
            for weight, value in zip(tensors.values(), values, strict=True):
                weight.copy_(value)
            yield
