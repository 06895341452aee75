"""The commands of `python -m course`; each imports what it needs when it runs: help is quick."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Image generation from scratch: the notebooks, your exercises, and training by recipe.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Workspace = Annotated[
    Path | None,
    typer.Option(help="Folder of your copies.", show_default="workspace/ in the clone"),
]


def _finish(task: Callable[..., int], *args: object, **kwargs: object) -> None:
    """Exit with what `task` returns; a user's mistake becomes one line on stderr and code 2."""
    from course.teach.student import WorkspaceError

    try:
        code = task(*args, **kwargs)
    except WorkspaceError as error:
        typer.echo(f"course: {error}", err=True)
        code = 2
    raise typer.Exit(code)


def _try(task: Callable[[], None]) -> None:
    """Run it; a bad argument or file becomes one line on stderr and code 2."""
    try:
        task()
    except (ValueError, OSError) as error:
        typer.echo(f"course: {error}", err=True)
        raise typer.Exit(2) from None


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"course {version('course-image-generation')}")
        raise typer.Exit
    return asked


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None: ...


@app.command()
def lab(
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port, or the next free one after it.")
    ] = 8888,
    workspace: Workspace = None,
) -> None:
    """Open JupyterLab on your copies of the notebooks."""
    from course import server

    _finish(server.serve, workspace, browser=browser, port=port)


@app.command()
def doctor() -> None:
    """Check that everything works here; say what to do if not."""
    from course import doctor as checks

    raise typer.Exit(checks.examine())


@app.command()
def student(workspace: Workspace = None) -> None:
    """Write or update your copies of the notebooks; your work stays."""
    from course.teach import student as copies

    _finish(copies.make_copies, workspace)


@app.command()
def progress(workspace: Workspace = None) -> None:
    """Show which exercises you have solved."""
    from course.teach import student as copies

    _finish(copies.progress, workspace)


@app.command()
def reset(
    notebook: Annotated[str, typer.Argument(help="Which copy: 12_vae, 12_vae.ipynb or 12.")],
    exercise: Annotated[
        str | None, typer.Argument(help="Only this exercise.", show_default="the whole notebook")
    ] = None,
    workspace: Workspace = None,
) -> None:
    """Start a notebook or an exercise afresh; a backup is kept."""
    from course.teach import student as copies

    _finish(copies.reset, notebook, exercise, workspace)


@app.command()
def grade(
    submission: Annotated[Path, typer.Argument(help="A filled-in copy of a notebook.")],
) -> None:
    """Run one filled-in copy, of someone you trust; print its marks."""
    from course.teach import grade as grading

    _finish(grading.grade, submission)


@app.command()
def graph(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A configuration of the course, or package.module:callable of your own.",
            show_default="list the configurations",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .html (zoom and search), .svg, .dot, .json, .png or .pdf.",
            show_default="MODEL.html",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="How deep modules are opened.", show_default="1, in a list 2"),
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Only this module, such as up_blocks.1.resnets.0.")
    ] = None,
    direction: Annotated[str, typer.Option(help="TB, LR, BT or RL.")] = "TB",
    fold: Annotated[bool, typer.Option(help="Draw equal modules in a row once.")] = True,
    shapes: Annotated[
        list[str] | None,
        typer.Option("--input", help="Shape of an input, such as 1x3x64x64 or 1:int64; repeat it."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="meta, or cpu for a model that looks at its numbers.")
    ] = "meta",
    table: Annotated[
        bool, typer.Option("--table", help="Print the blocks of the whole as a list instead.")
    ] = False,
) -> None:
    """Draw the computation graph of a model, of any size: its weights are never made."""
    from course.models.configs import CONFIGURATIONS

    if model is None:
        width = max(map(len, CONFIGURATIONS))
        for name, configuration in CONFIGURATIONS.items():
            typer.echo(f"{name:{width}}  {configuration.about}")
        raise typer.Exit
    from course.lab.describe import describe
    from course.lab.graph import draw
    from course.lab.named import model_and_inputs

    try:
        if table and (focus is not None or output is not None):
            raise ValueError("--table: expected neither --focus nor --output beside it")
        network, inputs = model_and_inputs(model, shapes or (), device)
        if table:
            typer.echo(describe(network, inputs, depth or 2, device))
            raise typer.Exit
        drawn = draw(
            network,
            inputs,
            depth=depth or 1,
            fold=fold,
            direction=direction,
            focus=focus,
            device=device,
        )
        written = drawn.save(output or Path(f"{model.rpartition(':')[2]}.html"))
    except (ValueError, OSError) as error:
        typer.echo(f"course: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{drawn}: {written}")


