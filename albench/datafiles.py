"""Files of a data folder that may be a stranger's: paths stay inside it, images and JSON have a sane size."""

import importlib.util
import json
import os
import shlex
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from albench.errors import AlbenchError

T = TypeVar("T")

MOST_PIXELS = 100_000_000  # that an image may declare: some 400 MB decoded, in each of a few threads
MOST_JSON = 1 << 30  # bytes of a JSON file; COCO's largest is .5 GB, and takes some ten times as much in memory
FORMATS = ("JPEG", "PNG")  # no others: Pillow would start Ghostscript for a PostScript file named .jpg
SUFFIXES = (".jpg", ".jpeg", ".png")
OTHERS = (".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jfif", ".ppm", ".pgm")

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit here is an error


def below(root: Path, given: str, key: str) -> Path:
    """The place that a setting (`key`) names below a data root.

    Raises:
        AlbenchError: it is absolute, or leads out of the data root.
    """
    path = PurePath(given)
    if path.is_absolute() or ".." in path.parts or "\0" in given:
        raise AlbenchError(f"{key} = {given!r} leaves the data root {root}; name a folder below it, or set --data-root")
    return root / path


def bundled_digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: images [1797, 8, 8] of 0…16 and labels [1797], without its slow import."""
    found = importlib.util.find_spec("sklearn")
    file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz" if found and found.origin else None
    if file is None or not file.is_file():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def require_inside(file: Path, *folders: Path) -> None:
    """A file that is a link must lead to somewhere below one of these folders.

    Raises:
        AlbenchError: it leads elsewhere, or to nothing.
    """
    if file.is_symlink():
        if not file.exists():
            raise AlbenchError(f"{file} is a link to nothing; take it away, or put the file there")
        target = file.resolve()
        if not any(target.is_relative_to(folder.resolve()) for folder in folders):
            raise AlbenchError(f"{file} is a link that leaves the data folder; put a copy of the file there")


def require_apart(pool: Iterable[Path], test: Iterable[Path]) -> None:
    """No image is in pool and test set both; a link, or another way to a folder, is the same image.

    Raises:
        AlbenchError: some are, and one of them.
    """
    seen = {_same(image): image for image in pool}
    both = sorted({seen[key] for key in map(_same, test) if key in seen})
    if both:
        said = f"{len(both)} image{'s are' if len(both) > 1 else ' is'} in pool and test both, {both[0]} among them"
        raise AlbenchError(f"{said}; change the splits, or set `test_share` instead of a test set")


def _same(file: Path) -> Hashable:
    """What two ways to one file share: its number on its disk, or where there is none, its path."""
    with suppress(OSError):  # what is not there is said elsewhere
        found = file.stat()
        if found.st_ino:
            return found.st_dev, found.st_ino
    return file


def named_file(folder: Path, name: Any, where: str) -> Path:
    """The file in `folder` that an annotation names; `where` says which annotation.

    Raises:
        AlbenchError: the name is no text or leads out of the folder, also through a link; or there is no such file.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise AlbenchError(f"{where} names no file: {str(name)[:80]!r}")
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise AlbenchError(f"{where} names {name[:80]!r}, which is outside {folder}")
    file = folder / name
    try:
        there = file.is_file()
    except OSError:  # a name that no file system takes
        there = False
    if not there:
        raise AlbenchError(f"{where} names {name[:80]!r}, and {folder} has no such file")
    require_inside(file, folder)
    return file


def image_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Every .jpg, .jpeg and .png in a folder and below it, sorted; nothing hidden, as macOS's `._im1.jpg` is."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def read_json(file: Path, kind: type[list] | type[dict]) -> Any:
    """What a JSON file holds: a list or an object, as `kind` says.

    Raises:
        AlbenchError: it is missing, larger than MOST_JSON, no JSON, cut short, nested too deep, or of another kind.
    """
    try:
        if file.stat().st_size > MOST_JSON:
            raise AlbenchError(f"{file} has more than {MOST_JSON >> 20} MB, too many for annotations")
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        raise AlbenchError(f"cannot read {file}: {reason}; fetch it again") from error
    if not isinstance(content, kind):
        raise AlbenchError(f"{file} holds no {'list' if kind is list else 'object'}, but a {type(content).__name__}")
    return content


