"""Packages of others, installed for a test."""

from pathlib import Path


def install_package(folder: Path, package: str, code: str, group: str, **entries: str) -> None:
    """Puts a package of one module and its entry points into a folder of the path, as an unpacked wheel."""
    (folder / f"{package}.py").write_text(code, "utf-8")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", "utf-8")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]), "utf-8")
