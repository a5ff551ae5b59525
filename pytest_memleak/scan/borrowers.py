"""What a call does with an argument that must be closed, as far as its name tells."""

from __future__ import annotations

import re
from typing import Final

CLOSERS: Final = frozenset(
    {
        "shutdown",
        "terminate",
        "stop",
        "join",
        "release",
        "dispose",
        "disconnect",
        "invalidate",
        "cleanup",
        "putconn",
        "quit",
        "logout",
        "__exit__",
        "__aexit__",
    }
)
"""Methods that end what must be closed; and each whose name has `close` in it, but for `closed`."""

ENTERS: Final = frozenset({"enter_context", "enter_async_context", "push", "push_async_exit", "closing", "aclosing"})

_READERS: Final = frozenset(
    {
        *(
            f"{name}.{verb}"
            for name in ("json", "pickle", "marshal", "toml", "yaml", "plistlib")
            for verb in ("load", "dump")
        ),
        *(f"yaml.{verb}" for verb in ("safe_load", "full_load", "safe_load_all", "load_all", "safe_dump", "dump_all")),
        *(f"csv.{verb}" for verb in ("reader", "writer", "DictReader", "DictWriter")),
        *(
            "tomllib.load",
            "tomli.load",
            "ujson.load",
            "simplejson.load",
            "dill.load",
            "joblib.load",
            "cloudpickle.dump",
        ),
        *("shutil.copyfileobj", "hashlib.file_digest", "os.fsync", "fcntl.flock", "fcntl.lockf", "pandas.read_csv"),
        *(
            "bs4.BeautifulSoup",
            "email.message_from_file",
            "email.message_from_binary_file",
            "xml.etree.ElementTree.parse",
            "xml.dom.minidom.parse",
            "pandas.read_sql",
            "pandas.read_json",
            "ast.parse",
            "contextlib.redirect_stdout",
            "contextlib.redirect_stderr",
            "numpy.load",
            "numpy.loadtxt",
            "numpy.genfromtxt",
            "torch.load",
        ),
        *(
            f"os.{verb}"
            for verb in (
                "read",
                "write",
                "pread",
                "pwrite",
                "fstat",
                "fchmod",
                "fchown",
                "ftruncate",
                "lseek",
                "isatty",
            )
        ),
    }
)
"""They read or write what they are given, and leave it open."""

_BUILTINS: Final = frozenset(
    {
        "all",
        "any",
        "bool",
        "dict",
        "enumerate",
        "filter",
        "frozenset",
        "hasattr",
        "hash",
        "id",
        "isinstance",
        "iter",
        "len",
        "list",
        "map",
        "max",
        "min",
        "next",
        "print",
        "repr",
        "reversed",
        "set",
        "sorted",
        "str",
        "sum",
        "tuple",
        "type",
        "zip",
    }
)

_WRAPPERS: Final = frozenset(
    {
        "gzip.GzipFile",
        "gzip.open",
        "bz2.BZ2File",
        "bz2.open",
        "lzma.LZMAFile",
        "lzma.open",
        "tarfile.open",
        "tarfile.TarFile.open",
        "zipfile.ZipFile",
        "wave.open",
        "PIL.Image.open",
    }
)
"""Files over another file, which close what they have opened themselves and never the file that they were given."""

_READING: Final = frozenset({"read_file", "readfp"})
"""Methods of a parser that read all there is."""

_UPLOADS: Final = (".audio.transcriptions.create", ".audio.translations.create", ".files.create", ".images.edit")
"""Calls of the OpenAI client, which sends a file's content."""

_STREAMS: Final = frozenset({"stdin", "stdout", "stderr"})
_REQUESTS: Final = frozenset({"request", "get", "post", "put", "patch", "delete", "head", "options"})

_TAKING: Final = frozenset(
    {
        "add",
        "append",
        "extend",
        "insert",
        "put",
        "push",
        "register",
        "set",
        "setattr",
        "setdefault",
        "update",
        "store",
        "keep",
        "track",
        "attach",
        "save",
        "manage",
        "adopt",
        "own",
        "give",
        "send",
        "hand",
        "pass",
        "enqueue",
        "submit",
        "start",
        "spawn",
        "callback",
        "bind",
        "inject",
        "wrap",
        "connect",
        "subscribe",
        "close",
        "closes",
        "release",
        "dispose",
        "cleanup",
        "clean",
        "finish",
        "finalize",
        "shutdown",
        "terminate",
        "stop",
        "end",
        "return",
        "free",
        "delete",
        "discard",
        "remove",
        "destroy",
        "drop",
        "kill",
        "exit",
        "disconnect",
        "partial",
        "init",
        "gather",
        "create",
        "schedule",
        "run",
        "use",
        "assign",
        "transfer",
        "configure",
        "install",
        "mount",
        "override",
        "yield",
    }
)
"""Words in the name of a function that may keep, or close, what it is given."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def words(name: str) -> list[str]:
    """`sendFile` and `send_file` are `send`, `file`."""
    return [word.lower() for word in _WORD.findall(name)]


def closes(name: str) -> bool:
    """Whether a method of this name ends what must be closed."""
    return name in CLOSERS or ("close" in name.lower() and not name.lower().endswith("closed"))


def takes(name: str) -> bool:
    """Whether a function of this name may keep what it is given, or close it: a class does."""
    return name.lstrip("_")[:1].isupper() or not _TAKING.isdisjoint(words(name))


def wraps(callee: str) -> bool:
    """Whether what a call of `callee` (dotted) makes reads or writes what it is given, and never closes it."""
    return callee in _WRAPPERS


def borrows(callee: str, keyword: str) -> bool:
    """Whether a call of `callee` (dotted) is known to leave open what it is given, as `keyword` or by position."""
    if callee in _READERS or callee in _BUILTINS:
        return True
    first, _, last = callee.partition(".")
    if keyword in _STREAMS and (first == "subprocess" or last.startswith("create_subprocess_")):
        return True
    if keyword == "file" and callee.rpartition(".")[2].startswith("print"):
        return True  # `traceback.print_exc(file=…)`, and all that print as `print` does
    if callee.rpartition(".")[2] in _READING or callee.endswith(_UPLOADS) or callee.startswith("pandas.read_"):
        return True
    return (first in {"requests", "httpx"} and last in _REQUESTS) or callee.endswith(".run_in_executor")
