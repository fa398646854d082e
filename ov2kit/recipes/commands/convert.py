"""`ov2kit convert`: checkpoints from one format into another, and parts into a start checkpoint."""

import torch
from jsonargparse import ArgumentParser, Namespace

from ov2kit.errors import OptionError
from ov2kit.recipes.model.convert import convert

_DTYPES = ("bfloat16", "float16", "float32")


def parser() -> ArgumentParser:
    """Its options."""
    command = ArgumentParser(
        description="Lightning checkpoint <-> released format; or a released encoder and a language model "
        "-> a start checkpoint.",
        exit_on_error=False,
    )
    command.add_argument("source", metavar="SOURCE", help="checkpoint to read: a .ckpt file or a directory")
    command.add_argument("target", metavar="TARGET", help="directory to write, or a file ending in .ckpt")
    command.add_argument("--llm", metavar="DIR", help="language model to join SOURCE, an encoder, with")
    command.add_argument("--files_from", metavar="DIR", help="take the files of tokenizer and processor from here")
    command.add_argument("--dtype", choices=_DTYPES, help="of the weights written; the source's when omitted")
    command.add_argument("--max_shard_gb", type=float, default=5.0, help="begin another file at this size")
    command.add_argument("--merge", type=int, default=2, help="with --llm: patches per edge that become one token")
    command.add_argument("--seed", type=int, default=0, help="with --llm: of the new connector's weights")
    command.add_argument("--adapter", metavar="DIR", help="merge these adapters of PEFT into SOURCE, a model directory")
    command.add_argument(
        "--base", metavar="DIR", help="model that the adapters of SOURCE, a .ckpt, were learned beside, if it has moved"
    )
    command.add_argument(
        "--adapters_only", action="store_true", help="write the adapters of SOURCE, a .ckpt, as a folder of PEFT"
    )
    command.add_argument("--overwrite", action="store_true", help="replace what is at TARGET")
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit convert`."""
    if parsed.max_shard_gb <= 0:
        raise ValueError(f"--max_shard_gb must be above 0, got {parsed.max_shard_gb}")
    if parsed.adapters_only:
        if parsed.adapter is not None or parsed.llm is not None:
            raise OptionError("--adapters_only goes with neither --adapter nor --llm")
        from ov2kit.recipes.model.adapter_folders import write_adapters

        write_adapters(parsed.source, parsed.target, parsed.base)
        print(f"{parsed.source} -> {parsed.target}: Lightning checkpoint -> adapters of PEFT")
        return 0
    done = convert(
        parsed.source,
        parsed.target,
        llm=parsed.llm,
        adapter=parsed.adapter,
        base=parsed.base,
        files_from=parsed.files_from,
        dtype=None if parsed.dtype is None else getattr(torch, parsed.dtype),
        max_shard_bytes=int(parsed.max_shard_gb * 10**9),
        merge=parsed.merge,
        seed=parsed.seed,
        overwrite=parsed.overwrite,
    )
    print(f"{parsed.source} -> {parsed.target}: {done}")
    return 0
