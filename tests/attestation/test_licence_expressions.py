"""Debian's copyright files become SPDX expressions, and a policy decides about them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kiln.artifact.copyright import read_copyright
from kiln.artifact.licences import licence_of, spdx_licensing
from kiln.attestation.licence_report import LicencePolicy, LicenceReport, PackageLicence, violations

HEADER = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
DOCUMENTATION = Path("/usr/share/doc")
GOLDEN = {
    # of Debian 12, as its copyright files state them
    "zlib1g": "Zlib",
    "libexpat1": "MIT",
    "grep": "GPL-3.0-or-later",
    "hostname": "GPL-2.0-only",
    "adduser": "GPL-2.0-or-later",
    "debconf": "BSD-2-Clause",
    "ca-certificates": "GPL-2.0-or-later AND MPL-2.0",
    "libssl3": "Apache-2.0 AND (Artistic-1.0 OR GPL-1.0-or-later)",
    "libzstd1": "MIT AND Zlib AND (BSD-3-Clause OR GPL-2.0-only)",
    "libcap2": "(BSD-3-Clause OR GPL-2.0-only) AND (BSD-3-Clause OR GPL-2.0-or-later)",
    "dash": "BSD-3-Clause AND GPL-2.0-or-later AND LicenseRef-public-domain",
    "coreutils": "BSD-4-Clause-UC AND FSFULLR AND GFDL-1.3-no-invariants-only AND GPL-3.0-or-later AND ISC",
    "tar": "GPL-2.0-or-later AND GPL-3.0-or-later AND GPL-3.0-or-later WITH Bison-exception-2.2 AND LGPL-3.0-or-later",
}


def expression(*synopses: str) -> str:
    text = HEADER + "\n".join(f"Files: {number}\nLicense: {synopsis}\n" for number, synopsis in enumerate(synopses))
    return licence_of(read_copyright(text.encode())).expression


@pytest.mark.parametrize(
    ("synopsis", "expected"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0", "GPL-2.0-only"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GPL", "GPL-1.0-or-later"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Expat", "MIT"),
        ("Apache-2.0", "Apache-2.0"),
        ("BSD-3-clause or GPL-2", "BSD-3-Clause OR GPL-2.0-only"),
        ("GPL-1+ or Artistic, and BSD-3-clause", "(GPL-1.0-or-later OR Artistic-1.0) AND BSD-3-Clause"),
        ("GPL-2+ with Bison exception", "GPL-2.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with unheard-of exception", "LicenseRef-GPL-2.0-or-later-with-unheard-of-exception"),
        ("public-domain", "LicenseRef-public-domain"),
        ("Our Own Words", "LicenseRef-Our-Own-Words"),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0"),
        ("mpl-2.0", "MPL-2.0"),
    ],
)
def test_short_names_become_spdx(synopsis: str, expected: str) -> None:
    licensing = spdx_licensing()
    assert licensing.is_equivalent(licensing.parse(expression(synopsis)), licensing.parse(expected)), expression(
        synopsis
    )


def test_all_licences_of_a_package_hold_together_and_once() -> None:
    assert expression("Expat", "GPL-2+", "Expat") == "GPL-2.0-or-later AND MIT"


def test_one_reference_means_one_text() -> None:
    def reference(text: str) -> str:
        body = f"{HEADER}Files: *\nLicense: own\n\nLicense: own\n {text}\n"
        return licence_of(read_copyright(body.encode())).expression

    assert reference("Do this.") == reference("Do   this.")
    assert reference("Do this.") != reference("Do that.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "GPL 2 or (at your option) any later version, see /usr/share/common-licenses/GPL-2.",
            "GPL-2.0-or-later",
        ),
        ("The full text is in /usr/share/common-licenses/LGPL-2.1.", "LGPL-2.1-only"),
        ("Permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
        ("All rights are with us.", ""),
        ("", ""),
    ],
)
def test_free_text_lets_conclude_and_never_states(text: str, expected: str) -> None:
    licence = licence_of(read_copyright(text.encode()))
    assert licence.expression == expected
    assert licence.source == ("text" if expected else "none")


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="abGPLMIT2.+- ()|,orandwith/", min_size=1, max_size=60))
@example("(|2")  # license-expression 30 ends in an assertion of boolean.py
def test_any_synopsis_is_an_expression_that_can_be_read_again(synopsis: str) -> None:
    result = expression(synopsis)
    if result:
        assert str(spdx_licensing().parse(result))


@given(st.binary(max_size=400))
def test_any_bytes_are_a_copyright_file(data: bytes) -> None:
    assert licence_of(read_copyright(data)).source in ("dep5", "text", "none")


@pytest.mark.parametrize("package", GOLDEN)
def test_the_licences_of_real_packages(package: str) -> None:
    path = DOCUMENTATION / package / "copyright"
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    if not path.exists() or 'VERSION_ID="12"' not in release:
        pytest.skip("the package of Debian 12 is not on this host")
    assert licence_of(read_copyright(path.read_bytes())).expression == GOLDEN[package]


def report(licence: str) -> LicenceReport:
    return LicenceReport((PackageLicence("x", "amd64", "1", licence, "dep5"),), ())


@pytest.mark.parametrize(
    ("licence", "allowed", "denied", "refused"),
    [
        ("MIT", (), (), False),
        ("MIT", ("MIT",), (), False),
        ("GPL-2.0-only", ("MIT",), (), True),
        ("GPL-2.0-only", ("GPL-*",), (), False),
        ("MIT OR GPL-2.0-only", ("MIT",), (), False),
        ("MIT AND GPL-2.0-only", ("MIT",), (), True),
        ("AGPL-3.0-only", (), ("AGPL-*",), True),
        ("MIT OR AGPL-3.0-only", (), ("AGPL-*",), False),
        ("MIT AND AGPL-3.0-only", (), ("AGPL-*",), True),
        ("GPL-2.0-only WITH Linux-syscall-note", ("GPL-2.0-only",), (), False),
        ("GPL-2.0-only WITH Linux-syscall-note", ("GPL-2.0-only WITH *",), (), False),
        ("NOASSERTION", (), ("AGPL-*",), False),
        ("NOASSERTION", ("MIT",), (), True),
        ("NOASSERTION", ("MIT", "NOASSERTION"), (), False),
    ],
)
def test_a_policy_decides(licence: str, allowed: tuple[str, ...], denied: tuple[str, ...], refused: bool) -> None:
    found = violations(report(licence), LicencePolicy(allowed, denied))
    assert bool(found) is refused
