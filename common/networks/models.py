"""The network: ResNet18, or one of torchvision.models by name; its head; and its file, which loads
without this project:

model = torchvision.models.resnet18(num_classes=50)
model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), strict=True)
"""

import copy
import json
import math
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from common import files
from common.networks import small_maps

METADATA = (
    "arch",
    "classes",
    "image_size",
    "data",
    "method",
    "setting",
    "seed",
    "minimum",  # what its files call it: its setting and its seed
    "start",  # the minimum that training started from; "": its seed
)

WITH_OUTPUTS_BESIDE = "googlenet", "inception_v3"  # auxiliary classifiers, in train mode
MADE_FOR_A_SIZE = {  # {how its name begins: the options that say for which images}
    "vit_": lambda side: {"image_size": side},
    "maxvit": lambda side: {"input_size": (side, side)},
}


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    From (N, inputs, H, W) to (N, outputs, H / stride, W / stride).
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        # First, as in torchvision: the order in which layers are made is that of their draws.
        shortcut = nn.Identity()
        if stride > 1:
            shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(maps)) + self.downsample(images))


class ResNet18(nn.Module):
    """ResNet18 (He et al. 2015, arXiv 1512.03385): images (N, 3, H, W) to logits (N, classes).

    Names, and the weights that a seed gives, are those of torchvision, whose import takes a second.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(self.avgpool(maps).flatten(1))


def build(arch: str, classes: int, seed: int, image_size: int | None = None) -> nn.Module:
    """A fresh network with `classes` logits; the same seed gives the same weights.

    Its input is (N, 3, H, W) in [0, 1], of `image_size` pixels where the network is made for one
    size. SystemExit where torchvision has no such network, or not for that size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _make(arch, classes, image_size)
    return small_maps.use_matrix_products(model).to(memory_format=torch.channels_last)


def _make(arch: str, classes: int, image_size: int | None) -> nn.Module:
    if arch == "resnet18":
        return ResNet18(classes)
    import torchvision

    if arch not in torchvision.models.list_models(module=torchvision.models):
        what = "no such network"
        if arch in torchvision.models.list_models():
            what = "it, but not as a classifier of images"
        raise SystemExit(
            f"--arch {arch}: torchvision.models has {what}; give one of its classifiers, such as "
            "resnet18, mobilenet_v3_small or convnext_tiny"
        )
    # A warning of how long initialisation takes, and a second and third output in training.
    options = {"init_weights": True, "aux_logits": False} if arch in WITH_OUTPUTS_BESIDE else {}
    for family, option in MADE_FOR_A_SIZE.items():
        if arch.startswith(family) and image_size:
            options |= option(image_size)
    try:
        return torchvision.models.get_model(arch, weights=None, num_classes=classes, **options)
    except (ValueError, AssertionError) as error:
        raise SystemExit(
            f"--arch {arch}: not for images of {image_size} px ({_in_short(error)}); give another "
            "network, or prepare images of another size"
        ) from None


def why_not(model: nn.Module, count: int, image_size: int, classes: int | None = None) -> str:
    """Why `model` cannot train on `count` images (N, 3, image_size, image_size) at once, or does
    not give them logits of `classes`; "" where it can.

    It is tried on a copy, on the CPU; no draw is taken from anybody.
    """
    if any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()):
        return ""  # which works across processes alone
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = copy.deepcopy(model).cpu().train()(torch.rand(count, 3, *[image_size] * 2))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        return _in_short(error)
    if not isinstance(logits, Tensor) or (classes and logits.shape != (count, classes)):
        return f"gives no {count} x {classes} logits"
    return ""


