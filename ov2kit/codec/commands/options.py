"""The options of `CodecTokenizer` on a command line, and the tokenizer that they make."""

from jsonargparse import ArgumentParser, Namespace

from ov2kit.codec.tokenizers.codec import CodecTokenizer


def add_tokenizer_options(parser: ArgumentParser) -> None:
    """Every argument of `CodecTokenizer` as an option, and --config to read them from a YAML file."""
    parser.add_argument("--config", action="config", help="YAML file of the options below")
    parser.add_class_arguments(CodecTokenizer)


def tokenizer_of(parsed: Namespace) -> CodecTokenizer:
    """A `CodecTokenizer` from those of the options that are its arguments."""
    parser = ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(CodecTokenizer)
    options = {name: value for name, value in parsed.items(branches=True) if name in names}
    return CodecTokenizer(**parser.instantiate(parser.parse_object(options)).as_dict())


def configs_of(parsed: Namespace) -> list[str]:
    """The files that --config named."""
    return [str(path) for path in parsed.get("config") or []]
