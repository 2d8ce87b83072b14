"""VEX: whether a vulnerability matters where it was found. OpenVEX 0.2.0, and CycloneDX's `analysis`. Pure.

A statement is about a vulnerability and products. A product is a component's package URL (a purl without version, or
without qualifiers, stands for all of them), or the image by digest or name with the package URLs as subcomponents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import unquote
from uuid import UUID, uuid5

from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.vulnerabilities.result import Decision, Finding, ScanResult, Target, VexStatus, decided
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads

CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"
JUSTIFICATIONS: Final = {
    "component_not_present": "code_not_present",
    "vulnerable_code_not_present": "code_not_present",
    "vulnerable_code_not_in_execute_path": "code_not_reachable",
    "vulnerable_code_cannot_be_controlled_by_adversary": "requires_environment",
    "inline_mitigations_already_exist": "protected_by_mitigating_control",
}
"""Justification of OpenVEX -> that of CycloneDX."""
STATES: Final = {
    "not_affected": "not_affected",
    "affected": "exploitable",
    "fixed": "resolved",
    "under_investigation": "in_triage",
}
"""Status of OpenVEX -> state of CycloneDX's analysis."""
_NAMESPACE: Final = uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "urn:kiln:vex:v1")


@dataclass(frozen=True, slots=True)
class Product:
    """What a statement is about. *digest*, hexadecimal, and *name* are of an image; both empty for a component."""

    identifiers: tuple[str, ...]
    digest: str = ""
    subcomponents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a document; *order* is its time and place, the last one wins."""

    vulnerabilities: frozenset[str]
    products: tuple[Product, ...]
    decision: Decision
    order: tuple[str, int]


def read_vex(data: bytes, file: str) -> tuple[Statement, ...]:
    """Read an OpenVEX document, or a CycloneDX document with `vulnerabilities`.

    Raises KilnError(VULNERABILITY, "bad-vex") with the place in *file*.
    """
    try:
        document = strict_loads(data)
    except CanonicalError as error:
        raise _bad(file, "", str(error)) from None
    if isinstance(document, dict) and document.get("bomFormat") == "CycloneDX":
        return _cyclonedx(document, file)
    if not isinstance(document, dict) or not str(document.get("@context", "")).startswith("https://openvex.dev/ns"):
        raise _bad(file, "$.@context", "neither OpenVEX nor CycloneDX")
    statements = document.get("statements")
    if not isinstance(statements, list) or not statements:
        raise _bad(file, "$.statements", "a document has statements")
    return tuple(_statement(item, document, number, file) for number, item in enumerate(statements))


def _statement(item: Any, document: dict[str, Any], number: int, file: str) -> Statement:
    place = f"$.statements[{number}]"
    try:
        named = item["vulnerability"]
        names = {named} if isinstance(named, str) else {named["name"], *(named.get("aliases") or ())}
        status: VexStatus = item["status"]
        justification = str(item.get("justification") or "")
        impact, action = str(item.get("impact_statement") or ""), str(item.get("action_statement") or "")
        products = tuple(_product(entry) for entry in item.get("products") or document.get("products") or ())
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(file, place, f"not a statement: {error!r}") from None
    if status not in get_args(VexStatus):
        raise _bad(file, f"{place}.status", f"{str(status)[:40]!r} is not one of {', '.join(get_args(VexStatus))}")
    if justification and justification not in JUSTIFICATIONS:
        raise _bad(file, f"{place}.justification", f"{justification[:60]!r} is not a justification of OpenVEX")
    if status == "not_affected" and not (justification or impact):
        raise _bad(file, place, "`not_affected` needs a justification or an impact statement")
    if status == "affected" and not action:
        raise _bad(file, place, "`affected` needs an action statement")
    if not products:
        raise _bad(file, f"{place}.products", "a statement names its products")
    time = str(item.get("timestamp") or document.get("timestamp") or "")
    decision = Decision(status, justification, impact or action, str(document.get("@id", file)))
    return Statement(frozenset(map(str, names)), products, decision, (time, number))


def _product(entry: Any) -> Product:
    if isinstance(entry, str):
        return Product((entry,))
    identifiers = {entry.get("@id"), *(entry.get("identifiers") or {}).values()} - {None}
    hashes = entry.get("hashes") or {}
    subcomponents = [
        text
        for item in entry.get("subcomponents") or ()
        for text in ([item] if isinstance(item, str) else [item.get("@id"), *(item.get("identifiers") or {}).values()])
        if text
    ]
    return Product(tuple(sorted(identifiers)), str(hashes.get("sha-256", "")), tuple(sorted(set(subcomponents))))


def _cyclonedx(document: dict[str, Any], file: str) -> tuple[Statement, ...]:
    states = {state: status for status, state in STATES.items()} | {
        "resolved_with_pedigree": "fixed",
        "false_positive": "not_affected",
    }
    reasons = {value: key for key, value in reversed(JUSTIFICATIONS.items())}
    statements = []
    try:
        purls = {
            item["bom-ref"]: item.get("purl", "") for item in document.get("components") or () if "bom-ref" in item
        }
        for number, item in enumerate(document.get("vulnerabilities") or ()):
            analysis = item.get("analysis")
            if not analysis or "state" not in analysis:
                continue
            names = {item["id"], *(entry["id"] for entry in item.get("references") or ())}
            refs = [str(entry["ref"]) for entry in item.get("affects") or ()]
            # A reference is a component's bom-ref, the purl itself, or a BOM-Link that ends in one.
            products = tuple(Product((purls.get(ref) or ref.rpartition("#")[2],)) for ref in refs)
            reason = reasons.get(analysis.get("justification", ""), "")
            decision = Decision(
                states[analysis["state"]],  # type: ignore[arg-type]
                reason,
                str(analysis.get("detail", "")),
                str(document.get("serialNumber", file)),
            )
            statements.append(Statement(frozenset(names), products, decision, (str(item.get("updated", "")), number)))
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(file, "$.vulnerabilities", f"not CycloneDX's vulnerabilities: {error!r}") from None
    return tuple(statements)


def apply_vex(
    findings: Iterable[Finding], target: Target, documents: Sequence[tuple[Statement, ...]]
) -> tuple[Finding, ...]:
    """Return the findings with the latest statement that is about each; a later document wins over an earlier one."""
    ordered = [
        (order, statement)
        for position, document in enumerate(documents)
        for order, statement in (((item.order[0], position, item.order[1]), item) for item in document)
    ]
    ordered.sort(key=lambda pair: pair[0])
    by_name: dict[str, list[Statement]] = {}
    for _, statement in ordered:
        for name in statement.vulnerabilities:
            by_name.setdefault(name, []).append(statement)
    return tuple(decided(finding, _decision(finding, target, by_name)) for finding in findings)


def _decision(finding: Finding, target: Target, by_name: dict[str, list[Statement]]) -> Decision | None:
    candidates = [
        item
        for name in (finding.id, *finding.aliases)
        for item in by_name.get(name, ())
        if any(_is_about(product, finding.purl, target) for product in item.products)
    ]
    return max(candidates, key=lambda item: item.order).decision if candidates else None


def _is_about(product: Product, purl: str, target: Target) -> bool:
    image = product.digest == target.digest.hex or any(
        target.digest.hex in identifier or identifier == target.name for identifier in product.identifiers
    )
    if product.subcomponents:
        return image and any(same_package(item, purl) for item in product.subcomponents)
    return image or any(same_package(item, purl) for item in product.identifiers)


def same_package(pattern: str, purl: str) -> bool:
    """Whether *pattern* names the package *purl*: what it leaves out (version, qualifiers) may be anything.

    Qualifiers that only other tools know (`os_name` and the like) do not keep two spellings of one package apart, as
    long as they do not contradict.
    """
    wanted, got = _split(pattern), _split(purl)
    if wanted[0] != got[0] or (wanted[1] and wanted[1] != got[1]):
        return False
    return all(got[2].get(key, value) == value for key, value in wanted[2].items())


def _split(purl: str) -> tuple[str, str, dict[str, str]]:
    head, _, query = purl.partition("#")[0].partition("?")
    base, _, version = head.partition("@") if not head.startswith("pkg:npm/@") else head.rpartition("@")
    qualifiers = dict(item.partition("=")[::2] for item in query.split("&") if item)
    return unquote(base), unquote(version), {key: unquote(value) for key, value in qualifiers.items()}


def openvex_document(result: ScanResult, *, author: str) -> dict[str, Any]:
    """Return an OpenVEX document with a statement for each finding of a scan of an image.

    What VEX had said is repeated; what nobody has decided is `affected` where an update fixes it, as that is the
    action, and `under_investigation` where none does. Its time is that of the scan.
    """
    statements = [_stated(finding, result.target) for finding in result.findings]
    identity = canonical_json([str(result.target.digest), str(result.database.version), statements]).decode("utf-8")
    return {
        "@context": CONTEXT,
        "@id": f"urn:uuid:{uuid5(_NAMESPACE, identity)}",
        "author": author,
        "timestamp": result.finished,
        "version": 1,
        "statements": statements,
    }


def _stated(finding: Finding, target: Target) -> dict[str, Any]:
    product = {
        "@id": f"urn:kiln:image:{target.name}",
        "hashes": {"sha-256": target.digest.hex},
        "subcomponents": [{"@id": finding.purl}],
    }
    statement: dict[str, Any] = {
        "vulnerability": {"name": finding.id, **({"aliases": list(finding.aliases)} if finding.aliases else {})},
        "products": [product],
    }
    decision = finding.vex
    if decision is None:
        action = f"update {finding.name} to a version built from {finding.fixed[0]} or later" if finding.fixed else ""
        decision = Decision("affected" if action else "under_investigation", "", action, "")
    statement["status"] = decision.status
    if decision.justification:
        statement["justification"] = decision.justification
    if decision.statement:
        key = "action_statement" if decision.status == "affected" else "impact_statement"
        statement["status_notes" if decision.status in ("fixed", "under_investigation") else key] = decision.statement
    return statement


def _bad(file: str, path: str, problem: str) -> KilnError:
    return KilnError(
        Domain.VULNERABILITY,
        "bad-vex",
        f"the VEX document is refused: {problem}",
        place=Place(file, path=path),
        hint="OpenVEX 0.2.0 says what a statement needs",
        exit_status=ExitStatus.USAGE,
    )
