"""The report as one HTML file that needs no network and no other file, except for the links to the CSVs beside it."""

from base64 import b64encode
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from albench import __version__
from albench.report.blocks import Document, Picture, Table


def render(document: Document) -> str:
    """The page; every text from outside is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda content: b64encode(content).decode()
    environment.tests["picture"] = lambda block: isinstance(block, Picture)
    environment.tests["table"] = lambda block: isinstance(block, Table)
    template = environment.from_string((files("albench.report") / "page.html").read_text(encoding="utf-8"))
    return template.render(document=document, version=__version__)
