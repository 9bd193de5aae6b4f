"""How many images were written is seen in the array itself, and shown on terminals alone."""

import time

import numpy as np
import pytest
from rich.console import Console

from albench import terminal
from albench.terminal import AHEAD, busy, filled, filling


@pytest.mark.parametrize("count", [0, 1, 3 * AHEAD, 3 * AHEAD + 5])
def test_images_are_counted_as_they_are_written(count):
    images = np.zeros((3 * AHEAD + 5, 3, 8, 8), np.uint8)
    images[:count] = 9
    images[5:40] = 0  # black ones
    assert filled(images) == count
    assert filled(images, count // 2) == count


def test_a_bar_is_shown_on_a_terminal(monkeypatch):
    console = Console(force_terminal=True, width=80, record=True)
    monkeypatch.setattr(terminal, "Console", lambda **_: console)
    monkeypatch.setattr(terminal, "INTERVAL", 0.01)
    with console.capture() as shown, filling("voc: decoding images") as watch:
        images = np.zeros((20, 3, 8, 8), np.uint8)
        watch(images)
        images[:15] = 1
        time.sleep(0.5)
    assert "voc: decoding images" in shown.get()
    assert "15/20" in shown.get()


def test_nothing_is_shown_elsewhere(capfd):
    with busy("reading"), filling("decoding") as watch:
        watch(np.ones((2, 3, 4, 4), np.uint8))
    assert capfd.readouterr() == ("", "")
