"""The state of a training, kept on disk while it goes on, so that a kill costs minutes and not a stage.

A file is a checksum, then safetensors: the tensors by number and, as JSON in its metadata, what it belongs to and the
tree (dictionaries, lists, numbers) that holds them. Nothing is pickled. A file that is torn, or belongs to another
training or another version, is renamed *.bad and said in the log; it is never used and never stops a run.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from albench.store import write_whole

DIGEST = 32  # bytes of the checksum

Tree = Any  # None, bool, int, float, str, Tensor, and dictionaries, lists and tuples of them


class Checkpoint:
    """The checkpoint file of one training, written when `seconds` have passed since it was last written (0: never)."""

    def __init__(
        self,
        path: Path,
        belongs: dict[str, str],
        seconds: float,
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`belongs`: what must be equal for the file to be used: identity, versions, device."""
        self.path, self.belongs, self.seconds, self.log = path, belongs, seconds, log
        self.spent = 0.0  # seconds of training in earlier sessions, up to what was loaded
        self.resumed: list[int] = []  # updates at which a session went on from the file
        self._begin = self._last = time.monotonic()
        self._failed = False

    def load(self, device: torch.device) -> Tree | None:
        """The tree that `save` was given, tensors of the device back on it; None where there is nothing to use."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.log(f"{self.path.name}: not read ({error.strerror}); the stage is trained from its start")
            return None
        try:
            header, tensors = _unpack(content)
        except ValueError as error:
            self.set_aside(str(error))
            return None
        other = [
            f"{key} {header['belongs'].get(key)}"
            for key in self.belongs
            if header["belongs"].get(key) != self.belongs[key]
        ]
        if other:
            self.set_aside(f"of another training ({', '.join(other)})")
            return None
        self.spent, self.resumed = header["seconds"], header["resumed"]
        return decode(header["tree"], tensors, device)

    def leave_out(self, seconds: float) -> None:
        """So many of the seconds since it was made are no training: of a compiler."""
        self._begin += seconds

    def due(self) -> bool:
        """Whether it is time to write the next one."""
        return self.seconds > 0 and time.monotonic() - self._last >= self.seconds

    def save(self, tree: Tree) -> None:
        """Replace the file. Where that fails (a full disk) the log says so once, and training goes on."""
        spent = self.spent + time.monotonic() - self._begin
        tensors: dict[str, Tensor] = {}
        try:
            header = {"belongs": self.belongs, "seconds": spent, "resumed": self.resumed, "tree": encode(tree, tensors)}
            write_whole(self.path, _pack(header, tensors))
        except OSError as error:
            if not self._failed:
                self.log(f"{self.path.name}: no checkpoint could be written ({error.strerror}); training goes on")
            self._failed = True
        except TypeError as error:
            self.log(f"{self.path.name}: no checkpoints of this training ({error}); it goes on")
            self.seconds = 0.0
        self._last = time.monotonic()

    def set_aside(self, why: str) -> None:
        """Rename the file, so that it is not used again and can be looked at."""
        with contextlib.suppress(OSError):
            os.replace(self.path, self.path.with_suffix(".checkpoint.bad"))
        self.spent, self.resumed = 0.0, []
        self.log(f"{self.path.name}: {why}; set aside as *.bad, the stage is trained from its start")

    def remove(self) -> None:
        """The training is over, and saved."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _pack(header: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    content = save(tensors, {"albench": json.dumps(header)})
    return hashlib.blake2b(content, digest_size=DIGEST).digest() + content


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors.

    Raises:
        ValueError: the file is not whole, or not a checkpoint.
    """
    from safetensors.torch import load

    body = content[DIGEST:]
    if hashlib.blake2b(body, digest_size=DIGEST).digest() != content[:DIGEST]:
        raise ValueError("torn or damaged")
    size = int.from_bytes(body[:8], "little")
    return json.loads(json.loads(body[8 : 8 + size])["__metadata__"]["albench"]), load(body)


def encode(tree: Tree, tensors: dict[str, Tensor]) -> Any:
    """The tree as JSON: each tensor is copied into `tensors`, and its number stands in its place.

    Raises:
        TypeError: something that is neither a tensor nor plain data.
    """
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = torch.empty(tree.shape, dtype=tree.dtype).copy_(tree.detach())
        return {"tensor": name, "on": "cpu" if tree.device.type == "cpu" else "device"}
    if isinstance(tree, dict):
        return {"dict": [[encode(key, tensors), encode(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, tuple):
        return {"tuple": [encode(value, tensors) for value in tree]}
    if isinstance(tree, list):
        return [encode(value, tensors) for value in tree]
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise TypeError(f"{type(tree).__name__} is no tensor and no plain data")


def decode(tree: Any, tensors: dict[str, Tensor], device: torch.device) -> Tree:
    """What `encode` was given; tensors that were on a device are on `device`."""
    if isinstance(tree, list):
        return [decode(value, tensors, device) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]].to(device if tree["on"] == "device" else "cpu")
    if "tuple" in tree:
        return tuple(decode(value, tensors, device) for value in tree["tuple"])
    return {decode(key, tensors, device): decode(value, tensors, device) for key, value in tree["dict"]}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Tree) -> None:
    """Put an optimiser's `state_dict()` back. Tensors that it has are written in place: a captured graph holds them.

    New ones take the memory format of their parameter, as the optimiser itself would make them; torch's own
    `load_state_dict` does neither.

    Raises:
        ValueError: the state is of another optimiser or of other parameters.
    """
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    now, then = (
        [(set(g), len(g["params"])) for g in groups] for groups in (optimiser.param_groups, state["param_groups"])
    )
    if now != then:
        raise ValueError("an optimiser is another one, or has other parameters")
    for number, entries in state["state"].items():
        held = optimiser.state[parameters[number]]
        for name, value in entries.items():
            held[name] = _placed(held.get(name), value, parameters[number])
    for group, saved in zip(optimiser.param_groups, state["param_groups"], strict=True):
        for name, value in saved.items():
            if name == "lr" and isinstance(group["lr"], Tensor):
                group["lr"].fill_(value)
            elif name != "params":
                group[name] = _placed(group.get(name), value, None)


def _placed(held: Any, value: Any, like: Tensor | None) -> Any:
    if not isinstance(value, Tensor):
        return value
    if not isinstance(held, Tensor):
        like = like if like is not None and like.shape == value.shape else value
        held = torch.empty_like(like, dtype=value.dtype, device=value.device)
    elif held.shape != value.shape:
        raise ValueError(f"an optimiser's tensor has the shape {tuple(value.shape)}, not {tuple(held.shape)}")
    return held.copy_(value)
