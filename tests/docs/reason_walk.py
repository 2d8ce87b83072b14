"""Finds every error reason in Python source without running it.

A *maker* is something that carries a reason: a class such as KilnError, or a function or class that passes one of its
own parameters on as the reason. Starting from the given makers, calls are followed until no new ones are found; a call
whose reason is a literal is a pair that must be documented, and one whose reason cannot be read is reported as dynamic.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIELDS = ("domain", "reason", "status", "retriable")


@dataclass(frozen=True)
class Text:
    """A literal, or a text with parameters in it."""

    parts: tuple[str | Parameter, ...]

    @property
    def literal(self) -> str | None:
        return "".join(map(str, self.parts)) if all(isinstance(part, str) for part in self.parts) else None


@dataclass(frozen=True)
class Parameter:
    """The value of a parameter of the maker itself."""

    name: str


@dataclass(frozen=True)
class Unknown:
    """Something that only a run would show."""


Spec = Text | Unknown


def text(value: str) -> Text:
    return Text((value,))


def parameter(name: str) -> Text:
    return Text((Parameter(name),))


@dataclass
class Maker:
    """What a call means: *parameters* in their order, their defaults, and where each field comes from."""

    parameters: tuple[str, ...]
    defaults: Mapping[str, Spec]
    fields: Mapping[str, Spec]


@dataclass(frozen=True, order=True)
class Reason:
    """A pair that can be raised, with the exit status that goes with it."""

    domain: str
    reason: str
    status: str
    retriable: bool


@dataclass
class Walk:
    """*base* are the makers to start from, by module and name, or by module and `Class.method`."""

    base: Mapping[tuple[str, str], Maker]
    reasons: set[Reason] = field(default_factory=set)
    dynamic: set[tuple[str, str]] = field(default_factory=set)
    """Module and function of calls whose reason could not be read."""


@dataclass
class _Module:
    name: str
    tree: ast.Module
    imports: dict[str, tuple[str, str]]


def walk(root: Path, package: str, base: Mapping[tuple[str, str], Maker]) -> Walk:
    """Read all modules below *root*, the directory of *package*."""
    modules = [_module(path, root, package) for path in sorted(root.rglob("*.py"))]
    makers = dict(base)
    methods = _by_method(makers)
    while True:
        found = dict(makers)
        for module in modules:
            for owner, call, scopes in _calls(module.tree):
                maker = _maker_of(call, module, owner, makers, methods)
                if maker is not None:
                    _derive(module, scopes, _bind(maker, call, scopes), found)
        if found.keys() == makers.keys():
            break
        makers, methods = found, _by_method(found)
    result = Walk(base)
    for module in modules:
        for owner, call, scopes in _calls(module.tree):
            maker = _maker_of(call, module, owner, makers, methods)
            if maker is not None:
                _collect(module, owner, scopes, _bind(maker, call, scopes), result)
    return result


def _module(path: Path, root: Path, package: str) -> _Module:
    parts = [package, *path.relative_to(root).with_suffix("").parts]
    name = ".".join(part for part in parts if part != "__init__")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                imports[alias.asname or alias.name] = (node.module, alias.name)
    return _Module(name, tree, imports)


@dataclass(frozen=True)
class _Scope:
    """A function or a class around a call, from the outside in."""

    node: ast.AST
    name: str

    @property
    def parameters(self) -> tuple[str, ...]:
        if not isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef):
            return ()
        arguments = self.node.args
        return tuple(entry.arg for entry in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs))


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call, tuple[_Scope, ...]]]:
    def visit(node: ast.AST, scopes: tuple[_Scope, ...]) -> Iterator[tuple[str, ast.Call, tuple[_Scope, ...]]]:
        if isinstance(node, ast.Call):
            yield ".".join(scope.name for scope in scopes), node, scopes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scopes = (*scopes, _Scope(node, node.name))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, scopes)

    yield from visit(tree, ())


def _by_method(makers: Mapping[tuple[str, str], Maker]) -> dict[str, Maker]:
    """Return makers that are methods by the method's name alone, for calls on values of unknown type."""
    return {name.rpartition(".")[2]: maker for (_, name), maker in makers.items() if "." in name}


