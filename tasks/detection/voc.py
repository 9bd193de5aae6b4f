"""Any data set in PASCAL VOC's layout: JPEGImages, Annotations, ImageSets/Main."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import ClassVar, Self

from pydantic import field_validator, model_validator

from albench.cache import cached, listing
from albench.datafiles import SUFFIXES, below, each_line, each_problem, prepare_command, require_apart, require_inside
from albench.download import Source, Wanted, fetch_archive
from albench.errors import AlbenchError, did_you_mean
from albench.layout import TestShare, require_no_test
from albench.samples import Data
from albench.tasks.detection import miniature
from albench.tasks.detection.annotations import Thing, read
from albench.tasks.detection.pictures import (
    Entry,
    Pictures,
    examined,
    gather,
    images_of,
    require_easy,
    require_known,
    shared_out,
    suspicious,
)

VERSION = 5  # of what the cache holds
COLUMN = re.compile(r"\s+(-1|0|1)$")
SITE = "https://thor.robots.ox.ac.uk/pascal/VOC"
ARCHIVES = {  # folder, and split where an archive is for that one alone; the md5 that torchvision checks, too
    "VOC2007": Source(f"{SITE}/voc2007/VOCtrainval_06-Nov-2007.tar", "md5:c52e279531787c972589f7e41ab4ae64"),
    "VOC2007/test": Source(f"{SITE}/voc2007/VOCtest_06-Nov-2007.tar", "md5:b6e924de25625d8de591ea690078ad9f"),
    "VOC2012": Source(f"{SITE}/voc2012/VOCtrainval_11-May-2012.tar", "md5:6cd6e144f989b92b3379bac3b3de84fd"),
}
OFFICIAL = {  # images
    **{"VOC2007/train": 2501, "VOC2007/val": 2510, "VOC2007/trainval": 5011, "VOC2007/test": 4952},
    **{"VOC2012/train": 5717, "VOC2012/val": 5823, "VOC2012/trainval": 11540},
}


@dataclass(frozen=True)
class VocEntry(Entry):
    """An image and its XML file, either of which may be missing."""

    question: ClassVar[str] = "are they x, y, width and height, or of images of another size?"

    annotation: Path
    split: str

    def annotated(self) -> tuple[list[Thing], tuple[int, int] | None]:
        """What the XML file says."""
        return read(self.annotation)


class PascalVoc(Pictures):
    """Detection on a folder in VOC layout.

    `folder` lies under the data root, which may be that folder itself, or its VOCdevkit. A split is a file
    ImageSets/Main/<split>.txt; several are joined by "+", and each may name a folder of its own: folder = "VOCdevkit",
    pool_split = "VOC2007/trainval+VOC2012/trainval". A split without a name, "", is every image of JPEGImages. With
    `test_share` the test set has no split: it is that share of the pool's images, drawn by their names.

    Without `classes` they are those of the annotations, sorted (in the official order if they are VOC's twenty).
    Network, weights and what is kept of an image: `Pictures`.
    """

    source: ClassVar[str] = "a folder in PASCAL VOC layout (VOC 2007 and 2012 are fetched)"

    folder: str = "VOCdevkit/VOC2012"
    pool_split: str = "train"
    test_split: str = "val"
    classes: tuple[str, ...] = ()
    test_share: TestShare = None  # of the pool's images that are the test set instead

    @model_validator(mode="after")
    def _one_test_set(self) -> Self:
        require_no_test(self, "test_split")
        return self

    @field_validator("classes")
    @classmethod
    def _each_once(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("a class is named twice")
        return classes

    @property
    def _all_splits(self) -> list[str]:
        """That of the pool, and that of the test set where it has one."""
        return [self.pool_split] if self.test_share is not None else [self.pool_split, self.test_split]

    @property
    def data_source(self) -> str:
        """VOC's own splits by their folders, or a user's folder in the same layout."""
        parts = [part for splits in self._all_splits for part in _splits(Path(self.folder), splits)]
        if all(_archive(folder, split) for _, folder, split in parts):
            return "PASCAL VOC: " + ", ".join(sorted({folder.name for _, folder, _ in parts}))
        return f"the folder {self.folder}, in PASCAL VOC's layout"

    @classmethod
    def miniature(cls, folder: Path) -> Self:
        """24 + 8 images of painted shapes in VOC layout, written to `folder`; a tiny network with dropout."""
        miniature.write(folder)
        return cls(folder=".", size=48, width=8, dropout=0.1)

    def load(self, root: Path | None) -> Data:
        """Read all images and annotations, or the cache of them; see Data.notes for the dirt that was survived."""
        home, root = self._home(root), Path(root or "")
        found = [self._entries(root, splits) for splits in self._all_splits]
        (pool, test), note = shared_out([entries for entries, _ in found], self.test_share)
        notes = [*note, *(one for _, odd in found for one in odd)]
        for entry in pool + test:
            _require(entry.image, entry, home)
            _require(entry.annotation, entry, home)
        require_apart(*images_of(pool, test))
        files = [f for e in pool + test for f in (e.image, e.annotation)]
        order = [[str(entry.image) for entry in part] for part in (pool, test)]  # which the splits' files may change
        key = ("voc", VERSION, self.side, self.classes, str(home), order, notes, listing(files))
        data = cached(key, lambda new: gather(pool, test, self.classes, self.side, new, notes))
        if not self.train_difficult:
            targets = data.pool.targets
            require_easy(targets["difficult"][targets["labels"] >= 0].tolist())
        return data

    def problems(self, root: Path | None) -> Iterator[str]:
        """Every missing split, annotation and image, every one that cannot be read, every impossible box (also where
        `load` survives it), and splits of VOC that are not the official size."""
        home = self._home(root)
        parts: list[list[VocEntry]] = []
        for splits in self._all_splits:
            parts.append([])
            for name, folder, split in _splits(home, splits):
                try:
                    found = _listed(folder, split)
                except AlbenchError as error:
                    yield str(error)
                    continue
                count = len({entry.image for entry in found})
                if count != (official := OFFICIAL.get(name, count)):
                    yield f"split {name} names {count:,} images; the official one has {official:,}"
                parts[-1] += found
        entries = [entry for part in parts for entry in part]
        yield from each_problem(lambda entry: self._check_annotation(entry, home), entries)
        yield from each_line(lambda entry: self._check_image(entry, home), entries)
        if entries:
            (pool, test), _ = shared_out(parts, self.test_share)
            yield from each_problem(lambda both: require_apart(*both), [images_of(pool, test)])
            yield from suspicious({"pool": pool, "test set": test}, self.train_difficult)

    def _check_annotation(self, entry: VocEntry, home: Path) -> None:
        _require(entry.annotation, entry, home)
        things, _ = entry.annotated()
        if self.classes:
            require_known(things, self.classes, entry.origin)

    def _check_image(self, entry: VocEntry, home: Path) -> list[str]:
        _require(entry.image, entry, home)
        return examined(entry, self.side)

    def _home(self, root: Path | None) -> Path:
        if root is None:
            raise AlbenchError(f"{self.folder} lies in your data folder: give --data-root")
        home = self._place(Path(root))
        if not home.is_dir():
            raise AlbenchError(f"no folder {home}; {self._remedy(root)}")
        for splits in self._all_splits:
            for _, folder, split in _splits(home, splits):
                if not folder.is_dir():
                    raise AlbenchError(f"no folder {folder}, which split {split!r} needs; {self._remedy(root)}")
        return home

    def _place(self, root: Path) -> Path:
        """The folder: below the data root, or the data root where it is that folder, or its VOCdevkit.

        Where there is neither, a data root of that name still is meant: nothing is fetched into VOCdevkit/VOCdevkit.
        """
        first, parts = below(root, self.folder, "folder"), PurePath(self.folder).parts
        others = {part: root.joinpath(*parts[place:]) for place, part in enumerate(parts, 1)}
        for home in (first, *others.values()):
            splits = [part for splits in self._all_splits for part in _splits(home, splits)]
            if all(_lists(folder, split).is_dir() for _, folder, split in splits):
                return home
        return others.get(root.resolve().name, first)

    def _remedy(self, root: Path) -> str:
        """What to do about a folder or split that is not there: the command that fetches it, or else by hand."""
        if all(archive is None for _, _, archive in self._archives(root)):
            return "put the data there by hand, or set `folder`"
        names = ("folder", "pool_split", "test_split", "test_share", "network", "weights")
        given = {name: getattr(self, name) for name in names}
        fields = type(self).model_fields
        changed = {name: value for name, value in given.items() if value != fields[name].default}
        return f"run {prepare_command('voc', root, **changed)}"

    def _entries(self, root: Path, splits: str) -> tuple[list[VocEntry], list[str]]:
        """The images of one or more splits, in order, each once, and a note on a split that names some twice."""
        found: dict[Path, VocEntry] = {}
        notes = []
        for name, folder, split in _splits(self._place(root), splits):
            if split and _archive(folder, split) and not _file(folder, split).is_file():
                raise AlbenchError(f"no split {split!r} in {folder}; {self._remedy(root)}")
            entries = _listed(folder, split)
            found |= {entry.image: entry for entry in entries}
            twice = [image for image, count in Counter(entry.name for entry in entries).items() if count > 1]
            if twice:
                notes.append(f"split {name} names {len(twice):,} images twice, {twice[0]} the first; each counts once")
        return list(found.values()), notes

    def _archives(self, root: Path) -> list[tuple[Path, str, Source | None]]:
        """Folder, split and archive of each part of the splits."""
        home = self._place(root)
        both = [part for splits in self._all_splits for part in _splits(home, splits)]
        return [(folder, split, _archive(folder, split)) for _, folder, split in both]

    def fetch(self, root: Path) -> None:
        """VOC 2007 and 2012 from their site, unless they are there and whole, and the weights.

        Raises:
            AlbenchError: anything else is to be put there by hand.
        """
        lacking = [part for part in self._archives(root) if not _whole(*part[:2])]
        wanted: list[Wanted] = []
        for folder, _, archive in lacking:
            if archive is None:
                raise AlbenchError(
                    f"put the data by hand where {folder}/JPEGImages, Annotations and ImageSets/Main are expected"
                )
            wanted.append((archive, folder.parent.parent / Path(archive.url).name))
        for (folder, split, _), (source, file) in zip(lacking, wanted, strict=True):
            if not _whole(folder, split):  # it may have come with the one before
                fetch_archive(source, file.parent, *wanted, *self._weights_wanted())
                if not _whole(folder, split):
                    raise AlbenchError(f"{folder}: split {split!r} is not whole, although {file.name} was unpacked")
        super().fetch(root)


def _splits(home: Path, splits: str) -> list[tuple[str, Path, str]]:
    """("VOC2007/test", its folder, "test") of each part of "VOC2007/trainval+…"."""
    found = []
    for part in splits.split("+"):
        place, _, split = part.strip().rpartition("/")
        folder = below(home, place, "split")
        found.append((f"{folder.name}/{split}", folder, split))
    return found


def _archive(folder: Path, split: str) -> Source | None:
    """The archive that holds a split of VOCdevkit/VOC2007 or VOC2012."""
    if folder.parent.name != "VOCdevkit":
        return None
    return ARCHIVES.get(f"{folder.name}/{split}") or ARCHIVES.get(folder.name)


def _listed(folder: Path, split: str) -> list[VocEntry]:
    """The images that a split names, in order, whether they are there or not.

    Raises:
        AlbenchError: the split's file is missing, no text, or empty, or names a path.
    """
    there: dict[str, Path] = {}
    twice: dict[str, Path] = {}
    for path in sorted(p for p in (folder / "JPEGImages").glob("*") if p.suffix.lower() in SUFFIXES):
        (twice if path.stem in there else there)[path.stem] = path
    if not split and not there:
        raise AlbenchError(f"{folder / 'JPEGImages'} has no .jpg, .jpeg or .png")
    names = _names(_file(folder, split)) if split else sorted(there)
    entries = []
    for name in names:
        if "/" in name or "\\" in name or "\0" in name:
            raise AlbenchError(f"no image {name!r}: split {split!r} of {folder} names a path, which may lead out of it")
        if name in twice:
            raise AlbenchError(f"{there[name]} and {twice[name].name}: which is the image? Take one of them away")
        image = there.get(name, folder / "JPEGImages" / f"{name}.jpg")
        annotation = folder / "Annotations" / f"{name}.xml"
        entries.append(VocEntry(image.name, image, str(annotation), annotation, split))
    return entries


def _lists(folder: Path, split: str) -> Path:
    """The folder that lists a split's images, or holds them all."""
    return _file(folder, split).parent if split else folder / "JPEGImages"


def _file(folder: Path, split: str) -> Path:
    return folder / "ImageSets" / "Main" / f"{split}.txt"


def _names(file: Path) -> list[str]:
    """The names in a split's file, without the second column of official class lists: 1, 0 or -1."""
    if not file.is_file():
        there = sorted(p.stem for p in file.parent.glob("*.txt"))
        hint = did_you_mean(file.stem, there) or (
            "" if there else ' Without such files pool_split = "" takes every image, and test_share = 0.2 a test set.'
        )
        raise AlbenchError(f"no split {file.stem!r}: {file} is missing.{hint}")
    try:
        lines = map(str.strip, file.read_text(encoding="utf-8-sig").splitlines())
        names = [COLUMN.sub("", line) for line in lines if line]
    except UnicodeDecodeError as error:
        raise AlbenchError(f"split {file} is no text ({error.reason} at byte {error.start})") from error
    if not names:
        raise AlbenchError(f"split {file} names no image")
    return names


def _require(file: Path, entry: VocEntry, home: Path) -> None:
    """Raises: AlbenchError: an image or annotation is missing, or is a link that leaves the folder."""
    if not file.is_file():
        kind = "image" if file == entry.image else "annotation"
        why = f"which split {entry.split!r} names" if entry.split else f"which goes with {entry.image.name}"
        raise AlbenchError(f"no {kind} {file}, {why}")
    require_inside(file, home, file.parent)


def _whole(folder: Path, split: str) -> bool:
    """Whether the split is there with both files of every image: an interrupted unpacking lacks some."""
    try:
        entries = _listed(folder, split)
    except AlbenchError:
        return False
    annotations = set((folder / "Annotations").glob("*.xml"))
    return all(entry.annotation in annotations and entry.image.is_file() for entry in entries)
