"""The report as one HTML file that needs no network and no other file, except for the links to those beside it."""

import json
from base64 import b64encode
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from albench import __version__
from albench.report.blocks import Document, Picture, Table, Text
from albench.report.looks import on_dark


def render(document: Document) -> str:
    """The page; every text from outside is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "base64": lambda content: b64encode(content).decode(),
        "json": embedded,
        "on_dark": on_dark,
    }
    for name, kind in (("picture", Picture), ("table", Table), ("text", Text)):
        environment.tests[name] = lambda block, kind=kind: isinstance(block, kind)
    template = environment.from_string(_file("page.html"))
    css, script = Markup(_file("page.css")), Markup(_file("page.js"))
    return template.render(document=document, version=__version__, css=css, script=script)


def embedded(content: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or begin a comment.

    >>> print(embedded({"name": "</script> & 'ö'"}))
    {"name":"\\u003c/script\\u003e \\u0026 'ö'"}
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _file(name: str) -> str:
    return (files("albench.report") / name).read_text(encoding="utf-8")
