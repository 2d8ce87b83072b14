"""Assertions about systemd, the kernel and the boot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kiln.trial.assertions.kind import (
    AssertionType,
    Outcome,
    never,
    not_seen,
    require,
    require_path,
    scalar_text,
    verdict,
)
from kiln.trial.observe import Need, Seen, sysctl_path
from kiln.trial.parsers import (
    Unit,
    parse_failed_units,
    parse_modules,
    parse_mounts,
    parse_processes,
    parse_profiles,
    parse_sysctls,
    parse_units,
)

UNIT_SUFFIXES: Final = (".service", ".socket", ".timer", ".target", ".mount", ".path", ".automount", ".swap", ".slice")
ENABLED_STATES: Final = frozenset({"enabled", "enabled-runtime", "generated", "alias"})
PULLED_IN_STATES: Final = frozenset({"static", "indirect"})
COMM_CHARACTERS: Final = 15  # TASK_COMM_LEN - 1, include/linux/sched.h

PROFILES: Final = Need("profiles")
FAILED_UNITS: Final = Need("failed-units")
BOOT_TIME: Final = Need("boot-time")
LOGIN_PROMPT: Final = Need("login-prompt")
_GETTYS: Final = tuple(Need("units", name) for name in ("getty@tty1.service", "serial-getty@ttyS0.service"))


@dataclass(frozen=True, slots=True)
class UnitParams:
    """*name*: a systemd unit; without a suffix, a service."""

    name: str

    def __post_init__(self) -> None:
        require(r"[A-Za-z0-9_@:.\\][A-Za-z0-9_@:.\\-]{0,254}", self.name, "the name of a systemd unit")

    @property
    def unit(self) -> str:
        """The full name."""
        return self.name if self.name.endswith(UNIT_SUFFIXES) else f"{self.name}.service"


@dataclass(frozen=True, slots=True)
class ProcessParams:
    """*name*: the program's own name, without directory."""

    name: str

    def __post_init__(self) -> None:
        require(r"[^\0-\x1f/\x7f]{1,255}", self.name, "the name of a program")


