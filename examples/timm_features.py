"""`OneVisionEncoder` through timm's feature interface, as the backbone of a detector and of a segmenter.

Importing `ov2kit.encoders` registers it with timm, so whatever takes a timm model takes this one:
`features_only` gives maps (B, width, H/p, W/p) after chosen blocks, `forward_intermediates` the same of a
whole model, for pictures and for clips. All maps have the stride of the patch, as in every plain ViT;
`Pyramid` makes the strides that torchvision's FCOS wants from the last one.

What is not taught here: the weights are random. Released weights (`OneVisionEncoder.load_release` into
`.trunk`) were trained for a language model, not for boxes or masks: train the head, then fine-tune the tower
with a small learning rate. A single picture has frame 0 in all of its positions.

Run: python examples/timm_features.py
"""

from collections import OrderedDict

import timm
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation.fcn import FCNHead

import ov2kit.encoders  # noqa: F401 - registers the model
from ov2kit.canvases import CLIP_MEAN, CLIP_STD

NAME = "onevision_encoder_large_patch16"
SMALL = {"embed_dim": 64, "depth": 4, "num_heads": 2}  # leave out for the released size


class Pyramid(nn.Module):
    """The last map of a timm backbone at half, the same, and twice its stride."""

    def __init__(self, backbone: nn.Module, out_channels: int) -> None:
        super().__init__()
        width = backbone.feature_info.channels()[-1]
        self.backbone, self.out_channels = backbone, out_channels
        self.finer = nn.ConvTranspose2d(width, out_channels, 2, stride=2)
        self.same = nn.Conv2d(width, out_channels, 1)
        self.coarser = nn.Conv2d(width, out_channels, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        last = self.backbone(images)[-1]
        return OrderedDict(p3=self.finer(last), p4=self.same(last), p5=self.coarser(last))


def build_detector(classes: int) -> FCOS:
    backbone = timm.create_model(NAME, features_only=True, out_indices=(3,), **SMALL)
    anchors = AnchorGenerator(sizes=((8,), (16,), (32,)), aspect_ratios=((1.0,),) * 3)
    # FCOS pads its batches to multiples of 32 pixels, which patches of 16 divide
    pixels = {"min_size": 96, "max_size": 160, "image_mean": CLIP_MEAN, "image_std": CLIP_STD}
    return FCOS(Pyramid(backbone, 32), classes, anchor_generator=anchors, **pixels)


def main() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 96, 128)

    backbone = timm.create_model(NAME, features_only=True, out_indices=(1, 3), **SMALL)
    maps = backbone(images)
    print("features_only:", [tuple(m.shape) for m in maps], "strides", backbone.feature_info.reduction())

    segmenter = FCNHead(2 * 64, 5)
    logits = nn.functional.interpolate(segmenter(torch.cat(maps, dim=1)), size=images.shape[2:])
    print("FCNHead on both maps:", tuple(logits.shape))

    detector = build_detector(classes=3)
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 60.0, 70.0]]), "labels": torch.tensor([1])}] * 2
    losses = detector(list(images), targets)
    sum(losses.values()).backward()
    print("FCOS losses:", {name: round(loss.item(), 3) for name, loss in losses.items()})

    model = timm.create_model(NAME, **SMALL)
    clip = torch.rand(1, 3, 4, 96, 128)
    final, inner = model.forward_intermediates(clip, indices=[3])
    print("a clip of 4 frames:", tuple(final.shape), "and", tuple(inner[0].shape))


if __name__ == "__main__":
    main()
