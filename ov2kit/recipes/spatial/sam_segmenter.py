"""SAM 2, EdgeTAM and the SAM 3 tracker as point segmenters, through transformers.

The order is that of the public evaluation: points on a prompt frame, forwards to the frame before the next prompt, and
so on to the end; then from the first prompt backwards to the start. Pictures are read when they are needed, and what
the tracker can no longer look back on is dropped, so memory grows with the number of prompts and not with the video.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ov2kit.errors import CheckpointError
from ov2kit.recipes.spatial.frames import Frames
from ov2kit.recipes.spatial.rle import Mask
from ov2kit.recipes.spatial.segmenter import Prompts

#: model_type of config.json -> (model, processor) of transformers
TRACKERS: dict[str, tuple[str, str]] = {
    "sam2_video": ("Sam2VideoModel", "Sam2VideoProcessor"),
    "edgetam_video": ("EdgeTamVideoModel", "Sam2VideoProcessor"),
    "sam3_tracker_video": ("Sam3TrackerVideoModel", "Sam3TrackerVideoProcessor"),
    "sam3_video": ("Sam3TrackerVideoModel", "Sam3TrackerVideoProcessor"),
}
#: the first transformers that reads such a folder: older ones take its mask decoder for a prompt encoder
_READ_FROM = {"sam2_video": (5, 20), "edgetam_video": (5, 20)}


class SamSegmenter:
    """A video tracker of the SAM line.

    Args:
        model: `Sam2VideoModel`, `EdgeTamVideoModel` or `Sam3TrackerVideoModel`, in eval mode.
        processor: its processor.
        bounded: drop what the tracker cannot look back on; results are the same.
    """

    def __init__(self, model: Any, processor: Any, *, bounded: bool = True) -> None:
        self.model, self.processor, self.bounded = model, processor, bounded

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: str | None = None, dtype: torch.dtype = torch.float32
    ) -> "SamSegmenter":
        """Load a tracker from a folder; nothing is fetched.

        Args:
            folder: config.json, weights and processor files as transformers stores them.
            device: a CUDA device where there is one, else the CPU, when omitted.
            dtype: of weights and session.

        Raises:
            CheckpointError: no such folder, another kind of model, or weights that are missing.
        """
        import transformers

        path = Path(folder)
        try:
            kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: expected a folder with the config.json of a tracker ({error})") from error
        if kind not in TRACKERS:
            raise CheckpointError(f"{path}: model type {kind!r} is no point tracker; known: {', '.join(TRACKERS)}")
        missing = [name for name in TRACKERS[kind] if not hasattr(transformers, name)]
        if missing:
            raise CheckpointError(f"{path}: transformers {transformers.__version__} has no {missing[0]}; update it")
        needed = _READ_FROM.get(kind, (0, 0))
        if tuple(int(number) for number in transformers.__version__.split(".")[:2]) < needed:
            raise CheckpointError(
                f"{path}: transformers {transformers.__version__} cannot read a folder of {kind}; "
                f"update it to {needed[0]}.{needed[1]} or later"
            )
        model_class, processor_class = (getattr(transformers, name) for name in TRACKERS[kind])
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            model, report = model_class.from_pretrained(
                path, local_files_only=True, dtype=dtype, output_loading_info=True
            )
            processor = processor_class.from_pretrained(path, local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{path}: {model_class.__name__} cannot be loaded ({error})") from error
        if report["missing_keys"]:
            names = sorted(report["missing_keys"])
            raise CheckpointError(f"{path}: {len(names)} weights are missing, such as {names[0]}")
        return cls(model.eval().to(place), processor)

    def segment(self, frames: Frames, prompts: Prompts) -> Iterator[tuple[int, dict[int, Mask]]]:
        """As `PointSegmenter.segment`; masks are where the logits, enlarged to the frame, are above 0.

        The first prompt frame comes again with the pass backwards, then also with the objects that were prompted later.
        """
        if not prompts:
            return
        session = self._session(frames)
        order = sorted(prompts)
        for at, following in zip(order, [*order[1:], len(frames)], strict=True):
            for object_id, points in sorted(prompts[at].items()):
                self.processor.add_inputs_to_inference_session(
                    session,
                    frame_idx=at,
                    obj_ids=object_id,
                    input_points=[[[list(point) for point in points]]],
                    input_labels=[[[1] * len(points)]],
                    clear_old_inputs=True,
                )
            yield from self._propagate(session, frames, order[0], at, following - at - 1)
        if order[0] > 0:
            yield from self._propagate(session, frames, order[0], order[0], order[0], reverse=True)

    def _propagate(
        self, session: Any, frames: Frames, first: int, start: int, count: int, *, reverse: bool = False
    ) -> Iterator[tuple[int, dict[int, Mask]]]:
        outputs = self.model.propagate_in_video_iterator(
            session, start_frame_idx=start, max_frame_num_to_track=count, reverse=reverse
        )
        for output in outputs:
            logits = self.processor.post_process_masks(
                [output.pred_masks], original_sizes=[list(frames.size)], binarize=False
            )[0]
            masks = (logits[:, 0] > 0).cpu().numpy()
            if self.bounded:
                self._forget(session, output.frame_idx, first)
            yield int(output.frame_idx), dict(zip(output.object_ids, masks, strict=True))

    def _session(self, frames: Frames) -> Any:
        """A session that reads its pictures from `frames`."""
        device = self.model.device
        session = self.processor.init_video_session(inference_device=device, dtype=self.model.dtype)
        session.processed_frames = _Pixels(frames, self.processor, self.model.dtype)
        session.video_height, session.video_width = frames.size
        return session

    def _forget(self, session: Any, now: int, first: int) -> None:
        """Drop outputs that no later frame reads: memories reach so far back, pointers so far.

        The pass backwards from the first prompt reads what followed that prompt.
        """
        config = self.model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        for outputs in session.output_dict_per_obj.values():
            for stored in outputs.values():
                for entry in stored.values():
                    entry.pop("high_res_masks", None)
            tracked = outputs["non_cond_frame_outputs"]
            for number in [n for n in tracked if abs(n - now) > reach and abs(n - first) > reach]:
                del tracked[number]


class _Pixels:
    """What a session takes for its store of pictures: each is read and scaled when it is asked for."""

    def __init__(self, frames: Frames, processor: Any, dtype: torch.dtype) -> None:
        self._frames, self._processor, self._dtype = frames, processor, dtype

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> Tensor:
        picture = torch.from_numpy(self._frames[number].copy()).permute(2, 0, 1)[None]
        pixels: Tensor = self._processor.video_processor(videos=[picture], return_tensors="pt").pixel_values_videos
        return pixels[0, 0].to(self._dtype)
