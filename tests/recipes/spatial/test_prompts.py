"""The prompt is that of the public evaluation, character for character."""

import hashlib

from ov2kit.recipes.spatial.prompts import track_prompt


def test_the_prompt_is_word_for_word_the_public_one():
    prompt = track_prompt("red car")
    assert prompt.startswith("Track the red car\nReturn the answer in XML format:\n<tracks coords=")
    # computed from template and suffix of the task file of lmms-eval 0.7.3, joined as its doc_to_text joins them
    assert (
        hashlib.sha256(prompt.encode()).hexdigest()
        == "fd8f0c5138a623805b901cb7f08493ec8b9d2c7cd42dd660ea3f733720783259"
    )
