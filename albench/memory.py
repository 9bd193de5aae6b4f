"""Memory: the peak of a piece of work, and what to do when it is not enough."""

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch

TRIM, MMAP = -1, -3  # glibc's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
NO_MEMORY = (
    "you tried to allocate",  # torch's CPU allocator
    "could not create a primitive",  # oneDNN
    "cuda error: out of memory",  # a graph, or a module of code
    "triton error [cuda]: out of memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)
AT_ONCE = 1 << 30  # bytes that are kept: more than any activation of a batch


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees for its next allocation, where its C library is glibc.

    A training step on a CPU frees and takes hundreds of MB; given back to the system each time, they cost a tenth to a
    fifth of the step in page faults. Results are the same bits.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP, AT_ONCE)
        libc.mallopt(TRIM, 2 * AT_ONCE - 1)


def _give_back_freed_memory() -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Start counting anew, where the device can (CUDA, and the CPU on Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    _give_back_freed_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # "reset the peak resident set size", see proc(5)


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the most that was allocated since the reset; on a CPU the process's largest resident size.

    That of a process holds everything: libraries, data, and what ran in it before, if the system cannot reset it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with contextlib.suppress(OSError, StopIteration):
        # not ru_maxrss, which begins with the peak of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the device or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in NO_MEMORY)


def release(device: torch.device) -> None:
    """Free what nothing refers to any more."""
    gc.collect()
    _give_back_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
