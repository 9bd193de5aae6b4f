"""Over which numbers of labels the strategies of a task are compared."""

import numpy as np
import pandas as pd

from albench.analysis.tidy import CURVE


def shared(results: pd.DataFrame) -> pd.DataFrame:
    """The rows at the numbers of labels that strategies are compared over, per task and metric.

    Those that more than half of the strategies have, so that a stage which few of them have makes no other curve look
    short, and a strategy that has only begun does not cut the others. One with a single number of labels has no
    vote, unless all are so. Where these are fewer than two, which is no curve: see `_in_common`.
    """
    return results[is_shared(results)]


def is_shared(results: pd.DataFrame) -> np.ndarray:
    """Which rows are `shared`."""
    return among_shared(coded(results))


def coded(results: pd.DataFrame) -> pd.DataFrame:
    """The keys of results; names as whole numbers in the same order: `per_seed` takes a quarter less time of them."""
    names = {name: pd.factorize(results[name], sort=True)[0] for name in CURVE}
    return pd.DataFrame({**names, "seed": results["seed"].to_numpy(), "labelled": results["labelled"].to_numpy()})


def among_shared(keys: pd.DataFrame) -> np.ndarray:
    """Which rows are `shared`, of `coded` results."""
    cells = keys[[*CURVE, "labelled"]].drop_duplicates()
    curve = cells.groupby(CURVE, sort=False)["labelled"]
    votes = cells.assign(begun=curve.transform("size") > 1)
    own = ["task", "metric"]
    votes = votes[votes["begun"] | ~votes.groupby(own)["begun"].transform("any")]
    voters = votes.groupby(own)["strategy"].nunique()
    having = votes.groupby([*own, "labelled"]).size()
    kept = having.index[2 * having.to_numpy() > voters.reindex(having.reset_index("labelled").index).to_numpy()]
    pairs = kept.to_frame()[own]
    curved = pd.MultiIndex.from_frame(pairs[pairs.duplicated().to_numpy()])
    torn = votes[votes["begun"] & ~pd.MultiIndex.from_frame(votes[own]).isin(curved)]
    for (task, metric), rows in torn.groupby(own, sort=False, observed=True):
        found = _in_common(rows["strategy"], rows["labelled"])
        kept = kept.union(pd.MultiIndex.from_product([[task], [metric], found], names=kept.names))
    return pd.MultiIndex.from_frame(keys[[*own, "labelled"]]).isin(kept)


def _in_common(strategies: pd.Series, labelled: pd.Series) -> np.ndarray:
    """The numbers of labels, two or more, that the largest group of strategies has in common; rows: one of each.

    Of equally large groups that of the strategy which comes first. A number that more than half of the strategies have
    stays: groups are of those that have it, and where no two of them have more in common, it is the only one.
    """
    (row, _), (column, numbers) = pd.factorize(strategies.to_numpy()), pd.factorize(labelled.to_numpy())
    there = np.zeros((row.max() + 1, len(numbers)), int)
    there[row, column] = 1
    agreed = 2 * there.sum(0) > len(there)
    there = there[there[:, agreed].all(1)]
    together = there.T @ there  # how many strategies have both of two numbers
    np.fill_diagonal(together, 0)
    if agreed.any() and together.max() < 2:
        return numbers[agreed]
    first = next(own for own in there if together[np.ix_(own > 0, own > 0)].max() == together.max())
    one, other = np.argwhere(together * np.outer(first, first) == together.max())[0]
    group = there[(there[:, one] & there[:, other]) > 0]
    return numbers[group.all(0)]
