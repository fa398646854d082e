"""`ov2kit` on the command line, also as ``python -m ov2kit``."""

import sys


def main() -> None:
    """Run one command and leave with its exit status."""
    from ov2kit.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
