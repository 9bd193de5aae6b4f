"""Memory: the peak of a piece of work, and what to do when it is not enough."""

import contextlib
import gc
import resource
import sys
from pathlib import Path

import torch


def reset_peak_memory(device: torch.device) -> None:
    """Start counting anew, where the device can (CUDA, and the CPU on Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # "reset the peak resident set size", see proc(5)


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most that was allocated since the reset; on a CPU the process's largest resident size.

    That of a process holds everything: libraries, data, and what ran in it before, if the system cannot reset it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the device or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("you tried to allocate", "could not create a primitive")  # of torch's CPU allocator, of oneDNN
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def release(device: torch.device) -> None:
    """Free what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