@app.command()
def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Which one.", show_default="list the recipes")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where its files go.", show_default="runs/RECIPE"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after that long; --resume goes on.")
    ] = None,
    lane: Annotated[
        str,
        typer.Option(help="cpu, gpu, or auto: gpu where there is CUDA and the recipe has it."),
    ] = "auto",
    sheet_every: Annotated[
        int, typer.Option(min=0, help="Updates between sample sheets; 0 for none.")
    ] = 2000,
) -> None:
    """Train the network of a recipe; leave its checkpoint, card, log and sample sheets.

    On several GPUs or machines: accelerate launch -m course train RECIPE.
    """
    from course.data.download import DataError
    from course.training import run
    from course.training.recipes import RECIPES

    if recipe is None:
        width = max(map(len, RECIPES))
        for name, known in RECIPES.items():
            typer.echo(f"{name:{width}}  {', '.join(known.lanes):8}  {known.about}")
        raise typer.Exit
    if recipe not in RECIPES:
        typer.echo(
            f"course: there is no recipe {recipe!r}; there are {', '.join(RECIPES)}", err=True
        )
        raise typer.Exit(2)
    folder = folder or Path("runs") / recipe
    try:
        code = run.main(recipe, folder, resume, max_seconds, lane, sheet_every)
    except DataError as error:
        typer.echo(f"course: {error}", err=True)
        code = 2
    raise typer.Exit(code)


@app.command()
def sample(
    caption: Annotated[str, typer.Argument(help="What to draw, such as: a small red star.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Picture to write, .png.")] = Path(
        "sample.png"
    ),
    count: Annotated[int, typer.Option("--n", min=1, help="Pictures, on one sheet.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise; another draws others.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 30,
    scale: Annotated[float, typer.Option(help="Of the guidance; 1 is none.")] = 3.0,
    zoom: Annotated[int, typer.Option(min=1, help="Pixels of the file, each way, for one.")] = 8,
    recipe: Annotated[str, typer.Option(help="Which trained it.")] = "scenes-ldm",
) -> None:
    """Draw a picture from a caption; say whether it shows what the caption says."""
    from course.pipeline import command

    options = {"count": count, "steps": steps, "guidance_scale": scale, "seed": seed, "zoom": zoom}
    _try(lambda: command.sample(caption, output, recipe, **options))


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Argument(help="Which trained it.")] = "scenes-ldm",
    each: Annotated[
        int, typer.Option(min=1, help="Captions of each split and number of things.")
    ] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of the noise.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 30,
    scale: Annotated[float, typer.Option(help="Of the guidance; 1 is none.")] = 3.0,
) -> None:
    """Draw many captions; print how often the pictures show what they say."""
    from course.pipeline import command

    options = {"each": each, "steps": steps, "guidance_scale": scale, "seed": seed}
    _try(lambda: command.evaluate(recipe, **options))


@app.command()
def curve(
    folders: Annotated[
        list[Path], typer.Argument(help="Folders of trainings, or their logs.", metavar="FOLDER...")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")
    ] = Path("curve.png"),
) -> None:
    """Draw the loss of trainings from their logs, while they run or later."""
    import io

    from course.files import replace_file
    from course.lab.plots import training_curve, use_style

    kind = output.suffix.removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        typer.echo(f"course: output: expected .png, .svg or .pdf, came {output.name!r}", err=True)
        raise typer.Exit(2)

    def write() -> None:
        drawn = io.BytesIO()
        training_curve(*folders).savefig(drawn, format=kind)
        replace_file(output, drawn.getvalue())

    use_style()
    _try(write)
    typer.echo(output)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="Which: unet, attention, conditional, ldm.")],
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 20,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of PyTorch.", show_default="as PyTorch has it")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write every number there, too.", dir_okay=False)
    ] = None,
) -> None:
    """Time our networks against the library that one would use instead."""
    from course.bench import report
    from course.bench.measure import BenchError

    if what not in report.BENCHES:
        typer.echo(
            f"course: there is no bench {what!r}; there are {', '.join(report.BENCHES)}", err=True
        )
        raise typer.Exit(2)
    try:
        code = report.main(what, rounds, threads, json)
    except BenchError as error:
        typer.echo(f"course: {error}", err=True)
        code = 2
    raise typer.Exit(code)


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m course")
