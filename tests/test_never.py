"""What no line of the package does: run data, call a shell, import what a file names, open a URL, trust a foreign XML."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memspan

PACKAGE = Path(memspan.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# Whole modules: they run data, reach the network, or have a safe relative that is used instead.
MODULES = """
    pickle cPickle _pickle pickletools dill cloudpickle joblib shelve marshal code codeop runpy imp cffi
    requests httpx aiohttp urllib3 http ftplib telnetlib smtplib xmlrpc webbrowser xml tarfile torch.hub torch.package
""".split()  # noqa: SIM905
# Names, however they were imported.
CALLS = """
    eval exec compile __import__ builtins.eval builtins.exec builtins.compile builtins.__import__ breakpoint
    torch.load torch.jit.load torch.package.PackageImporter torch.serialization.load numpy.load numpy.fromregex pandas.read_pickle
    yaml.load yaml.load_all yaml.full_load yaml.full_load_all yaml.unsafe_load yaml.unsafe_load_all
    yaml.Loader yaml.UnsafeLoader yaml.FullLoader
    os.system os.popen os.execv os.execve os.execvp os.execl os.execlp os.spawnl os.spawnv os.spawnvp os.posix_spawn os.startfile
    pty.spawn subprocess.getoutput subprocess.getstatusoutput asyncio.create_subprocess_shell
    tempfile.mktemp shutil.unpack_archive hashlib.md5 hashlib.sha1
    urllib.request.urlopen urllib.request.urlretrieve urllib.request.Request urllib.request.build_opener
    importlib.reload importlib.machinery.SourceFileLoader pkgutil.resolve_name
