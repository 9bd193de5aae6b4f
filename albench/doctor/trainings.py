"""The files behind the trainings: trained/IDENTITY.json, .npz and .safetensors."""

from pathlib import Path

import numpy as np

from albench.doctor.findings import Health
from albench.errors import AlbenchError
from albench.store import Record, Store


class Trainings:
    """Examined once each, however many trials share them."""

    def __init__(self, store: Store, deep: bool, health: Health) -> None:
        """`deep`: read outcomes and weights whole, not only the records."""
        self.store, self.deep, self.health = store, deep, health
        self.kept = (store.folder / "trained").is_dir()
        self._found: dict[str, Record | None] = {}
        if not self.kept:
            health.note("trained/", "is not there: outcomes and weights are not kept in this folder")

    def record(self, identity: str, test: int | None) -> Record | None:
        """The record of a sound training, None for one that is damaged or lost; `test`: samples of the test set."""
        if identity not in self._found:
            self._found[identity] = self._examined(identity, test)
        return self._found[identity]

    def set_aside(self, identity: str) -> None:
        """Have a repair set all its files aside, so that it is trained again."""
        for path in sorted((self.store.folder / "trained").glob(f"{identity}.*")):
            self.health.aside.add(path.relative_to(self.store.folder))

    def strangers(self) -> None:
        """Examine what no trial names: a kill between training and its trial's record leaves such, and it is used."""
        for path in sorted((self.store.folder / "trained").glob("*.json")):
            if path.stem not in self._found:
                self.record(path.stem, None)

    def _examined(self, identity: str, test: int | None) -> Record | None:
        where = f"trained/{identity}"
        record = self.store.trained(identity)
        if record is None:
            there = (self.store.folder / f"{where}.json").exists()
            self.health.problem(f"{where}.json", f"{'is damaged' if there else 'is missing'}; it is trained again")
        elif problem := self._outcomes(identity, test):
            self.health.problem(f"{where}.npz", f"{problem}; the stage is trained again")
            record = None
        if record is None:
            self.set_aside(identity)
        else:
            self._weights(identity)
        return record

    def _outcomes(self, identity: str, test: int | None) -> str | None:
        """What is wrong with the outcomes, in words."""
        path = self.store.folder / "trained" / f"{identity}.npz"
        if not path.is_file():
            return "outcomes per test sample are missing"
        if not self.deep:
            return None
        try:
            outcomes = self.store.outcomes(identity)
        except AlbenchError as error:
            return str(error).removeprefix(f"{path}: ")
        return None if test is None else _length(outcomes, test)

    def _weights(self, identity: str) -> None:
        path = Path("trained") / f"{identity}.safetensors"
        if self.deep and (self.store.folder / path).is_file() and self.store.weights(identity) is None:
            self.health.problem(str(path), "weights are damaged; they are trained again when a stage needs them")
            self.health.aside.add(path)


def _length(outcomes: dict[str, np.ndarray], test: int) -> str | None:
    """Whether outcomes cover the test set: a row a sample, or flat beside the column "sample" of row numbers."""
    flat = outcomes.get("sample")
    if flat is not None and len(flat) and (flat.min() < 0 or flat.max() >= test):
        return f"outcomes name samples outside the test set of {test}"
    for name, array in outcomes.items():
        if array.ndim == 0 or (len(array) != test and (flat is None or len(array) != len(flat))):
            return f"outcomes {name!r} have the shape {array.shape}; the test set has {test} samples"
    return None
