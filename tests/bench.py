"""Speed, on this machine, in one run: a plain script, the same with amp and channels_last, and
ours, beside what the hardware allows.

    make bench PROFILE=paper

Images are stand-ins of the right shapes (smooth noise, JPEGs of 500 x 375): speed does not depend
on what they show. Every figure is the median of --repeats after a warm-up, its spread beside it.
Writes bench.json, bench.md and scaling.svg into --out.
"""

import copy
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from torch.nn.functional import cross_entropy

from common import cli, devices, provenance
from common.images import packs, prepare
from common.measuring import sweep
from common.measuring.bench import BLOCK, Bench
from common.measuring.measurement import groups, resolve
from common.networks import models, weights
from common.training import loop, pretraining
from common.training.run import Run
from eval import fgsm, gaussian_noise, local_energy

CLASSES, PER_CLASS, WIDTH, HEIGHT = 50, 40, 500, 375
GFLOP = 0.91 / 112**2  # of a forward pass, a pixel: 0.46 GMAC at 112 x 112
MB = 17 / 112**2  # activations moved in training, a pixel, in 16 bits


@dataclass
class Machine:
    """Where speed is measured, and on what."""

    args: SimpleNamespace  # the script's flags
    device: torch.device
    dtype: torch.dtype  # of training
    folder: Path  # for whatever is made: images/{train,val}, pack.h5

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def images(self) -> Path:
        return self.folder / "images"

    @property
    def pack_file(self) -> Path:
        return self.folder / "pack.h5"

    def seconds(self, call: Callable) -> float:
        """How long one call takes."""
        began = perf_counter()
        call()
        if self.on_gpu:
            torch.cuda.synchronize()
        return perf_counter() - began

    def rate(self, amount: float, call: Callable) -> dict[str, float]:
        """{"median", "low", "high"} of amount / seconds, after a warm-up."""
        self.seconds(call)
        return spread([amount / self.seconds(call) for _ in range(self.args.repeats)])


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stand_ins(root: Path, per_class: int, tested: int):
    """root/{train,val}/cKK/*.jpg, `per_class` and `tested` a class.

    64 different JPEGs, linked as often as it takes.
    """
    rng, jpegs = np.random.default_rng(0), []
    for number in range(64):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
        smooth = small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grainy = np.asarray(smooth, np.int16) + rng.integers(-12, 13, (HEIGHT, WIDTH, 3))
        jpegs.append(root / f"{number}.jpg")
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(jpegs[-1], quality=90)
    for split, count in ("train", per_class), ("val", tested):
        for label in range(CLASSES):
            folder = root / split / f"c{label:02}"
            folder.mkdir(parents=True)
            for index in range(count):
                os.link(jpegs[(label + index) % len(jpegs)], folder / f"{index}.jpg")


def ceilings(machine: Machine) -> dict:
    """TFLOP/s of a large matrix product and GB/s of a large copy, reads and writes counted."""
    side = 8192 if machine.on_gpu else 2048
    rates = {}
    for dtype in dict.fromkeys([torch.float32, machine.dtype]):
        matrix = torch.randn(side, side, device=machine.device).to(dtype)
        product = partial(torch.matmul, matrix, matrix)
        rates[f"matrix product, {short(dtype)} (TFLOP/s)"] = machine.rate(
            2 * side**3 / 1e12, product
        )
    source = torch.zeros(side * 65536, dtype=torch.uint8, device=machine.device)
    copy_all = partial(torch.zeros_like(source).copy_, source)
    return rates | {"copy (GB/s)": machine.rate(2 * source.numel() / 1e9, copy_all)}


