"""vLLM's own engine answers as `ov2kit generate` does. Runs where vLLM is installed, in an environment of its own."""

import pytest
import torch

vllm = pytest.importorskip("vllm", reason="needs vllm: pip install 'ov2kit[vllm]' in an environment of its own")

from ov2kit.codec import CodecTokenizer  # noqa: E402
from ov2kit.recipes import Processor, build, release_config, small_tokenizer  # noqa: E402
from ov2kit.recipes.generate import answer, load  # noqa: E402
from tests.paths import SAMPLE  # noqa: E402

TEXT = {"type": "text", "text": "What happens?"}
NEW = 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Sharp random weights, so that greedy answers differ from input to input; and a picture."""
    from PIL import Image

    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    model = build(release_config("tiny", tokenizer=tokenizer, text={"tie_word_embeddings": False}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
    folder = tmp_path_factory.mktemp("served") / "tiny"
    processor = Processor(tokenizer, codec=CodecTokenizer(4, max_pixels=16_000))
    model.save_pretrained(folder, processor)
    picture = processor.frames(str(SAMPLE)).images[0]
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder.parent / "picture.png")
    return folder


@pytest.fixture(scope="module")
def engine(directory):
    return vllm.LLM(
        str(directory), enforce_eager=True, dtype="float32", max_model_len=4096, allowed_local_media_path="/",
        max_num_seqs=4,
    )  # fmt: skip


def chats(directory):
    """(what vLLM gets, what our processor gets)."""
    picture = directory.parent / "picture.png"
    parts = {
        "t": (TEXT, TEXT),
        "v": (
            {"type": "video_url", "video_url": {"url": f"file://{SAMPLE}"}},
            {"type": "video", "video": str(SAMPLE)},
        ),
        "i": (
            {"type": "image_url", "image_url": {"url": f"file://{picture}"}},
            {"type": "image", "image": str(picture)},
        ),
    }
    return [tuple([parts[part][side] for part in chat] for side in (0, 1)) for chat in ("t", "vt", "it", "vvt", "ivt")]


def ask(engine, contents, **options):
    settings = vllm.SamplingParams(temperature=0, max_tokens=NEW)
    messages = [[{"role": "user", "content": content}] for content in contents]
    found = engine.chat(messages, settings, use_tqdm=False, **options)
    tokenizer = small_tokenizer()  # vLLM's own text leaves an unfinished character at the end out
    return [tokenizer.decode(one.outputs[0].token_ids, skip_special_tokens=True).strip() for one in found]


def test_greedy_answers_are_our_own_alone_and_together(directory, engine):
    net, own = load(directory, device="cpu")
    theirs, ours = zip(*chats(directory), strict=True)
    samples = [own([{"role": "user", "content": content}], generate=True) for content in ours]
    want = [answer(net, own, [sample], max_new_tokens=NEW)[0] for sample in samples]
    assert [ask(engine, [content])[0] for content in theirs] == want
    assert ask(engine, theirs) == want
    assert len(set(want)) > 2


def test_a_broken_file_and_an_absurd_budget_are_refused_and_the_engine_goes_on(directory, engine, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    broken = [{"type": "video_url", "video_url": {"url": f"file://{tmp_path / 'broken.mp4'}"}}, TEXT]
    with pytest.raises(ValueError, match="video 0"):
        ask(engine, [broken])
    with pytest.raises(ValueError, match="budget_canvases must be a whole number from 1 to 4"):
        ask(engine, [chats(directory)[1][0]], mm_processor_kwargs={"budget_canvases": 10**6})
    assert ask(engine, [[TEXT]])[0]
