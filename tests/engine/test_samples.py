"""Data that do not fit on the device: batches come through, and no number changes."""

import pytest
import torch

from albench import devices, worker
from albench.samples import Samples

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