class Plain:
    """What a user would write: ImageFolder, DataLoader with workers, torchvision's ResNet18, Adam.

    `fast` adds amp and channels_last.
    """

    def __init__(self, machine: Machine, split: str, batch: int, fast: bool):
        size, device = machine.args.image_size, machine.device
        transforms = torchvision.transforms
        self.loader = torch.utils.data.DataLoader(
            torchvision.datasets.ImageFolder(
                machine.images / split,
                transforms.Compose(
                    [
                        transforms.Resize(size),
                        transforms.CenterCrop(size),
                        transforms.ToTensor(),
                    ]
                ),
            ),
            batch,
            shuffle=True,
            num_workers=machine.args.threads,
            drop_last=True,
            persistent_workers=True,
            pin_memory=machine.on_gpu,
        )
        self.device = device
        self.dtype = machine.dtype if fast else torch.float32
        self.format = torch.channels_last if fast else torch.contiguous_format
        model = torchvision.models.resnet18(num_classes=CLASSES)
        self.model = model.to(device, memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, weight_decay=1e-4)

    def batches(self, steps: int):
        """Yields (images, labels), decoded anew. (A warm-up uses those that workers have ready.)"""
        while True:
            for images, labels in self.loader:
                yield (
                    images.to(self.device, memory_format=self.format, non_blocking=True),
                    labels.to(self.device, non_blocking=True),
                )
                steps -= 1
                if not steps:
                    return

    def loss(self, images, labels):
        with devices.autocast(self.device, self.dtype):
            return cross_entropy(self.model(images).float(), labels)

    def train(self, batches):
        self.model.train()
        for images, labels in batches:
            self.optimizer.zero_grad()
            loss = self.loss(images, labels)
            loss.backward()
            self.optimizer.step()
            loss.item()

    @torch.no_grad()
    def evaluate(self, batches, model=None):
        model = (model or self.model).eval()
        for images, labels in batches:
            with devices.autocast(self.device, self.dtype):
                (model(images).argmax(1) == labels).sum().item()

    def fgsm(self, batches, epsilon=0.01):
        self.model.eval()
        for images, labels in batches:
            images.requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(images, labels), images)
            attacked = (images + epsilon * gradient.sign()).clamp(0, 1).detach()
            self.evaluate([(attacked, labels)])

    def local_energy(self, batches, sigma=0.1):
        moved = copy.deepcopy(self.model)
        with torch.no_grad():
            for weight in weights.conv_linear(moved).values():
                weight.mul_(1 + sigma * torch.randn_like(weight))
        self.evaluate(batches, moved)


PLAIN_SCRIPTS = {"plain": False, "amp, channels_last": True}  # {name: fast}


def our_run(machine: Machine, pack: packs.Pack, epochs: int, images: int):
    """(run, step, optimizer) of Adam on `images` images; nothing is evaluated between epochs."""
    flags = {
        "--data": "",
        "--out": machine.folder,
        "--epochs": epochs,
        "--batch-size": machine.args.batch_size,
        "--device": machine.args.device,
    }
    words = [str(word) for flag in flags.items() for word in flag]
    run = Run(
        args=pretraining.parser("").parse_args(words),
        settings={},
        seed=["bench"],
        pack=pack,
        model=models.build("resnet18", CLASSES, 0),
        train=pack.indices("train")[:images],
        measured={},
        checkpoint=machine.folder / "resume.h5",
        method="adam",
        setting="adam",
        name="ours",
    )
    optimizer = run.adam()

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    return run, step, optimizer


def training(machine: Machine) -> tuple[dict, dict]:
    """(images/s of each script and way, what a step's time goes into as fractions)."""
    pack = packs.load(machine.pack_file, machine.device)
    rates = plain_training(machine) | our_training(machine, pack)
    parts, rates["ours: bare forward, backward, step"] = our_step(machine, pack)
    step_seconds = machine.args.batch_size / rates["ours: whole loop"]["median"]
    shares = {name: seconds / step_seconds for name, seconds in parts.items()}
    return rates, shares | {"Python and the rest": 1 - sum(shares.values())}


def plain_training(machine: Machine) -> dict:
    steps, batch = machine.args.steps, machine.args.batch_size
    rates = {}
    for name, fast in PLAIN_SCRIPTS.items():
        plain = Plain(machine, "train", batch, fast)
        script = partial(train_anew, plain, steps)
        rates[f"{name}: whole script"] = machine.rate(steps * batch, script)
        held = list(plain.batches(1)) * steps
        rates[f"{name}: step alone"] = machine.rate(steps * batch, partial(plain.train, held))
    return rates