""".split()  # noqa: SIM905
# Methods, whatever they are called on.
METHODS = {
    "treespec_loads",
    "enable_load_extension",
    "load_extension",
    "extractall",
    "load_state_dict_from_url",
    "read_pickle",
}
# What some files may use, and the reason.
ALLOWED = {
    ("__init__.py", "importlib.import_module"): "the homes of the public names, a table in the file",
    ("models/saved.py", "importlib.import_module"): "KINDS, a table in the file",
    ("cli/__init__.py", "importlib.import_module"): "the modules of its own folder",
    ("data/formats/__init__.py", "importlib.import_module"): "the modules of its own folder",
    ("plugins.py", "importlib.metadata.entry_points"): "extensions that the user has installed",
    ("plugins.py", "importlib.util.spec_from_file_location"): "a Python file that the user names with --plugin, never one that data name",
    ("pretrained/wheels.py", "subprocess"): "pip, as a list of fixed words, for the embedded model and encoder",
    ("cli/warm/starting.py", "subprocess"): "this Python with fixed words, for a process that keeps the model loaded",
    ("cli/listening.py", "socket"): "the type of the socket that a server listens at",
    ("cli/warm/served.py", "socket"): "the type of the socket that the server listens at",
    ("cli/warm/sockets.py", "socket"): "Unix sockets in a folder of the user's own; another user's process is refused",
    ("pretrained/hub.py", "socket"): "whether the hub's name resolves; nothing is sent",
    ("pretrained/hub.py", "urllib.request.getproxies"): "whether there is a proxy; nothing is sent",
    ("serve/running.py", "socket"): "the address that the user has the server listen at",
    ("memory/store/lock.py", "socket"): "the name of this computer; nothing is sent",
    ("assistant/answerers/endpoint.py", "httpx2"): "a server that the user names to write answers",
    ("assistant/answerers/endpoint_errors.py", "httpx2"): "the types of what went wrong; nothing is sent",
    ("assistant/answerers/gguf.py", "xllamacpp"): "llama.cpp, for a file that the user names; only that user can reach it",
    ("explain/page.py", "jinja2"): "templates of this package; what they show is escaped",
    ("data/formats/main_text.py", "importlib.import_module"): "a package named in the file, where it is installed",
    ("models/folders.py", "ctypes"): "renameat2 of the C library, which swaps two names in one step",
    ("pretrained/threads.py", "ctypes"): "a call without arguments from outside of the OpenMP that torch has loaded",
    ("serve/heap.py", "ctypes"): "malloc_trim of the C library, which gives unused memory back to the system",
    ("data/formats/ooxml.py", "lxml"): "the parts of an Office document, by a parser without entities and without a network",
    ("cli/renewal.py", "importlib.import_module"): "a package named in the file, where it is installed",
    ("apps/monitor/delivery.py", "httpx2"): "an address that the user names, to which alerts are sent",
    ("apps/monitor/feeds.py", "lxml"): "titles and summaries of feeds, by a parser of HTML without a network",
    ("data/formats/image.py", "importlib.import_module"): "packages named in the file, where they are installed",
    ("data/formats/pdf_pictures.py", "importlib.import_module"): "packages named in the file, where they are installed",
    ("data/formats/recognition.py", "importlib.import_module"): "packages named in the file, where they are installed",
    ("memory/audit.py", "socket"): "the name of this computer; nothing is sent",
    ("data/formats/html.py", "lxml"): "web pages, by a parser that knows neither entities of its own nor a network",
    ("data/formats/epub.py", "lxml"): "the package file of an e-book, by a parser without entities and without a network",
}  # fmt: skip
GUARDED = {name for _, name in ALLOWED}


def findings(source: str, file: str) -> list[str]:
    """What a file does although no file may, with its line."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    found = [*_imports(tree, file), *_uses(tree, names, file), *_asserts(tree, file)]
    return [f"{file}:{line} {what}" for line, what in sorted(set(found))]


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each name that an import binds, and the dotted name behind it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.split(".")[0]
                yield (alias.asname, alias.name) if alias.asname else (first, first)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _imports(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        dotted = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in dotted:
            if any(_within(name, module) for module in MODULES) or name in CALLS:
                yield node.lineno, f"imports {name}"
            guard = next((guarded for guarded in GUARDED if _within(name, guarded)), None)
            if guard is not None and (file, guard) not in ALLOWED:
                yield node.lineno, f"imports {name}, which only some files may"


def _within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def _uses(tree: ast.Module, names: dict[str, str], file: str) -> Iterator[tuple[int, str]]:
    # A parameter or a field may be called `compile`.
    own = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {ast.unparse(node.target) for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            dotted = _dotted(node, names)
            if dotted in CALLS and dotted not in own:
                yield node.lineno, f"uses {dotted}"
            if dotted in GUARDED and (file, dotted) not in ALLOWED:
                yield node.lineno, f"uses {dotted}, which only some files may"
        if isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield node.lineno, f"uses .{node.attr}"
        if isinstance(node, ast.Call):
            yield from ((node.lineno, what) for what in _options(node, names))


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """`np.load` after `import numpy as np` -> numpy.load; empty for anything but names and attributes of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _options(call: ast.Call, names: dict[str, str]) -> Iterator[str]:
    """Arguments that turn a harmless call into a dangerous one, or that a call must have."""
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for name in ("shell", "allow_pickle", "trust_remote_code", "use_auth_token"):
        value = given.get(name)
        if isinstance(value, ast.Constant) and value.value:
            yield f"passes {name}={value.value!r}"
    value = given.get("weights_only")
    if isinstance(value, ast.Constant) and not value.value:
        yield "passes weights_only=False"
    called = _dotted(call.func, names)
    if called.startswith("lxml.etree."):
        if called.endswith((".XMLParser", ".XMLPullParser", ".iterparse")):
            safe = {"resolve_entities": False, "no_network": True}
            missing = [name for name, value in safe.items() if getattr(given.get(name), "value", None) is not value]
            if missing:
                yield f"makes an XML parser without {', '.join(missing)}"
        elif called.endswith(".HTMLParser") and "no_network" in given:
            yield "chooses whether an HTML parser reaches the network"
        elif called.endswith((".parse", ".fromstring", ".XML")) and "parser" not in given and len(call.args) < 2:
            yield "parses XML without a parser of its own"


def _asserts(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    """`python -O` drops them: they may tell the type checker what is known, but check nothing from outside."""
    if file.startswith("testing/"):  # the laws of mechanisms are made of them
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            test = node.test
            is_type = isinstance(test, ast.Call) and ast.unparse(test.func) == "isinstance"
            is_there = isinstance(test, ast.Compare) and ast.unparse(test).endswith(" is not None")
            if not (is_type or is_there):
                yield node.lineno, f"asserts {ast.unparse(test)}"


def test_no_file_does_it() -> None:
    assert {file: found for file in FILES if (found := findings((PACKAGE / file).read_text("utf-8"), file))} == {}


def test_every_permission_is_used() -> None:
    for file, name in ALLOWED:
        source = (PACKAGE / file).read_text("utf-8")
        denied = findings(source, "elsewhere.py")
        assert any(name in finding for finding in denied), f"{file} no longer needs {name}"


FORBIDDEN = [
    "import pickle",
    "import pickle as p",
    "from pickle import loads",
    "import cloudpickle, os",
    "def f():\n    import marshal",
    "import xml.etree.ElementTree as tree",
    "from xml.dom import minidom",
    "import requests",
    "from urllib.request import urlopen",
    "import urllib.request\nurllib.request.urlopen(address)",
    "import http.client",
    "import tarfile",
    "eval(text)",
    "exec(text)",
    "run = exec",
    "compile(text, 'x', 'exec')",
    "__import__(name)",
    "import torch\ntorch.load(path)",
    "import torch\ntorch.load(path, weights_only=True)",
    "from torch import load\nload(path)",
    "import torch as t\nt.jit.load(path)",
    "import torch.hub",
    "import numpy as np\nnp.load(path)",
    "import yaml\nyaml.load(text, yaml.SafeLoader)",
    "import yaml\nyaml.unsafe_load(text)",
    "from yaml import full_load",
    "import pandas as pd\npd.read_pickle(path)",
    "from torch.utils import _pytree\n_pytree.treespec_loads(text)",
    "import os\nos.system(command)",
    "from os import popen",
    "import subprocess",
    "import subprocess as s\ns.run(command, shell=True)",
    "run(command, shell=True)",
    "import tempfile\ntempfile.mktemp()",
    "from tempfile import mktemp",
    "from importlib import import_module\nimport_module(name)",
    "import importlib\nimportlib.import_module(name)",
    "import importlib.util\nimportlib.util.spec_from_file_location(name, path)",
    "from lxml import etree",
    "import socket",
    "import ctypes",
    "database.enable_load_extension(True)",
    "archive.extractall(folder)",
    "loader(name, trust_remote_code=True)",
    "loads(path, allow_pickle=True)",
    "loads(path, weights_only=False)",
    "import hashlib\nhashlib.md5(content)",
    "assert size > 0",
    "assert isinstance(size, int) and size > 0, size",
    "import jinja2",
]  # fmt: skip


@pytest.mark.parametrize("source", FORBIDDEN)
def test_each_rule_finds_what_it_is_for(source: str) -> None:
    assert findings(source, "other.py")


@pytest.mark.parametrize(
    "source",
    [
        "import yaml\nyaml.safe_load(text)",
        "model.eval()",
        "import re\nre.compile(text)",
        "import torch\ntorch.compile(model)",
        "from safetensors.torch import load_file\nload_file(path)",
        "from urllib.parse import unquote",
        "assert report is not None",
        "assert isinstance(model, Module)",
        "run(command, shell=False)",
        "loader(name, trust_remote_code=trust)",
    ],
)
def test_what_is_harmless_is_allowed(source: str) -> None:
    assert findings(source, "other.py") == []


def test_a_parser_of_foreign_xml_resolves_nothing() -> None:
    epub, start = "data/formats/epub.py", "from lxml import etree\n"
    assert findings(start + "etree.fromstring(content)", epub)
    assert findings(start + "etree.XMLParser()", epub)
    assert findings(start + "etree.XMLParser(resolve_entities=True, no_network=True)", epub)
    assert findings(start + "etree.HTMLParser(no_network=False)", epub)
    safe = "parser = etree.XMLParser(resolve_entities=False, no_network=True)\netree.fromstring(content, parser)"
    assert findings(start + safe, epub) == []
