"""Files of a data folder that may be a stranger's: paths stay inside it, and an image is a JPEG or PNG of sane size."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from PIL import Image

from albench.errors import AlbenchError

MOST_PIXELS = 100_000_000  # that an image may declare: some 400 MB decoded, in each of a few threads
FORMATS = ("JPEG", "PNG")  # no others: Pillow would start Ghostscript for a PostScript file named .jpg

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


def require_inside(file: Path, *folders: Path) -> None:
    """A file that is a link must lead to somewhere below one of these folders.

    Raises:
        AlbenchError: it leads elsewhere.
    """
    if file.is_symlink():
        target = file.resolve()
        if not any(target.is_relative_to(folder.resolve()) for folder in folders):
            raise AlbenchError(f"{file} is a link that leaves the data folder; put a copy of the file there")


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
