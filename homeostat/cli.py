"""The command line: one line for each error, an exit code for each kind."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from homeostat.commands import (
    adopt,
    alerts,
    automation,
    backtest,
    custody,
    database,
    documents,
    forget,
    held,
    incidents,
    labels,
    ledger,
    lineage,
    loop,
    policy,
    release,
    rollout,
    servers,
    show,
    tokens,
    verdicts,
    versions,
    watch,
)
from homeostat.commands.exits import UNEXPECTED, exit_code
from homeostat.errors import HomeostatError

app = typer.Typer(
    name="homeostat",
    help="Keep models accurate in production.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"homeostat {version('homeostat')}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    context.obj = debug


for group in (
    servers,
    adopt,
    loop,
    release,
    rollout,
    automation,
    ledger,
    custody,
    versions,
    lineage,
    documents,
    incidents,
    alerts,
    watch,
    labels,
    held,
    forget,
    verdicts,
    show,
    policy,
    backtest,
    tokens,
    database,
):
    group.add_to(app)


def main() -> None:
    """Run the command of this process and exit with its code."""
    try:
        app()
    except HomeostatError as error:
        _tell(error)
        sys.exit(exit_code(error.code))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        text = " ".join(str(error).split())
        sys.stderr.write(
            f"homeostat: unexpected {type(error).__name__}: {text} "
            "Run it again with `homeostat --debug` to see where.\n"
        )
        sys.exit(UNEXPECTED)


def _tell(error: HomeostatError) -> None:
    for line in _log_lines(error):
        sys.stderr.write(f"  | {line}\n")
    sys.stderr.write(f"homeostat: {' '.join(str(error).split())}\n")


def _log_lines(error: HomeostatError) -> list[str]:
    """What a server said before it failed to start: the one case with more than one line."""
    lines = error.fields.get("log_lines")
    return [str(line) for line in lines] if isinstance(lines, list) else []


if __name__ == "__main__":
    main()
