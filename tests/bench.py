"""Speed, on this machine, in one run: a plain script, the same with amp and channels_last, and ours, beside what the hardware allows.

    make bench PROFILE=paper

Images are stand-ins of the right shapes (smooth noise, JPEGs of 500 x 375): speed does not depend on what they show. Every figure is the median
of --repeats after a warm-up, its spread beside it. Writes bench.json, bench.md and scaling.svg into --out.
"""

import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from torch.nn.functional import cross_entropy

from common import cli, devices, files, provenance
from common.images import packs, prepare
from common.measuring import sweep
from common.measuring.bench import BLOCK, Bench
from common.measuring.measurement import groups, resolve
from common.networks import models, weights
from common.training import loop, pretraining

CLASSES, PER_CLASS, WIDE, HIGH = 50, 40, 500, 375
GFLOP = 0.91 / 112**2  # of a forward pass, a pixel: 0.46 GMAC at 112 x 112
MB = 17 / 112**2  # activations moved in training, a pixel, in 16 bits


def stand_ins(root, per_class, tested):
    """root/{train,val}/cKK/*.jpg, `per_class` and `tested` a class: 64 different JPEGs, linked as often as it takes."""
    rng, kept = np.random.default_rng(0), []
    for k in range(64):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).resize(
            (WIDE, HIGH), Image.Resampling.BICUBIC
        )
        grain = np.asarray(small, np.int16) + rng.integers(-12, 13, (HIGH, WIDE, 3))
        kept.append(root / f"{k}.jpg")
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(kept[-1], quality=90)
    for split, count in ("train", per_class), ("val", tested):
        for label in range(CLASSES):
            folder = root / split / f"c{label:02}"
            folder.mkdir(parents=True)
            for index in range(count):
                os.link(kept[(label + index) % len(kept)], folder / f"{index}.jpg")


class Clock:
    """Times calls on a device."""

    def __init__(self, device, repeats):
        self.device, self.repeats = device, repeats

    def once(self, call):
        began = perf_counter()
        call()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return perf_counter() - began

    def rate(self, amount, call):
        """{"median", "low", "high"} of amount / seconds."""
        self.once(call)
        return spread([amount / self.once(call) for _ in range(self.repeats)])


def spread(values):
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ceilings(clock, dtype):
    """TFLOP/s of a large matrix product and GB/s of a large copy, reads and writes counted."""
    side = 8192 if clock.device.type == "cuda" else 2048
    found = {}
    for name, kind in ("float32", torch.float32), (str(dtype)[6:], dtype):
        a = torch.randn(side, side, device=clock.device).to(kind)
        found[f"matrix product, {name} (TFLOP/s)"] = clock.rate(2 * side**3 / 1e12, lambda: a @ a)
    a = torch.zeros(side * 65536, dtype=torch.uint8, device=clock.device)
    b = torch.zeros_like(a)
    return found | {"copy (GB/s)": clock.rate(2 * a.numel() / 1e9, lambda: b.copy_(a))}


