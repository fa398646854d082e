"""Tiny trackers with random weights, stored as transformers stores the real ones."""

from pathlib import Path

import pytest
import torch

EDGE = 64


def _vision():
    from transformers import Sam2HieraDetConfig, Sam2VisionConfig

    backbone = Sam2HieraDetConfig(
        hidden_size=8, image_size=[EDGE, EDGE], blocks_per_stage=[1, 2, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[4, 4, 4, 4], global_attention_blocks=[4],
        window_positional_embedding_background_size=[4, 4],
    )  # fmt: skip
    return Sam2VisionConfig(
        backbone_config=backbone.to_dict(), backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=128,
        backbone_feature_sizes=[[EDGE // 4] * 2, [EDGE // 8] * 2, [EDGE // 16] * 2], fpn_top_down_levels=[2, 3],
    ).to_dict()  # fmt: skip


def _options(**more):
    return dict(
        prompt_encoder_config={"hidden_size": 128, "image_size": EDGE, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 128, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
        image_size=EDGE, memory_attention_hidden_size=128, memory_attention_num_layers=1,
        memory_attention_rope_feat_sizes=[EDGE // 16] * 2, memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
        num_maskmem=3, max_object_pointers_in_encoder=4,
        memory_fuser_intermediate_dim=32, **more,
    )  # fmt: skip


def sam2(folder: Path) -> Path:
    """Sam2VideoModel and its processor in a folder."""
    _needs_transformers_that_read_it()
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(0)
    config = Sam2VideoConfig(
        vision_config=_vision(),
        memory_attention_feed_forward_hidden_size=32,
        **_options(),
    )
    model = Sam2VideoModel(config).eval()
    _stir(model)
    model.save_pretrained(folder)
    _processor(folder)
    return folder


def _needs_transformers_that_read_it() -> None:
    pytest.importorskip("transformers", "5.20", reason="transformers reads SAM 2 folders from 5.20 on")


def _processor(folder: Path) -> None:
    from transformers import Sam2ImageProcessor, Sam2VideoProcessor
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor

    size = {"height": EDGE, "width": EDGE}
    Sam2VideoProcessor(
        image_processor=Sam2ImageProcessor(size=size, mask_size={"height": EDGE // 4, "width": EDGE // 4}),
        video_processor=Sam2VideoVideoProcessor(size=size), target_size=EDGE,
    ).save_pretrained(folder)  # fmt: skip


def _stir(model: torch.nn.Module) -> None:
    """Weights large enough that masks depend on pixels, points and memory."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "mask_decoder.pred_obj_score_head.proj_out.bias":
                parameter.fill_(3.0)  # there is something to see, or all masks are empty
            if parameter.ndim > 1:
                fan = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)


def edgetam(folder: Path) -> Path:
    """EdgeTamVideoModel, on the smallest RepViT of timm, and its processor in a folder."""
    _needs_transformers_that_read_it()
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel, EdgeTamVisionConfig, TimmWrapperConfig

    torch.manual_seed(0)
    backbone = TimmWrapperConfig(
        architecture="repvit_m0_9", do_pooling=False,
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )  # fmt: skip
    vision = EdgeTamVisionConfig(
        backbone_config=backbone.to_dict(), backbone_channel_list=[384, 192, 96, 48], fpn_hidden_size=128,
        backbone_feature_sizes=[[EDGE // 4] * 2, [EDGE // 8] * 2, [EDGE // 16] * 2], fpn_top_down_levels=[2, 3],
    )  # fmt: skip
    config = EdgeTamVideoConfig(
        vision_config=vision.to_dict(), memory_attention_mlp_hidden_size=32, memory_attention_rope_k_sizes=[2, 2],
        perceiver_resampler_num_latents=4, perceiver_resampler_num_latents_2d=4, **_options(),
    )  # fmt: skip
    model = EdgeTamVideoModel(config).eval()
    model.save_pretrained(folder)
    _processor(folder)
    return folder


def sam3(folder: Path) -> Path:
    """Sam3TrackerVideoModel and its processor in a folder; 56 pixels are 4 patches."""
    from transformers import Sam3TrackerVideoConfig, Sam3TrackerVideoModel, Sam3TrackerVideoProcessor, Sam3ViTConfig
    from transformers.models.sam2_video.video_processing_sam2_video import Sam2VideoVideoProcessor
    from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

    edge = 56
    backbone = Sam3ViTConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=edge,
        window_size=2, global_attn_indexes=[1], pretrain_image_size=edge,
    )  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone.to_dict(),
        "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }
    options = _options()
    options["image_size"] = options["prompt_encoder_config"]["image_size"] = edge
    options["prompt_encoder_config"]["patch_size"] = 14
    torch.manual_seed(0)
    config = Sam3TrackerVideoConfig(vision_config=vision, memory_attention_feed_forward_hidden_size=32, **options)
    model = Sam3TrackerVideoModel(config).eval()
    _stir(model)
    model.save_pretrained(folder)
    size = {"height": edge, "width": edge}
    Sam3TrackerVideoProcessor(
        image_processor=Sam3ImageProcessor(size=size, mask_size={"height": 16, "width": 16}),
        video_processor=Sam2VideoVideoProcessor(size=size), target_size=edge,
    ).save_pretrained(folder)  # fmt: skip
    return folder
