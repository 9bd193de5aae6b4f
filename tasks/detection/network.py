"""SSD (Liu et al. 2016) on a backbone of choice: a compact one for CPUs, or VGG-16 as SSD300.

`forward(image)` returns raw: logits [B, D, classes + 1] (0 is background), offsets [B, D, 4], features (the source
maps, as a list) and embedding [B, d] (fp32 spatial mean of the deepest map of the backbone proper).
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from albench.download import Source
from albench.errors import AlbenchError
from albench.task import Raw
from albench.tasks.detection.boxes import Grid

# VGG-16's convolutions as SSD was published with, torchvision's VGG16_Weights.IMAGENET1K_FEATURES
IMAGENET = Source("https://download.pytorch.org/models/vgg16_features-amdegroot-88682ab5.pth", "sha256:88682ab5")
# The names of Vgg.fc's weights in vgg16_reducedfc.pth
REDUCED = {"1.weight": "31.weight", "1.bias": "31.bias", "3.weight": "33.weight", "3.bias": "33.bias"}
UNIT = (0.229, 0.224, 0.225)  # what torchvision's classifiers have their images divided by, of full brightness

SSD300 = (  # cells, pixels between them, side of the square box and the next map's, aspect ratios; of 300 px, for VOC
    Grid(38, 8 / 300, 30 / 300, (30 * 60) ** 0.5 / 300, (2.0,)),
    Grid(19, 16 / 300, 60 / 300, (60 * 111) ** 0.5 / 300, (2.0, 3.0)),
    Grid(10, 32 / 300, 111 / 300, (111 * 162) ** 0.5 / 300, (2.0, 3.0)),
    Grid(5, 64 / 300, 162 / 300, (162 * 213) ** 0.5 / 300, (2.0, 3.0)),
    Grid(3, 100 / 300, 213 / 300, (213 * 264) ** 0.5 / 300, (2.0,)),
    Grid(1, 300 / 300, 264 / 300, (264 * 315) ** 0.5 / 300, (2.0,)),
)


def compact_grids(size: int) -> tuple[Grid, ...]:
    """Maps of 1/8, 1/16 … of the image until 3 × 3 or less; boxes of 2 and 2·√2 cells, and 2:1 both ways."""
    grids, cells = [], size // 8
    while True:
        grids.append(Grid(cells, 1 / cells, 2 / cells, 2 * 2**0.5 / cells, (2.0,)))
        if cells <= 3:
            return tuple(grids)
        cells = (cells + 1) // 2


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 × 3 convolution, batch norm, ReLU."""
    layers = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    return nn.Sequential(*layers)


class Compact(nn.Module):
    """Space-to-depth by 4, then a halving and a doubling of channels (up to 4 × width) per source map."""

    def __init__(self, channels: int, width: int, maps: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.PixelUnshuffle(4), conv(16 * channels, width))
        self.channels = [width * 2 ** min(i + 1, 2) for i in range(maps)]
        steps = zip([width, *self.channels], self.channels, strict=False)
        self.stages = nn.ModuleList(nn.Sequential(conv(a, b, 2), conv(b, b)) for a, b in steps)

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """The source maps, and the map whose mean is the embedding: the deepest."""
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps, x


class Norm(nn.Module):
    """L2 norm over the channels at each place, times a learnt factor per channel (ParseNet; 20 at first)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → the same shape."""
        return F.normalize(x.float(), dim=1).to(x.dtype) * self.weight[:, None, None]


