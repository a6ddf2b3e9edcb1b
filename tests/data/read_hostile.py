"""Reads all hostile documents within a limit of memory, and prints the outcome of each as a line of JSON.

python -m tests.data.read_hostile FOLDER
"""

import faulthandler
import json
import resource
import sys
import time
from pathlib import Path

from memspan.data.documents import open_documents
from memspan.errors import UnreadableSource
from tests.data.hostile import HOSTILE, Hostile

MEMORY = 1 << 30  # bytes beyond what the process has at its start
SECONDS = 120  # of CPU time for all of them, which need five


def outcome(path: Path) -> str:
    """What became of a document."""
    try:
        (document,) = open_documents([path])
        return f"text {sum(map(len, document.chunks()))}"
    except UnreadableSource as error:
        return f"refused {str(error).removeprefix(str(path))}"
    except BaseException as error:
        return f"failed {type(error).__name__} {error}"


def written(folder: Path, number: int, hostile: Hostile) -> Path:
    path = folder / f"{number}{hostile.suffix}"
    path.write_bytes(hostile.make(hostile.size))
    return path


def main(folder: Path) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    for number, hostile in enumerate(HOSTILE):
        faulthandler.dump_traceback_later(60, exit=True)
        path = written(folder, number, hostile)
        start = time.process_time()
        line = {"name": str(hostile), "outcome": outcome(path), "seconds": time.process_time() - start}
        path.unlink()
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
