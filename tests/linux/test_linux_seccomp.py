"""The filter, asked from inside: each call that it is about, and calls that programs need."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kiln.linux import seccomp
from kiln.linux.bpf import BPF_AND_K, BPF_JEQ_K, BPF_JGE_K, BPF_LD_W_ABS, assemble, equal, give, load
from kiln.linux.syscalls import AARCH64, ARCHITECTURES, X32_BIT, X86_64

CHR, BLK = stat.S_IFCHR | 0o600, stat.S_IFBLK | 0o600


def verdict(program: bytes, architecture: int, number: int, arguments=()) -> int:
    """Run a filter as the kernel does, on the same bytes; returns the error, 0 where the call is allowed."""
    data = struct.pack("<iIQ6Q", number & 0x7FFFFFFF, architecture, 0, *[*arguments, *[0] * 6][:6])
    accumulator, position = 0, 0
    while True:
        code, true, false, value = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == BPF_LD_W_ABS:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif code == BPF_AND_K:
            accumulator &= value
        elif code in (BPF_JEQ_K, BPF_JGE_K):
            met = accumulator == value if code == BPF_JEQ_K else accumulator >= value
            position += true if met else false
        elif value == seccomp.SECCOMP_RET_ALLOW:
            return 0
        else:
            assert value & 0xFFFF0000 == seccomp.SECCOMP_RET_ERRNO
            return value & 0xFFFF


@pytest.mark.parametrize("target", [X86_64, AARCH64], ids=lambda target: target.name)
def test_every_call_of_the_policy_is_refused_on_both_architectures(target):
    program = seccomp.stage_filter(architecture=target.name)
    for name in (*seccomp.NOT_PERMITTED, *seccomp.TRACING):
        if name in target.numbers:
            assert verdict(program, target.audit, target.numbers[name]) == errno.EPERM, name
    for name in seccomp.MISSING:
        if name in target.numbers:
            assert verdict(program, target.audit, target.numbers[name]) == errno.ENOSYS, name
    tracing = seccomp.stage_filter(["CAP_SYS_PTRACE"], architecture=target.name)
    assert verdict(tracing, target.audit, target.numbers["ptrace"]) == 0
    assert verdict(tracing, target.audit, target.numbers["bpf"]) == errno.EPERM


@pytest.mark.parametrize("target", [X86_64, AARCH64], ids=lambda target: target.name)
def test_everything_that_is_not_named_is_allowed(target):
    program = seccomp.stage_filter(architecture=target.name)
    named = set(target.numbers.values())
    for number in range(600):
        if number not in named:
            assert verdict(program, target.audit, number) == 0


@pytest.mark.parametrize("target", [X86_64, AARCH64], ids=lambda target: target.name)
def test_arguments_decide_where_calls_have_uses(target):
    program = seccomp.stage_filter(architecture=target.name)

    def ask(name, *arguments):
        return verdict(program, target.audit, target.numbers[name], arguments)

    for family in range(50):
        assert ask("socket", family, 1, 0) == (0 if family in (1, 2, 10, 16) else errno.EAFNOSUPPORT)
    assert ask("personality", 0xFFFFFFFF) == ask("personality", 8) == 0
    assert ask("personality", 0x0040000) == ask("personality", 0x0400000) == errno.EPERM
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):  # the kernel looks at the lower half alone
        assert ask("ioctl", 0, 0x5412 | high) == ask("ioctl", 0, 0x541C | high) == errno.EPERM
        assert ask("socket", 40 | high) == errno.EAFNOSUPPORT
        assert ask("mknodat", 3, 0, BLK | high, os.makedev(8, 0)) == errno.EPERM
        assert ask("mknodat", 3, 0, BLK | 0xFFFF0000, os.makedev(8, 0)) == errno.EPERM
    assert ask("ioctl", 0, 0x5413) == 0
    for major, minor in ((1, 3), (5, 2), (10, 229)):
        assert ask("mknodat", 3, 0, CHR, os.makedev(major, minor)) == 0
    for major, minor in ((0, 0), (1, 1), (1, 4), (10, 237), (1, 3 + 256), (1 + 256, 3), (4, 64), (250, 0)):
        assert ask("mknodat", 3, 0, CHR, os.makedev(major, minor)) == errno.EPERM
    for mode in (0, 0o644, stat.S_IFREG | 0o644, stat.S_IFIFO | 0o644, stat.S_IFSOCK | 0o644):
        assert ask("mknodat", 3, 0, mode, os.makedev(8, 0)) == 0


def test_other_architectures_and_x32_are_refused_whole():
    program = seccomp.stage_filter(architecture="x86_64")
    for number in (0, 1, 59, 231):
        assert verdict(program, 0x40000003, number) == errno.ENOSYS  # i386
        assert verdict(program, X86_64.audit, number | X32_BIT) == errno.ENOSYS
        assert verdict(program, X86_64.audit, number | 0x80000000 | X32_BIT) == errno.ENOSYS
    assert verdict(seccomp.stage_filter(architecture="aarch64"), 0x40000028, 0) == errno.ENOSYS  # 32-bit ARM
    assert seccomp.stage_filter(architecture="riscv64") == b""


def test_the_numbers_are_those_of_the_kernel_headers():
    headers = {
        "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)"),
        "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
    }
    for name, (path, pattern) in headers.items():
        if not Path(path).exists():
            pytest.skip("no kernel headers on this machine (linux-libc-dev)")
        known = {match[1]: int(match[2]) for match in re.finditer(pattern, Path(path).read_text())}
        for call, number in ARCHITECTURES[name].numbers.items():
            assert known.get(call, number) == number, (name, call)


def test_a_program_that_leads_nowhere_is_refused():
    for program in ([], [load(0)], [equal(1, then=2), give(0), give(1)], [equal(1, otherwise=300), give(0)]):
        with pytest.raises(ValueError, match="instruction"):
            assemble(program)


ASK = """
import ctypes, errno, json, os, sys
from kiln.linux import seccomp
seccomp.install(seccomp.stage_filter(sys.argv[2:]))
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def ask(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments))
    return ctypes.get_errno() if result == -1 else 0
