"""Codec canvases as the images of Qwen2.5-VL and Qwen3-VL, through their own processors and models.

A canvas is a picture like any other, so nothing in the model changes; `qwen_images` makes the tensors that
the processor makes, for batches that never were pictures. Random weights, nine words, nothing downloaded.

What a released Qwen-VL has not been taught: pictures whose blocks come from many frames. It reads a canvas
as one still picture, a block as lying where it is on the canvas. When and where the block was in the video
is lost, and canvases of one group do not see each other in its vision tower. `source_position_ids` gives
the language model time, row and column of the source; it has not been taught such ids either (times that
differ within an image, rows that skip). To fine-tune: the language model (or adapters in it) on canvases
with these ids, then the vision tower, which meets edges between unrelated blocks.

Needs: pip install 'ov2kit[recipes]'. Run: python examples/qwen_vl_canvases.py
"""

from pathlib import Path

import torch
from tiny_qwen import PICTURES, build
from torch import Tensor

import ov2kit
from ov2kit import Canvases
from ov2kit.codec import CodecTokenizer
from ov2kit.positional import times_in_seconds

CLIP = Path(ov2kit.__file__).parent / "codec" / "sample" / "bbb_360p.mp4"


def qwen_images(canvases: Canvases, name: str) -> dict[str, Tensor]:
    """`pixel_values` (N, 3*2*p*p), `image_grid_thw` (K, 3): one image per canvas, a still its own second frame."""
    pixels = canvases.pixel_values(PICTURES[name]["image_mean"], PICTURES[name]["image_std"])
    twice = pixels.unflatten(1, (3, 1, -1)).expand(-1, -1, 2, -1).flatten(1)
    return {"pixel_values": twice, "image_grid_thw": torch.tensor([(1, *canvases.grid)] * len(canvases))}


def source_position_ids(canvases: Canvases, ids: Tensor, is_image: Tensor, ticks: float = 2.0) -> Tensor:
    """Qwen's (3, 1, L) ids with image tokens at (time in `ticks` per second, row, column) of their source.

    Text after the first image moves behind them all. Returns (4, 1, L): row 0 is the order of the tokens.
    """
    blocks = canvases.flat_positions()[:: canvases.merge**2]
    places = times_in_seconds(blocks, canvases.frame_times, ticks).clamp(min=0)  # padding lies at the origin
    places[:, 1:] //= canvases.merge
    text = ~is_image & (is_image.cumsum(1) > 0)
    ids = ids.clone()
    ids[:, is_image] = ids[:, is_image][:, :1] + places.round().long().T
    ids[:, text] = ids[:, is_image].max() + 1 + torch.arange(int(text.sum()))
    return torch.cat((torch.arange(ids.shape[2]).expand(1, 1, -1), ids))


def main() -> None:
    for name, picture in PICTURES.items():
        canvases = CodecTokenizer(budget_canvases=4, patch=picture["patch_size"], max_pixels=25_000)(CLIP)
        processor, model = build(name)
        prompt = "<|vision_start|><|image_pad|><|vision_end|>" * len(canvases) + "What happens next ?"
        # do_resize=False: resizing would blend neighboring blocks, which may be of different frames
        inputs = processor(text=prompt, images=list(canvases.images), do_resize=False, return_tensors="pt")
        ours = qwen_images(canvases, name)
        error = (ours["pixel_values"] - inputs["pixel_values"]).abs().max()
        print(f"{name}: {canvases}\n  pixel_values {tuple(ours['pixel_values'].shape)}, processor's {error:+.0e}")
        print(f"  input_ids {tuple(inputs['input_ids'].shape)}, image_grid_thw {ours['image_grid_thw'].tolist()}")
        inputs.update(ours)
        ids, _ = model.model.get_rope_index(**inputs)
        placed = source_position_ids(canvases, ids, inputs["mm_token_type_ids"] == 1)
        with torch.inference_mode():
            print(f"  logits {tuple(model(**inputs).logits.shape)}")
            for how, more in {"as still pictures": {}, "at their sources": {"position_ids": placed}}.items():
                answer = model.generate(**inputs, **more, max_new_tokens=4, do_sample=False)[0, -4:]
                print(f"  canvases {how}: {processor.decode(answer)!r}")


if __name__ == "__main__":
    main()
