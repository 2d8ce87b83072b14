"""The vocabulary of assertions: which types there are and which parameters each takes.

The authoring rooms check against it what recipes and catalogue say; the trial room carries each type out. A check runs
as root inside the booted image, except `ssh_answers` and `ssh_refuses_passwords`, which knock from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ParamKind = Literal["text", "integer", "port", "texts"]


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of an assertion type."""

    name: str
    kind: ParamKind = "text"
    required: bool = True
    default: object = None
    """What holds where it is left out; None where nothing is looked at then."""


@dataclass(frozen=True, slots=True)
class AssertionType:
    """One type of assertion: what passing it means, in words, and its parameters."""

    name: str
    meaning: str
    params: tuple[Param, ...] = ()


_NAME: Final = Param("name")
_PORT: Final = Param("port", "port")
_SSH_PORT: Final = Param("port", "port", False, 22)
_PROTOCOL: Final = Param("protocol", required=False, default="tcp")

VOCABULARY: Final[dict[str, AssertionType]] = {
    entry.name: entry
    for entry in (
        AssertionType("user_exists", "the account exists", (_NAME,)),
        AssertionType("group_exists", "the group exists", (_NAME,)),
        AssertionType("service_running", "the systemd unit is active", (_NAME,)),
        AssertionType("service_enabled", "the systemd unit is enabled at boot", (_NAME,)),
        AssertionType("process_running", "a process of that name runs", (_NAME,)),
        AssertionType(
            "package_installed",
            "the package is installed; version is a prefix",
            (_NAME, Param("version", required=False)),
        ),
        AssertionType("package_not_installed", "the package is not installed", (_NAME,)),
        AssertionType("port_listening", "something listens on the port", (_PORT, _PROTOCOL)),
        AssertionType("port_closed", "nothing listens on the port", (_PORT, _PROTOCOL)),
        AssertionType(
            "http_responds",
            "a GET of the address answers with the status (200 to 399 if not given) and contains the text",
            (Param("url"), Param("status", "integer", False), Param("contains", required=False)),
        ),
        AssertionType(
            "file_exists",
            "the file exists, with the mode (octal text), owner and group if given",
            (
                Param("path"),
                Param("mode", required=False),
                Param("owner", required=False),
                Param("group", required=False),
            ),
        ),
        AssertionType("file_absent", "there is no such file", (Param("path"),)),
        AssertionType("file_contains", "the file contains the text", (Param("path"), Param("text"))),
        AssertionType(
            "command",
            "the shell command ends with the status (0 if not given) and the expression is found in its output",
            (Param("run"), Param("exit", "integer", False, 0), Param("stdout", required=False)),
        ),
        AssertionType("kernel_module", "the kernel module is loaded or built in", (_NAME,)),
        AssertionType("sysctl", "the kernel setting has the value", (Param("key"), Param("value"))),
        AssertionType(
            "mount",
            "a file system is mounted there, with all of the options",
            (Param("path"), Param("options", "texts", False, ())),
        ),
        AssertionType("systemd_no_failed", "systemd settled and no unit failed"),
        AssertionType("boot_time_under", "the boot took less than that", (Param("seconds", "integer"),)),
        AssertionType("login_prompt", "a console offers a login"),
        AssertionType(
            "sshd_setting",
            "`sshd -T` prints the setting with the value",
            (Param("key"), Param("value")),
        ),
        AssertionType("ssh_answers", "from outside: an SSH server answers on the port", (_SSH_PORT,)),
        AssertionType(
            "ssh_refuses_passwords",
            "from outside: the SSH server on the port offers no password authentication",
            (_SSH_PORT,),
        ),
        AssertionType(
            "container_runs",
            "a container made of the image's own files starts and its output comes back",
            (Param("engine"),),
        ),
        AssertionType("dns_resolves", "the name has an address", (_NAME,)),
        AssertionType(
            "apparmor_state",
            "AppArmor has the profile loaded, in the mode; without a profile, every profile is in the mode",
            (Param("profile", required=False), Param("mode", required=False, default="enforce")),
        ),
        AssertionType(
            "cis_benchmark",
            "no control of the benchmark up to the level fails, but those that do not apply",
            (Param("level", "integer", False, 1), Param("profile", required=False, default="server")),
        ),
        AssertionType(
            "sbom_has",
            "the image's list of components has the package; version is a prefix",
            (_NAME, Param("version", required=False)),
        ),
        AssertionType("image_size_under", "the disk image's file has fewer MiB", (Param("mib", "integer"),)),
    )
}


def defaults_of(name: str) -> dict[str, object]:
    """Return the parameters of an assertion type that may be left out, with what holds then."""
    return {
        param.name: param.default
        for param in VOCABULARY[name].params
        if not param.required and param.default is not None
    }


NOT_YET: Final[frozenset[str]] = frozenset(("cve_count_under",))
"""Types of the design that nothing carries out yet: refused as such, not as a misspelling."""
