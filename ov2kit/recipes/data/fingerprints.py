"""What decides how records become samples and which batches come, as plain values that checkpoints hold and compare."""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from ov2kit.codec import CodecTokenizer
from ov2kit.errors import DataError
from ov2kit.recipes.data.index import ConversationIndex
from ov2kit.recipes.data.options import Order, Sources, Tokens
from ov2kit.recipes.data.plans import Records
from ov2kit.recipes.data.visual_tokenizers import VisualTokenizers
from ov2kit.recipes.datasets.stored import StoredVideos

#: options that decide how a record becomes a sample, as checkpoints hold them
_SETTINGS = (
    "source", "preset", "saliency", "rank_damping", "peak_weight", "block", "budget_canvases", "budget_tokens",
    "min_pixels", "max_pixels", "patch", "merge", "decimals", "max_length", "oversize",
)  # fmt: skip


def sample_settings(tokens: Tokens, codec: CodecTokenizer, tokenizer: Any) -> dict[str, Any]:
    """What decides how a record becomes a sample, by the flags of its options."""
    values = {name: getattr(tokens, name) for name in _SETTINGS} | {
        "budget_canvases": codec.budget_canvases,
        "grouping": codec.options()["grouping"],
        "tokenizer": digest(sorted(tokenizer.get_vocab().items())),
    }
    if tokens.shares.get("hybrid"):  # unknown to older checkpoints, as the next
        values["frame_share"] = tokens.frame_share
    if tokens.mirror:  # unknown to older checkpoints
        values["mirror"] = tokens.mirror
    return {f"data.tokens.{name}": value for name, value in values.items()}


def batch_facts(
    sources: Sources,
    tokens: Tokens,
    order: Order,
    *,
    max_length: int | None,
    records: Records,
    stored: StoredVideos | None,
) -> dict[str, Any]:
    """What decides which batches come, by the names of the options."""
    names = ["batch_size", "pack", "seed", "shuffle", "group_by_length"]
    if order.pack:
        names += ["pack_length", "pack_samples"]
    if order.pack == "stream":
        names += ["pack_buffer", "rows_per_epoch"]
    facts: dict[str, Any] = {name: getattr(order, name) for name in names}
    facts |= {"max_length": max_length, "oversize": tokens.oversize, "val_share": sources.val_share}
    if order.lengths is not None:
        facts["lengths"] = digest(sorted(records.lengths.counts.items()) if records.lengths else None)
    if records.file_shares is not None:
        facts["shares"] = list(records.file_shares)
    return facts | {
        "source and mix": dict(sorted(records.shares.items())),
        "world_size": records.world_size,
        "records": records.index.fingerprint(),
        **({} if stored is None else {"shards": stored.fingerprint()}),
    }


def check_same_options(stored: StoredVideos, codec: CodecTokenizer, shards: str) -> None:
    """Shards must have been made with the options that stand here.

    Raises:
        DataError: names those that differ.
    """
    ours = json.loads(json.dumps(codec.options(), default=str))
    names = [*(name for name in _SETTINGS if name in ours), "frame_share"]
    named = [name for name in names if ours.get(name) != stored.options.get(name)]
    if named:
        differ = "; ".join(f"tokens.{name} is {ours.get(name)}, there {stored.options.get(name)}" for name in named)
        raise DataError(f"{shards}: made with other options ({differ}); set these as they are there")


def lengths_digest(
    index: ConversationIndex,
    tokens: Tokens,
    tokenizers: VisualTokenizers,
    codecs: Iterable[CodecTokenizer],
    tokens_out: Callable[[int], int] | None,
) -> str:
    """Stands for everything that decides how many tokens the samples of an index have.

    Args:
        index: the records.
        tokens: what a record becomes.
        tokenizers: of codec canvases, frames and pictures.
        codecs: those that make codec canvases, with their share of frames.
        tokens_out: of the model's connector.
    """
    codec, frames, image = tokenizers
    key = [
        index.fingerprint(), tokens.tokenizer, tokens.decimals,
        sorted(tokens.shares),
        *(each.options() for each in codecs), repr(codec),
        frames.options(), image.options(),
        None if tokens_out is None else [tokens_out(n) for n in (4, 64, 1024)],
    ]  # fmt: skip
    return digest(key)


def digest(value: Any) -> str:
    """16 hex digits that stand for a plain value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
