"""The font of the figures: matplotlib's own DejaVu Sans, without what makes writing a PDF slow."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont
from matplotlib.font_manager import FontProperties, findfont, fontManager

BASE, LIGHT = "DejaVu Sans", "DejaVu Sans without layout tables"
LAYOUT = ("GPOS", "GSUB", "GDEF")  # ligatures and the like, which matplotlib's plain text never needs


@cache
def family() -> list[str]:
    """Families for rcParams["font.family"], the second for whoever reads an SVG.

    A PDF holds the glyphs that it uses; finding what DejaVu's layout tables say of them takes two thirds of a save.
    """
    folder = Path(tempfile.mkdtemp(prefix="albench-fonts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for weight in ("normal", "bold"):
        source = findfont(FontProperties(family=BASE, weight=weight))
        font = TTFont(source, recalcTimestamp=False)  # the same file every time
        for table in LAYOUT:
            if table in font:
                del font[table]
        for name in font["name"].names:
            if name.nameID in (1, 16):
                name.string = LIGHT
        font.save(folder / Path(source).name)
        fontManager.addfont(folder / Path(source).name)
    return [LIGHT, BASE, "sans-serif"]
