"""What changes the last bits of a result, chosen once for a run: precision, compilation, determinism, threads."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from albench.errors import AlbenchError
from albench.facts import LATER
from albench.memory import keep_freed_memory

FASTER = 1.3  # how much faster bf16 must multiply here for "auto" to take it: casts and reorders cost some of it


class Numerics(BaseModel):
    """Part of every stage's identity. "auto" is resolved at a run's start to what is really used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # of the network; losses, softmax and distances are fp32 always
    # training steps; graphs: captured as CUDA graphs, too; eager-graphs: those alone, ready in seconds where a compiler
    # takes a minute
    compile: Annotated[Literal["auto", "off", "on", "graphs", "eager-graphs"], LATER] = "off"
    # algorithms that give the same bits twice on a GPU, too (on a CPU they do anyway)
    deterministic: Annotated[bool, LATER] = False
    threads: int = Field(default=1, gt=0)  # CPU threads of one trial, whatever --jobs says
    scoring_batch: int = Field(default=256, gt=0)  # samples a forward pass of evaluation and observation takes

    def resolved(self, device: str, before: "Numerics | None" = None) -> "Numerics":
        """Without "auto": as the run was begun (`before`), else what suits the device.

        A GPU computes in bf16, where it can, compiles, and captures CUDA graphs; a CPU takes bf16 where it multiplies
        faster in it and does not compile, since the compact trainings last less long than the compiler.

        Raises:
            AlbenchError: CUDA graphs are asked for on a CPU.
        """
        precision, compiled = self.precision, self.compile
        if compiled.endswith("graphs") and device == "cpu":
            raise AlbenchError(f"compile = '{compiled}' needs a GPU; on a CPU use on, off or auto")
        if precision == "auto":
            precision = before.precision if before else "bf16" if _bf16_is_faster(device) else "fp32"
        if compiled == "auto":
            compiled = before.compile if before else "off" if device == "cpu" else "graphs"
        return self.model_copy(update={"precision": precision, "compile": compiled})

    def prepare(self) -> None:
        """What a process has to set before CUDA starts in it."""
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Run a block under these numerics; torch's global settings are as before afterwards.

        The process keeps the memory that it frees from then on (`keep_freed_memory`).

        fp32 means fp32: no TF32, neither in convolutions nor where losses and distances are computed. An operation
        without a deterministic form warns and runs on (`cumsum` on a GPU, in k-means++).
        """
        self.prepare()
        keep_freed_memory()
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
        strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(self.threads)
            cudnn.allow_tf32 = matmul.allow_tf32 = False
            cudnn.deterministic, cudnn.benchmark = self.deterministic, False
            if self.deterministic:
                torch.use_deterministic_algorithms(True, warn_only=True)
            yield
        finally:
            cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
            if self.deterministic:  # the call imports torch's compiler, which takes a second and a half
                torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
            torch.set_num_threads(threads)

    @contextlib.contextmanager
    def equal_shapes(self) -> Iterator[None]:
        """Let cuDNN look for the fastest convolutions: it does so anew for every shape, so only where there is one."""
        cudnn = torch.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, not self.deterministic
        try:
            yield
        finally:
            cudnn.benchmark = before


def _bf16_is_faster(device: str) -> bool:
    """A GPU: whether it computes in it. A CPU: the shortest of a few products of matrices, timed.

    Instructions are not enough: a Xeon with AVX-512 BF16, its AMX hidden by the virtual machine, multiplies at 71
    GFLOP/s in bf16 and at 123 in fp32.
    """
    if device != "cpu":  # where only the workers have GPUs, they are taken to be recent ones
        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)

    def shortest(dtype: torch.dtype) -> float:
        a, seconds = torch.ones(512, 512, dtype=dtype), []
        for _ in range(8):
            start = time.perf_counter()
            a @ a
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return shortest(torch.float32) > FASTER * shortest(torch.bfloat16)
