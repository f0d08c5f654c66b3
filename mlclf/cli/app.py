"""``mlclf``: the program. Errors become one message and an exit status here, and nowhere else."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlclf import __version__
from mlclf.cli.compare import compare
from mlclf.cli.evaluate import evaluate
from mlclf.cli.export import export
from mlclf.cli.merge import merge
from mlclf.cli.predict import predict
from mlclf.cli.strategies import strategies
from mlclf.cli.train import train
from mlclf.cli.update import update
from mlclf.cli.zero_shot import zero_shot
from mlclf.exceptions import MlclfError, TrainingInterrupted

_BAD_INPUT = 2
_INTERRUPTED = 130


class _Program(TyperGroup):
    """Turns errors into messages, and imports ``mlclf plugins`` only where it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), "plugins"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _plugins_command() if cmd_name == "plugins" else super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TrainingInterrupted as stop:
            _say(_how_to_go_on(stop))
            raise typer.Exit(128 + stop.signal_number) from None
        except KeyboardInterrupt:
            _say("Interrupted.")
            raise typer.Exit(_INTERRUPTED) from None
        except BrokenPipeError:
            raise  # the reader of our output has gone: nothing to say, and nobody to say it to
        except (MlclfError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            _say(f"Error: {error}")
            raise typer.Exit(_BAD_INPUT) from None


app = typer.Typer(
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-label text classification with fine-tuned language models.",
    epilog="Exit status: 0 done, 2 bad input or a failed run, 130 or 143 interrupted.",
)
app.command()(train)
app.command()(update)
app.command()(evaluate)
app.command()(predict)
app.command()(zero_shot)
app.command()(export)
app.command()(merge)
app.command()(strategies)
app.command()(compare)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlclf {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the program with the arguments of the process."""
    app(prog_name="mlclf")


def _plugins_command() -> Any:
    from mlclf.cli.plugins import plugins_app

    command = typer.main.get_command(plugins_app)
    command.name = "plugins"
    return command


def _say(message: str) -> None:
    typer.echo(message, err=True)


def _how_to_go_on(stop: TrainingInterrupted) -> str:
    if stop.checkpoint is None:
        return f"{stop}\nWith --checkpoint-dir FOLDER an interrupted run can be continued."
    return (
        "Training was interrupted; a checkpoint was written. To go on, give the same command with: "
        f"--resume-from {stop.checkpoint}"
    )
