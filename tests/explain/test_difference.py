"""Each kind of change has its reason and its severity, and a gate refuses what it names and what it cannot know."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from explain_sample import INVENTORY, PACKAGES, file, make_image, package

from kiln.artifact.stock import Inventory, StockedPackage
from kiln.artifact.system_facts import Account, EnabledUnit, Group, Sysctl
from kiln.errors import KilnError
from kiln.explain.compare import REASONS, compare, gate
from kiln.explain.facts import read_facts
from kiln.explain.html import html_page
from kiln.explain.model import Change, Difference, Facts


def difference(before: Path, after: Path) -> Difference:
    return compare(read_facts(before, lambda scannable: {}), read_facts(after, lambda scannable: {}))


def found(changes: tuple[Change, ...]) -> set[tuple[str, str, str]]:
    return {(item.severity, item.reason, item.subject) for item in changes}


def test_an_image_does_not_differ_from_itself(tmp_path: Path) -> None:
    result = difference(make_image(tmp_path / "a"), make_image(tmp_path / "b"))
    assert (result.changes, result.not_compared) == ((), ())


INVENTORIES: list[tuple[str, Inventory, set[tuple[str, str, str]]]] = [
    (
        "a setuid program",
        replace(INVENTORY, files=(*INVENTORY.files, file("/usr/bin/zap", "bash", 0o4755))),
        {("high", "new-setuid", "/usr/bin/zap"), ("info", "new-file", "/usr/bin/zap")},
    ),
    (
        "capabilities",
        replace(INVENTORY, files=(*INVENTORY.files[:2], replace(INVENTORY.files[2], capabilities="01"))),
        {("high", "new-setuid", "/usr/sbin/sshd")},
    ),
    (
        "no setuid any more",
        replace(INVENTORY, files=(INVENTORY.files[0], replace(INVENTORY.files[1], mode=0o755), INVENTORY.files[2])),
        {("info", "removed-setuid", "/usr/bin/su"), ("info", "changed-file", "/usr/bin/su")},
    ),
    (
        "a file changed although its package did not",
        replace(INVENTORY, files=(*INVENTORY.files[:2], file("/usr/sbin/sshd", "openssh-server", 0o755, "backdoor"))),
        {("high", "changed-behind-package", "/usr/sbin/sshd")},
    ),
    (
        "everybody may write",
        replace(INVENTORY, files=(replace(INVENTORY.files[0], mode=0o666), *INVENTORY.files[1:])),
        {("high", "new-world-writable", "/etc/motd")},
    ),
    (
        "accounts",
        replace(
            INVENTORY,
            accounts=(
                Account("alice", 1000, 1000, "/home/alice", "/bin/bash", False),
                Account("daemon2", 101, 101, "/", "/usr/sbin/nologin", True),
                Account("root", 0, 0, "/root", "/bin/bash", True),
                Account("toor", 0, 0, "/root", "/bin/sh", True),
            ),
        ),
        {
            ("high", "new-login", "alice"),
            ("low", "new-user", "daemon2"),
            ("critical", "new-root-account", "toor"),
            ("low", "removed-user", "sshd"),
        },
    ),
    (
        "a member of sudo",
        replace(INVENTORY, groups=(Group("sudo", 27, ("sshd",)),)),
        {("high", "new-privileged-member", "sudo")},
    ),
    (
        "services",
        replace(INVENTORY, units=(EnabledUnit("telnet.socket", "sockets.target"),)),
        {("medium", "new-service", "telnet.socket"), ("medium", "removed-service", "cron.service")},
    ),
    (
        "a kernel setting",
        replace(INVENTORY, sysctls=(Sysctl("kernel.kptr_restrict", "0"),)),
        {("medium", "changed-sysctl", "kernel.kptr_restrict")},
    ),
    (
        "licences",
        replace(
            INVENTORY,
            packages=(StockedPackage("bash", "amd64", "5.2-1", "MIT OR SSPL-1.0", "dep5"), *INVENTORY.packages[1:]),
        ),
        {("medium", "new-licence", "bash:amd64")},
    ),
]


@pytest.mark.parametrize(("name", "inventory", "expected"), INVENTORIES, ids=[item[0] for item in INVENTORIES])
def test_a_change_of_the_tree_is_named(
    tmp_path: Path, name: str, inventory: Inventory, expected: set[tuple[str, str, str]]
) -> None:
    assert name
    result = difference(make_image(tmp_path / "a"), make_image(tmp_path / "b", inventory=inventory))
    assert found(result.changes) == expected


def test_a_change_of_the_recipe_is_named_with_what_follows_from_it(tmp_path: Path) -> None:
    changed = {"name": "box", "base": "debian-12", "features": ["ssh", "nginx"], "hardening": "none"}
    result = difference(make_image(tmp_path / "a"), make_image(tmp_path / "b", recipe=changed))
    names = found(result.changes)
    assert ("high", "weaker-hardening", "security.hardeningLevel") in names
    assert ("high", "new-listener", "80/tcp") in names
    assert ("low", "new-feature", "nginx") in names
    severities = [item.severity for item in result.changes]
    assert severities == sorted(severities, key=["critical", "high", "medium", "low", "info"].index)


def test_packages_go_up_and_down(tmp_path: Path) -> None:
    other = (
        package("bash", "5.3-1", "essential"),
        package("libc6", "2.35-1", "essential"),
        package("new", "1", "essential"),
    )
    names = found(difference(make_image(tmp_path / "a"), make_image(tmp_path / "b", packages=other)).changes)
    assert ("info", "upgraded-package", "bash:amd64") in names
    assert ("medium", "downgraded-package", "libc6:amd64") in names
    assert ("low", "new-package", "new:amd64") in names
    assert ("low", "removed-package", "openssh-server:amd64") in names


def test_vulnerabilities_come_and_go() -> None:
    before = Facts("a", "lock", {"vulnerabilities": {"CVE-1 x": {"value": "high"}}})
    after = Facts("b", "lock", {"vulnerabilities": {"CVE-2 y": {"value": "critical"}}})
    result = compare(before, after)
    assert found(result.changes) == {
        ("critical", "new-vulnerability", "CVE-2 y"),
        ("info", "fixed-vulnerability", "CVE-1 x"),
    }
    assert ("files", "a and b") in result.not_compared


def test_a_lock_is_compared_as_far_as_it_goes_and_a_gate_about_the_rest_is_closed(tmp_path: Path) -> None:
    image = make_image(tmp_path / "a")
    (tmp_path / "other.lock").write_bytes(
        (make_image(tmp_path / "b", packages=PACKAGES[:3]) / "kiln.lock").read_bytes()
    )
    result = difference(image, tmp_path / "other.lock")
    assert found(gate(result, ["removed-package"])) == {("low", "removed-package", "openssh-server:amd64")}
    assert {section for section, _ in result.not_compared} >= {"files", "setuid", "ports", "recipe"}
    with pytest.raises(KilnError) as caught:
        gate(result, ["new-setuid"])
    assert (caught.value.reason, int(caught.value.exit_status)) == ("not-comparable", 4)


def test_a_gate_takes_reasons_and_severities_and_refuses_other_words(tmp_path: Path) -> None:
    inventory = INVENTORIES[0][1]
    result = difference(make_image(tmp_path / "a"), make_image(tmp_path / "b", inventory=inventory))
    assert [item.reason for item in gate(result, ["new-setuid"])] == ["new-setuid"]
    assert [item.reason for item in gate(result, ["high"])] == ["new-setuid"]
    assert [item.reason for item in gate(result, ["info"])] == ["new-setuid", "new-file"]
    assert gate(result, ["new-listener", "critical"]) == ()
    with pytest.raises(KilnError) as caught:
        gate(result, ["new-hole"])
    assert caught.value.reason == "bad-option"


def test_every_reason_that_a_comparison_gives_can_be_gated() -> None:
    import ast

    source = Path(compare.__code__.co_filename).read_text()
    words = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in REASONS
    }
    assert words == set(REASONS)


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_html_page_escapes_what_an_image_says() -> None:
    evil = "/tmp/<script>alert('x')</script>&\"'"
    page = html_page(Difference("a<b", "c", (Change("info", "new-file", "files", evil, "", "x"),), (("ports", "<i>"),)))
    parser = _Texts()
    parser.feed(page)
    assert not parser.tags & {"script", "i", "b"}
    assert evil in parser.texts
