"""The faults of the slow harness still find the code that they break."""

from pathlib import Path

import memspan
from benchmarks.mutations import FAULTS


def test_each_fault_finds_its_code_once() -> None:
    package = Path(memspan.__file__).parent
    counts = {fault.right: (package / fault.file).read_text("utf-8").count(fault.right) for fault in FAULTS}
    assert len(FAULTS) >= 30
    assert {right: count for right, count in counts.items() if count != 1} == {}
