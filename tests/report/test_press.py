"""Figures that other processes save are those that this one would save."""

import os
import threading
import warnings

import matplotlib
import pytest
from matplotlib.figure import Figure

from albench.report import press
from albench.report.looks import ONE_COLUMN, TWO_COLUMNS, style


def drawer(number):
    """A closure, as the report's figures are."""

    def draw(width):
        figure = Figure(figsize=(width, 1.5))
        figure.add_subplot().plot([0, number], label=f"ö {number}")
        figure.axes[0].set_title(f"figure {number}")
        figure.legend()
        return figure

    return draw


def drawn(number, width):
    """What draws a figure, or the figure itself: galleries are drawn at once."""
    with style(width):
        return drawer(number) if number % 3 else drawer(number)(width)


def marked(save, processes):
    """`save` that leaves the number of the process it works in."""

    def mark(draw, path, width):
        (processes / str(os.getpid())).touch()
        return save(draw, path, width)

    return mark


@pytest.fixture
def others(monkeypatch):
    """Two processes beside this one from the third figure on."""
    monkeypatch.setattr(press, "FEW", 2)
    monkeypatch.setattr(press, "PROCESSES", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def test_other_processes_write_the_same_files(others, tmp_path, monkeypatch):
    here, there, processes = (tmp_path / name for name in ("here", "there", "processes"))
    here.mkdir(), there.mkdir(), processes.mkdir()
    pool, images = press.Press(), {}
    for number in range(7):
        width = ONE_COLUMN if number % 2 else TWO_COLUMNS
        images[there / f"{number}"] = press.save(drawn(number, width), here / f"{number}", width)
    monkeypatch.setattr(press, "save", marked(press.save, processes))
    for number in range(7):
        width = ONE_COLUMN if number % 2 else TWO_COLUMNS
        pool.add(drawn(number, width), there / f"{number}", width)
    pool.finish()
    assert pool.images == images
    assert {path.name for path in processes.iterdir()} - {str(os.getpid())}  # this one helps, no more
    names = sorted(path.name for path in here.iterdir())
    assert len(names) == 21
    assert sorted(path.name for path in there.iterdir()) == names
    for name in names:
        assert (there / name).read_bytes() == (here / name).read_bytes(), name


def test_what_fails_while_drawing_elsewhere_is_raised_at_the_end(others, tmp_path):
    def broken(width):
        raise ValueError("no such curve")

    pool = press.Press()
    for number in range(3):
        pool.add(broken, tmp_path / f"{number}", ONE_COLUMN)
    with pytest.raises(ValueError, match="no such curve"):
        pool.finish()


def test_a_figure_that_is_drawn_already_is_saved_at_once_and_here(others, tmp_path, monkeypatch):
    processes = tmp_path / "processes"
    processes.mkdir()
    monkeypatch.setattr(press, "save", marked(press.save, processes))
    pool = press.Press(warm=True)
    pool.add(Figure(figsize=(1, 1)), tmp_path / "drawn", ONE_COLUMN)
    assert (tmp_path / "drawn.png").is_file()
    assert list(pool.images) == [tmp_path / "drawn"]
    assert [path.name for path in processes.iterdir()] == [str(os.getpid())]


def test_a_user_s_own_settings_of_matplotlib_change_no_file(tmp_path):
    for name, settings in (("plain", {}), ("own", {"savefig.bbox": "tight", "savefig.dpi": 50})):
        with matplotlib.rc_context(settings):
            press.save(drawer(1), tmp_path / name, ONE_COLUMN)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "own.png").read_bytes()


def test_a_script_that_the_small_font_lacks_is_drawn_all_the_same(tmp_path):
    with style(), warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
        figure = Figure(figsize=(2, 1))
        figure.text(0.1, 0.5, "энтропия ρ ≤ 1")
        for kind in ("png", "pdf", "svg"):
            figure.savefig(tmp_path / f"name.{kind}")


def test_processes_are_first_asked_for_in_this_thread(others, tmp_path, monkeypatch):
    """Of two threads that import joblib at once, one sees half of it, and the report would end in a traceback."""
    asked, executor = [], press._executor

    def watched():
        asked.append(threading.current_thread())
        return executor()

    monkeypatch.setattr(press, "_executor", watched)
    pool = press.Press(warm=True)
    for number in range(3):
        pool.add(drawer(number), tmp_path / f"{number}", ONE_COLUMN)
    pool.finish()
    assert len(asked) > 1
    assert asked[0] is threading.current_thread()
