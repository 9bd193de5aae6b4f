"""The font of the figures: matplotlib's own DejaVu Sans, without what makes writing a PDF slow."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from matplotlib.font_manager import FontProperties, findfont, fontManager

BASE, LIGHT = "DejaVu Sans", "DejaVu Sans without layout tables"
# Latin, Greek, punctuation, arrows, mathematics, markers; other signs and scripts come from BASE. No ligatures and the
# like in plain text. A PDF's time grows with what is kept.
KEPT = (*range(0x180), *range(0x370, 0x400), *range(0x2000, 0x20D0), *range(0x2190, 0x2270), *range(0x25A0, 0x2600),
        0x2605, 0x26A0, 0x2716, 0x271A)  # fmt: skip
OPTIONS = Options(
    layout_features=[], legacy_kern=True, glyph_names=False, name_IDs=["*"], name_languages=["*"], notdef_outline=True
)
OPTIONS.drop_tables += ["GPOS", "GSUB", "GDEF", "FFTM"]


_adopted: list[Path] = []  # in a process that draws for another one: that one's folder


@cache
def family() -> list[str]:
    """Families for rcParams["font.family"], with BASE as "font.sans-serif": two, since each is searched for each text.

    A PDF holds the glyphs that it uses; finding them among DejaVu's 6,000 and their layout tables takes two thirds of
    a save.
    """
    for path in sorted((_adopted[-1] if _adopted else folder()).glob("*.ttf")):
        fontManager.addfont(path)
    return [LIGHT, "sans-serif"]


def adopted(made: Path) -> None:
    """From now on, use what `folder` made in another process."""
    _adopted.append(made)


@cache
def folder() -> Path:
    """Where the fonts lie, for as long as this process lives."""
    made = Path(tempfile.mkdtemp(prefix="albench-fonts-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for weight in ("normal", "bold"):
        source = findfont(FontProperties(family=BASE, weight=weight))
        font = TTFont(source, recalcTimestamp=False)  # the same file every time
        subsetter = Subsetter(OPTIONS)
        subsetter.populate(unicodes=KEPT)
        subsetter.subset(font)
        for name in font["name"].names:
            if name.nameID in (1, 16):
                name.string = LIGHT
        font.save(made / Path(source).name)
    return made