def train_anew(plain: Plain, steps: int):
    plain.train(plain.batches(steps))


def our_training(machine: Machine, pack: packs.Pack) -> dict:
    """Images/s of the whole loop, checkpoints included."""
    # An epoch has one checkpoint, and a real one hundreds of steps.
    images = max(machine.args.steps, 4) * machine.args.batch_size
    from_file = packs.load(machine.pack_file, machine.device, resident=False)
    ways = {"ours": pack, "ours, images read from the file": from_file}
    if machine.on_gpu:  # a CPU is always deterministic
        ways["ours --deterministic"] = pack
    rates = {}
    for way, its_pack in ways.items():
        devices.choose(machine.device.type, deterministic=way == "ours --deterministic")
        run, step, optimizer = our_run(machine, its_pack, machine.args.repeats + 1, images)
        for _ in loop.epochs(run, step, optimizer):
            run.checkpoint.unlink(missing_ok=True)
        run.checkpoint.unlink(missing_ok=True)
        seconds = run.curves["seconds"][1:]  # the first epoch warms up
        rates[f"{way}: whole loop"] = spread([images / second for second in seconds])
    devices.choose(machine.device.type)
    return rates


def our_step(machine: Machine, pack: packs.Pack) -> tuple[dict, dict]:
    """(seconds of the parts of a step, images/s of steps without the loop), on one batch."""
    args = machine.args
    steps = max(args.steps, 4)
    run, step, optimizer = our_run(machine, pack, 1, steps * args.batch_size)
    if machine.on_gpu:
        run.model.compile(dynamic=False)
    run.model.train()
    index = run.train[: args.batch_size].to(machine.device)
    images, labels = pack.batch(index)
    bare = machine.rate(
        steps * args.batch_size, lambda: [step(images, labels) for _ in range(steps)]
    )
    seconds = {"data": [], "forward": [], "backward": [], "optimizer": []}
    losses = []
    # In turn, as in a step: forward passes in a row would keep their predecessors' activations.
    for _ in range(2 * args.repeats):
        for part, call in {
            "data": lambda: pack.batch(index),
            "forward": lambda: losses.append(run.forward(images, labels)[0]),
            "backward": lambda: run.backward(losses.pop(), optimizer),
            "optimizer": lambda: run.update(optimizer),
        }.items():
            seconds[part].append(machine.seconds(call))
    return {part: statistics.median(values) for part, values in seconds.items()}, bare


def measuring(machine: Machine) -> dict:
    """{what: {script: images x levels a second}} of evaluation, the FGSM sweep, local energy."""
    rates = {"evaluation": {}, "FGSM": {}, "local energy": {}}
    for name, fast in PLAIN_SCRIPTS.items():
        for what, (script, alone) in plain_measuring(machine, fast).items():
            rates[what][f"{name}: whole script"] = script
            rates[what][f"{name}: pass alone"] = alone
    for what, ours in our_measuring(machine).items():
        rates[what] |= ours
    return rates


def plain_measuring(machine: Machine, fast: bool) -> dict:
    """{what: (rate with images decoded anew, rate on one batch that is held)}."""
    plain = Plain(machine, "val", BLOCK, fast)
    calls = {
        "evaluation": plain.evaluate,
        "FGSM": plain.fgsm,
        "local energy": plain.local_energy,
    }
    steps = machine.args.steps
    held = list(plain.batches(1)) * steps
    rates = {}
    for what, call in calls.items():
        script = partial(call_anew, call, plain, steps)
        alone = partial(call, held)
        rates[what] = tuple(machine.rate(steps * BLOCK, each) for each in (script, alone))
    return rates


def call_anew(call: Callable, plain: Plain, steps: int):
    call(plain.batches(steps))