class Plain:
    """What a user would write: ImageFolder, DataLoader with workers, torchvision's ResNet18, Adam; `fast` adds amp and channels_last."""

    def __init__(self, root, size, batch, workers, device, dtype, fast):
        kinds = torchvision.transforms
        folder = torchvision.datasets.ImageFolder(
            root, kinds.Compose([kinds.Resize(size), kinds.CenterCrop(size), kinds.ToTensor()])
        )
        self.loader = torch.utils.data.DataLoader(
            folder,
            batch,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self.device, self.dtype, self.batch = device, dtype if fast else torch.float32, batch
        self.format = torch.channels_last if fast else torch.contiguous_format
        self.model = torchvision.models.resnet18(num_classes=CLASSES).to(
            device, memory_format=self.format
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-3, weight_decay=1e-4)

    def batches(self, steps):
        """(images, labels), decoded anew: the first ones that the workers have ready are not counted by whoever warms up."""
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
        (model or self.model).eval()
        for images, labels in batches:
            with devices.autocast(self.device, self.dtype):
                ((model or self.model)(images).argmax(1) == labels).sum().item()

    def fgsm(self, batches, epsilon):
        self.model.eval()
        for images, labels in batches:
            images.requires_grad_()
            (gradient,) = torch.autograd.grad(self.loss(images, labels), images)
            self.evaluate([((images + epsilon * gradient.sign()).clamp(0, 1).detach(), labels)])

    def local_energy(self, batches, sigma):
        moved = copy.deepcopy(self.model)
        with torch.no_grad():
            for weight in weights.conv_linear(moved).values():
                weight.mul_(1 + sigma * torch.randn_like(weight))
        self.evaluate(batches, moved)


def our_run(args, pack, folder, epochs, images):
    """The Run of Adam, and its fit, on `images` training images; nothing is evaluated between epochs."""
    words = [
        "--data",
        "",
        "--out",
        str(folder),
        "--epochs",
        str(epochs),
        "--batch-size",
        str(args.batch_size),
        "--device",
        args.device,
    ]
    own = pretraining.parser("").parse_args(words)
    run = loop.start(
        own,
        {},
        ["bench"],
        pack,
        models.build("resnet18", CLASSES, 0),
        pack.indices("train")[:images],
        {},
        folder / "resume.h5",
        "ours",
    )
    optimizer = loop.adam(run)

    def step(images, labels):
        loss, logits = run.forward(images, labels)
        run.descend(loss, optimizer)
        return loss, logits

    return run, optimizer, step


def training(args, clock, root, pack, folder, workers, dtype):
    steps, batch = args.steps, args.batch_size
    found, images = {}, steps * batch
    for name, fast in ("plain", False), ("amp, channels_last", True):
        plain = Plain(root / "train", args.image_size, batch, workers, clock.device, dtype, fast)
        found[f"{name}: whole script"] = clock.rate(
            images, lambda: plain.train(plain.batches(steps))
        )
        held = list(plain.batches(1)) * steps
        found[f"{name}: step alone"] = clock.rate(images, lambda: plain.train(held))
    steps = max(steps, 4)  # an epoch has one checkpoint, and a real one hundreds of steps
    images = steps * batch
    ways = {
        "ours": pack,
        "ours, images read from the file": packs.load(
            folder / "pack.h5", clock.device, resident=False
        ),
        "ours --deterministic": pack,
    }
    for way in list(ways)[: 2 + (clock.device.type == "cuda")]:  # a CPU is always deterministic
        devices.choose(clock.device.type, way == "ours --deterministic")
        run, optimizer, step = our_run(args, ways[way], folder, args.repeats + 1, images)
        for _ in loop.fit(run, step, optimizer):
            (folder / "resume.h5").unlink(missing_ok=True)
        found[f"{way}: whole loop"] = spread(
            [images / seconds for seconds in run.curves["seconds"][1:]]
        )
    devices.choose(clock.device.type)
    # The same network and precision, step by step on one batch: what the loop adds, and where the time goes.
    run, optimizer, step = our_run(args, pack, folder, 1, images)
    if clock.device.type == "cuda":
        run.model.compile(dynamic=False)
    at = run.train[:batch].to(clock.device)
    held, labels = pack.batch(at)
    run.model.train()

    bare = clock.rate(images, lambda: [step(held, labels) for _ in range(steps)])
    seconds = {"data": [], "forward": [], "backward": [], "optimizer": []}
    for _ in range(
        2 * args.repeats
    ):  # in turn, as in a step: a forward pass that keeps its predecessors' activations measures memory
        seconds["data"].append(clock.once(lambda: pack.batch(at)))
        losses = []
        seconds["forward"].append(clock.once(lambda: losses.append(run.forward(held, labels)[0])))
        seconds["backward"].append(clock.once(lambda: run.backward(losses.pop(), optimizer)))
        seconds["optimizer"].append(clock.once(lambda: run.update(optimizer)))
    parts = {name: statistics.median(values) for name, values in seconds.items()}
    found["ours: bare forward, backward, step"] = bare
    total = batch / found["ours: whole loop"]["median"]
    shares = {name: seconds / total for name, seconds in parts.items()}
    return found, shares | {"Python and the rest": 1 - sum(shares.values())}


def measuring(args, clock, root, pack, folder, workers, dtype):
    """{what: {script: rate}} of evaluation, the FGSM sweep and local energy, in images x levels a second."""
    found = {"evaluation": {}, "FGSM": {}, "local energy": {}}
    steps, batch = args.steps, BLOCK
    for name, fast in ("plain", False), ("amp, channels_last", True):
        plain = Plain(root / "val", args.image_size, batch, workers, clock.device, dtype, fast)
        for what, call in (
            ("evaluation", plain.evaluate),
            ("FGSM", partial(plain.fgsm, epsilon=0.01)),
            ("local energy", partial(plain.local_energy, sigma=0.1)),
        ):
            found[what][f"{name}: whole script"] = clock.rate(
                steps * batch, lambda: call(plain.batches(steps))
            )
            held = list(plain.batches(1)) * steps
            found[what][f"{name}: pass alone"] = clock.rate(steps * batch, lambda: call(held))
    bench = our_bench(pack, 2500 if args.full else batch)
    count = len(bench.splits["test"])
    fgsm, energy = (
        replace(resolve(import_module(f"eval.{name}")), splits=("test",))
        for name in ("fgsm", "local_energy")
    )
    found["evaluation"]["ours"] = clock.rate(count, lambda: bench.evaluate("test"))
    bench.pack = packs.load(folder / "pack.h5", clock.device, resident=False)
    found["evaluation"]["ours, images read from the file"] = clock.rate(
        count, lambda: bench.evaluate("test")
    )
    bench.pack = pack
    levels = fgsm.levels if args.full else fgsm.levels[::6]
    bench.splits = {"test": bench.splits["test"]}
    bench.clean("stored")
    for name, measurement in (
        ("FGSM", replace(fgsm, levels=levels)),
        ("local energy", replace(energy, levels=[0, 0.1, 0.2], repeats=1)),
    ):
        group = groups(measurement, bench.model)[0]
        found[name]["ours"] = clock.rate(
            count * (len(measurement.levels) - 1),
            partial(sweep.measure_group, bench, measurement, group),
        )
    return found


def our_bench(pack, images):
    return Bench(
        models.build("resnet18", CLASSES, 0),
        pack,
        SimpleNamespace(
            images=images,
            batchnorm_images=500,
            batch_size=0,
            seed=0,
            precision="auto",
            no_compile=False,
        ),
    )


def bare(path, size):
    """Decode and resize alone."""
    return int(prepare.picture(path, size)[0, 0, 0])


WRAPPED = """
import runpy, sys
sys.argv.pop(0)
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""


def spawn(*words):
    """(seconds, peak memory in MB) of one of our commands. Linux tells the peak; what wait4 says would hold this process's own."""
    began = perf_counter()
    words = list(map(str, words))
    done = subprocess.run(
        [sys.executable, "-c", WRAPPED, *words], capture_output=True, text=True, cwd=provenance.ROOT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: failed: {done.stderr[-500:]}")
    return perf_counter() - began, int(done.stdout.split()[-1]) / 1024


def packing(args, clock, root, folder, workers):
    """images/s of prepare and of decode + resize alone; GB/s of loading the pack with its checksum."""
    paths = [str(path) for path in sorted(root.glob("*/*/*.jpg"))]

    def alone():
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(partial(bare, size=args.image_size), paths, chunksize=prepare.CHUNK))

    words = [
        "common.images.prepare",
        root,
        "--out",
        folder / "pack.h5",
        "--image-size",
        args.image_size,
        "--val-per-class",
        2,
    ]
    found = {
        "decode and resize alone (images/s)": clock.rate(len(paths), alone),
        "packed (images/s)": clock.rate(len(paths), lambda: spawn(*words)),
    }
    size = (folder / "pack.h5").stat().st_size / 1e9
    return found | {
        "loaded and checked (GB/s)": clock.rate(
            size, lambda: packs.load(folder / "pack.h5", clock.device)
        )
    }


def scaling(args, clock, root, folder):
    """{what: [(x, seconds or MB), …]}: measuring against images, levels and minima; peak memory of packing and measuring against pack size."""
    pack = packs.load(folder / "pack.h5", clock.device)
    found, base = {}, BLOCK * (8 if clock.device.type == "cuda" else 1)
    bench, noise = our_bench(pack, 2500), import_module("eval.gaussian_noise")
    everything = pack.indices("train")
    for what, xs in ("images", [base * k for k in range(1, 6)]), ("levels", [1, 2, 4, 6, 8]):
        rows = []
        for x in xs:
            bench.splits["test"] = everything[: x if what == "images" else base]
            assert len(bench.splits["test"]) == (x if what == "images" else base)
            levels = np.linspace(0.1, 0.5, x if what == "levels" else 1).tolist()
            run = partial(bench.evaluate, "test", noise.perturb, levels, ("scaling", 0))
            if clock.device.type == "cuda" or not rows:  # compiled for every shape
                clock.once(run)
            rows.append((x, clock.once(run)))
        found[what] = rows
    minimum = folder / "adam-0"
    minimum.mkdir(exist_ok=True)
    models.save(
        minimum / "weights.safetensors",
        models.build("resnet18", CLASSES, 0).state_dict(),
        arch="resnet18",
        classes=pack.classes,
        image_size=pack.image_size,
        method="adam",
        setting="adam",
        seed=0,
        data=pack.fingerprint,
    )
    battery = [
        "eval.battery",
        "--data",
        folder / "pack.h5",
        "--minimum",
        minimum,
        "--images",
        50,
        "--batchnorm-images",
        50,
        "--device",
        args.device,
        "clean",
        "--out",
    ]
    seconds = [spawn(*battery, folder / f"{k}.h5")[0] for k in range(3)]
    found["minima"] = [(k + 1, sum(seconds[: k + 1])) for k in range(3)]
    memory = {"measuring": [], "packing": []}
    for part in 4, 2, 1:
        own = folder / f"part{part}.h5"
        peak = spawn(
            "common.images.prepare",
            root,
            "--out",
            own,
            "--image-size",
            args.image_size,
            "--val-per-class",
            2,
            "--train-per-class",
            args.per_class // part - 2,
        )[1]
        fingerprint = packs.load(own, torch.device("cpu")).fingerprint
        models.save(
            minimum / "weights.safetensors",
            models.build("resnet18", CLASSES, 0).state_dict(),
            arch="resnet18",
            classes=pack.classes,
            image_size=pack.image_size,
            method="adam",
            setting="adam",
            seed=0,
            data=fingerprint,
        )
        at = own.stat().st_size / 2**20
        memory["packing"].append((at, peak))
        memory["measuring"].append(
            (at, spawn("eval.battery", "--data", own, *battery[3:], folder / f"memory{part}.h5")[1])
        )
    return found, memory


def fits(rows):
    """constant, slope, and the largest distance from the line as a fraction of the largest value."""
    x, y = np.array(rows).T
    slope, constant = np.polyfit(x, y, 1)
    return constant, slope, np.abs(constant + slope * x - y).max() / y.max()


def draw(path, found, memory):
    panels = [(f"seconds against {what}", [(what, rows)]) for what, rows in found.items()] + [
        ("peak MB against MB of pack", list(memory.items()))
    ]
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    for axis, (title, series) in zip(figure.subplots(1, len(panels)), panels):
        for name, rows in series:
            constant, slope, _ = fits(rows)
            x, y = np.array(rows).T
            axis.plot(x, y, "o", label=f"{name}: {constant:.3g} + {slope:.3g} x")
            axis.plot([0, x.max()], [constant, constant + slope * x.max()], color="grey", lw=0.8)
        axis.set(title=title, ylim=(0, None), xlim=(0, None))
        axis.legend(fontsize=7)
    figure.savefig(path)


def table(result, args):
    """The result as Markdown."""

    def line(name, rate, base=None):
        ratio = f"{rate['median'] / base['median']:.2f}" if base else ""
        return f"| {name} | {rate['median']:,.5g} | {rate['low']:,.5g} – {rate['high']:,.5g} | {ratio} |"

    lines = [
        f"{result['device']}; {result['cores']} cores; torch {torch.__version__}; {args.image_size} px, batch {args.batch_size}; "
        f"median of {args.repeats}, stand-in pixels; commit {provenance.commit()}.",
        "",
        "| | median | range | / plain, whole script |",
        "|---|---|---|---|",
    ]
    for what, rates in {
        "training (images/s)": result["training"],
        **{f"{what} (images x levels/s)": own for what, own in result["measuring"].items()},
    }.items():
        lines += [
            line(f"{what}, {name}", rate, rates["plain: whole script"])
            for name, rate in rates.items()
        ]
    lines += [
        line(name, rate) for part in ("ceilings", "packing") for name, rate in result[part].items()
    ]
    lines += [
        "",
        "Of a training step: "
        + ", ".join(f"{name} {100 * share:.1f} %" for name, share in result["shares"].items())
        + ".",
        "Ours / what the ceilings allow: "
        + ", ".join(f"{name} {100 * value:.0f} %" for name, value in result["limits"].items())
        + ".",
        "Linear: "
        + "; ".join(
            f"{name} {constant:.3g} + {slope:.3g} x (at most {100 * off:.1f} % off)"
            for name, (constant, slope, off) in result["fits"].items()
        )
        + ".",
    ]
    return "\n".join(lines) + "\n"


def main():
    parser = cli.Parser(__doc__)
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--image-size", type=cli.count, default=112, help="side in pixels")
    parser.add_argument(
        "--batch-size",
        type=cli.count,
        default=256,
        help="of training; measuring takes what it takes in a study",
    )
    parser.add_argument("--repeats", type=cli.count, default=3)
    parser.add_argument(
        "--steps", type=cli.whole, default=0, help="batches a repeat; 0: 1 on a CPU, 100 on a GPU"
    )
    parser.add_argument(
        "--per-class",
        type=cli.whole,
        default=0,
        help="training JPEGs a class; 0: enough for the steps",
    )
    parser.add_argument(
        "--threads",
        type=cli.count,
        default=len(os.sched_getaffinity(0)),
        help="of one process, and workers",
    )
    parser.add_argument("--full", action="store_true", help="all 31 levels of FGSM")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = devices.choose(args.device)
    args.steps = args.steps or (100 if device.type == "cuda" else 1)
    args.per_class = args.per_class or max(
        PER_CLASS, -(-args.steps * args.batch_size // CLASSES) + 2
    )
    args.full |= device.type == "cuda"
    clock, dtype = Clock(device, args.repeats), devices.training_dtype(device)
    args.out.mkdir(parents=True, exist_ok=True)
    result = {
        "device": devices.describe(device, dtype),
        "cores": args.threads,
        "python": platform.python_version(),
        "command": provenance.command(),
        "commit": provenance.commit(),
        "versions": json.loads(provenance.versions()),
    }
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        folder = Path(folder)
        root = folder / "images"
        root.mkdir()
        stand_ins(root, args.per_class, 50 if device.type == "cuda" else 10)
        for what, call in {
            "ceilings": lambda: ceilings(clock, dtype),
            "packing": lambda: packing(args, clock, root, folder, args.threads),
            "training": lambda: training(
                args,
                clock,
                root,
                packs.load(folder / "pack.h5", device),
                folder,
                args.threads,
                dtype,
            ),
            "measuring": lambda: measuring(
                args,
                clock,
                root,
                packs.load(folder / "pack.h5", device),
                folder,
                args.threads,
                dtype,
            ),
            "scaling": lambda: scaling(args, clock, root, folder),
        }.items():
            began = perf_counter()
            result[what] = call()
            (args.out / "bench.json").write_text(
                json.dumps(result, indent=1) + "\n"
            )  # what is cut short keeps what it has
            print(f"{what}: {perf_counter() - began:.0f} s", flush=True)
    result["training"], result["shares"] = result["training"]
    result["scaling"], result["memory"] = result["scaling"]
    result["fits"] = {
        name: fits(rows)
        for name, rows in {
            **{f"seconds by {what}": rows for what, rows in result["scaling"].items()},
            **{f"peak MB of {what} by MB of pack": rows for what, rows in result["memory"].items()},
        }.items()
    }
    product = {name: rate["median"] for name, rate in result["ceilings"].items()}
    flops = GFLOP * args.image_size**2 / 1000  # TFLOP of a forward pass
    ours, swept = (
        result["training"]["ours: whole loop"]["median"],
        result["measuring"]["evaluation"]["ours"]["median"],
    )
    kind = str(devices.measuring_dtype(device))[6:]
    result["limits"] = {
        "training, matrix product": ours
        * 3
        * flops
        / product[f"matrix product, {str(dtype)[6:]} (TFLOP/s)"],
        "training, memory": ours * MB * args.image_size**2 / 1000 / product["copy (GB/s)"],
        f"evaluation, matrix product in {kind}": swept
        * flops
        / product.get(
            f"matrix product, {kind} (TFLOP/s)",
            product[f"matrix product, {str(dtype)[6:]} (TFLOP/s)"],
        ),
    }
    (args.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "bench.md").write_text(table(result, args))
    draw(args.out / "scaling.svg", result["scaling"], result["memory"])
    print(table(result, args))


if __name__ == "__main__":
    main()
