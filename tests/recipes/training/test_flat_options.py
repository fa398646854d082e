"""Options of the data that stand in no section, as they once did, mean what they mean in theirs."""

import pytest
import torch
import yaml

from ov2kit.recipes import ConversationData
from ov2kit.recipes.commands.flat_options import sectioned_settings
from ov2kit.recipes.commands.train import RecipeCLI
from ov2kit.recipes.commands.train_help import CONFIGS
from ov2kit.recipes.data.options import Loading, Order, Sources, Tokens
from ov2kit.recipes.data.sections import SECTION_OF
from tests.runs import Runs, curve, last

pytestmark = pytest.mark.usefixtures("one_thread")
FLAGS = ["--data.grouping", "fixed", "--data.mix.codec=0.75", "--data.source=mix", "--data.batch_size", "3"]


def built(*arguments):
    data = RecipeCLI("fit", ["--config", "debug.yaml", *arguments], run=False).datamodule
    return data.sources, data.tokens, data.order, data.loading


def test_flags(capfd):
    flat = built(*FLAGS)
    said = capfd.readouterr().err
    assert "--data.grouping is deprecated and will be removed in ov2kit 0.2; use --data.tokens.grouping" in said
    assert (flat[1].grouping, flat[1].mix, flat[1].source, flat[2].batch_size) == ("fixed", {"codec": 0.75}, "mix", 3)
    new = [flag.replace("data.", "data.tokens.") for flag in FLAGS[:-2]] + ["--data.order.batch_size", "3"]
    assert built(*new) == flat
    assert "deprecated" not in capfd.readouterr().err


def test_a_config_file(tmp_path, capfd):
    config = yaml.safe_load((CONFIGS / "debug.yaml").read_text())
    flat = {name: value for section in config["data"].values() for name, value in section.items()}
    mixed = tmp_path / "mixed.yaml"  # some of it moved already
    mixed.write_text(yaml.safe_dump({"data": {"max_pixels": 9000, "tokens": {"block": 2}}}))
    mine = tmp_path / "flat.yaml"
    mine.write_text(yaml.safe_dump(config | {"data": flat}, sort_keys=False))
    assert built("--config", str(mine)) == built()
    said = capfd.readouterr().err
    assert f"warning: {mine}: options of data in no section will not be read by ov2kit 0.2; move " in said
    assert "path, val_path into data.sources; budget_canvases, max_pixels into data.tokens;" in said
    tokens = built("--config", str(mixed))[1]
    assert (tokens.max_pixels, tokens.block, tokens.budget_canvases) == (9000, 2, 4)


def test_python():
    with pytest.warns(DeprecationWarning, match=r"use ConversationData\(Sources\(\.\.\.\), Tokens"):
        data = ConversationData("mine.jsonl", batch_size=3, num_workers=2, source="frames", val_share=0.5)
    assert data.sources == Sources("mine.jsonl", val_share=0.5)
    assert (data.tokens, data.order, data.loading) == (Tokens(source="frames"), Order(3), Loading(2))


def test_no_option_stands_in_two_sections():
    sections = (Sources, Tokens, Order, Loading)
    assert len(SECTION_OF) == sum(len(section.__dataclass_fields__) for section in sections)


def test_settings_of_an_older_checkpoint_are_compared(tmp_path, capfd):
    assert sectioned_settings({"data.block": 1, "data.tokens.merge": 2}) == {
        "data.tokens.block": 1, "data.tokens.merge": 2
    }  # fmt: skip
    runs = Runs(tmp_path, tmp_path / "cache")
    folder = runs.fit("a")
    old = last(folder).with_name("old.ckpt")
    content = torch.load(last(folder), weights_only=True)
    data = content["ConversationData"]
    data["settings"] = {name.replace(".tokens.", "."): value for name, value in data["settings"].items()}
    torch.save(content, old)
    assert runs.fit("b", "--ckpt_path", str(old), "--trainer.max_steps", "3")
    assert len(curve(runs.folder / "b" / "version_0")) == 1
    capfd.readouterr()
    runs.fit("c", "--ckpt_path", str(old), "--trainer.max_steps", "3", "--data.tokens.block", "2", status=2)
    assert "data.tokens.block 1 -> 2" in capfd.readouterr().err
