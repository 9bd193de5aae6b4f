import pytest
import torch

from albench.strategies.learning_loss import LearningLoss, LearningLossMse, LossPrediction, LossPredictionMse

START, LATE = torch.tensor(0.0), torch.tensor(0.9)


def made(outputs, cls=LossPrediction, **parameters):
    torch.manual_seed(1)
    return cls(outputs(2), **parameters)


def test_module_is_the_papers(outputs):
    module, seen = made(outputs), outputs()
    assert [tuple(b.weight.shape) for b in module.branches] == [(128, 4), (128, 5)]
    assert tuple(module.head.weight.shape) == (1, 256)
    hidden = [b(f.mean((2, 3))).clamp_min(0) for b, f in zip(module.branches, seen.features, strict=True)]
    expected = module.head(torch.cat(hidden, 1))[:, 0]
    assert torch.allclose(module(seen), expected)


def test_ranking_loss_is_the_papers_sum_over_disjoint_pairs(outputs):
    module, seen = made(outputs, weight=0.5, margin=0.7), outputs(8)
    true = torch.tensor([3.0, 1.0, 0.5, 2.0, 1.0, 1.0, 4.0, 0.1])  # one tie: 1(l_i, l_j) is −1 there
    predicted = module(seen).detach()
    total = 0.0
    for i in range(0, 8, 2):
        sign = 1 if true[i] > true[i + 1] else -1
        total += max(0.0, float(-sign * (predicted[i] - predicted[i + 1]) + 0.7))
    assert module.loss(seen, true, START).item() == pytest.approx(0.5 * 2 / 8 * total, rel=1e-5)


def test_an_odd_sample_is_left_out(outputs):
    module, true = made(outputs), torch.arange(7.0)
    odd, even = outputs(7), outputs(7)
    even.batch["image"] = even.batch["image"][:6]
    assert torch.allclose(module.loss(odd, true, START), module.loss(even, true[:6], START), atol=1e-6)


def test_mse_is_the_mean_squared_error(outputs):
    module, seen, true = made(outputs, LossPredictionMse, weight=2.0), outputs(4), torch.rand(4)
    assert torch.allclose(module.loss(seen, true, START), 2 * (module(seen) - true).square().mean())


@pytest.mark.parametrize("cls", [LossPrediction, LossPredictionMse])
@pytest.mark.parametrize(("progress", "reaches"), [(0.0, True), (0.59, True), (0.6, False), (0.99, False)])
def test_the_cut_keeps_the_gradient_from_the_model_alone(outputs, cls, progress, reaches):
    module, seen = made(outputs, cls), outputs(8)
    module.loss(seen, torch.rand(8), torch.tensor(progress)).backward()
    reached = any(p.grad is not None and p.grad.any() for p in seen._model.parameters())
    assert reached == reaches
    assert all(p.grad is not None for p in module.parameters())
    assert module.head.weight.grad.any()


def test_it_learns_to_order_losses(outputs):
    module, seen = made(outputs), outputs(32)
    true = seen.embedding.detach()[:, 0]
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    first = float(module.loss(seen, true, LATE).detach())
    for _ in range(60):
        optimiser.zero_grad()
        loss = module.loss(seen, true, LATE)
        loss.backward(retain_graph=True)
        optimiser.step()
    assert float(loss.detach()) < first / 4


@pytest.mark.parametrize("strategy", [LearningLoss, LearningLossMse])
def test_strategy_scores_by_the_predicted_loss(outputs, view, rng, strategy):
    module = made(outputs)
    kept = strategy().observe(outputs(companion=module))
    assert torch.equal(strategy().select(view(kept), 3, rng), kept["score"].argsort(descending=True)[:3])
    assert strategy.companion in ("loss-prediction", "loss-prediction-mse")
