"""A network on its images: what one needs to put a measured number on them."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common import cli, devices, seeds
from common.images.packs import Pack
from common.measuring.measurement import SPLITS
from common.networks import batchnorm, folding, weights

BLOCK = 250  # images that share a generator, by their place in the split: whatever the batch size
BLOCKS_ON_GPU = 10  # blocks in a batch, where --batch-size leaves it to us


def add_flags(parser: cli.Parser) -> cli.Parser:
    """Adds the flags of everything that measures."""
    add = parser.add_argument
    add("--data", required=True, metavar="FILE", help="pack of images")
    add(
        "--images",
        type=cli.count,
        default=2500,
        metavar="N",
        help="images measured of each of train and test, stratified",
    )
    add(
        "--batchnorm-images",
        type=cli.integer(2),
        default=2500,
        metavar="N",
        help="training images over which BatchNorm statistics are recomputed",
    )
    add(
        "--batch-size",
        type=cli.natural,
        default=0,
        metavar="N",
        help=f"images at once, rounded up to whole blocks of {BLOCK}; 0: {BLOCK} on a CPU, "
        f"{BLOCKS_ON_GPU * BLOCK} on a GPU",
    )
    add(
        "--seed",
        type=cli.natural,
        default=0,
        help="of the random draws; the same for all minima that are compared",
    )
    add(
        "--precision",
        default="auto",
        choices=["auto", "float16", "float32"],
        help="of forward passes; gradients are float32. auto: float16 on a GPU, float32 on a CPU",
    )
    devices.flags(parser)
    return parser


class Bench:
    """A network on its images, in eval mode; no parameter asks for a gradient.

    The network is there three times:

    `model`   as it was trained, float32. Whoever moves weights moves these, and calls `settle`.
    `folded`  the same function with each BatchNorm folded into the convolution before it, float32:
              faster. Perturbations of images get it, and take gradients through it.
    `fast`    `folded` in the precision of --precision, and compiled on a GPU: images are measured
              on it. On a CPU it is `folded` itself.

    A network that cannot be folded is all three.
    """

    def __init__(self, model: nn.Module, pack: Pack, args):
        self.model = model.to(pack.device).eval().requires_grad_(False)
        self.pack = pack
        self.seed = args.seed
        self.dtype = devices.measuring_dtype(pack.device, args.precision)
        self.folded, self.fast, self.refold = folding.fold(self.model, self.dtype)
        if self.fast is self.folded:  # float32, or it could not be folded
            self.dtype = torch.float32
        on_gpu = pack.device.type == "cuda"
        if on_gpu and not args.no_compile and self.fast is not self.model:
            self.fast.compile(dynamic=False)
        self.splits = {split: pack.subset(split, args.images) for split in SPLITS}
        self.batchnorm_images = pack.subset("train", args.batchnorm_images)
        if len(self.batchnorm_images) < 2 and batchnorm.layers(self.model):
            raise SystemExit(
                f"{args.data}: {len(self.batchnorm_images)} training image, and BatchNorm's "
                "statistics take two; prepare a pack of more"
            )
        blocks_asked = math.ceil(args.batch_size / BLOCK) or (BLOCKS_ON_GPU if on_gpu else 1)
        self.blocks_a_batch = min(blocks_asked, math.ceil(args.images / BLOCK))
        self._clean, self._without_gradient = {}, {}
        self._recomputed = None  # the minimum's own statistics, once they were recomputed

    def blocks(self, split: str) -> Sequence[Tensor]:
        """The images that are measured of `split`, as indices into the pack, block by block."""
        return self.splits[split].split(BLOCK)

    def batches(self, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields images (N, 3, H, W) and labels (N,) of `split`, block by block."""
        return map(self.pack.batch, self.blocks(split))

    def settle(self, recompute: bool = False):
        """To be called after weights were moved: `folded` and `fast` follow.

        With `recompute`, BatchNorm's statistics become those of the moved weights first.
        """
        if recompute:
            batchnorm.recompute(self.model, self.pack, self.batchnorm_images, dtype=self.dtype)
        self.refold()

    @contextmanager
    def restored_after(self) -> Iterator[None]:
        """A block in which weights and statistics may be moved: all are put back at its end."""
        with weights.restored_after(self.model):
            yield
        self.refold()

    @contextmanager
    def under(self, statistics: str) -> Iterator[None]:
        """A block in which the minimum has BatchNorm's `statistics`, "stored" or "recomputed"."""
        with self.restored_after():
            if statistics == "recomputed":
                if self._recomputed is None:
                    self.settle(recompute=True)
                    buffers = self.model.named_buffers()
                    self._recomputed = {name: value.clone() for name, value in buffers}
                else:
                    self.model.load_state_dict(self._recomputed, strict=False)
                    self.refold()
            yield

    def clean(self, statistics: str) -> dict[str, tuple[Tensor, Tensor]]:
        """{split: (loss (N,), correct (N,))} of the minimum itself, measured once.

        `statistics` are BatchNorm's: "stored" or "recomputed".
        """
        if statistics not in self._clean:
            with self.under(statistics):
                results = {split: self.evaluate(split) for split in self.splits}
            self._clean[statistics] = {
                split: (loss[0], correct[0]) for split, (loss, correct) in results.items()
            }
        return self._clean[statistics]

    def without_gradient(self, statistics: str, split: str) -> float:
        """The share of the images of `split` at which the gradient of the loss is 0 or no number.

        An attack that follows it leaves those as they are, however large it may be: the loss of a
        network that is sure enough has gradients below float32's smallest number. `statistics` as
        for `clean`; measured once.
        """
        key = statistics, split
        if key not in self._without_gradient:
            with self.under(statistics):
                self._without_gradient[key] = self._share_without_gradient(split)
        return self._without_gradient[key]

    def _share_without_gradient(self, split: str) -> float:
        count = 0
        for images, labels in self.batches(split):
            images.requires_grad_()
            # The sum over images: each image's gradient is its own.
            loss = cross_entropy(self.folded(images), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, images)
            lacking = (gradient == 0) | gradient.isnan()
            count += lacking.flatten(1).all(1).sum().item()
        return count / len(self.splits[split])

    @torch.no_grad()
    def evaluate(
        self,
        split: str,
        perturb: Callable | None = None,
        levels: Sequence[float] = (0.0,),
        draw: Sequence = (),
        **keywords,
    ) -> tuple[Tensor, Tensor]:
        """Loss (nats, float32) and correctness (bool) of every image of `split` at every level.

        Two tensors (L, N) on the device. Images are perturbed by `perturb`, with its `keywords`, as
        a measurement gives it; without it they are as they are, at one level. Each block of images
        has a generator of its own, seeded from (--seed, *draw, split, the block's number) alone.
        """
        result = self._evaluate(self.fast, self.dtype, split, perturb, levels, draw, keywords)
        # Logits beyond 65,504, float16's largest number, are measured again in float32.
        if self.fast is not self.folded and not result[0].isfinite().all():
            net, dtype = self.folded, torch.float32
            result = self._evaluate(net, dtype, split, perturb, levels, draw, keywords)
        return result

    def _evaluate(self, net, dtype, split, perturb, levels, draw, keywords):
        blocks = self.blocks(split)
        loss, correct = [], []
        for first in range(0, len(blocks), self.blocks_a_batch):
            perturbed_blocks, block_labels = [], []  # of each block: its images, a level at a time
            for number in range(first, min(first + self.blocks_a_batch, len(blocks))):
                images, labels = self.pack.batch(blocks[number])
                generator = seeds.generator("cpu", self.seed, *draw, split, number)
                perturbed = [images]
                if perturb:
                    perturbed = perturb(images, labels, levels, generator, self.folded, **keywords)
                perturbed_blocks.append(perturbed)
                block_labels.append(labels)
            labels = torch.cat(block_labels)
            logits = []
            with devices.explain_out_of_memory(BLOCK * self.blocks_a_batch):
                for images in zip(*perturbed_blocks, strict=True):  # of one level, a tensor a block
                    logits.append(net(torch.cat(images).to(dtype)).float())
            loss.append(
                torch.stack([cross_entropy(level, labels, reduction="none") for level in logits])
            )
            correct.append(torch.stack([level.argmax(1) == labels for level in logits]))
        return torch.cat(loss, 1), torch.cat(correct, 1)
