"""The published JSON Schemas, for tests of what commands print."""

from __future__ import annotations

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from oarpy.commands import formats

SCHEMAS = Path(formats.__file__).parent / "json_schemas"


def schema(command: str, view: str) -> Draft202012Validator:
    """What the published schema of ``command`` says of one of its views, strictly: it names all that there is."""
    document = json.loads((SCHEMAS / f"{command}.json").read_text())
    Draft202012Validator.check_schema(document)
    for name, definition in document["$defs"].items():
        if "properties" in definition and name not in ("resource", "reasons"):
            definition["additionalProperties"] = False
    return Draft202012Validator(document | {"$ref": f"#/$defs/{view}"})