def _maker_of(
    call: ast.Call,
    module: _Module,
    owner: str,
    makers: Mapping[tuple[str, str], Maker],
    methods: Mapping[str, Maker],
) -> Maker | None:
    function = call.func
    if isinstance(function, ast.Name):
        place = module.imports.get(function.id, (module.name, function.id))
        return makers.get(place) or makers.get((module.name, f"{owner}.{function.id}"))
    if not isinstance(function, ast.Attribute):
        return None
    if isinstance(function.value, ast.Name):
        if function.value.id == "self" and _has_method(module, owner, function.attr):
            return makers.get((module.name, f"{owner.partition('.')[0]}.{function.attr}"))
        imported = module.imports.get(function.value.id)
        if imported is not None:
            found = makers.get((".".join(imported), function.attr))
            if found is not None:
                return found
    if function.attr == "__init__" and isinstance(function.value, ast.Call):  # super().__init__(...)
        return _base_class(owner, module, makers)
    return methods.get(function.attr)


def _has_method(module: _Module, owner: str, name: str) -> bool:
    return any(
        isinstance(statement, ast.FunctionDef) and statement.name == name
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and node.name == owner.partition(".")[0]
        for statement in node.body
    )


def _base_class(owner: str, module: _Module, makers: Mapping[tuple[str, str], Maker]) -> Maker | None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.partition(".")[0]:
            for base in node.bases:
                if isinstance(base, ast.Name):
                    return makers.get(module.imports.get(base.id, (module.name, base.id)))
    return None


def _bind(maker: Maker, call: ast.Call, scopes: Sequence[_Scope]) -> dict[str, Spec]:
    given: dict[str, Spec] = dict(maker.defaults)
    positional = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
    for name, argument in zip(maker.parameters, positional, strict=False):
        given[name] = _spec(argument, scopes)
    for keyword in call.keywords:
        if keyword.arg is not None:
            given[keyword.arg] = _spec(keyword.value, scopes)
    return {name: _fill(spec, given) for name, spec in maker.fields.items()}


def _fill(spec: Spec, given: Mapping[str, Spec]) -> Spec:
    if isinstance(spec, Unknown):
        return spec
    parts: list[str | Parameter] = []
    for part in spec.parts:
        if isinstance(part, str):
            parts.append(part)
            continue
        value = given.get(part.name, Unknown())
        if isinstance(value, Unknown):
            return value
        parts += value.parts
    return Text(tuple(parts))


def _spec(node: ast.expr, scopes: Sequence[_Scope]) -> Spec:
    if isinstance(node, ast.Constant):
        return text(str(node.value))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ("Domain", "ExitStatus"):
            return text(node.attr.lower().replace("_", "-") if node.value.id == "ExitStatus" else node.attr.lower())
        if node.value.id == "self" and any(isinstance(scope.node, ast.ClassDef) for scope in scopes):
            return Text((Parameter(f"self.{node.attr}"),))
    if isinstance(node, ast.Name):
        if any(node.id in scope.parameters for scope in scopes):
            return parameter(node.id)
        return Unknown()
    if isinstance(node, ast.JoinedStr):
        parts: list[str | Parameter] = []
        for piece in node.values:
            value = _spec(piece.value if isinstance(piece, ast.FormattedValue) else piece, scopes)
            if isinstance(value, Unknown):
                return value
            parts += value.parts
        return Text(tuple(parts))
    return Unknown()


