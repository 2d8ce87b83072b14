"""Everything in an image has a chain that begins with who asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from explain_sample import INVENTORY, RECIPE, make_image

from kiln.control_plane.explaining import origins, without
from kiln.errors import KilnError


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_image(tmp_path_factory.mktemp("why") / "box")


@pytest.mark.parametrize(
    ("question", "kind", "chain"),
    [
        ("openssh-server", "package", ('request "SSH"', "feature ssh", "package openssh-server")),
        ("libwrap0", "package", ('request "SSH"', "feature ssh", "package openssh-server", "package libwrap0")),
        ("package:libc6", "package", ("essential", "package bash", "package libc6")),
        ("/usr/sbin/sshd", "file", ('request "SSH"', "feature ssh", "package openssh-server")),
        ("22/tcp", "port", ('request "SSH"', "feature ssh")),
        ("port:22", "port", ('request "SSH"', "feature ssh")),
        ("service:ssh", "service", ('request "SSH"', "feature ssh")),
        ("feature:ssh", "feature", ('request "SSH"', "feature ssh")),
        ("user:sshd", "user", ("made while the packages were set up",)),
    ],
)
def test_a_thing_has_its_chain(image: Path, question: str, kind: str, chain: tuple[str, ...]) -> None:
    (origin,) = origins(image, question)
    assert (origin.kind, origin.chain) == (kind, chain)


def test_a_file_of_the_resolution_names_what_wrote_it(image: Path) -> None:
    (origin,) = origins(image, "/etc/ssh/sshd_config.d/10-kiln.conf")
    assert origin.chain[-1] == "feature ssh"


def test_what_is_not_there_is_said(image: Path) -> None:
    for question in ("no-such-thing", "package:sshd", "/no/such/file", "9999/tcp"):
        with pytest.raises(KilnError) as caught:
            origins(image, question)
        assert (caught.value.reason, int(caught.value.exit_status)) == ("not-in-image", 3)


def test_what_would_go_is_what_nothing_else_needs(image: Path) -> None:
    found = without(image, "ssh")
    assert found.packages == ("libwrap0", "openssh-server")
    assert found.installed_bytes == 8000
    assert found.ports == ("22/tcp",)
    assert "/etc/ssh/sshd_config.d/10-kiln.conf" in found.files


def test_a_feature_that_something_else_requires_stays(tmp_path: Path) -> None:
    # the hardening level brings AppArmor in again
    image = make_image(tmp_path / "box", recipe={**RECIPE, "features": ["ssh", "apparmor"]})
    with pytest.raises(KilnError) as caught:
        without(image, "apparmor")
    assert caught.value.reason == "still-required"
    with pytest.raises(KilnError) as caught:
        without(image, "docker")
    assert caught.value.reason == "not-in-image"


def test_a_directory_that_is_no_image_is_refused(tmp_path: Path) -> None:
    assert INVENTORY.files
    with pytest.raises(KilnError) as caught:
        origins(tmp_path, "bash")
    assert (caught.value.reason, int(caught.value.exit_status)) == ("no-image", 3)
