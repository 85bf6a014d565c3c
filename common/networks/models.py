"""The network: ResNet18, or a torchvision model by name; its head, and its file, which loads without this project:

model = torchvision.models.resnet18(num_classes=50)
model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), strict=True)
"""

import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from common import files
from common.networks import small_maps


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut: (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        shortcut = (
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
            if stride > 1
            else nn.Identity()
        )
        self.conv1, self.bn1 = (
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.conv2, self.bn2 = (
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.relu, self.downsample = nn.ReLU(inplace=True), shortcut

    def forward(self, images):
        maps = self.relu(self.bn1(self.conv1(images)))
        return self.relu(self.bn2(self.conv2(maps)) + self.downsample(images))


class ResNet18(nn.Module):
    """ResNet18 (He et al. 2015, arXiv 1512.03385). Names, and the weights that a seed gives, are torchvision's, whose import takes a second."""

    def __init__(self, classes):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        for stage, (inputs, outputs) in enumerate([(64, 64), (64, 128), (128, 256), (256, 512)], 1):
            setattr(
                self,
                f"layer{stage}",
                nn.Sequential(
                    Block(inputs, outputs, outputs // inputs), Block(outputs, outputs, 1)
                ),
            )
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images):
        maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return self.fc(self.avgpool(maps).flatten(1))


def build(arch, classes, seed):
    """A fresh network with `classes` logits; the same seed gives the same weights. Input (N, 3, H, W) in [0, 1]."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _make(arch, classes)
    return small_maps.use_matrix_products(model).to(memory_format=torch.channels_last)


def _make(arch, classes):
    if arch == "resnet18":
        return ResNet18(classes)
    from torchvision import models

    if arch not in models.list_models():
        raise SystemExit(f"--arch {arch}: torchvision.models has no such network")
    return models.get_model(arch, weights=None, num_classes=classes)


def head(model):
    """(name, module) of the classifier: the last linear layer."""
    return [
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)
    ][-1]


def replace_head(model, classes, seed):
    """Puts a new classifier for `classes` in the place of the old one, with PyTorch's own initial values drawn from `seed`."""
    name, old = head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(old.in_features, classes)
    model.set_submodule(name, new.to(old.weight.device))


def digest(state):
    """sha256 over the names, types, shapes and bytes of a state dict (on the CPU)."""
    return files.sha256(
        *[
            part
            for name, value in sorted(state.items())
            for part in (
                name,
                str(value.dtype),
                list(value.shape),
                value.contiguous().numpy().tobytes(),
            )
        ]
    )


def save(path, state, **metadata):
    """Writes a state dict as safetensors, whole or not at all; metadata (arch, classes, image_size, data, …) travels inside."""
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    words = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in metadata.items()
    } | {"sha256": digest(state)}
    content = safetensors.torch.save(
        state, words | {"seal": files.sha256(words)}
    )  # the seal: sha256 of all other metadata
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(
        json.loads(content[8:end]), sort_keys=True
    ).encode()  # safetensors' own order of metadata changes from run to run
    header += b" " * (-len(header) % 8)
    with files.atomic(path) as part:
        part.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def load(path):
    """(model in eval mode on the CPU, metadata) of a minimum; SystemExit with one line if the file cannot be trusted."""
    path = Path(path)
    if not path.exists():
        raise SystemExit(
            f"{path}: no such file; a minimum is a folder that holds weights.safetensors"
        )
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError) as error:
        raise SystemExit(
            f"{path}: not a minimum of ours ({error}); remove it and run make again"
        ) from None
    if "seal" not in metadata:
        raise SystemExit(
            f"{path}: not a minimum of ours (its metadata lack our seal); remove it and run make again"
        )
    if metadata.pop("seal") != files.sha256(metadata) or metadata["sha256"] != digest(state):
        raise SystemExit(
            f"{path}: damaged (its tensors or metadata differ from their sha256); remove it and run make again"
        )
    metadata |= {name: json.loads(metadata[name]) for name in ("classes", "image_size", "seed")}
    with torch.device("meta"):  # shapes alone, whatever size the metadata ask for
        shapes = {
            name: value.shape
            for name, value in _make(metadata["arch"], len(metadata["classes"]))
            .state_dict()
            .items()
        }
    if shapes != {name: value.shape for name, value in state.items()}:
        raise SystemExit(
            f"{path}: its tensors are not those of {metadata['arch']} with {len(metadata['classes'])} classes; remove it and run make again"
        )
    model = build(metadata["arch"], len(metadata["classes"]), seed=0)
    model.load_state_dict(state)
    return model.eval(), metadata
