"""The assertion `cis_benchmark`: every control of a benchmark, looked at by one script in the booted image."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from kiln.authoring.catalog.data import load_catalog
from kiln.authoring.catalog.entries import BenchmarkControl
from kiln.trial.assertions.kind import AssertionType, Outcome, not_seen, require, short
from kiln.trial.observe import Need, Seen

BENCHMARK: Final = "cis"
SECONDS: Final = 600.0
"""205 controls of a few processes each, of which an emulated machine starts some twenty a second."""
FOUND_CHARACTERS: Final = 200
PROFILES: Final = ("server", "workstation")
Status = Literal["pass", "fail", "not applicable"]

HELPERS: Final = r"""
PATH="$PATH:/usr/sbin:/sbin"; export LC_ALL=C
# What many controls look at is asked for once: an emulated machine starts some twenty programs a second.
modules=$(modprobe --showconfig | grep '^install '); sshd=$(sshd -T 2>/dev/null); audit=$(auditctl -l 2>/dev/null)
sysctl_is() {
    key=$1; shift; read -r got < "/proc/sys/$(IFS=.; set -- $key; IFS=/; echo "$*")"; echo "$key = $got"
    for v; do [ "$got" = "$v" ] && return; done; return 1
}
module_off() {
    echo "$modules" | grep -E "^install $1 (/usr)?/bin/(false|true)" || ! modinfo "$1" >/dev/null 2>&1
}
mode_within() {
    [ -e "$1" ] || { echo "$1 is not there"; return 1; }
    set -- "$1" "$2" "$3" "$4" $(stat -L -c '%a %U %G' "$1"); echo "$1 $5 $6 $7"
    [ $((0$5 & ~0$2 & 07777)) = 0 ] && [ "$6" = "$3" ] && { [ "$7" = "$4" ] || [ "$7" = root ]; }
}
mounted_with() { findmnt -kno OPTIONS "$1" | tee /dev/stderr | tr , '\n' | grep -qx "$2"; }
package_there() { dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$1" 2>/dev/null | grep '^installed'; }
package_absent() { for p; do package_there "$p" && return 1; done; return 0; }
unit_off() {
    for u; do
        s=$(systemctl is-enabled "$u" 2>/dev/null); a=$(systemctl is-active "$u" 2>/dev/null)
        echo "$u: ${s:-absent}, $a"
        case $s in enabled|alias) return 1;; esac; [ "$a" = active ] && return 1
    done; return 0
}
sshd_says() { echo "$sshd" | grep -ixE "$1 $2"; }
audit_has() { echo "$audit" | grep -E -- "(key=|-k )$1( |\$)"; }
listens_beyond_loopback() { ss -Hltn "sport = :$1" | grep -vE '127[.]|\[::1\]'; }
feature() { for f; do grep -qx "$f" /usr/lib/kiln/features && return; done; return 1; }
"""


@dataclass(frozen=True, slots=True)
class BenchmarkParams:
    """*level* 1 or 2, and *profile*; a workstation is asked for the same, and says where its screen is the reason."""

    level: int
    profile: str

    def __post_init__(self) -> None:
        if self.level not in (1, 2):
            raise ValueError(f"{self.level} is not a level (1 or 2)")
        require("|".join(PROFILES), self.profile, f"a profile ({' or '.join(PROFILES)})")

    @property
    def controls(self) -> tuple[BenchmarkControl, ...]:
        """The controls up to the level."""
        return tuple(control for control in _controls() if control.level <= self.level)

    @property
    def need(self) -> Need:
        """The script, to be run by itself."""
        return Need("script", script(self.controls), SECONDS)


@dataclass(frozen=True, slots=True)
class ControlResult:
    """What became of one control; *got* is what was found, or why it does not apply."""

    control: BenchmarkControl
    status: Status
    got: str


@functools.cache
def _controls() -> tuple[BenchmarkControl, ...]:
    return next(item.controls for item in load_catalog().benchmarks if item.id == BENCHMARK)


def script(controls: Sequence[BenchmarkControl]) -> str:
    """Return the shell script that prints `id TAB status TAB found` for each control that can be looked at."""
    lines = [HELPERS]
    for control in controls:
        if control.never:
            continue
        look = f"got=$( ( {control.check}\n) 2>&1 ) && s=pass || s=fail"
        if control.unless is not None:
            look = f"if ( {control.unless.test}\n) >/dev/null 2>&1; then s=skip; got=; else {look}; fi"
        # Splitting and joining makes one line of it without starting a program.
        lines += [look, f'set -f; set -- $got; set +f; printf \'%s\\t%s\\t%s\\n\' {shlex.quote(control.id)} "$s" "$*"']
    return "\n".join(lines) + "\n"


def results(controls: Sequence[BenchmarkControl], text: str) -> tuple[ControlResult, ...]:
    """Return what became of each control; one that the script did not come to is a failure."""
    seen = {line.split("\t")[0]: line.split("\t")[1:] for line in text.splitlines() if line.count("\t") == 2}
    return tuple(_result(control, seen.get(control.id, ["", "was not looked at"])) for control in controls)


def _result(control: BenchmarkControl, row: Sequence[str]) -> ControlResult:
    status, got = row
    if control.never:
        return ControlResult(control, "not applicable", control.never)
    if status == "skip" and control.unless is not None:
        return ControlResult(control, "not applicable", control.unless.why)
    return ControlResult(control, "pass" if status == "pass" else "fail", got.strip()[:FOUND_CHARACTERS])


def report(found: Sequence[ControlResult]) -> str:
    """Return one line for each control: status, level, id, title, and what was found."""
    rows = [
        f"{item.status:<14}  L{item.control.level}  {item.control.id:<26}  {item.control.title}"
        + (f"  [{item.got}]" if item.got else "")
        for item in found
    ]
    return "\n".join(rows) + "\n"


def _decide(params: BenchmarkParams, seen: Seen) -> Outcome:
    controls = params.controls
    expected = f"no control of CIS level {params.level} ({params.profile}) fails"
    answer = seen[params.need]
    if answer.status is None or not answer.text.strip():
        return not_seen(expected, answer)
    found = results(controls, answer.text)
    failed = [item.control.id for item in found if item.status == "fail"]
    count = {status: sum(item.status == status for item in found) for status in ("pass", "fail", "not applicable")}
    got = ", ".join(f"{number} {status}" for status, number in count.items())
    return Outcome(
        "fail" if failed else "pass",
        expected,
        short(f"{got}: {', '.join(failed)}" if failed else got),
        report(found),
        keep=True,
    )


TYPES: Final = (AssertionType("cis_benchmark", BenchmarkParams, lambda params: (params.need,), _decide),)
