"""`ov2kit report`: a video -> one web page that shows what was chosen."""

from jsonargparse import ArgumentParser, Namespace

from ov2kit.codec.commands.options import add_tokenizer_options, configs_of, tokenizer_of
from ov2kit.codec.commands.progress import tokenized
from ov2kit.codec.report.page import write_report
from ov2kit.files import refuse_overwriting_inputs


def parser() -> ArgumentParser:
    """Options of `ov2kit report`."""
    command = ArgumentParser(description="Show how a video was tokenized, as one web page.", exit_on_error=False)
    command.add_argument("video", metavar="VIDEO", help="video file")
    command.add_argument("--out", default="report.html", metavar="FILE", help="page to write")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    add_tokenizer_options(command)
    return command


def run(parsed: Namespace) -> int:
    """`ov2kit report`."""
    tokenizer = tokenizer_of(parsed)
    refuse_overwriting_inputs(parsed.out, [parsed.video, *configs_of(parsed)])  # before the work, not after
    canvases = tokenized(tokenizer, parsed.video, parsed.quiet)
    page = write_report(parsed.out, parsed.video, canvases)
    print(f"{parsed.video}: {len(canvases)} canvases, {canvases.num_tokens} tokens -> {page}")
    return 0
