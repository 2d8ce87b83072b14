"""The command line of the virtual machine, its ports, its accelerator, and the account that is told to it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from kiln.errors import KilnError
from kiln.trial import accelerator
from kiln.trial.accelerator import PROBE_CODE, choose_accelerator, probe_arguments, runs_probe
from kiln.trial.account import CREDENTIAL_PREFIX, TestAccount, create_account, tmpfiles_lines, write_credentials
from kiln.trial.machine import CredentialFiles, Forward, MachineSpec, disk_format_of, qemu_arguments
from kiln.trial.qemu import default_cpus, default_memory_mib, image_format, prepare_firmware
from kiln.trial.qmp import parse_forwards

SPEC = MachineSpec(
    disk=Path("/work/a,b/overlay.qcow2"),
    disk_format="qcow2",
    firmware="uefi",
    accelerator="tcg",
    memory_mib=2048,
    cpus=2,
    forwards=(Forward(22), Forward(80, 8080)),
    credentials=CredentialFiles(Path("/tmp/x,y/smbios"), Path("/tmp/x/fw-cfg")),
    firmware_code=Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
    firmware_variables=Path("/work/vars.fd"),
    serial_log=Path("/evidence/serial.log"),
)

GOLDEN = """\
qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
-machine q35,graphics=off,hpet=off,pflash0=firmware-code,pflash1=firmware-variables
-accel tcg,thread=multi,tb-size=1024 -cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+lahf-lm,-svm -smp 2 -m 2048
-blockdev {"node-name":"firmware-code","driver":"raw","read-only":true,\
"file":{"driver":"file","filename":"/usr/share/OVMF/OVMF_CODE_4M.fd"}}
-blockdev {"node-name":"firmware-variables","driver":"raw","read-only":false,\
"file":{"driver":"file","filename":"/work/vars.fd"},"discard":"unmap"}
-blockdev {"node-name":"disk","driver":"qcow2","read-only":false,\
"file":{"driver":"file","filename":"/work/a,b/overlay.qcow2","cache":{"direct":false,"no-flush":true}},\
"cache":{"direct":false,"no-flush":true},"discard":"unmap"}
-device virtio-blk-pci,drive=disk,bootindex=0,werror=report,rerror=report
-netdev user,id=network,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:0-:22,hostfwd=tcp:127.0.0.1:8080-:80
-device virtio-net-pci,netdev=network,romfile=
-object rng-random,id=random,filename=/dev/urandom -device virtio-rng-pci,rng=random
-smbios type=11,path=/tmp/x,,y/smbios
-fw_cfg name=opt/io.systemd.credentials/tmpfiles.extra,file=/tmp/x/fw-cfg
-chardev socket,id=monitor,fd=5 -mon chardev=monitor,mode=control
-chardev socket,id=serial,fd=7,logfile=/evidence/serial.log -serial chardev:serial"""


def test_the_command_line_is_the_golden_one() -> None:
    assert " ".join(qemu_arguments(SPEC, serial_fd=7, monitor_fd=5)) == GOLDEN.replace("\n", " ")


def test_an_interactive_machine_has_its_serial_port_on_the_terminal_and_keeps_its_writes() -> None:
    spec = MachineSpec(
        Path("/d.raw"),
        "raw",
        "bios",
        "kvm",
        512,
        1,
        isolated=False,
        keep_writes=True,
        follow_restart=True,
        display=True,
    )
    line = " ".join(qemu_arguments(spec, serial_fd=None, monitor_fd=3))
    assert "-cpu host" in line
    assert "stdio,id=serial,mux=on,signal=off" in line
    assert "restrict=off" in line
    assert "-device VGA" in line
    assert "no-flush" not in line
    assert "-no-reboot" not in line
    assert "smbios" not in line


def test_uefi_without_firmware_files_is_a_mistake_of_the_caller() -> None:
    spec = MachineSpec(Path("/d"), "raw", "uefi", "tcg", 512, 1)
    with pytest.raises(ValueError, match="UEFI"):
        qemu_arguments(spec, serial_fd=None, monitor_fd=3)


def test_the_format_comes_from_the_first_bytes_and_not_from_the_name(tmp_path: Path) -> None:
    assert disk_format_of(b"QFI\xfb\0\0\0\3") == "qcow2"
    assert disk_format_of(b"") == "raw"
    with pytest.raises(KilnError) as caught:
        image_format(tmp_path / "missing.qcow2")
    assert caught.value.reason == "no-image"


def test_the_private_copy_of_the_uefi_variables_is_not_the_hosts_file(tmp_path: Path) -> None:
    assert prepare_firmware("bios", tmp_path) == (None, None)
    try:
        code, variables = prepare_firmware("uefi", tmp_path)
    except KilnError as error:
        assert error.reason == "missing-tool"
        pytest.skip("no OVMF here")
    assert code is not None
    assert variables is not None
    assert variables.parent == tmp_path


def test_a_guest_never_gets_more_than_the_host_can_spare() -> None:
    assert 512 <= default_memory_mib() <= 2048
    assert 1 <= default_cpus() <= 2


def test_ports_are_those_that_the_kernel_gave() -> None:
    table = (
        "Hub -1 (network):\r\n"
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[HOST_FORWARD]  13       127.0.0.1 45123       10.0.2.15    22     0     0\r\n"
        "  TCP[HOST_FORWARD]  12       127.0.0.1  8080       10.0.2.15    80     0     0\r\n"
        "  TCP[ESTABLISHED]   15       127.0.0.1 45123       10.0.2.15    22     0     0\r\n"
    )
    assert parse_forwards(table) == {22: 45123, 80: 8080}


def test_the_probe_is_a_boot_sector() -> None:
    assert len(PROBE_CODE) <= 510
    line = probe_arguments(Path("/tmp/s"), "kvm", "host")
    assert line[line.index("-accel") + 1] == "kvm"


@pytest.mark.vm
def test_the_probe_passes_where_a_guest_runs() -> None:
    assert runs_probe("tcg", "max")


def test_the_answer_is_kept_for_one_boot_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def works() -> bool:
        asked.append(True)
        return True

    device, boot_id = tmp_path / "kvm", tmp_path / "boot_id"
    monkeypatch.setattr(accelerator, "KVM_DEVICE", device)
    monkeypatch.setattr(accelerator, "BOOT_ID", boot_id)
    boot_id.write_text("first\n")
    state = tmp_path / "state"
    assert choose_accelerator(state, probe=works) == "tcg"  # no device: nothing to try
    device.touch()
    assert choose_accelerator(state, probe=works) == "kvm"
    assert choose_accelerator(state, probe=works) == "kvm"
    assert len(asked) == 1
    boot_id.write_text("second\n")
    assert choose_accelerator(state, probe=lambda: False) == "tcg"
    (state / "accelerator.json").write_text("{damaged")
    assert choose_accelerator(state, probe=works) == "kvm"


def test_a_probe_that_does_not_end_means_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object) -> bool:
        raise KilnError(accelerator_domain(), "timeout", "hangs")

    def accelerator_domain() -> object:
        from kiln.errors import Domain

        return Domain.HOST

    monkeypatch.setattr(accelerator, "run", lambda *a, **k: hang())
    assert accelerator.kvm_carries_a_guest() is False


def account(superuser: bool) -> TestAccount:
    return TestAccount("kiln-test-1", "pw", "$6$salt$hash", "ssh-ed25519 AAAA kiln", Path("/k"), superuser)


def test_the_account_exists_only_by_lines_for_tmpfiles() -> None:
    assert tmpfiles_lines(account(superuser=False)) == (
        "d /run/kiln-test-1 0700 60990 60990 -\n"
        "d /run/kiln-test-1/.ssh 0700 60990 60990 -\n"
        "f /run/kiln-test-1/.ssh/authorized_keys 0600 60990 60990 - ssh-ed25519 AAAA kiln\n"
        "w+ /etc/passwd - - - - kiln-test-1:x:60990:60990::/run/kiln-test-1:/bin/sh\\n\n"
        "w+ /etc/shadow - - - - kiln-test-1:$6$salt$hash::0:99999:7:::\\n\n"
        "w+ /etc/group - - - - kiln-test-1:x:60990:\\n\n"
        "f /etc/sudoers.d/zz-kiln-test-1 0440 0 0 - kiln-test-1 ALL=(ALL) NOPASSWD: ALL\n"
    )


def test_an_image_without_sudo_gets_an_account_that_is_root() -> None:
    lines = tmpfiles_lines(account(superuser=True))
    assert "kiln-test-1:x:0:0::" in lines
    assert "sudoers" not in lines


def test_secrets_are_fresh_and_unreadable_for_others(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = create_account(tmp_path / "a", superuser=False), create_account(tmp_path / "b", superuser=False)
    assert first.password != second.password
    assert first.public_key != second.public_key
    assert first.password_hash.startswith("$6$")
    files = write_credentials(first, tmp_path / "a")
    for path in (files.smbios, files.fw_cfg, first.private_key_file):
        assert path.stat().st_mode & 0o077 == 0
    smbios = files.smbios.read_text()
    assert smbios.startswith(CREDENTIAL_PREFIX)
    assert base64.b64decode(smbios.removeprefix(CREDENTIAL_PREFIX)) == files.fw_cfg.read_bytes()
    assert first.password not in files.fw_cfg.read_text()
    assert json.dumps(first.name) != json.dumps(second.name)