class Vgg(nn.Module):
    """VGG-16 to conv5_3 without batch norm, dilated fc6, fc7, and SSD300's four extra stages.

    `width` 64 is VGG-16's own. Source maps: conv4_3 (L2-normalised), fc7, conv8_2, conv9_2, conv10_2, conv11_2.
    fc6 and fc7 start from Xavier's initialisation, as torchvision's do; the published SSD took them from a VGG-16
    with reduced fully connected layers, trained on ImageNet (see `load_vgg`).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        plan = (1, 1, "M", 2, 2, "M", 4, 4, 4, "C", 8, 8, 8, "M", 8, 8, 8)  # C: a pool that rounds up, 75 → 38
        layers: list[nn.Module] = []
        inputs = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2, ceil_mode=step == "C"))
            else:
                layers += [nn.Conv2d(inputs, step * width, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = step * width
        self.features = nn.Sequential(*layers)  # numbered as torchvision's vgg16().features
        self.norm = Norm(8 * width)
        self.fc = nn.Sequential(
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(8 * width, 16 * width, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(16 * width, 16 * width, 1),
            nn.ReLU(inplace=True),
        )
        self.channels = [8 * width, 16 * width, 8 * width, 4 * width, 4 * width, 4 * width]
        middles, strides = (4 * width, 2 * width, 2 * width, 2 * width), (2, 2, 1, 1)
        self.extras = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(self.channels[i + 1], middles[i], 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(middles[i], self.channels[i + 2], 3, strides[i], padding=int(strides[i] == 2)),
                nn.ReLU(inplace=True),
            )
            for i in range(4)
        )
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):  # a deep net without batch norm: keep the variance from layer to layer
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """The six source maps, and fc7."""
        conv4_3 = self.features[:23](image)
        x = fc7 = self.fc(self.features[23:](conv4_3))
        maps = [self.norm(conv4_3), fc7]
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return maps, fc7


class SSD(nn.Module):
    """A backbone, and a 3 × 3 convolution on each source map that gives every default box its logits and offsets.

    `dropout` zeroes whole channels of the source maps on their way into the heads, not of what `features` returns.
    """

    def __init__(self, backbone: Compact | Vgg, grids: tuple[Grid, ...], classes: int, dropout: float) -> None:
        super().__init__()
        self.backbone, self.outcomes = backbone, classes + 1
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        sizes = zip(backbone.channels, grids, strict=True)
        self.heads = nn.ModuleList(nn.Conv2d(c, g.boxes * (self.outcomes + 4), 3, padding=1) for c, g in sizes)
        new = [*self.heads.modules(), *(backbone.extras.modules() if isinstance(backbone, Vgg) else [])]
        new += [*backbone.fc.modules()] if isinstance(backbone, Vgg) else []
        for module in new:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Raw:
        """[B, C, size, size] → logits, offsets, features, embedding (see the module)."""
        maps, deepest = self.backbone(image)
        outs = [head(self.dropout(m)) for head, m in zip(self.heads, maps, strict=True)]
        flat = torch.cat([o.permute(0, 2, 3, 1).reshape(len(o), -1, self.outcomes + 4) for o in outs], 1)
        logits, offsets = flat.split((self.outcomes, 4), 2)
        return {"logits": logits, "offsets": offsets, "features": maps, "embedding": deepest.float().mean((2, 3))}


def imagenet_file() -> Path:
    """Where torch keeps the ImageNet weights: TORCH_HOME, or ~/.cache/torch."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(IMAGENET.url).name


def load_vgg(backbone: Vgg, file: Path) -> None:
    """Copy VGG-16's convolutions from a file of weights; the extra stages stay as they are.

    Three kinds of files, read by safetensors or by torch, without unpickling code:

    - torchvision's VGG16_Weights.IMAGENET1K_FEATURES, the convolutions that SSD was published with. fc6 and fc7 stay as
      they are. So does any state dict of vgg16 without a classifier.
    - SSD's own vgg16_reducedfc ("0.weight" to "33.bias"), which has fc6 and fc7, too.
    - vgg16 with its classifier, as torchvision publishes it. It reads images of unit variance; its first convolution is
      scaled, so that here, as with the others, the input is pixels 0-255 less the mean colour.

    Raises:
        AlbenchError: it cannot be read, or a convolution is missing or has another shape.
    """
    try:
        state = {name.removeprefix("features."): weight for name, weight in _state(file).items()}
        backbone.features.load_state_dict({name: state[name] for name in backbone.features.state_dict()})
        if "31.weight" in state:
            backbone.fc.load_state_dict({name: state[REDUCED[name]] for name in backbone.fc.state_dict()})
        if state.get("classifier.0.weight", torch.tensor(torch.nan)).isfinite().all():  # NaN in IMAGENET1K_FEATURES
            first: Tensor = backbone.features[0].weight  # type: ignore[assignment]
            with torch.no_grad():
                first /= 255 * torch.tensor(UNIT)[:, None, None]
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise AlbenchError(f"cannot read VGG-16 weights {file} ({reason}); give a state dict of vgg16") from error


def _state(file: Path) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        return torch.load(file, map_location="cpu", weights_only=True)
    from safetensors.torch import load_file

    return load_file(file)