def our_measuring(machine: Machine) -> dict:
    """{what: {"ours": rate, …}}."""
    full = machine.args.full
    pack = packs.load(machine.pack_file, machine.device)
    bench = our_bench(pack, 2500 if full else BLOCK)
    count = len(bench.splits["test"])
    evaluate = partial(bench.evaluate, "test")
    evaluation = {"ours": machine.rate(count, evaluate)}
    bench.pack = packs.load(machine.pack_file, machine.device, resident=False)
    evaluation["ours, images read from the file"] = machine.rate(count, evaluate)
    bench.pack = pack
    bench.splits = {"test": bench.splits["test"]}
    bench.clean("stored")
    epsilons = fgsm.LEVELS if full else fgsm.LEVELS[::6]
    results = {"evaluation": evaluation}
    for what, module, levels in (
        ("FGSM", fgsm, epsilons),
        ("local energy", local_energy, [0.0, 0.1, 0.2]),
    ):
        measurement = replace(resolve(module), levels=levels, repeats=1, splits=["test"])
        group = groups(measurement, bench.model)[0]
        measure = partial(sweep.measure_group, bench, measurement, group)
        results[what] = {"ours": machine.rate(count * (len(levels) - 1), measure)}
    return results


def our_bench(pack: packs.Pack, images: int) -> Bench:
    settings = SimpleNamespace(
        images=images,
        batchnorm_images=500,
        batch_size=0,
        seed=0,
        precision="auto",
        no_compile=False,
    )
    return Bench(models.build("resnet18", CLASSES, 0), pack, settings)


# Linux tells the peak in /proc; what wait4 says would hold this process's own.
WRAPPED = """
import runpy, sys
sys.argv.pop(0)
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


def spawn(*words) -> tuple[float, float]:
    """(seconds, peak memory in MB) of one of our commands."""
    began = perf_counter()
    command = [sys.executable, "-c", WRAPPED, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=provenance.ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[3:])}: failed: {done.stderr[-500:]}")
    return perf_counter() - began, int(done.stdout.split()[-1]) / 1024


def prepare_command(machine: Machine, out: Path, *flags) -> list:
    size = "--image-size", machine.args.image_size
    return ["common.images.prepare", machine.images, "--out", out, *size, *flags]


def packing(machine: Machine) -> dict:
    """Images/s of prepare and of decode + resize alone; GB/s of loading a pack and its checksum."""
    paths = [str(path) for path in sorted(machine.images.glob("*/*/*.jpg"))]

    def decode_all():
        first_byte = partial(decode, size=machine.args.image_size)
        with ProcessPoolExecutor(machine.args.threads) as pool:
            list(pool.map(first_byte, paths, chunksize=prepare.CHUNK))

    command = prepare_command(machine, machine.pack_file, "--val-per-class", 2)
    decoding = machine.rate(len(paths), decode_all)
    packed = machine.rate(len(paths), partial(spawn, *command))
    size = machine.pack_file.stat().st_size / 1e9
    load = partial(packs.load, machine.pack_file, machine.device)
    return {
        "decode and resize alone (images/s)": decoding,
        "packed (images/s)": packed,
        "loaded and checked (GB/s)": machine.rate(size, load),
    }


def decode(path: str, size: int) -> int:
    return int(prepare.picture(path, size)[0, 0, 0])


def scaling(machine: Machine) -> tuple[dict, dict]:
    """Seconds of measuring against images, levels and minima: {what: [(x, seconds)]}.

    Peak memory of packing and measuring against the size of the pack, both in MB.
    """
    pack = packs.load(machine.pack_file, machine.device)
    seconds = {
        "images": sweep_seconds(machine, pack, images=range(1, 6), levels=[1]),
        "levels": sweep_seconds(machine, pack, images=[1], levels=[1, 2, 4, 6, 8]),
    }
    minimum = machine.folder / "adam-0"
    minimum.mkdir(exist_ok=True)

    def battery(pack_file, name):
        save_minimum(minimum, packs.load(pack_file, torch.device("cpu")))
        sizes = "--images", 50, "--batchnorm-images", 50, "--device", machine.args.device
        inputs = "--data", pack_file, "--minimum", minimum
        return spawn("eval.battery", *inputs, "--out", machine.folder / name, *sizes, "clean")

    each = [battery(machine.pack_file, f"{number}.h5")[0] for number in range(3)]
    seconds["minima"] = [(count, sum(each[:count])) for count in (1, 2, 3)]
    memory = {"measuring": [], "packing": []}
    for part in 4, 2, 1:
        out = machine.folder / f"part{part}.h5"
        per_class = machine.args.per_class // part - 2
        flags = "--val-per-class", 2, "--train-per-class", per_class
        _, peak = spawn(*prepare_command(machine, out, *flags))
        size = out.stat().st_size / 2**20
        memory["packing"].append((size, peak))
        memory["measuring"].append((size, battery(out, f"memory{part}.h5")[1]))
    return seconds, memory


def sweep_seconds(machine: Machine, pack: packs.Pack, images, levels) -> list:
    """[(x, seconds)] of a sweep of noise, for each of `images` (in blocks) or `levels`."""
    unit = BLOCK * (8 if machine.on_gpu else 1)
    bench = our_bench(pack, 2500)
    rows = []
    for blocks in images:
        for count in levels:
            bench.splits["test"] = pack.indices("train")[: unit * blocks]
            assert len(bench.splits["test"]) == unit * blocks
            strengths = np.linspace(0.1, 0.5, count).tolist()
            call = partial(
                bench.evaluate, "test", gaussian_noise.perturb, strengths, ("scaling", 0)
            )
            if machine.on_gpu or not rows:  # compiled for every shape
                machine.seconds(call)
            x = unit * blocks if len(levels) == 1 else count
            rows.append((x, machine.seconds(call)))
    return rows


def save_minimum(folder: Path, pack: packs.Pack):
    """An untrained minimum of a pack's data."""
    models.save(
        folder / "weights.safetensors",
        models.build("resnet18", CLASSES, 0).state_dict(),
        arch="resnet18",
        classes=pack.classes,
        image_size=pack.image_size,
        method="adam",
        setting="adam",
        minimum="adam-0",
        start="",
        seed=0,
        data=pack.fingerprint,
    )


