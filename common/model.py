"""The network: a torchvision model by name, its head, and its file, which loads without this project:

    model = torchvision.models.resnet18(num_classes=50)
    model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), strict=True)
"""
import json
import os
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import nn

from common import conv, files


def build(arch, classes, seed):
    """A fresh network with `classes` logits; the same seed gives the same weights. Input (N, 3, H, W) in [0, 1]."""
    if arch not in torchvision.models.list_models():
        raise SystemExit(f"--arch {arch}: torchvision.models has no such network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = torchvision.models.get_model(arch, weights=None, num_classes=classes)
    return conv.use_matrix_products(model).to(memory_format=torch.channels_last)


def head(model):
    """(name, module) of the classifier: the last linear layer."""
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


def replace_head(model, classes, seed):
    """Puts a new classifier for `classes` in the place of the old one, with PyTorch's own initial values drawn from `seed`."""
    name, old = head(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new = nn.Linear(old.in_features, classes)
    model.set_submodule(name, new.to(old.weight.device))


def digest(state):
    """sha256 over the names, types, shapes and bytes of a state dict (on the CPU)."""
    return files.sha256(*[part for name, value in sorted(state.items())
                          for part in (name, str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes())])


def save(path, state, **metadata):
    """Writes a state dict as safetensors, whole or not at all; metadata (arch, classes, image_size, data, …) travels inside."""
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    words = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    part = path.with_name(f".{path.name}.{os.getpid()}")
    safetensors.torch.save_file(state, part, metadata=words | {"sha256": digest(state)})
    files.replace(part, path)


def load(path):
    """(model in eval mode on the CPU, metadata) of a minimum; SystemExit with one line if the file cannot be trusted."""
    path = Path(path)
    if not path.exists():
        raise SystemExit(f"{path}: no such file; a minimum is a folder that holds weights.safetensors")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        metadata = metadata | {name: json.loads(metadata[name]) for name in ("classes", "image_size", "seed")}
        model = build(metadata["arch"], len(metadata["classes"]), seed=0)
        if digest(state) != metadata["sha256"]:
            raise SystemExit(f"{path}: damaged (its tensors differ from their sha256); remove it and run make again")
        model.load_state_dict(state)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise SystemExit(f"{path}: not a minimum of ours ({str(error).splitlines()[0]})") from None
    return model.eval(), metadata
