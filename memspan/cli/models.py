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
        str | None,
        typer.Option(
            metavar="NAME",
            help="Measure a model again, and show the results: its retrieval heads, and the text in a prompt that it can use.",
        ),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the files of every model loaded so far with their checksums.")
    ] = False,
    as_json: AS_JSON = False,
) -> None:
    """List the available models, or download, install, verify or calibrate them.

    Example: memspan models --get smollm2
    """
    if sum([families, verify, add is not None, get is not None, calibrate is not None]) > 1:
        raise UsageError("--families, --add, --get, --calibrate and --verify exclude each other: give one of them.")
    if verify:
        _verify_models(as_json)
    elif families:
        _show_families(as_json)
    elif add is not None:
        from memspan.pretrained import encoders

        _print_record({"added": encoders.add(add)}, as_json)
    elif get is not None:
        lm = load_language_model(get, loading)
        _print_record({"ready": lm.name, "window": lm.decoder.window}, as_json)
    elif calibrate is not None:
        lm = load_language_model(calibrate, loading, recalibrate=True)
        _print_record({"model": calibrate, **asdict(lm.heads), "budget": asdict(lm.prompt_budget)}, as_json)
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
    from memspan.pretrained import encoders
    from memspan.pretrained.hub import EMBEDDED, cached_models, folder_records
    from memspan.pretrained.identity import recorded_folders
    from memspan.pretrained.model_cache import cache_folder

    cached, records = cached_models(), recorded_folders(folder_records())
    if as_json:
        embedded = [
            {"name": name, "about": model.about, "wheel": model.wheel}
            for name, model in (*EMBEDDED.items(), *encoders.EMBEDDED.items())
        ]
        prepared = [{**asdict(model), "path": str(model.path)} for model in cached]
        folders = [asdict(record) for record in records]
        print_json({"embedded": embedded, "cached": prepared, "folders": folders, "cache": str(cache_folder())})
        return
    print_line("Embedded", style="bold")
    for name, shipped in EMBEDDED.items():
        print_line(f"  {name}  {shipped.about}")
    for name, encoder in encoders.EMBEDDED.items():
        print_line(f"  {name}  sentence encoder, {encoder.about}")
    print_line(f"Prepared, in {cache_folder()}", style="bold")
    for name in encoders.EMBEDDED:
        if not encoders.must_be_fetched(name):
            print_line(f"  {name}  sentence encoder, ready")
    for model in cached:
        state = "calibrated" if model.calibrated else "heads as shipped, or calibrated at first use"
        print_line(f"  {model.name}  {format_bytes(model.nbytes)}, {state}")
    if not cached:
        print_line("  none yet: `memspan models --get smollm2`")
    if records:
        print_line("Loaded before", style="bold")
    for record in records:
        print_line(f"  {record.model}  {record.path}, as of {record.since}")
    print_line("Any other: `--model` with a Hugging Face id, a folder of save_pretrained, or a .gguf file.")
    print_line("Without a network: `memspan models --add WHEEL`. Families that work: `memspan models --families`.")


def _verify_models(as_json: bool) -> None:
    """Raises DamagedFolder, after a line for each model, if files of a model are not those that were recorded."""
    from memspan.errors import DamagedFolder
    from memspan.models import folders
    from memspan.pretrained.hub import cached_models, folder_records
    from memspan.pretrained.identity import changed_files, recorded_folders

    results = {}
    for model in cached_models():
        try:
            folders.verify(model.path)
            results[str(model.path)] = "as converted"
        except DamagedFolder as error:
            results[str(model.path)] = f"damaged: {error}"
    for record in recorded_folders(folder_records()):
        changed = changed_files(record)
        results[record.path] = f"changed since {record.since}: {', '.join(changed)}" if changed else "as first loaded"
    if as_json:
        print_json(results)
    for path, result in results.items() if not as_json else ():
        print_line(f"{path}: {result}")
    faults = [path for path, result in results.items() if not result.startswith("as ")]
    if faults:
        raise DamagedFolder(f"{len(faults)} of {len(results)} models are not as recorded, the first is {faults[0]}.")


def _show_families(as_json: bool) -> None:
    from memspan.pretrained.families import FAMILIES

    if as_json:
        tiers = {name: {"tier": family.tier.value, "notes": family.notes} for name, family in sorted(FAMILIES.items())}
        print_json(tiers)
        return
    for name, family in sorted(FAMILIES.items()):
        print_line(f"{name}  {family.tier.value}{': ' if family.notes else ''}{family.notes}")