def _in_short(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def head(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """(name, module) of the classifier: the last linear layer, or where there is none, as in
    SqueezeNet, the last convolution.
    """
    for kind in nn.Linear, nn.Conv2d:
        found = [item for item in model.named_modules() if isinstance(item[1], kind)]
        if found:
            return found[-1]
    raise SystemExit(
        f"{type(model).__name__}: has no linear layer and no convolution to be its classifier; "
        "give another --arch"
    )


def replace_head(model: nn.Module, classes: int, seed: int):
    """Puts a new classifier for `classes` in the place of the old one.

    Its initial values are PyTorch's own, drawn from `seed`.
    """
    name, old = head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, classes)
        else:  # over the whole map, then pooled
            new = nn.Conv2d(old.in_channels, classes, old.kernel_size, old.stride, old.padding)
            small_maps.use_matrix_products(new).to(memory_format=torch.channels_last)
    model.set_submodule(name, new.to(old.weight.device))


def digest(state: dict[str, Tensor]) -> str:
    """sha256 over the names, types, shapes and bytes of a state dict."""
    values = []
    for name, value in sorted(state.items()):
        content = value.detach().cpu().contiguous().numpy().tobytes()
        values += [name, str(value.dtype), list(value.shape), content]
    return files.sha256(*values)


def save(path: Path, state: dict[str, Tensor], **metadata):
    """Writes a state dict as safetensors, whole or not at all.

    The metadata (METADATA, and what else there is to say) travel inside, with the sha256 of the
    tensors and a seal: the sha256 of all other metadata.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    words = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    }
    words["sha256"] = digest(state)
    words["seal"] = files.sha256(words)
    content = safetensors.torch.save(state, words)
    # The header's length in 8 bytes, the header in JSON, the tensors. safetensors' own order of
    # metadata changes from run to run: the header is written again, sorted.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True).encode()
    header = header.ljust(8 * math.ceil(len(header) / 8))  # tensors begin at a multiple of 8
    with files.atomic(path) as part:
        part.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def load(path: str | Path) -> tuple[nn.Module, dict]:
    """(model in eval mode on the CPU, metadata) of a minimum.

    `classes`, `image_size` and `seed` of the metadata are as they were given to `save`, all else is
    text. SystemExit with one line if the file cannot be trusted.
    """
    path = Path(path)
    state, metadata = _read(path)
    arch, classes, side = metadata["arch"], len(metadata["classes"]), metadata["image_size"]
    if _expected_shapes(arch, classes, side) != _shapes(state):
        raise SystemExit(
            f"{path}: its tensors are not those of {arch} with {classes} classes; move it away "
            "and run make again"
        )
    if odd := [name for name, value in state.items() if not value.isfinite().all()]:
        raise SystemExit(
            f"{path}: {len(odd)} of its tensors hold what is no finite number (the first: {odd[0]})"
            "; move it away and run make again"
        )
    model = build(arch, classes, 0, side)
    whole = model.state_dict()  # with the versions of its modules, for which MNASNet asks
    whole.update(state)
    model.load_state_dict(whole)
    return model.eval(), metadata


def _read(path: Path) -> tuple[dict[str, Tensor], dict]:
    """(state dict, metadata) of a file, compared with the sha256 that it carries."""
    if not path.exists():
        raise SystemExit(
            f"{path}: no such file; a minimum is a folder that holds weights.safetensors"
        )
    files.demand_regular(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise SystemExit(
            f"{path}: not a minimum of ours ({error}); move it away and run make again"
        ) from None
    if "seal" not in metadata:
        raise SystemExit(
            f"{path}: not a minimum of ours (its metadata lack our seal); move it away and run "
            "make again"
        )
    if metadata.pop("seal") != files.sha256(metadata) or metadata["sha256"] != digest(state):
        raise SystemExit(
            f"{path}: damaged (its tensors or metadata differ from their sha256); move it away "
            "and run make again"
        )
    if missing := [name for name in METADATA if name not in metadata]:
        raise SystemExit(
            f"{path}: of an older version (its metadata lack {', '.join(missing)}); move it away "
            "and run make again"
        )
    for name in "classes", "image_size", "seed":
        metadata[name] = json.loads(metadata[name])
    return state, metadata


def _expected_shapes(arch: str, classes: int, image_size: int) -> dict[str, torch.Size]:
    """Shapes of a network's tensors, which are not made, whatever size the metadata ask for."""
    try:
        with torch.device("meta"):
            model = _make(arch, classes, image_size)
    except NotImplementedError:  # RegNet computes its widths with tensors
        model = build(arch, classes, 0, image_size)
    return _shapes(model.state_dict())


def _shapes(state: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
