"""Reading of recipes: spellings, places, suggestions, and what must not get in."""

import pytest

from kiln.authoring.recipe.load import Known, default_name, read_recipe
from kiln.authoring.recipe.model import FeatureChoice, Recipe
from kiln.errors import Domain, ExitStatus, KilnError

KNOWN = Known(frozenset(("ssh", "docker", "monitoring")), frozenset(("debian-12", "ubuntu-24.04")))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f alice@host"


def read(text: str) -> Recipe:
    return read_recipe(text.encode(), "recipe.yaml", KNOWN)


def refusal(text: str) -> KilnError:
    with pytest.raises(KilnError) as caught:
        read(text)
    assert caught.value.exit_status is ExitStatus.USAGE
    return caught.value


def test_the_short_spelling_of_the_issue_is_read():
    recipe = read('{"base": "ubuntu-24.04", "features": ["ssh", "docker", "monitoring"], "security_level": "strict"}')
    assert recipe.base_image == "ubuntu-24.04"
    assert [choice.id for choice in recipe.features] == ["ssh", "docker", "monitoring"]
    assert recipe.security.hardening_level == "strict"
    assert recipe.name == "server-ssh-docker-monitoring"


def test_long_and_short_camel_and_snake_case_mean_the_same():
    long = """
      name: server-ssh
      baseImage: debian-12
      features: [{id: ssh, options: {port: 2222}}]
      security: {hardeningLevel: strict, auditLogging: true, automaticUpdates: true}
      startupScripts: [{name: hello, script: echo hello}]
      networking: {hostname: web1, firewallPorts: [80/tcp], dns: [192.0.2.1]}
    """
    short = """
      base: debian-12
      features: [{ssh: {port: 2222}}]
      security_level: strict
      audit_logging: true
      automaticUpdates: true
      startup_scripts: [{name: hello, script: echo hello}]
      networking: {host_name: web1, firewall_ports: [80], dns: ["192.0.2.1"]}
    """
    assert read(long) == read(short)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("base: debian-12\nbaseImage: debian-12\n", 2, 1),
        ("base: debian-12\nbase: debian-12\n", 2, 1),
        ("base: debian-12\nsecurity_level: strict\nsecurity: {hardeningLevel: strict}\n", 3, 28),
        ("base: debian-12\nfeatures: [{ssh: {port: 22, port: 23}}]\n", 2, 29),
    ],
)
def test_the_same_thing_said_twice_is_an_error_at_the_second_place(text: str, line: int, column: int):
    error = refusal(text)
    assert error.reason == "duplicate-key"
    assert error.place is not None
    assert (error.place.line, error.place.column) == (line, column)


def test_an_unknown_key_has_its_place_and_a_suggestion():
    error = refusal("base: debian-12\nfetures:\n  - ssh\n")
    assert (error.domain, error.reason) == (Domain.RECIPE, "unknown-key")
    assert str(error.place) == "recipe.yaml:2:1 (fetures)"
    assert error.hint == "did you mean `features`?"


def test_an_unknown_feature_and_base_are_refused_where_they_are_written():
    error = refusal('{"base": "debian12",\n "features": ["dokcer"]}')
    assert (error.domain, error.reason, error.hint) == (Domain.CATALOG, "unknown-base", "did you mean `debian-12`?")
    assert "recipe.yaml:2:15 (features[0]): unknown feature 'dokcer' (did you mean `docker`?)" in error.detail


