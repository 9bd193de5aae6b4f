"""Augmentation of whole batches on the device: pure functions of images and of numbers that were drawn before."""

import torch
from torch import Tensor
from torch.nn import functional as F

GREY = (0.2989, 0.587, 0.114)  # luma of red, green and blue (ITU-R BT.601), as torchvision rounds it


def crop(image: Tensor, pad: int, shift: Tensor, flip: Tensor | None) -> Tensor:
    """Images [B, C, H, W] cropped from their zero-padded selves, mirrored where `flip` [B] says so.

    shift: int64 [2, B], rows and columns in 0 … 2·pad at which the crop begins.
    """
    count, _, height, width = image.shape
    if pad:
        image = F.pad(image, (pad,) * 4)
    rows = shift[0, :, None] + torch.arange(height, device=image.device)
    columns = shift[1, :, None] + torch.arange(width, device=image.device)
    if flip is not None:
        columns = torch.where(flip[:, None], columns.flip(1), columns)
    sample = torch.arange(count, device=image.device)
    cropped = image.permute(0, 2, 3, 1)[sample[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def colour(image: Tensor, factor: Tensor) -> Tensor:
    """Brightness, contrast and saturation of images [B, C, H, W] in [0, 1] times their factors [3, B], in this order.

    As torchvision's adjust_brightness, adjust_contrast and adjust_saturation; one channel has no saturation.
    """
    brightness, contrast, saturation = factor[:, :, None, None, None]
    image = (image * brightness).clamp(0, 1)
    mean = _grey(image).mean((1, 2, 3), keepdim=True)
    image = (mean + contrast * (image - mean)).clamp(0, 1)
    if image.shape[1] == 1:
        return image
    grey = _grey(image)
    return (grey + saturation * (image - grey)).clamp(0, 1)


def _grey(image: Tensor) -> Tensor:
    if image.shape[1] == 1:
        return image
    red, green, blue = image.unbind(1)
    return (GREY[0] * red + GREY[1] * green + GREY[2] * blue)[:, None]


def cut_out(image: Tensor, centre: Tensor) -> Tensor:
    """A square of half the side, around `centre` (int64 [2, B], row and column) and clipped at the border, set to 0.

    Cutout of DeVries and Taylor ("Improved Regularization of Convolutional Neural Networks with Cutout", 2017): on
    normalised images 0 is the mean colour, and every pixel is equally likely to be the centre.
    """
    height, width = image.shape[2:]
    rows = _inside(centre[0], height)[:, :, None]
    columns = _inside(centre[1], width)[:, None, :]
    return image.masked_fill((rows & columns)[:, None], 0)


def _inside(centre: Tensor, side: int) -> Tensor:
    """Whether each of `side` lines [B, side] is in the square: from centre − side/4 to centre + side/4, exclusive."""
    line = torch.arange(side, device=centre.device)
    return (line >= centre[:, None] - side // 4) & (line < centre[:, None] + side // 4)
