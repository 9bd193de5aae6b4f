"""Data that do not fit on the device: batches come through, and no number changes."""

import threading

import pytest
import torch

from albench import devices, training, worker
from albench.recipe import Recipe
from albench.samples import Samples
from albench.tasks.classification.digits import Digits
from albench.training import Numerics, Setup, fit

CPU = torch.device("cpu")


@pytest.fixture
def samples():
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Samples(images, {"label": torch.arange(20)}, [str(row) for row in range(20)])


def test_streamed_batches_are_the_resident_ones(samples):
    chunks = list(torch.randperm(20).split(6))  # the last is smaller
    streamed = samples.to(CPU, resident=False)
    for hidden in (False, True):
        wanted = list(samples.batches(chunks, hidden))
        for batches in (list(streamed.batches(chunks, hidden)), [streamed.batch(rows, hidden) for rows in chunks]):
            assert [list(batch) for batch in batches] == [["image"] if hidden else ["image", "label"]] * 4
            assert all(torch.equal(b[name], w[name]) for b, w in zip(batches, wanted, strict=True) for name in w)


def test_a_batch_stays_as_it_is_while_the_next_is_gathered(samples):
    batches = samples.to(CPU, resident=False).batches(torch.arange(20).split(5))
    first = next(batches)["image"]
    before = first.clone()
    assert len(list(batches)) == 3
    assert torch.equal(first, before)


def test_a_loop_that_ends_early_leaves_no_thread(samples):
    batches = samples.to(CPU, resident=False).batches(torch.arange(20).split(5))
    next(batches)
    batches.close()
    assert list(samples.to(CPU, resident=False).batches([])) == []


def test_a_row_that_is_not_there_is_an_error_here(samples):
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        list(samples.to(CPU, resident=False).batches([torch.tensor([99])]))


def test_a_run_on_streamed_data_is_the_same_to_the_bit(run, monkeypatch):
    resident, _, _ = run(out="resident", seeds=1)
    sizes = []
    monkeypatch.setattr(worker, "fits", lambda size, device, per_gpu: sizes.append((size, per_gpu)))
    streamed, failed, _ = run(out="streamed", seeds=1)
    assert failed == []
    assert set(sizes) == {(120 * 64, 1)}  # 120 digits of 8 × 8
    for name in ("results", "selections", "diagnostics"):
        assert (resident / f"{name}.csv").read_bytes() == (streamed / f"{name}.csv").read_bytes()


@pytest.mark.parametrize(("free", "per_gpu", "fit"), [(80, 1, True), (80, 4, False), (50, 1, False), (70, 2, False)])
def test_images_take_a_share_of_what_a_trial_may_have(monkeypatch, free, per_gpu, fit):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80))
    assert devices.fits(28, torch.device("cuda"), per_gpu) is fit
    assert devices.fits(28, CPU, per_gpu)


@pytest.mark.gpu
def test_pinned_batches_on_a_gpu(samples):
    device = torch.device("cuda")
    chunks = list(torch.randint(0, 20, (4000,)).split(16))
    resident, streamed = samples.to(device), samples.to(device, resident=False)
    assert not streamed.images.is_cuda
    for wanted, batch in zip(resident.batches(chunks), streamed.batches(chunks), strict=True):
        assert batch["image"].is_cuda
        assert torch.equal(batch["image"], wanted["image"])
        assert torch.equal(batch["label"], wanted["label"])


def test_training_on_streamed_data_gathers_ahead(monkeypatch):
    task = Digits(samples=60, width=4, blocks=(1, 1))
    data, asked, threads = task.load(None), [], []
    buffer, gather, update = Samples._buffer, Samples._gather, training._update
    monkeypatch.setattr(Samples, "_buffer", lambda *a: (asked.append(1), buffer(*a))[1])
    monkeypatch.setattr(Samples, "_gather", lambda *a: (threads.append(threading.current_thread()), gather(*a))[1])
    monkeypatch.setattr(training, "_update", lambda *a: (update(*a), seen.append(len(asked))))

    def train(resident):
        recipe = Recipe(updates=5, batch=8)
        there = data.to(CPU, resident)
        return fit(Setup(task, there, recipe, Numerics(), CPU, (0, 0, "digits")), 0, torch.arange(20))

    seen = []
    (one, loss), (two, same) = train(resident=False), train(resident=True)
    assert seen == [2, 3, 4, 5, 5, *[5] * 5]
    assert threading.current_thread() not in threads
    assert loss == same
    assert all(torch.equal(x, y) for x, y in zip(one.model.parameters(), two.model.parameters(), strict=True))
