"""The stacked hourglass (Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """A pre-activated bottleneck: 1×1 to half the channels, 3×3, 1×1, added to its input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, half, 1)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1)),
            *(nn.BatchNorm2d(half), nn.ReLU(), nn.Conv2d(half, outputs, 1)),
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class Hourglass(nn.Module):
    """Down `depth` times by half and up again, with a branch at each resolution that goes straight across."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.across = Residual(width, width)
        self.down = Residual(width, width)
        self.inner = Hourglass(depth - 1, width) if depth > 1 else Residual(width, width)
        self.up = Residual(width, width)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(functional.max_pool2d(x, 2))))
        return self.across(x) + functional.interpolate(low, scale_factor=2.0, mode="nearest")


def stem(width: int, stride: int) -> nn.Sequential:
    """RGB to `width` channels at 1/stride of the size: 4 as in the paper, 2 for small images."""
    first, second = max(width // 4, 8), max(width // 2, 16)
    kernel = 7 if stride == 4 else 5
    enter = [nn.Conv2d(3, first, kernel, 2, kernel // 2), nn.BatchNorm2d(first), nn.ReLU(), Residual(first, second)]
    if stride == 4:
        enter += [nn.MaxPool2d(2), Residual(second, second)]
    return nn.Sequential(*enter, Residual(second, width))


class StackedHourglass(nn.Module):
    """Hourglasses in a row, each with heat maps of its own that the next one reads (intermediate supervision).

    forward([B, 3, S, S]) → {"maps": [B, stacks, joints, S/stride, S/stride], "features": a list of each stack's last
    map [B, width, S/stride, S/stride] before its heat maps}. Dropout, where there is any, drops channels of that map.
    """

    def __init__(self, joints: int, stacks: int, depth: int, width: int, stride: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = stem(width, stride)
        self.hourglasses = nn.ModuleList(
            nn.Sequential(Hourglass(depth, width), Residual(width, width)) for _ in range(stacks)
        )
        self.lasts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU()) for _ in range(stacks)
        )
        self.dropout = nn.Dropout2d(dropout) if dropout > 0 else nn.Identity()
        self.heads = nn.ModuleList(nn.Conv2d(width, joints, 1) for _ in range(stacks))
        self.back_features = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(stacks - 1))
        self.back_maps = nn.ModuleList(nn.Conv2d(joints, width, 1) for _ in range(stacks - 1))

    def forward(self, image: Tensor) -> dict[str, Any]:
        x = self.stem(image)
        maps, features = [], []
        for stack, (hourglass, last, head) in enumerate(zip(self.hourglasses, self.lasts, self.heads, strict=True)):
            features.append(last(hourglass(x)))
            maps.append(head(self.dropout(features[-1])))
            if stack < len(self.back_maps):
                x = x + self.back_features[stack](features[-1]) + self.back_maps[stack](maps[-1])
        return {"maps": torch.stack(maps, 1), "features": features}