def line_fit(rows) -> tuple[float, float, float]:
    """Constant, slope, largest distance from the line as a fraction of the largest value."""
    x, y = np.array(rows).T
    slope, constant = np.polyfit(x, y, 1)
    return constant, slope, np.abs(constant + slope * x - y).max() / y.max()


def draw(path: Path, seconds: dict, memory: dict):
    """Writes scaling.svg: a panel for each of `seconds`, and one for `memory`."""
    panels = [(f"seconds against {what}", [(what, rows)]) for what, rows in seconds.items()]
    panels.append(("peak MB against MB of pack", list(memory.items())))
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    for axis, (title, series) in zip(figure.subplots(1, len(panels)), panels):
        for name, rows in series:
            constant, slope, _ = line_fit(rows)
            x, y = np.array(rows).T
            axis.plot(x, y, "o", label=f"{name}: {constant:.3g} + {slope:.3g} x")
            axis.plot([0, x.max()], [constant, constant + slope * x.max()], color="grey", lw=0.8)
        axis.set(title=title, ylim=(0, None), xlim=(0, None))
        axis.legend(fontsize=7)
    figure.savefig(path)


def limits(result: dict, machine: Machine) -> dict:
    """What we reach as a fraction of what matrix products and copies allow."""
    pixels = machine.args.image_size**2
    ceiling = {name: rate["median"] for name, rate in result["ceilings"].items()}
    product = ceiling[f"matrix product, {short(machine.dtype)} (TFLOP/s)"]
    tflop = GFLOP * pixels / 1000  # of a forward pass
    trained = result["training"]["ours: whole loop"]["median"]
    evaluated = result["measuring"]["evaluation"]["ours"]["median"]
    kind = short(devices.measuring_dtype(machine.device))
    forward_product = ceiling.get(f"matrix product, {kind} (TFLOP/s)", product)
    return {
        "training, matrix product": trained * 3 * tflop / product,
        "training, memory": trained * MB * pixels / 1000 / ceiling["copy (GB/s)"],
        f"evaluation, matrix product in {kind}": evaluated * tflop / forward_product,
    }


