"""Residual networks for small images: ResNet-18 as the paper uses it, and narrow copies for CPUs."""

from torch import Tensor, nn
from torch.nn import functional as F

from albench.numeric.pooling import spatial_mean


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, the basic block)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] → [B, C, H/stride, W/stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResidualNetwork(nn.Module):
    """A 3×3 stride-1 stem without max-pooling, one residual stage per entry of `blocks`, each at twice the width.

    forward(image [B, C, H, W]) → {"logits": [B, classes], "features": the stages' maps, "embedding": [B, d]}.
    ResNet-18 of the paper: blocks (2, 2, 2, 2), width 64.
    """

    def __init__(self, channels: int, classes: int, blocks: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages, size = [], width
        for number, count in enumerate(blocks):
            out = width * 2**number
            strides = [2 if number else 1] + [1] * (count - 1)
            stages.append(nn.Sequential(*(Block(size if i == 0 else out, out, s) for i, s in enumerate(strides))))
            size = out
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(size, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> dict:
        """See the class."""
        x = self.stem(image)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        embedding = spatial_mean(x)
        return {"logits": self.head(self.dropout(embedding)), "features": features, "embedding": embedding}