print(json.dumps({name: ask(*call) for name, call in json.loads(sys.argv[1]).items()}))
"""


def asked(calls, *capabilities):
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(calls), *capabilities],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return json.loads(done.stdout)


def test_the_kernel_takes_the_filter_and_refuses_what_it_names():
    numbers = ARCHITECTURES[os.uname().machine].numbers
    # Arguments with which a call that got through would fail in another way, and do nothing.
    bad = {name: [number, *[0xFFFFFFFFFFFFFFFF] * 6] for name, number in numbers.items()}
    for name in ("mknod", "mknodat", "socket", "personality", "ioctl"):
        del bad[name]
    bad["personality"] = [numbers["personality"], 0x0040000]
    bad["AF_VSOCK"] = [numbers["socket"], 40, 1, 0]
    bad["AF_ALG"] = [numbers["socket"], 38, 5, 0]
    bad["TIOCSTI"] = [numbers["ioctl"], 0, 0x5412, 0]
    bad["TIOCLINUX"] = [numbers["ioctl"], 0, 0x541C, 0]
    bad["disk"] = [numbers["mknodat"], 0, 0, BLK, os.makedev(8, 0)]
    bad["x32"] = [X32_BIT | 39]
    missing = {*seccomp.MISSING, "x32"}
    families = {"AF_VSOCK", "AF_ALG"}
    expected = {
        name: errno.ENOSYS if name in missing else errno.EAFNOSUPPORT if name in families else errno.EPERM
        for name in bad
    }
    assert asked(bad) == expected
    fine = {
        "getpid": [39 if os.uname().machine == "x86_64" else 172],
        "AF_UNIX": [numbers["socket"], 1, 1, 0],
        "AF_NETLINK": [numbers["socket"], 16, 3, 0],
        "personality": [numbers["personality"], 0xFFFFFFFF],
    }
    assert set(asked(fine).values()) == {0}
    assert asked({"ptrace": [numbers["ptrace"], 0xFFFF, 0, 0, 0]}, "CAP_SYS_PTRACE") != {"ptrace": errno.EPERM}


def test_ordinary_programs_work_under_the_filter(tmp_path):
    script = (
        "import sys, os, subprocess, tempfile, threading, multiprocessing, socket\n"
        "from kiln.linux import seccomp\n"
        "seccomp.install(seccomp.stage_filter())\n"
        "thread = threading.Thread(target=lambda: None); thread.start(); thread.join()\n"
        "subprocess.run(['/bin/sh', '-c', 'ls / | sort | tail -1 >/dev/null; mkfifo f; date >/dev/null'], check=True)\n"
        "a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n"
        "subprocess.run(['tar', '-cf', 't.tar', 'f'], check=True)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