@dataclass(frozen=True, slots=True)
class ModuleParams:
    """*name*: a kernel module."""

    name: str

    def __post_init__(self) -> None:
        require(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", self.name, "the name of a kernel module")


@dataclass(frozen=True, slots=True)
class SysctlParams:
    """*key* in either spelling of sysctl(8), and its *value*; white space in it is one space."""

    key: str
    value: object

    def __post_init__(self) -> None:
        require(r"[A-Za-z0-9_][A-Za-z0-9_./:@-]*", self.key, "a kernel setting")
        if ".." in self.key or "//" in self.key:
            raise ValueError(f"{self.key!r} is not a kernel setting")
        scalar_text(self.value, "value")

    @property
    def wanted(self) -> str:
        """The value as the kernel prints it."""
        if isinstance(self.value, bool):
            return "1" if self.value else "0"
        return " ".join(scalar_text(self.value, "value").split())


@dataclass(frozen=True, slots=True)
class MountParams:
    """*path*: a mount point; *options* that it must have among others."""

    path: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        require_path(self.path)
        for option in self.options:
            require(r"[^\0- ,\x7f]+", option, "one mount option")


@dataclass(frozen=True, slots=True)
class SecondsParams:
    """*seconds*: an upper limit."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 < self.seconds < 86400:
            raise ValueError(f"{self.seconds} is not a number of seconds")


@dataclass(frozen=True, slots=True)
class NoParams:
    """Nothing to say."""


def _state(unit: Unit) -> str:
    text = f"{unit.active} ({unit.sub}), {unit.file_state or 'no unit file'}"
    return text if unit.result in ("", "success") else f"{text}, result {unit.result}"


def _unit_needs(params: UnitParams) -> tuple[Need, ...]:
    return (Need("units", params.unit),)


def _service_running(params: UnitParams, seen: Seen) -> Outcome:
    expected = f"{params.unit} is active"
    answer = seen[Need("units", params.unit)]
    unit = parse_units(answer.text).get(params.unit)
    if unit is None:
        return not_seen(expected, answer)
    if unit.load == "not-found":
        return never(expected, "there is no such unit")
    # A service whose only process has ended is "active (exited)": right for a oneshot, wrong for a daemon.
    dead = unit.sub == "exited" and unit.type not in ("oneshot", "forking")
    return verdict(unit.active == "active" and not dead, expected, _state(unit))


def _service_enabled(params: UnitParams, seen: Seen) -> Outcome:
    expected = f"{params.unit} starts at boot"
    answer = seen[Need("units", params.unit)]
    unit = parse_units(answer.text).get(params.unit)
    if unit is None:
        return not_seen(expected, answer)
    if unit.load == "not-found":
        return never(expected, "there is no such unit")
    pulled_in = unit.file_state in PULLED_IN_STATES and unit.active == "active"
    return verdict(unit.file_state in ENABLED_STATES or pulled_in, expected, _state(unit))


def _process_running(params: ProcessParams, seen: Seen) -> Outcome:
    expected = f"a process {params.name} runs"
    answer = seen[Need("processes")]
    processes = parse_processes(answer.text)
    if not processes:
        return not_seen(expected, answer)
    for process in processes:
        # The second argument is the program where the first is its interpreter.
        programs = {argument.rpartition("/")[2].rstrip(":") for argument in process.arguments[:2]}
        if process.name == params.name[:COMM_CHARACTERS] or params.name in programs:
            return verdict(True, expected, f"process {process.pid}")
    return verdict(False, expected, f"not among {len(processes)} processes")


def _no_failed(_: NoParams, seen: Seen) -> Outcome:
    expected = "no unit has failed"
    answer = seen[FAILED_UNITS]
    if answer.status != 0:
        return not_seen(expected, answer)
    failed = parse_failed_units(answer.text)
    return verdict(
        not failed, expected, f"failed: {', '.join(failed)}" if failed else "none", answer.text if failed else ""
    )


def _kernel_module(params: ModuleParams, seen: Seen) -> Outcome:
    expected = f"the kernel has the module {params.name}"
    answer = seen[Need("modules", params.name)]
    if answer.status != 0:
        return not_seen(expected, answer)
    loaded = params.name.replace("-", "_") in parse_modules(answer.text)
    return verdict(loaded, expected, "loaded or built in" if loaded else "neither loaded nor built in")


def _sysctl(params: SysctlParams, seen: Seen) -> Outcome:
    expected = f"{params.key} = {params.wanted}"
    answer = seen[Need("sysctls", params.key)]
    if answer.status is None:
        return not_seen(expected, answer)
    value = parse_sysctls(answer.text).get(sysctl_path(params.key))
    return verdict(value == params.wanted, expected, "the kernel has no such setting" if value is None else value)


def _mount(params: MountParams, seen: Seen) -> Outcome:
    options = f" with {','.join(params.options)}" if params.options else ""
    expected = f"{params.path} is a mount point{options}"
    answer = seen[Need("mounts")]
    if answer.status != 0:
        return not_seen(expected, answer)
    mount = parse_mounts(answer.text).get(params.path)
    if mount is None:
        return verdict(False, expected, "nothing is mounted there")
    missing = [option for option in params.options if option not in mount.options]
    got = f"{mount.type} with {','.join(sorted(mount.options))}"
    return verdict(not missing, expected, f"lacks {','.join(missing)}: {got}" if missing else got)


def _boot_time_under(params: SecondsParams, seen: Seen) -> Outcome:
    expected = f"kernel and services start in at most {params.seconds:g} s"
    answer = seen[BOOT_TIME]
    _, _, value = answer.text.strip().partition("FinishTimestampMonotonic=")
    if answer.status != 0 or not value.isdigit():
        return not_seen(expected, answer)
    seconds = int(value) / 1_000_000
    if seconds == 0:
        return verdict(False, expected, "the boot has not finished")
    if seconds > params.seconds and seen[Need("accelerator")].text == "tcg":
        # An emulated processor is ten and more times slower; its time says nothing about the image.
        return Outcome("skip", expected, f"{seconds:.1f} s, but on an emulated processor")
    return verdict(seconds <= params.seconds, expected, f"{seconds:.1f} s")


def _login_prompt(_: NoParams, seen: Seen) -> Outcome:
    expected = "a login prompt on a console"
    if seen[LOGIN_PROMPT].status == 0:
        return verdict(True, expected, "on the serial console")
    answer = seen[_GETTYS[0]]
    units = parse_units(answer.text)
    if not units:
        return not_seen(expected, answer)
    running = [need.argument for need in _GETTYS if need.argument in units and units[need.argument].active == "active"]
    return verdict(bool(running), expected, ", ".join(running) or "no getty runs")


@dataclass(frozen=True, slots=True)
class ProfileParams:
    """*profile*: of AppArmor, all of them if None; *mode*: `enforce` or `complain`."""

    mode: str
    profile: str | None = None

    def __post_init__(self) -> None:
        require(r"enforce|complain", self.mode, "a mode (enforce or complain)")
        if self.profile is not None:
            require(r"[!-~]{1,200}", self.profile, "the name of a profile")


def _apparmor_state(params: ProfileParams, seen: Seen) -> Outcome:
    which = f"the profile {params.profile}" if params.profile else "every profile"
    expected = f"{which} is in the mode {params.mode}"
    answer = seen[PROFILES]
    if answer.status != 0:
        return not_seen(expected, answer)
    modes = parse_profiles(answer.text)
    if params.profile is not None:
        got = modes.get(params.profile, "not loaded")
        return verdict(got == params.mode, expected, got)
    others = sorted(name for name, mode in modes.items() if mode != params.mode)
    return verdict(
        bool(modes) and not others, expected, f"not {', '.join(others)}" if others else f"{len(modes)} profiles"
    )


TYPES: Final = (
    AssertionType("apparmor_state", ProfileParams, lambda _: (PROFILES,), _apparmor_state),
    AssertionType("service_running", UnitParams, _unit_needs, _service_running, settles=True),
    AssertionType("service_enabled", UnitParams, _unit_needs, _service_enabled),
    AssertionType(
        "process_running",
        ProcessParams,
        lambda _: (Need("processes"),),
        _process_running,
        settles=True,
    ),
    AssertionType("systemd_no_failed", NoParams, lambda _: (FAILED_UNITS,), _no_failed, settles=True),
    AssertionType(
        "kernel_module",
        ModuleParams,
        lambda params: (Need("modules", params.name),),
        _kernel_module,
        settles=True,
    ),
    AssertionType(
        "sysctl",
        SysctlParams,
        lambda params: (Need("sysctls", params.key),),
        _sysctl,
    ),
    AssertionType("mount", MountParams, lambda _: (Need("mounts"),), _mount),
    AssertionType(
        "boot_time_under",
        SecondsParams,
        lambda _: (BOOT_TIME, Need("accelerator")),
        _boot_time_under,
        settles=True,
    ),
    AssertionType(
        "login_prompt",
        NoParams,
        lambda _: (LOGIN_PROMPT, *_GETTYS),
        _login_prompt,
        settles=True,
    ),
)
