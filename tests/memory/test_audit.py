"""The audit log: several processes add to one chain."""

import subprocess
import sys
from pathlib import Path

import pytest

from memspan.errors import UsageError
from memspan.memory.audit import AuditLog, Event, keyed_hash, verify

WRITER = """
import sys
from pathlib import Path
from memspan.memory.audit import AuditLog, Event
log = AuditLog(Path(sys.argv[1]), "names")
for number in range(20):
    log.append(Event("ask", ["library"], "Why?", [f"{sys.argv[2]}-{number}"]), sys.argv[2])
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in ("ann", "bob")]
    assert [writer.wait() for writer in writers] == [0, 0]
    verified = verify(path)
    assert (verified.findings, verified.remarks) == ([], [])
    assert len(verified.lines) == 40
    for name in ("ann", "bob"):
        own = [line["sources"][0] for line in verified.lines if line["user"] == name]
        assert own == [f"{name}-{number}" for number in range(20)]


def test_a_first_line_that_was_not_finished_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    AuditLog(path).append(Event("ask", ["library"]), "ann")
    path.write_bytes(path.read_bytes()[:30])
    AuditLog(path).append(Event("read", ["library"]), "ann")
    verified = verify(path)
    assert [remark.line for remark in verified.remarks] == [1]
    assert verified.findings == []
    assert verified.lines[1]["command"] == "read"


def test_hashes_are_keyed_and_long_lists_counted(tmp_path: Path) -> None:
    names = [f"source {number}" for number in range(1200)]
    AuditLog(tmp_path / "log").append(Event("forget", ["library"], sources=names), "ann")
    (line,) = verify(tmp_path / "log").lines
    assert (line["number_of_sources"], len(line["sources"])) == (1200, 1000)
    assert line["sources"][0] == keyed_hash("source 0") != keyed_hash("source 1")
    with pytest.raises(UsageError, match="must be hashes, names, text, got 'all'"):
        AuditLog(tmp_path / "log", "all")


def test_a_link_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UsageError, match="cannot be written"):
        AuditLog(tmp_path / "link").check()
