"""Checking a manifest against the schemas of a libdir: all findings at once, in osbuild's order and spelling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final

from kiln.engine.manifest.load import check_format
from kiln.engine.manifest.modules import FOLDERS, Kind, Modules
from kiln.errors import Domain, ExitStatus, KilnError, Place

ERROR_TYPE: Final = "https://osbuild.org/validation-error"
ERROR_TITLE: Final = "JSON Schema validation failed"
MAX_DEPTH: Final = 64
"""A manifest is written by hand or by a composer; deeper nesting is an attack on the recursion of a validator."""


@total_ordering
@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and where."""

    path: tuple[str | int, ...]
    message: str

    @property
    def id(self) -> str:
        """The path in the form `.pipelines[0].stages[1].options`."""
        text = "".join(
            f"[{part}]" if isinstance(part, int) else f".'{part}'" if " " in part else f".{part}" for part in self.path
        )
        return text or "."

    def __lt__(self, other: Finding) -> bool:
        return (self.id, self.message) < (other.id, other.message)

    def to_document(self) -> dict[str, object]:
        """Return the finding as it stands in osbuild's JSON."""
        return {"message": self.message, "path": list(self.path)}


class InvalidManifestError(KilnError):
    """A manifest that its schemas refuse; *findings* has everything that is wrong."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        first = findings[0]
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        super().__init__(
            Domain.MANIFEST,
            "invalid-manifest",
            f"{first.message}{more}",
            place=Place("<manifest>", path=first.id),
            detail="\n".join(f"{finding.id}: {finding.message}" for finding in findings),
            exit_status=ExitStatus.USAGE,
        )
        self.findings = tuple(findings)

    def to_osbuild(self) -> dict[str, object]:
        """Return the document that osbuild prints with `--json`."""
        return {
            "type": ERROR_TYPE,
            "title": ERROR_TITLE,
            "success": False,
            "errors": [finding.to_document() for finding in self.findings],
        }


def check_shape(document: Mapping[str, Any]) -> None:
    """Refuse what is not worth a look: another format, or nested without end. Raises as `validate` does."""
    if _too_deep(document, MAX_DEPTH):
        raise InvalidManifestError([Finding((), f"nested deeper than {MAX_DEPTH} levels")])
    check_format(document)


def validate(document: Mapping[str, Any], modules: Modules) -> None:
    """Check *document*. Raises InvalidManifestError with every finding, or KilnError for another format."""
    check_shape(document)
    found = set(_against(modules.manifest_schema(), document, (), "the manifest (schemas/osbuild2.json)"))
    # Modules are looked at even so, as far as the structure allows it: one run shows everything.
    found.update(_modules(document, modules))
    if found:
        raise InvalidManifestError(sorted(found))


def modules_of(document: Mapping[str, Any]) -> Iterator[tuple[Kind, str, Any, tuple[str | int, ...]]]:
    """Yield kind, name, object and path of everything in a manifest that a module describes."""
    for name, source in _items(document.get("sources")):
        yield "Source", name, source, ("sources", name)
    for index, pipeline in enumerate(_list(document.get("pipelines"))):
        stages = _list(pipeline.get("stages")) if isinstance(pipeline, Mapping) else []
        for number, stage in enumerate(stages):
            if not isinstance(stage, Mapping) or not isinstance(stage.get("type"), str):
                continue
            path = ("pipelines", index, "stages", number)
            yield "Stage", stage["type"], stage, path
            yield from _modules_of_stage(stage, path)


def _modules_of_stage(
    stage: Mapping[str, Any], path: tuple[str | int, ...]
) -> Iterator[tuple[Kind, str, Any, tuple[str | int, ...]]]:
    kinds: tuple[Kind, ...] = ("Device", "Input", "Mount")
    for kind in kinds:
        group = FOLDERS[kind]
        value = stage.get(group)
        entries = _items(value) if isinstance(value, Mapping) else [(_name(item), item) for item in _list(value)]
        for key, module in entries:
            if isinstance(module, Mapping) and isinstance(module.get("type"), str):
                yield kind, module["type"], module, (*path, group, key)


def _modules(document: Mapping[str, Any], modules: Modules) -> Iterator[Finding]:
    schemas: dict[tuple[Kind, str], Any] = {}
    for kind, name, value, path in modules_of(document):
        if (kind, name) not in schemas:
            module = modules.find(kind, name)
            schemas[kind, name] = None if module is None else _validator(module.validation_schema())
        validator = schemas[kind, name]
        if validator is None:
            yield Finding(path, f"could not find schema information for '{name}'")
        else:
            yield from _errors(validator, value, path)


def _against(schema: Mapping[str, Any] | None, value: object, path: tuple[str | int, ...], name: str) -> list[Finding]:
    if schema is None:
        return [Finding(path, f"could not find schema information for '{name}'")]
    return list(_errors(_validator(schema), value, path))


def _validator(schema: Mapping[str, Any]) -> Any:
    # 100 ms of imports; a manifest that was found valid before is not checked again (see execution/validated.py).
    from jsonschema import Draft4Validator  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    return Draft4Validator(schema, registry=Registry())  # an empty registry: no reference is fetched from anywhere


def _errors(validator: Any, value: object, path: tuple[str | int, ...]) -> Iterator[Finding]:
    from jsonschema.exceptions import SchemaError  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        validator.check_schema(validator.schema)
        for error in validator.iter_errors(value):
            yield Finding((*path, *error.absolute_path), error.message)
    except SchemaError as error:
        yield Finding(path, f"the schema of the module is not valid: {error.message}")
    except Unresolvable as error:
        yield Finding(path, f"the schema of the module refers to what it does not define: {error}")


def _too_deep(value: object, depth: int) -> bool:
    if isinstance(value, Mapping):
        return depth == 0 or any(_too_deep(item, depth - 1) for item in value.values())
    if isinstance(value, list):
        return depth == 0 or any(_too_deep(item, depth - 1) for item in value)
    return False


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _name(item: object) -> str:
    return str(item.get("name", "")) if isinstance(item, Mapping) else ""