def numbers(entry: dict[str, Any], key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The numbers under a key of an annotation, as float64 of this shape; NaN and infinity are numbers, too.

    Raises:
        AlbenchError: they are no such numbers; `where` says which annotation.
    """
    try:
        values = np.asarray(entry.get(key), np.float64)
    except (TypeError, ValueError, OverflowError):
        values = None
    if values is None or values.shape != shape or entry.get(key) is None:
        wanted = f"{' × '.join(map(str, shape))} numbers" if shape else "a number"
        raise AlbenchError(f"{where}: {key} is not {wanted}")
    return values


@contextmanager
def opened_image(file: Path) -> Iterator[Image.Image]:
    """An image, its header read and its pixels not yet; reading them belongs into the block, too.

    Raises:
        AlbenchError: the file is no JPEG or PNG, is damaged, or declares more than MOST_PIXELS.
    """
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise AlbenchError(
                    f"cannot read image {file}: it declares {image.width} × {image.height} pixels, too many"
                )
            yield image
    except Image.UnidentifiedImageError as error:
        raise AlbenchError(f"cannot read image {file}: it is no JPEG or PNG") from error
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError) as error:
        reason = str(error).partition("\n")[0]
        raise AlbenchError(f"cannot read image {file}: {reason}; fetch it again or leave it out") from error


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB; of 16-bit grey the high byte, as Pillow reads 16-bit colour (it would clip grey).

    Raises:
        ValueError: its pixels are real numbers, or beyond 16 bits: none can tell what is white.
    """
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65_535:
            raise ValueError(f"its values go from {values.min()} to {values.max()}, beyond 16 bits; save it in 8 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are real numbers (mode F); save it in 8 bits")
    return image.convert("RGB")


def require_readable(file: Path) -> None:
    """Decode an image to its end.

    Raises:
        AlbenchError: it cannot be read.
    """
    with opened_image(file) as image:
        image.load()


Bad = Callable[[AlbenchError], None]  # what is done about a bad entry of a file: refuse, or a list's append


def refuse(error: AlbenchError) -> None:
    """A bad entry ends the reading."""
    raise error


def ignore(error: AlbenchError) -> None:
    """A bad entry is passed over: it is said elsewhere."""


def attempt(work: Callable[[], T], bad: Bad) -> T | None:
    """What `work` returns; None where it raises an AlbenchError, which goes to `bad`."""
    try:
        return work()
    except AlbenchError as error:
        bad(error)
        return None


def each_problem(check: Callable[[T], object], things: Iterable[T]) -> Iterator[str]:
    """The message of every AlbenchError (or OSError) that `check` raises, thing by thing; some are checked at once."""

    def said(thing: T) -> list[str]:
        check(thing)
        return []

    yield from each_line(said, things)


def each_line(check: Callable[[T], list[str]], things: Iterable[T]) -> Iterator[str]:
    """Every line that `check` returns, or the message of the AlbenchError (or OSError) that it raises; as above."""

    def lines(thing: T) -> list[str]:
        try:
            return check(thing)
        except (AlbenchError, OSError) as error:
            return [str(error)]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for found in threads.map(lines, things):
            yield from found


def prepare_command(name: str, root: Path, **params: Any) -> str:
    """The command that fetches a task's data, as it is typed; None stands for a parameter's default."""
    words = ["albench", "data", "prepare", name, "--data-root", str(root)]
    for key, value in params.items():
        words += ["--set", f"{key}={value}"] if value is not None else []
    return f"`{shlex.join(words)}`"
