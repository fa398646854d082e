"""Data and model meet in one call, and have what they need of each other afterwards."""

import lightning.pytorch as pl
import pytest

from ov2kit.canvases import IMAGE_PAD
from ov2kit.errors import OptionError
from ov2kit.recipes import LitLlavaOneVision2, Processor
from tests.conversation_data import conversation_data
from tests.paths import SAMPLE
from tests.recordings import talk, write_jsonl

pytestmark = pytest.mark.usefixtures("one_thread")
QUERIES = {"connector": "resampler", "connector_options": {"tokens": 4}}


@pytest.fixture
def data(tmp_path):
    path = write_jsonl(tmp_path / "one.jsonl", [talk(1, "video", str(SAMPLE))])
    return conversation_data(
        str(path), source="frames", budget_canvases=4, max_pixels=4000, cache=str(tmp_path / "cache")
    )


def trainer(tmp_path):
    return pl.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, default_root_dir=tmp_path,
    )  # fmt: skip


def places(data):
    """Places for visual tokens in the first batch."""
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    return int((batch.input_ids == data.processor.tokenizer.convert_tokens_to_ids(IMAGE_PAD)).sum())


def test_the_data_make_as_many_places_as_the_connector_gives_tokens(data):
    alone = places(data)
    model = LitLlavaOneVision2(**QUERIES)
    data.connect(model)  # after the data were used alone
    assert places(data) == 4 < alone  # four frames are one group, which is four tokens
    data.connect(LitLlavaOneVision2())
    assert places(data) == alone


def test_the_model_writes_answers_with_the_processor_of_the_data(data):
    model = LitLlavaOneVision2(answer_tokens=2)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    with pytest.raises(OptionError, match=r"data\.connect\(model\)"):
        model.answer(batch)
    data.connect(model)
    assert model.processor is data.processor
    assert [answer["name"] for answer in model.answer(batch)] == ["video-1"]


def test_another_processor_stays(data):
    class Mine:
        pad_id = 0

    data.processor = Mine()
    model = LitLlavaOneVision2()
    data.connect(model)
    assert type(model.processor) is Mine
    assert type(data.processor) is not Processor


def test_a_trainer_connects_them_with_a_warning(data, tmp_path):
    model = LitLlavaOneVision2(**QUERIES)
    with pytest.warns(DeprecationWarning, match=r"use data\.connect\(model\)"):
        trainer(tmp_path).fit(model, data)
    assert model.processor is data.processor
