"""Errors of somebody else's code, in a line that says whose, in which method and where."""

from collections.abc import Iterator
from contextlib import contextmanager

from albench import registry
from albench.errors import AlbenchError
from albench.memory import out_of_memory


@contextmanager
def blamed(who: str, method: str) -> Iterator[None]:
    """What a method of a plug-in raises becomes an AlbenchError; the engine's own errors and memory's pass."""
    try:
        yield
    except Exception as error:
        if isinstance(error, AlbenchError) or out_of_memory(error):
            raise
        place = registry.place_in_plugin(error)
        where = f" at {place}" if place else ""
        raise AlbenchError(f"{who}: {method} failed{where}: {type(error).__name__}: {error}") from error