def _derive(
    module: _Module, scopes: tuple[_Scope, ...], fields: Mapping[str, Spec], found: dict[tuple[str, str], Maker]
) -> None:
    """If domain or reason come from parameters of a function or class around the call, that is a maker, too."""
    names = _open_names(fields)
    if not names:
        return
    for index in range(len(scopes) - 1, -1, -1):
        scope = scopes[index]
        if isinstance(scope.node, ast.ClassDef):
            attributes = _attributes(scope.node)
            if names <= attributes.keys():
                place = (module.name, ".".join(entry.name for entry in scopes[: index + 1]))
                renamed = {f"self.{name}": parameter(target) for name, target in _targets(attributes).items()}
                parameters, defaults = _constructor(scope.node)
                found.setdefault(
                    place, Maker(parameters, defaults, {key: _fill(spec, renamed) for key, spec in fields.items()})
                )
                return
        elif names <= set(scope.parameters):
            method = index > 0 and isinstance(scopes[index - 1].node, ast.ClassDef)
            path = [entry.name for entry in scopes[: index + 1]]
            if scope.name == "__init__":
                path.pop()
            elif method:
                path = path[index - 1 :]
            assert isinstance(scope.node, ast.FunctionDef | ast.AsyncFunctionDef)
            parameters, defaults = _parameters(scope.node, method=method)
            found.setdefault((module.name, ".".join(path)), Maker(parameters, defaults, dict(fields)))
            return


def _targets(attributes: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix("self."): target for name, target in attributes.items()}


def _attributes(node: ast.ClassDef) -> dict[str, str]:
    """Return `self.name` -> parameter of the constructor, for what the constructor only stores."""
    result = {}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            result[f"self.{statement.target.id}"] = statement.target.id
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            for inner in ast.walk(statement):
                if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Name):
                    target = inner.targets[0]
                    if isinstance(target, ast.Attribute):
                        result[f"self.{target.attr}"] = inner.value.id
    return result


def _constructor(node: ast.ClassDef) -> tuple[tuple[str, ...], dict[str, Spec]]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _parameters(statement, method=True)
    annotated = [
        statement
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]
    names = tuple(statement.target.id for statement in annotated if isinstance(statement.target, ast.Name))
    defaults = {
        name: _spec(statement.value, ())
        for name, statement in zip(names, annotated, strict=True)
        if statement.value is not None
    }
    return names, defaults


def _parameters(
    node: ast.FunctionDef | ast.AsyncFunctionDef, *, method: bool
) -> tuple[tuple[str, ...], dict[str, Spec]]:
    arguments = node.args
    positional = [entry.arg for entry in (*arguments.posonlyargs, *arguments.args)]
    defaults: dict[str, Spec] = {}
    for name, value in zip(reversed(positional), reversed(arguments.defaults), strict=False):
        defaults[name] = _spec(value, ())
    for entry, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            defaults[entry.arg] = _spec(default, ())
    static = any(isinstance(one, ast.Name) and one.id == "staticmethod" for one in node.decorator_list)
    return tuple(positional[1:] if method and not static else positional), defaults


def _collect(module: _Module, owner: str, scopes: Sequence[_Scope], fields: Mapping[str, Spec], result: Walk) -> None:
    names = _open_names(fields)
    if names is None or (names and not _is_maker(names, scopes)):
        result.dynamic.add((module.name, owner))
    elif not names:
        values = {name: _literal(fields.get(name, text(""))) for name in FIELDS}
        result.reasons.add(Reason(values["domain"], values["reason"], values["status"], values["retriable"] == "True"))


def _open_names(fields: Mapping[str, Spec]) -> set[str] | None:
    """Return the parameters that domain and reason depend on; None where they depend on something else."""
    names: set[str] = set()
    for key in ("domain", "reason"):
        spec = fields.get(key, text(""))
        if isinstance(spec, Unknown):
            return None
        names |= {part.name for part in spec.parts if isinstance(part, Parameter)}
    return names


def _is_maker(names: set[str], scopes: Sequence[_Scope]) -> bool:
    return any(names <= set(scope.parameters) for scope in scopes) or any(
        isinstance(scope.node, ast.ClassDef) and names <= _attributes(scope.node).keys() for scope in scopes
    )


def _literal(spec: Spec) -> str:
    found = None if isinstance(spec, Unknown) else spec.literal
    return "?" if found is None else found