def test_all_problems_of_a_file_are_reported_together_in_order():
    error = refusal("base: 12\nlocale: [de]\ndisk: {size: 10X}\nusers: [root]\n")
    assert error.reason == "wrong-type"
    assert [line.split(" ")[0] for line in error.detail.splitlines()] == [
        "recipe.yaml:2:9",
        "recipe.yaml:3:14",
        "recipe.yaml:4:9",
    ]


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        ("users: [{username: 'a\\nroot:x:0:0'}]", "bad-value"),
        ('users: [{username: "a\\nb"}]', "bad-value"),
        ('users: [{username: a, comment: "x\\nroot::0:0::/:/bin/sh"}]', "bad-value"),
        ("users: [{username: a, comment: 'x:0:0'}]", "bad-value"),
        ("users: [{username: a, home: /home/../etc}]", "bad-value"),
        ("users: [{username: a, home: /etc}]", "bad-value"),
        ("users: [{username: a, shell: '/bin/sh -c x'}]", "bad-value"),
        ("users: [{username: ../../etc}]", "bad-value"),
        ("users: [{username: root}]", "bad-value"),
        ("users: [{username: a, ssh_keys: ['command=\"x\" ssh-ed25519 AAAA']}]", "bad-value"),
        ("users: [{username: a, ssh_keys: ['ssh-rsa " + KEY.split()[1] + "']}]", "bad-value"),
        ("packages: ['vim; rm -rf /']", "bad-value"),
        ("packages: ['--allow-unauthenticated']", "bad-value"),
        ("packages: ['vim=1.0']", "bad-value"),
        ("packages: [vim, vim]", "duplicate-value"),
        ("features: ['../ssh']", "bad-value"),
        ("features: [ssh, {ssh: {port: 1}}]", "duplicate-value"),
        ("features: [{ssh: {port: 1.5}}]", "wrong-type"),
        ("features: [{ssh: {port: {a: 1}}}]", "wrong-type"),
        ("name: ../evil", "bad-value"),
        ("networking: {hostname: 'a b'}", "bad-value"),
        ('networking: {hostname: "a\\nb"}', "bad-value"),
        ("networking: {firewall_ports: [0]}", "bad-value"),
        ("networking: {firewall_ports: [65536/tcp]}", "bad-value"),
        ("networking: {interfaces: [{name: '../eth0'}]}", "bad-value"),
        ("networking: {interfaces: [{name: eth0, address: 192.0.2.1}]}", "bad-value"),
        ("networking: {interfaces: [{name: eth0, dhcp: false}]}", "missing-key"),
        ("networking: {dns: [example.org]}", "bad-value"),
        ("kernel: {cmdline: 'quiet\" init=/bin/sh'}", "bad-value"),
        ("timezone: ../../etc/passwd", "bad-value"),
        ("locale: 'en_GB.UTF-8; reboot'", "bad-value"),
        ("startup_scripts: [{name: ../x, script: a}]", "bad-value"),
        ("services: ['../ssh']", "bad-value"),
        ("services: [{name: ssh, config: {'a b': 1}}]", "bad-value"),
        ("package_overrides: [{name: vim, action: replace}]", "missing-key"),
        ("disk: {size: 10M}", "bad-value"),
        ("disk: {layout: lvm}", "not-supported-yet"),
        ("outputs: [qcow3]", "bad-value"),
        ("outputs: [oci, oci]", "duplicate-value"),
        ("boot: lilo", "bad-value"),
        ("automatic_updates: yes", "wrong-type"),
        ("tests: [{description: a, assertions: []}]", "bad-value"),
        ("tests: [{description: a, assertions: [{service_runing: {name: ssh}}]}]", "unknown-assertion"),
        ("tests: [{description: a, assertions: [{cve_count_under: {count: 1}}]}]", "not-supported-yet"),
        ("tests: [{description: a, assertions: [{port_listening: {port: '22'}}]}]", "bad-value"),
        ("users: [{username: a, password: hunter2}]", "plaintext-secret"),
        ("users: [{username: a, password_hash: hunter2}]", "plaintext-secret"),
        ("features: [{ssh: {api_key: hunter2}}]", "plaintext-secret"),
        ("root_password: hunter2", "plaintext-secret"),
        ("users: [{username: a, ssh_keys: ['-----BEGIN OPENSSH PRIVATE KEY-----']}]", "plaintext-secret"),
    ],
)
def test_nothing_unsafe_reaches_a_shell_a_path_or_a_file(fragment: str, reason: str):
    error = refusal(f"base: debian-12\n{fragment}\n")
    assert error.reason == reason
    assert error.place is not None
    assert error.place.line == 2


def test_a_secret_is_never_shown_in_the_error():
    error = refusal("base: debian-12\nusers: [{username: a, password_hash: hunter2, password: hunter2}]\n")
    assert "hunter2" not in str(error.to_document())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"- a",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"a: [" * 60,
        b"a: &x 1\nb: *x",
        b"a: !!python/name:os.system x",
        b'{"a": "\\ud800"}',
        b'{"a": 1} x',
        b'{"a": 01}',
        b"{'a': 1}",
        b"\x00",
        b'{"a": ' + b"9" * 5000 + b"}",
        b"a: b\n---\nc: d",
        b'{"base":\t"debian-12",}',
        b"base: [",
        b"? [a]\n: b",
        b"1: 2",
    ],
)
def test_hostile_files_are_refused_and_nothing_else(data: bytes):
    with pytest.raises(KilnError):
        read_recipe(data, "recipe")


def test_json_with_tabs_and_escapes_is_read():
    recipe = read_recipe(
        b'{\n\t"base":\t"debian-12", "tests": [{"description": "a \\u00e9\\/", "assertions": ["login_prompt"]}]}', "r"
    )
    assert recipe.tests[0].description == "a é/"


def test_yaml_is_read_by_the_core_schema_of_1_2():
    recipe = read("base: debian-12\nfeatures: [{ssh: {root_login: no, port: 2222}}]\n")
    assert dict(recipe.features[0].options) == {"root_login": "no", "port": 2222}


@pytest.mark.parametrize(
    ("size", "size_bytes"),
    [
        ("10G", 10 * 1024**3),
        ("10 GiB", 10 * 1024**3),
        ("1.5G", 1536 * 1024**2),
        ("20GB", 20_000_538_624),
        (str(1024**3), 1024**3),
    ],
)
def test_sizes_are_read_in_the_units_that_people_use(size: str, size_bytes: int):
    assert read(f"base: debian-12\ndisk: {{size: {size}}}\n").disk.size_bytes == size_bytes
    assert size_bytes % 1024**2 == 0


def test_a_user_is_read_with_everything():
    (user,) = read(
        f"base: debian-12\nusers: [{{name: alice, ssh_keys: ['{KEY}'], groups: [sudo], comment: Alice A.}}]\n"
    ).users
    assert (user.username, user.ssh_keys, user.groups, user.shell) == ("alice", (KEY,), ("sudo",), "/bin/bash")


@pytest.mark.parametrize(
    ("features", "name"),
    [
        ((), "server"),
        (("ssh", "docker"), "server-ssh-docker"),
        (("kiosk", "ssh"), "kiosk-ssh"),
        (("desktop-xfce",), "desktop-xfce"),
    ],
)
def test_the_default_name_says_what_it_is(features: tuple[str, ...], name: str):
    assert default_name(tuple(FeatureChoice(feature) for feature in features)) == name


def test_the_default_name_fits_a_host_name():
    name = default_name(tuple(FeatureChoice(f"feature-number-{number}") for number in range(30)))
    assert len(name) <= 63
    assert name == "server-feature-number-0-feature-number-1-and-28-more"
