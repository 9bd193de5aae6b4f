"""SSD's multibox loss, image by image."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEGATIVES = 3  # background boxes that are trained, per matched box


def multibox_loss(logits: Tensor, offsets: Tensor, matched: Tensor, targets: Tensor) -> Tensor:
    """s_i [B], fp32: localisation and confidence loss summed over an image's own boxes, divided by nothing.

    logits [B, D, C + 1], 0 is background; offsets and targets [B, D, 4]; matched [B, D] from `boxes.match`.
    Localisation: smooth L1, summed over matched boxes. Confidence: cross-entropy over the matched boxes and the
    image's 3 × as many background boxes with the highest loss. An image without objects has no matched box, so no
    negatives either: its loss is 0, as in SSD.

    The normaliser: SSD's objective is Σ s_i / N with N = max(1, Σ matched boxes of the whole batch). Dividing s_i by
    that N would make an image's loss depend on its neighbours, so N lives in `scale`; the order of images is s_i's.
    """
    positive = matched > 0
    place = F.smooth_l1_loss(offsets.float(), targets, reduction="none").sum(2)
    place = (place * positive).sum(1)
    # flat, since classes in the second place would have to be copied into the last
    entropy = F.cross_entropy(logits.float().flatten(0, 1), matched.flatten(), reduction="none").view_as(matched)
    hard, wanted = entropy.masked_fill(positive, 0), NEGATIVES * positive.sum(1, keepdim=True)
    if hard.requires_grad or hard.is_cuda:  # a training step and a GPU do not wait to learn how many are wanted
        hard = hard.sort(dim=1, descending=True).values
    else:  # few are: 57 of 8,732 in a fourteenth of the time
        hard = hard.topk(min(int(wanted.max()), hard.shape[1]), dim=1).values
    chosen = torch.arange(hard.shape[1], device=hard.device) < wanted
    return place + (entropy * positive).sum(1) + (hard * chosen).sum(1)


def scale(matched: Tensor) -> Tensor:
    """B / max(1, N): the mean of s_i times this is Σ s_i / N, SSD's own objective. matched: [B, D]."""
    return len(matched) / (matched > 0).sum().clamp_min(1)
