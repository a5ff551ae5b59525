"""The page of the options, out of the table that also makes the command line, the ini file and the marker."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_memleak.settings import MARKER_NAMES, OPTIONS, SOAK_NAMES, SOAK_OPTIONS, Option


def page() -> str:
    """What is generated of the page, as Markdown: a part for each kind of run, in it a section for each option."""
    parts = {
        "For a whole run": [option for option in OPTIONS if not option.marker],
        "For a measurement": [option for option in OPTIONS if option.marker],
        "For a soak": SOAK_OPTIONS,
    }
    return "\n".join(line for title, options in parts.items() for line in (f"## {title}\n", *map(_section, options)))


def _section(option: Option) -> str:
    rows = "".join(f"| {route} | {spelt} |\n" for route, spelt in _rows(option))
    sentence = option.help[0].upper() + option.help[1:]
    return f"### `{option.name}`\n\n{sentence}.\n\n| set or read | as |\n| --- | --- |\n{rows}"


def _rows(option: Option) -> Iterator[tuple[str, str]]:
    """Every way to set an option, what it takes, and what holds where nobody sets it."""
    if option.config:
        # argparse makes the second out of the first
        off = f", `--no-{option.flag.removeprefix('--')}`" if option.kind == "flag" else ""
        yield "command line", f"`{option.flag}`{off}"
        yield "ini file", f"`{option.ini}`"
    if option.marker:
        yield "marker, fixture", f"`{option.name}`"
    if option.name in SOAK_NAMES and option.name in MARKER_NAMES:
        yield "of", "measurements and soaks"
    yield "takes", _kind(option)
    yield "default", default_of(option)


def _kind(option: Option) -> str:
    """What the option's values are, with the unit."""
    if option.kind == "choice":
        return " or ".join(f"`{choice}`" for choice in option.choices)
    if option.kind == "duration":
        return "a duration: `90s`, `30m`, `24h`, or seconds"
    words = {"flag": "yes or no", "count": "a whole number", "names": "one name or more"}
    kind = words.get(option.kind, f"a {option.kind}" if option.kind == "number" else option.kind)
    return f"{kind}, in {option.unit}" if option.unit else kind


def default_of(option: Option) -> str:
    """An option's default as a reader would write it."""
    if option.default in (None, "", ()):
        return "none"
    if option.kind == "duration":
        return f"{option.default / 60:g}m"
    if isinstance(option.default, str):
        return f"`{option.default}`"
    return "off" if option.default is False else f"{option.default:g}"
