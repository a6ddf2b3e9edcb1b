"""Entry points of other packages: found without an import, loaded by name, refused in a sentence."""

import sys
from pathlib import Path

import pytest

from memspan.errors import UsageError
from memspan.plugins import load_plugin, plugin_names
from tests.packages import install_package

GROUP = "memspan.tests"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a package with entry points in `GROUP`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, code: str, **entries: str) -> None:
        install_package(tmp_path, package, code, GROUP, **entries)

    return install


def test_names_are_found_without_an_import(install) -> None:
    install("tidy_plugin", "VALUE = 41 + 1", second="tidy_plugin:VALUE", first="tidy_plugin:VALUE")
    assert plugin_names(GROUP) == ["first", "second"]
    assert "tidy_plugin" not in sys.modules
    assert load_plugin(GROUP, "first") == 42
    assert load_plugin(GROUP, "third") is None
    assert plugin_names("memspan.nothing") == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('first line.\\nsecond line.')", r"RuntimeError: first line\. second line;"),
        ("", "AttributeError: .*VALUE"),
    ],
)
def test_a_plugin_that_does_not_import_is_refused_in_one_sentence(install, code: str, reason: str) -> None:
    install("broken_plugin", code, mine="broken_plugin:VALUE")
    with pytest.raises(UsageError, match=reason) as refused:
        load_plugin(GROUP, "mine")
    assert str(refused.value).startswith(f"The plugin 'mine' of {GROUP} must be importable, got ")
    assert str(refused.value).endswith("; repair or uninstall broken_plugin.")
    assert "\n" not in str(refused.value)


def test_a_name_of_two_packages_is_refused(install) -> None:
    install("one_plugin", "VALUE = 1", mine="one_plugin:VALUE")
    install("other_plugin", "VALUE = 2", mine="other_plugin:VALUE")
    with pytest.raises(UsageError, match="got one_plugin and other_plugin: uninstall one"):
        load_plugin(GROUP, "mine")
