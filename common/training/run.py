"""What one training run is made of: its data, its network, its numbers' precision, and the three
moves of a step: forward, backward, update.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common import cli, devices, settings
from common.images.packs import Pack
from common.networks import models
from common.training import processes


def add_flags(parser, epochs: int, lr: float, weight_decay: float) -> cli.Parser:
    """Adds the flags that pretraining and finetuning share; the defaults are the protocol's."""
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="pack of images")
    add("--epochs", type=cli.count, default=epochs, help="passes over the training images")
    add(
        "--batch-size",
        type=cli.count,
        default=256,
        help="images a step; an epoch's incomplete last batch is dropped",
    )
    add("--lr", type=cli.rate, default=lr, help="Adam's lr")
    add("--weight-decay", type=cli.amount, default=weight_decay, help="coupled (L2) weight decay")
    add(
        "--decay-from",
        type=cli.fraction,
        default=1.0,
        metavar="FRACTION",
        help="lr is constant up to this fraction of training, then falls linearly to 0",
    )
    add(
        "--train-images",
        type=cli.count,
        default=2500,
        help="training images whose eval-mode curve is recorded",
    )
    add(
        "--precision",
        default="auto",
        choices=["auto", "bfloat16", "float16", "float32"],
        help="autocast of the step",
    )
    add(
        "--checkpoint-every",
        type=cli.amount,
        default=30,
        metavar="SECONDS",
        help="what a kill loses at most, rounded up to an epoch; a checkpoint has three times the "
        "size of the weights",
    )
    add(
        "--setting",
        metavar="WORD",
        help="what this run is called, such as noisy_adam@sigma_0.1; its flags win over all others "
        "(without it: the script's own name)",
    )
    devices.flags(parser)
    return parser


def setting_of(args, script: str) -> str:
    """The word of --setting; without it, the name of the file `script`, a method or a mode.

    SystemExit where the word is of another file.
    """
    name = Path(script).stem
    word = name if args.setting is None else args.setting
    if settings.method(word) != name:
        raise SystemExit(
            f"--setting {word}: is a setting of {settings.method(word)}, and this is {name}; run "
            f"that one, or write {name}@FLAG_VALUE"
        )
    return word


@dataclass(kw_only=True)
class Run:
    """One training run. The loop writes `curves` and the 0-d tensor `lr`; a step reads the rest.

    Raises SystemExit where the batch does not fit the training images or the processes.
    """

    args: SimpleNamespace  # the script's flags
    settings: dict  # what the result depends on, JSON-able
    seed: list  # all randomness of the run derives from it
    pack: Pack
    model: torch.nn.Module
    train: Tensor  # indices of the images that are trained on
    measured: dict[str, Tensor]  # {split: indices} whose loss and accuracy are recorded each epoch
    checkpoint: Path
    method: str  # the method or mode: its file's name
    setting: str  # its word: the method or mode, and the flags that it stands for
    name: str  # in what is printed: begins with the minimum
    at_end: tuple[
        str, ...
    ] = ()  # splits of `measured` that are measured after the last epoch alone
    source: object = None  # of finetuning: a forgetting.Source, the task that it started from

    device: torch.device = field(init=False)
    dtype: torch.dtype = field(init=False)  # autocast of the step
    lr: Tensor = field(init=False)  # 0-d: a compiled or recorded step reads it anew each time
    generator: torch.Generator = field(init=False)  # of a step's noise; seeded anew each epoch
    scaler: torch.amp.GradScaler = field(init=False)  # does something for float16 alone
    curves: dict[str, list] = field(init=False)
    rows: slice = field(init=False)  # which images of a batch this process takes: all, mostly
    net: torch.nn.Module = field(init=False)  # `model` as the step calls it

    def __post_init__(self):
        batch_size = self.args.batch_size
        if batch_size > len(self.train):
            raise SystemExit(
                f"--batch-size {batch_size}: larger than the {len(self.train)} training images of "
                f"{self.args.data}; give a smaller one"
            )
        if batch_size < processes.WORLD:
            raise SystemExit(
                f"--batch-size {batch_size}: fewer images than the {processes.WORLD} processes"
            )
        least = batch_size // processes.WORLD
        if least == 1 and (why := models.why_not(self.model, least, self.pack.image_size)):
            raise SystemExit(
                f"--batch-size {batch_size}: one image at a time is too little for this network's "
                f"BatchNorm ({why}); give {2 * processes.WORLD} or more"
            )
        self.device = self.pack.device
        self.dtype = devices.training_dtype(self.device, self.args.precision)
        self.model = self.net = self.model.to(self.device)
        self.lr = torch.tensor(self.args.lr, device=self.device)
        self.generator = torch.Generator(self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.curves = defaultdict(list)
        self.rows = processes.rows(batch_size)

    @property
    def steps(self) -> int:
        """Steps an epoch: its full batches."""
        return len(self.train) // self.args.batch_size

    @property
    def share(self) -> float:
        """This process's fraction of a batch: 1, unless torchrun started several."""
        return (self.rows.stop - self.rows.start) / self.args.batch_size

    @property
    def compiled(self) -> bool:
        """Whether the network is compiled: on a GPU, unless --no-compile."""
        return self.device.type == "cuda" and not self.args.no_compile

    def adam(self, parameters=None) -> torch.optim.Adam:
        """Adam with --weight-decay on `parameters` (default: all), its lr the tensor `lr`."""
        return torch.optim.Adam(
            self.model.parameters() if parameters is None else parameters,
            lr=self.lr,
            weight_decay=self.args.weight_decay,
            fused=True,
            capturable=self.device.type == "cuda",
        )

    def randn(self, images: Tensor) -> Tensor:
        """N(0, 1) of the shape of `images`.

        Drawn for the whole batch by every process, so that it does not depend on their number.
        """
        shape = self.args.batch_size, *images.shape[1:]
        return torch.randn(shape, generator=self.generator, device=images.device)[self.rows]

    def forward(self, images: Tensor, labels: Tensor, reduction="mean") -> tuple[Tensor, Tensor]:
        """(loss in nats, float32; logits (N, classes)) under the run's autocast."""
        with devices.autocast(self.device, self.dtype):
            logits = self.net(images)
        return cross_entropy(logits.float(), labels, reduction=reduction), logits

    def backward(self, loss: Tensor, optimizer):
        """Fresh gradients of the loss, over the whole batch where several processes share it."""
        optimizer.zero_grad(set_to_none=True)
        # DistributedDataParallel takes the plain mean over processes. With the loss weighted by
        # this process's rows, that is the mean over the batch.
        self.scaler.scale(loss * (self.share * processes.WORLD)).backward()

    def update(self, optimizer):
        """One update with the gradients that are there."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def descend(self, loss: Tensor, optimizer):
        """Backward and update: what most steps end with."""
        self.backward(loss, optimizer)
        self.update(optimizer)
