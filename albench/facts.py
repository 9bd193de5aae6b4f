"""Which settings belong to an identity: all but those that came later and stand at their default.

So a run folder of an older version can be carried on.
"""

from typing import Any

from pydantic import BaseModel

LATER = "later"  # marks a field: `nesterov: Annotated[bool, LATER] = False`


def facts(settings: BaseModel) -> dict[str, Any]:
    """The settings as JSON, for identities; those marked LATER are left out at their default."""
    return facts_in(type(settings), settings.model_dump(mode="json"))


def facts_in(kind: type[BaseModel], dumped: dict[str, Any]) -> dict[str, Any]:
    """The same of settings that were dumped as JSON already, in a manifest say; `kind`: their class."""
    plain = {name: field.default for name, field in kind.model_fields.items() if LATER in field.metadata}
    return {k: v for k, v in dumped.items() if k not in plain or v != plain[k]}
