"""The command `samtrt`, which `python -m samtrt` is too."""

from __future__ import annotations

import sys

from samtrt.errors import MissingExtraError


def main() -> int:
    """Run the command line; return its exit code, 2 where it is not installed."""
    try:
        from samtrt.cli import main as run
    except MissingExtraError as error:
        print(f"samtrt: error: {error}", file=sys.stderr)
        return 2
    return run()


if __name__ == "__main__":
    sys.exit(main())
