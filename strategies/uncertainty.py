"""Uncertainty sampling: label what the model is least sure of.

A prediction is D categorical distributions (one for an image's class, one per joint, one per default box); each
score is their mean. Source: Settles, "Active Learning Literature Survey", 2009, section 3.1.
"""

from torch import Tensor

from albench.strategy import Outputs, Strategy


class Entropy(Strategy):
    """The highest mean entropy −Σ p log p.

    raw: take the plain softmax of the network's outputs, as Yoo and Kweon (CVPR 2019) do. The two differ only for heat
    maps trained by mean squared error, whose softmax is nearly uniform; raw = false takes the clipped, normalised map.
    """

    raw: bool = True

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"score": outputs.prediction.entropy(self.raw)}


class Margin(Strategy):
    """The smallest mean difference of the two highest probabilities, p₁ − p₂.

    Source: Scheffer, Decomain and Wrobel, "Active Hidden Markov Models for Information Extraction", IDA 2001.
    """

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"score": -outputs.prediction.margin()}


class LeastConfidence(Strategy):
    """The lowest mean probability of the most likely outcome: 1 − max p.

    Source: Lewis and Gale, "A Sequential Algorithm for Training Text Classifiers", SIGIR 1994.
    """

    def observe(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"score": 1 - outputs.prediction.confidence()}
