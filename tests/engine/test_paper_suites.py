"""The suites of the paper say its protocol, to the letter; their short forms say in what they differ."""

import math

import pytest

from albench import registry
from albench.analysis.published import another_experiment, open_settings, protocol_differences
from albench.recipe import Recipe
from albench.suite import bundled, read, resolve

# task label: seeds, K, M, epochs, batch, optimiser, rate, its milestone, cut, λ: the protocol table of the paper
PROTOCOL = {
    "cifar10": (5, 1000, 10_000, 200, 128, "sgd", 0.1, 160, 120, 1.0),
    "voc": (3, 1000, 0, 300, 32, "sgd", 0.001, 240, 240, 1.0),
    "mpii": (3, 1000, 5000, 125, 6, "rmsprop", 2.5e-4, 100, 75, 1e-4),
}
PUBLISHED = {"cifar10": ("cifar10", "accuracy"), "voc": ("voc0712", "map@11pt"), "mpii": ("mpii", "pckh@0.5")}
STRATEGIES = [
    *("random", "entropy", "core-set", "learning-loss", "learning-loss-mse"),
    *("random-with-module", "learning-loss-replayed", "true-loss"),
]


@pytest.mark.parametrize("label", [label for label in PROTOCOL if f"ll4al-{label}" in bundled()])
def test_the_protocol_of_the_paper(label):
    suite = resolve(read(f"ll4al-{label}"))
    seeds, budget, subset, epochs, batch, optimiser, rate, milestone, cut, weight = PROTOCOL[label]
    entry = suite.tasks[label]
    assert (suite.seeds, suite.stages, suite.warm_start, list(suite.strategies)) == (seeds, 10, False, STRATEGIES)
    assert (entry.initial, entry.budget, entry.subset) == (budget, budget, subset)
    recipe = Recipe.model_validate(entry.recipe)
    assert (recipe.epochs, recipe.batch, recipe.optimiser, recipe.learning_rate) == (epochs, batch, optimiser, rate)
    assert [m * epochs for m in recipe.milestones] == pytest.approx([milestone])
    assert (recipe.gamma, recipe.momentum) == (0.1, 0.9)
    assert recipe.weight_decay == (0 if label == "mpii" else 5e-4)
    for module in entry.companions.values():
        assert module["cut"] * epochs == pytest.approx(cut)
        assert module["weight"] == weight
    module = registry.companions.get("loss-prediction")
    assert issubclass(registry.companions.get("loss-prediction-mse"), module)
    published = entry.published
    assert (published.task, published.measured) == PUBLISHED[label]
    task = registry.tasks.get(entry.task)(**entry.params)
    assert task.metric == published.measured  # the one that tests and verdicts are about
    theirs = suite.model_dump(mode="json")
    assert protocol_differences(theirs, label, theirs, published.protocol_task) == []


@pytest.mark.parametrize(
    ("label", "settings", "another"),
    [
        ("mpii", ["tasks.mpii.companions.loss-prediction.cut=0.8"], False),
        ("voc", ["tasks.voc.companions.loss-prediction-mse.cut=0.9"], False),
        ("voc", ["tasks.voc.params.rule=all-point"], False),
        ("cifar10", ["strategies.core-set.params.whole_pool=true"], False),
        ("cifar10", ["numerics.precision=bf16"], False),
        ("cifar10", ["tasks.cifar10.companions.loss-prediction.cut=0.8"], True),  # the paper has it
        ("voc", ["tasks.voc.params.weights="], True),  # the paper starts from ImageNet's
        ("cifar10", ["strategies.entropy.strategy=margin"], True),
        ("cifar10", ["strategies.core-set.strategy=random"], True),
    ],
)
def test_another_value_of_what_is_open_is_no_other_experiment(label, settings, another):
    theirs, ours = (resolve(read(f"ll4al-{label}", chosen)).model_dump(mode="json") for chosen in ((), settings))
    lines = protocol_differences(ours, label, theirs, label)
    assert lines
    assert bool(another_experiment(lines, open_settings(theirs, label))) is another


def test_what_stands_beside_the_published_curve_follows_the_rule():
    suite = resolve(read("ll4al-voc", ("tasks.voc.params.rule=all-point",)))
    task = registry.tasks.get("voc")(**suite.tasks["voc"].params)
    assert suite.tasks["voc"].published.measured == task.metric == "map"


def test_augmented_people_of_mpii_have_no_grey_border_where_the_photograph_goes_on():
    params = resolve(read("ll4al-mpii")).tasks["mpii"].params
    angle = math.radians(params["rotation"])
    assert params["margin"] >= (math.cos(angle) + math.sin(angle)) / (1 - params["scaling"])


@pytest.mark.parametrize("label", [label for label in PROTOCOL if f"ll4al-{label}-short" in bundled()])
def test_a_short_suite_differs_in_length_alone(label):
    short = resolve(read(f"ll4al-{label}-short"))
    full = resolve(read(short.tasks[label].published.protocol))
    lines = protocol_differences(short.model_dump(mode="json"), label, full.model_dump(mode="json"), label)
    assert {line.partition(":")[0] for line in lines} <= {"recipe.epochs", "seeds", "stages"}
    assert list(short.strategies) == STRATEGIES[:4]
    assert short.tasks[label].recipe["epochs"] < full.tasks[label].recipe["epochs"]
    assert short.ceiling == 0
    assert f"{steps(short, label):,} training steps" in short.description


def test_the_tuned_suite_differs_in_its_recipe_alone():
    tuned, full = resolve(read("ll4al-cifar10-tuned")), resolve(read("ll4al-cifar10"))
    lines = protocol_differences(tuned.model_dump(mode="json"), "cifar10", full.model_dump(mode="json"), "cifar10")
    assert lines
    assert all(line.startswith(("recipe.", "params.pad", "params.augmentation")) for line in lines)
    assert list(tuned.strategies) == STRATEGIES
    recipe, paper = (Recipe.model_validate(suite.tasks["cifar10"].recipe) for suite in (tuned, full))
    mean = sum(paper.length(1000 * n) for n in range(1, 11)) / 10
    assert recipe.length(1000) == recipe.length(10_000) == round(mean, -2)
    assert tuned.tuning != full.tuning


def steps(suite, label):
    """Training steps of a suite without its ceiling: what trains alike is trained once at stage 0."""
    entry = suite.tasks[label]
    length = [Recipe.model_validate(entry.recipe).length(entry.budget * n) for n in range(1, suite.stages + 1)]
    kinds = {strategy.companion for strategy in suite.strategies.values()}
    return suite.seeds * (len(kinds) * length[0] + len(suite.strategies) * sum(length[1:]))
