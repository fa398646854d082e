"""A tiny model to serve, and what `ov2kit generate` makes of the same conversation."""

import torch

from ov2kit.codec import CodecTokenizer, FrameTokenizer, ImageTokenizer
from ov2kit.recipes import Processor, build, release_config, small_tokenizer
from ov2kit.recipes.generate import answer, load

NEW = 12  # tokens of an answer
BUDGET, PIXELS = 4, 16_000  # canvases of a video, and their area


def write_model(folder, seed=3, config=None, budget=BUDGET, pixels=PIXELS, vision=None, kind=None, **options):
    """Sharp random weights, so that greedy answers differ from input to input."""
    tokenizer = small_tokenizer()
    torch.manual_seed(seed)
    text = {"tie_word_embeddings": False, **(config or {})}
    config = release_config("tiny", tokenizer=tokenizer, text=text, vision=vision)
    config["model_type"] = kind or config["model_type"]
    model = build(config, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    cut = {"patch": model.encoder.patch, "merge": model.encoder.merge}
    codec, frames = CodecTokenizer(budget, max_pixels=pixels, **cut), FrameTokenizer(max_pixels=pixels, **cut)
    model.save_pretrained(folder, Processor(tokenizer, codec=codec, frames=frames, image=ImageTokenizer(**cut)))
    return folder


class _Tokens:
    """What a streamer of transformers is given, the prompt first."""

    def __init__(self):
        self.given = []

    def put(self, value):
        self.given.append(value.flatten().tolist())

    def end(self):
        pass


class Own:
    """The model of a directory as `ov2kit generate` asks it."""

    def __init__(self, directory):
        self.model, self.processor = load(directory, device="cpu")

    def ask(self, content, **options):
        """Token ids of the prompt and of the greedy answer."""
        sample = self.sample(content, **options)
        seen = _Tokens()
        answer(self.model, self.processor, [sample], max_new_tokens=NEW, streamer=seen)
        return sample.input_ids.tolist(), [one for part in seen.given[1:] for one in part]

    def sample(self, content, **options):
        """What goes into the model. Options are those of `Processor.with_options`."""
        processor = self.processor.with_options(**options) if options else self.processor
        return processor([{"role": "user", "content": content}], generate=True)
