"""The report of one or several runs: a self-contained page, Markdown, figures and tables."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from albench.report.foreign import Reading


def write(
    run_dirs: list[Path],
    out: Path | None = None,
    data_root: Path | None = None,
    mixed_devices: bool = False,
    pool: bool = False,
    aloud: bool = False,
    reading: "Reading | None" = None,
) -> Path:
    """Write index.html, report.md, figures/* (PNG, PDF, SVG), tables/* (CSV, LaTeX); returns the path of index.html.

    Args:
        run_dirs: run folders, or CSVs of tidy results (see `albench.analysis`); several are shown side by side.
        out: where to; default the first run's folder, under report/; of NAME.csv a folder NAME beside it.
        data_root: where data sets lie, for the pictures of selected samples; default where the run found them.
        mixed_devices: average seeds although they ran on different devices.
        aloud: say on stderr what is being done, and on a terminal how far it is.
        pool: take the seeds of all runs as those of one; they must be of one suite, with different suite seeds.
        reading: reference, smallest effect of interest, metric and direction of CSVs, which do not say them.

    Raises:
        AlbenchError: a folder holds no run, a table is damaged, runs cannot be pooled, or `out` cannot be written.
    """
    from albench.report.press import unhindered, warmed_up

    with unhindered():
        warm = warmed_up([Path(folder) for folder in run_dirs])
        # pandas and matplotlib are imported while those processes start
        from albench.report import content, latex, looks, markdown, page
        from albench.report.blocks import Folder
        from albench.report.runs import gather
        from albench.terminal import counting, say

        runs = gather([Path(folder) for folder in run_dirs], mixed_devices, pool, reading)
        folder = Folder(Path(out) if out is not None else runs[0].folder / "report", later=True, warm=warm)
        if aloud:
            trials = sum(run.trials for run in runs if not run.foreign)
            of_trials = f" of {trials:,} {'trial' if trials == 1 else 'trials'}" if trials else ""
            say(f"Writing the report{of_trials}…")
        with counting("figures saved", folder.progress) if aloud else nullcontext():
            with looks.style():
                document = content.document(runs, folder, Path(data_root) if data_root is not None else None)
            document = latex.save(folder.finished(document), folder)
        folder.text("report.md", markdown.render(document))
        written = folder.text("index.html", page.render(document))
        folder.clear()
        return written
