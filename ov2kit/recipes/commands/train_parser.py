"""`ov2kit fit | validate | test | predict` as commands: what follows them is parsed by LightningCLI."""

from collections.abc import Mapping, Sequence

from jsonargparse import Namespace

from ov2kit.recipes.commands.train_help import short_help


class TrainingParser:
    """Shows the help of a training command without importing Lightning, and passes everything else on.

    Args:
        command: fit, validate, test or predict.
        description: what it does.
        options: options that it has beside those of all training commands, with their meaning.
    """

    def __init__(self, command: str, description: str, options: Mapping[str, str] | None = None) -> None:
        self.command, self.description, self.options = command, description, dict(options or {})

    def format_help(self) -> str:
        """Usage, shipped configs and options."""
        return short_help(self.command, self.description, self.options)

    def parse_args(self, arguments: Sequence[str]) -> Namespace:
        """The arguments as they are.

        Raises:
            SystemExit: help was asked for, and printed.
        """
        if {"-h", "--help"} & set(arguments):
            print(self.format_help())
            raise SystemExit(0)
        return Namespace(command=self.command, arguments=list(arguments))  # type: ignore[no-untyped-call]


def run(parsed: Namespace) -> int:
    """Run a training command."""
    from ov2kit.recipes.commands.train import run as run_recipe

    return run_recipe(parsed.command, parsed.arguments)