def table(result: dict, args) -> str:
    """The result as Markdown."""

    def line(name, rate, base=None):
        ratio = f"{rate['median'] / base['median']:.2f}" if base else ""
        spread = f"{rate['low']:,.5g} – {rate['high']:,.5g}"
        return f"| {name} | {rate['median']:,.5g} | {spread} | {ratio} |"

    by_script = {"training (images/s)": result["training"]}
    for what, rates in result["measuring"].items():
        by_script[f"{what} (images x levels/s)"] = rates
    lines = [
        f"{result['device']}; {result['cores']} cores; torch {torch.__version__}; "
        f"{args.image_size} px, batch {args.batch_size}; median of {args.repeats}, "
        f"stand-in pixels; commit {provenance.commit()}.",
        "",
        "| | median | range | / plain, whole script |",
        "|---|---|---|---|",
    ]
    for what, rates in by_script.items():
        base = rates["plain: whole script"]
        lines += [line(f"{what}, {name}", rate, base) for name, rate in rates.items()]
    for what in "ceilings", "packing":
        lines += [line(name, rate) for name, rate in result[what].items()]
    shares = [f"{name} {100 * share:.1f} %" for name, share in result["shares"].items()]
    allowed = [f"{name} {100 * value:.0f} %" for name, value in result["limits"].items()]
    linear = [
        f"{name} {constant:.3g} + {slope:.3g} x (at most {100 * off:.1f} % off)"
        for name, (constant, slope, off) in result["fits"].items()
    ]
    lines += [
        "",
        f"Of a training step: {', '.join(shares)}.",
        f"Ours / what the ceilings allow: {', '.join(allowed)}.",
        f"Linear: {'; '.join(linear)}.",
    ]
    return "\n".join(lines) + "\n"


def parse():
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--out", required=True, type=Path, metavar="FOLDER")
    add("--image-size", type=cli.count, default=112, help="side in pixels")
    add(
        "--batch-size",
        type=cli.count,
        default=256,
        help="of training; measuring takes what it takes in a study",
    )
    add("--repeats", type=cli.count, default=3)
    add(
        "--steps", type=cli.natural, default=0, help="batches a repeat; 0: 1 on a CPU, 100 on a GPU"
    )
    add(
        "--per-class",
        type=cli.natural,
        default=0,
        help="training JPEGs a class; 0: enough for the steps",
    )
    add(
        "--threads",
        type=cli.count,
        default=len(os.sched_getaffinity(0)),
        help="of one process, and workers",
    )
    add("--full", action="store_true", help="all 31 levels of FGSM")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"])
    args = parser.parse_args()
    args.device = devices.choose(args.device).type
    on_gpu = args.device == "cuda"
    args.steps = args.steps or (100 if on_gpu else 1)
    needed = math.ceil(args.steps * args.batch_size / CLASSES) + 2
    args.per_class = args.per_class or max(PER_CLASS, needed)
    args.full |= on_gpu
    return args


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    dtype = devices.training_dtype(device)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "device": devices.describe(device, dtype),
        "cores": args.threads,
        "python": platform.python_version(),
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": json.loads(provenance.versions()),
    }

    def write_result():
        (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")

    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        machine = Machine(args, device, dtype, Path(folder))
        machine.images.mkdir()
        stand_ins(machine.images, args.per_class, 50 if machine.on_gpu else 10)
        for measure in ceilings, packing, training, measuring, scaling:
            began = perf_counter()
            result[measure.__name__] = measure(machine)
            write_result()  # what is cut short keeps what it has
            print(f"{measure.__name__}: {perf_counter() - began:.0f} s", flush=True)
    result["training"], result["shares"] = result["training"]
    result["scaling"], result["memory"] = result["scaling"]
    result["fits"] = {
        f"seconds by {what}": line_fit(rows) for what, rows in result["scaling"].items()
    } | {
        f"peak MB of {what} by MB of pack": line_fit(rows)
        for what, rows in result["memory"].items()
    }
    result["limits"] = limits(result, machine)
    write_result()
    (args.out / "bench.md").write_text(table(result, args))
    draw(args.out / "scaling.svg", result["scaling"], result["memory"])
    print(table(result, args))


if __name__ == "__main__":
    main()
