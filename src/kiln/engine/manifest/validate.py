"""Checking a manifest against the schemas of a libdir: all findings at once, in osbuild's order and spelling."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Final

from kiln.engine.manifest.formats import ASSEMBLER, Format, format_of, normalise
from kiln.engine.manifest.load_1 import source_type
from kiln.engine.manifest.modules import FOLDERS, Kind, Modules
from kiln.engine.manifest.patterns import strict_validator
from kiln.errors import Domain, ExitStatus, KilnError, Place

ERROR_TYPE: Final = "https://osbuild.org/validation-error"
ERROR_TITLE: Final = "JSON Schema validation failed"
UNUSED_FORMATS: Final = "rfc3987_syntax"
"""What jsonschema checks the format `iri` with, where it is installed: 1.5 s of import, and no schema here names it."""
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


def check_shape(document: Mapping[str, Any]) -> Format:
    """Return the format; refuse what is not worth a look, such as nesting without end. Raises as `validate` does."""
    if _too_deep(document, MAX_DEPTH):
        raise InvalidManifestError([Finding((), f"nested deeper than {MAX_DEPTH} levels")])
    return format_of(document)


def validate(document: Mapping[str, Any], modules: Modules) -> None:
    """Check *document*. Raises InvalidManifestError with every finding, or KilnError for another format."""
    version = check_shape(document)
    document = normalise(document)
    # The assembler of a hybrid is not osbuild's; its own description is checked like that of any module.
    plain = {key: value for key, value in document.items() if key != ASSEMBLER} if version == "2" else document
    found = set(_against(modules.manifest_schema(version), plain, (), f"the manifest (schemas/osbuild{version}.json)"))
    # Modules are looked at even so, as far as the structure allows it: one run shows everything.
    found.update(_modules(document, modules, version))
    if found:
        raise InvalidManifestError(sorted(found))


def modules_of(document: Mapping[str, Any]) -> Iterator[Described]:
    """Yield everything in a manifest that a module describes."""
    if document.get("version") != "2":
        yield from _modules_of_1(document.get("pipeline"), ("pipeline",))
        for name, source in _items(document.get("sources")):
            yield Described("Source", source_type(name), source, ("sources", name), "1")
        return
    for name, source in _items(document.get("sources")):
        yield Described("Source", name, source, ("sources", name))
    for index, pipeline in enumerate(_list(document.get("pipelines"))):
        stages = _list(pipeline.get("stages")) if isinstance(pipeline, Mapping) else []
        for number, stage in enumerate(stages):
            if not isinstance(stage, Mapping) or not isinstance(stage.get("type"), str):
                continue
            path = ("pipelines", index, "stages", number)
            yield Described("Stage", stage["type"], stage, path)
            yield from _modules_of_stage(stage, path)
    yield from _assembler(document.get(ASSEMBLER), (ASSEMBLER,))


@dataclass(frozen=True, slots=True)
class Described:
    """An object of a manifest that the module *name* describes; *path* is its place."""

    kind: Kind
    name: str
    value: Any
    path: tuple[str | int, ...]
    version: Format = "2"


def _modules_of_1(pipeline: Any, path: tuple[str | int, ...]) -> Iterator[Described]:
    if not isinstance(pipeline, Mapping):
        return
    build = pipeline.get("build")
    if isinstance(build, Mapping):
        yield from _modules_of_1(build.get("pipeline"), (*path, "build", "pipeline"))
    for number, stage in enumerate(_list(pipeline.get("stages"))):
        if isinstance(stage, Mapping) and isinstance(stage.get("name"), str):
            yield Described("Stage", stage["name"], stage, (*path, "stages", number), "1")
    yield from _assembler(pipeline.get(ASSEMBLER), (*path, ASSEMBLER))


def _assembler(value: Any, path: tuple[str | int, ...]) -> Iterator[Described]:
    if isinstance(value, Mapping) and value:
        name = value.get("name", value.get("type"))
        if isinstance(name, str):
            known = {"name": name, **{key: entry for key, entry in value.items() if key != "type" or "name" in value}}
            yield Described("Assembler", name, known, path, "1")
            return
    if value:
        # Without a name there is no module to ask; format 1 has this in its schema, the hybrid has none.
        yield Described("Assembler", "", value, path, "1")


def _modules_of_stage(stage: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Described]:
    kinds: tuple[Kind, ...] = ("Device", "Input", "Mount")
    for kind in kinds:
        group = FOLDERS[kind]
        value = stage.get(group)
        entries = _items(value) if isinstance(value, Mapping) else [(_name(item), item) for item in _list(value)]
        for key, module in entries:
            if isinstance(module, Mapping) and isinstance(module.get("type"), str):
                yield Described(kind, module["type"], module, (*path, group, key))


def _modules(document: Mapping[str, Any], modules: Modules, version: Format) -> Iterator[Finding]:
    schemas: dict[tuple[Kind, str], Any] = {}
    for described in modules_of(document):
        key = (described.kind, described.name)
        if key not in schemas:
            module = modules.find(*key)
            schemas[key] = None if module is None else _validator(module.validation_schema(described.version))
        if schemas[key] is not None:
            yield from _errors(schemas[key], described.value, described.path)
        elif described.name:
            yield Finding(described.path, f"could not find schema information for '{described.name}'")
        elif version == "2":
            yield Finding(described.path, "'name' is a required property")


def _against(schema: Mapping[str, Any] | None, value: object, path: tuple[str | int, ...], name: str) -> list[Finding]:
    if schema is None:
        return [Finding(path, f"could not find schema information for '{name}'")]
    return list(_errors(_validator(schema), value, path))


def _validator(schema: Mapping[str, Any]) -> Any:
    # 100 ms of imports; a manifest that was found valid before is not checked again (see execution/validated.py).
    with _without(UNUSED_FORMATS):
        validator = strict_validator()
    from referencing import Registry  # noqa: PLC0415

    return validator(schema, registry=Registry())  # an empty registry: no reference is fetched from anywhere


@contextmanager
def _without(module: str) -> Iterator[None]:
    """Have an import of *module* fail, as if it were not installed."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


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
