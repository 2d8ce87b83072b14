"""Resolution: what is added and why, what is refused, and that nothing depends on chance."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.authoring.catalog.data import catalog_folder, known, load_catalog
from kiln.authoring.catalog.document import read_resolution, resolution_bytes, resolution_digest
from kiln.authoring.catalog.entries import Catalog, Content, Feature, FileEntry, PortEntry
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.authoring.recipe.checks import params_problems
from kiln.authoring.recipe.load import read_recipe
from kiln.authoring.recipe.model import FeatureChoice, Recipe
from kiln.errors import Domain, ExitStatus, KilnError

CATALOG = load_catalog(catalog_folder({}))
CAUSES = {"ssh": 'request "SSH"', "docker": 'request "Docker"', "hardening": 'request "hardened"'}


def of(text: str, catalog: Catalog = CATALOG) -> Resolution:
    return resolve(read_recipe(text.encode(), "recipe"), catalog, CAUSES)


def refusal(text: str, catalog: Catalog = CATALOG) -> KilnError:
    with pytest.raises(KilnError) as caught:
        of(text, catalog)
    assert caught.value.domain is Domain.CATALOG
    assert caught.value.exit_status is ExitStatus.USAGE
    return caught.value


def small(*features: Feature) -> Catalog:
    # The hardening level none asks for no feature, so that a catalogue of a few made-up ones is whole.
    return replace(CATALOG, features=tuple(sorted(features, key=lambda feature: feature.id)))


def made_up(feature_id: str, **fields: object) -> Feature:
    return Feature(id=feature_id, version="1", title="T", description="D.", category="c", **fields)  # type: ignore[arg-type]


def assertions(resolution: Resolution) -> set[tuple[str, tuple[tuple[str, object], ...]]]:
    return {(wish.assertion.type, wish.assertion.params) for wish in resolution.assertions}


MAIN = '{"base": "debian-12", "features": ["ssh", "docker", "monitoring"], "security_level": "strict"}'


def test_the_main_sentence_resolves_with_a_reason_for_everything():
    resolution = of(MAIN)
    assert [feature.id for feature in resolution.features] == [
        "ssh",
        "apparmor",
        "audit",
        "firewall",
        "file-integrity",
        "docker",
        "monitoring",
    ]
    things = (
        *resolution.features,
        *resolution.packages,
        *resolution.files,
        *resolution.services,
        *resolution.sysctls,
        *resolution.ports,
        *resolution.assertions,
        *resolution.removals,
    )
    assert all(thing.reason.chain for thing in things)
    docker = next(wish for wish in resolution.packages if wish.name == "docker.io")
    assert str(docker.reason) == 'request "Docker" > feature docker'
    apparmor = next(wish for wish in resolution.packages if wish.name == "apparmor")
    assert str(apparmor.reason) == 'request "hardened" > hardening standard > feature apparmor'
    assert apparmor.reason.also == ('request "Docker" > feature docker',)


def test_lists_are_sorted_and_names_unique():
    resolution = of(MAIN)
    for names in (
        [wish.name for wish in resolution.packages],
        [wish.path for wish in resolution.files],
        [wish.unit for wish in resolution.services],
        [wish.key for wish in resolution.sysctls],
        [wish.path for wish in resolution.removals],
    ):
        assert names == sorted(set(names))


def test_routing_stays_on_for_docker_and_the_reason_says_so():
    def forwarding(text: str) -> tuple[str, tuple[str, ...]]:
        wish = next(wish for wish in of(text).sysctls if wish.key == "net.ipv4.ip_forward")
        return wish.value, wish.reason.also

    value, also = forwarding(MAIN)
    assert value == "1"
    assert also == ('instead of 0: request "hardened" > hardening standard > control routing',)
    assert forwarding('{"base": "debian-12", "features": ["ssh"], "security_level": "strict"}') == ("0", ())


def test_passwords_over_ssh_are_off_from_standard_on():
    def setting(level: str) -> bool:
        found = assertions(of(f'{{"base": "debian-12", "features": ["ssh"], "security_level": "{level}"}}'))
        return ("sshd_setting", (("key", "passwordauthentication"), ("value", "no"))) in found

    assert [setting(level) for level in ("none", "minimal", "standard", "strict")] == [False, False, True, True]


def test_ssh_has_the_documented_defaults():
    found = assertions(of('{"base": "debian-12", "features": ["ssh"]}'))
    for key, value in (
        ("port", "22"),
        ("permitrootlogin", "no"),
        ("permitemptypasswords", "no"),
        ("maxauthtries", "6"),
        ("logingracetime", "120"),
        ("clientaliveinterval", "60"),
    ):
        assert ("sshd_setting", (("key", key), ("value", value))) in found


def test_host_keys_are_no_part_of_an_image():
    resolution = of(MAIN)
    assert "/etc/ssh/ssh_host_ed25519_key" in {wish.path for wish in resolution.removals}
    assert "kiln-ssh-host-keys.service" in {wish.unit for wish in resolution.services if wish.state == "enabled"}


def test_the_firewall_opens_the_ports_of_the_features_and_of_the_recipe_and_no_others():
    def rules(text: str) -> str:
        return next(wish.content for wish in of(text).files if wish.path == "/etc/nftables.conf")

    assert "tcp dport { 22, 9100 } accept" in rules(MAIN)
    text = '{"base": "debian-12", "features": ["firewall", "redis"], "networking": {"firewallPorts": [8080, "53/udp"]}}'
    assert "tcp dport { 8080 } accept" in rules(text)
    assert "udp dport { 53 } accept" in rules(text)
    assert "6379" not in rules(text)
    assert "dport { " not in rules('{"base": "debian-12", "features": ["firewall"]}')


def test_the_firewall_leaves_the_tables_of_container_engines_alone():
    resolution = of(MAIN)
    rules = next(wish.content for wish in resolution.files if wish.path == "/etc/nftables.conf")
    assert "flush ruleset" not in rules
    assert "hook forward" not in rules
    stop = next(wish.content for wish in resolution.files if "nftables.service.d" in wish.path)
    assert "ExecStop=\nExecStop=/usr/sbin/nft delete table inet kiln_filter" in stop


def test_an_option_changes_port_file_and_assertion_together():
    resolution = of('{"base": "debian-12", "features": [{"ssh": {"port": 2222}}, "fail2ban"]}')
    assert [wish.port for wish in resolution.ports] == [2222]
    assert "Port 2222\n" in next(
        wish.content for wish in resolution.files if wish.path == "/etc/ssh/sshd_config.d/10-kiln.conf"
    )
    assert ("ssh_answers", (("port", 2222),)) in assertions(resolution)
    jail = next(wish.content for wish in resolution.files if wish.path == "/etc/fail2ban/jail.d/kiln.local")
    assert "port = 2222" in jail


def test_another_time_server_takes_the_place_of_the_default_one():
    packages = {wish.name for wish in of('{"base": "debian-12", "features": ["ntp"]}').packages}
    assert "chrony" in packages
    assert "systemd-timesyncd" not in packages


def test_flags_of_the_recipe_bring_their_features():
    resolution = of('{"base": "debian-12", "audit_logging": true, "automatic_updates": true}')
    reasons = {feature.id: str(feature.reason) for feature in resolution.features}
    assert reasons["audit"] == "recipe > security.auditLogging > feature audit"
    assert reasons["automatic-updates"] == "recipe > security.automaticUpdates > feature automatic-updates"


def test_the_kernel_is_the_one_that_a_feature_needs():
    assert of('{"base": "debian-12"}').kernel_package == "linux-image-cloud-amd64"
    assert of('{"base": "debian-12", "features": ["kiosk"]}').kernel_package == "linux-image-amd64"
    error = refusal('{"base": "debian-12", "features": ["kiosk"], "kernel": {"flavour": "cloud"}}')
    assert error.reason == "kernel-clash"
    assert refusal('{"base": "debian-12", "kernel": {"flavour": "rt"}}').reason == "unknown-kernel"


def test_package_overrides_have_the_last_word():
    resolution = of(
        '{"base": "debian-12", "features": ["ssh"], "packages": ["htop"], "packageOverrides": ['
        '{"name": "nano", "action": "replace", "replacement": "vim-tiny"}, {"name": "htop", "action": "remove"},'
        '{"name": "curl", "action": "add"}]}'
    )
    packages = {wish.name for wish in resolution.packages}
    assert packages >= {"vim-tiny", "curl"}
    assert not packages & {"nano", "htop"}
    assert resolution.excluded_packages == ("htop", "nano")


def test_users_networking_startup_scripts_and_locale_are_carried_out():
    resolution = of(
        '{"base": "debian-12", "users": [{"username": "alice", "groups": ["sudo"]}], "locale": "de_DE.UTF-8",'
        '"networking": {"hostname": "web1", "dns": ["192.0.2.53"], "interfaces": ['
        '{"name": "eth0", "address": "192.0.2.10/24", "gateway": "192.0.2.1"}, {"name": "en*"}]},'
        '"startupScripts": [{"name": "hello", "script": "echo hello"}, '
        '{"name": "py", "script": "#!/usr/bin/python3\\n1"}]}'
    )
    files = {wish.path: wish for wish in resolution.files}
    assert resolution.users[0].home == "/home/alice"
    assert resolution.hostname == "web1"
    assert "Address=192.0.2.10/24\nGateway=192.0.2.1\n" in files["/etc/systemd/network/10-eth0.network"].content
    assert "DHCP=yes" in files["/etc/systemd/network/10-en_any.network"].content
    assert "/etc/systemd/network/80-dhcp.network" not in files
    assert "DNS=192.0.2.53\n" in files["/etc/systemd/resolved.conf.d/20-kiln-dns.conf"].content
    first = files["/usr/local/lib/kiln/startup/01-hello"]
    assert (first.mode, first.content) == (0o755, "#!/bin/sh\nset -eu\necho hello\n")
    assert files["/usr/local/lib/kiln/startup/02-py"].content == "#!/usr/bin/python3\n1\n"
    assert "kiln-startup-scripts.service" in {wish.unit for wish in resolution.services}
    assert "locales-all" in {wish.name for wish in resolution.packages}


def test_a_service_gives_its_settings_to_the_feature_that_owns_it():
    text = '{"base": "debian-12", "features": ["ssh"], "services": [{"name": "ssh", "config": {"port": 2222}}, "cron"]}'
    resolution = of(text)
    assert [wish.port for wish in resolution.ports] == [2222]
    assert "cron.service" in {wish.unit for wish in resolution.services}
    clash = text.replace('["ssh"]', '[{"ssh": {"port": 23}}]')
    assert refusal(clash).reason == "option-clash"
    assert refusal('{"base": "debian-12", "services": [{"name": "x", "config": {"a": 1}}]}').reason == "unknown-service"


GOLDEN = [
    (
        '{"base": "debian-12", "features": ["dokcer"]}',
        "unknown-feature",
        "unknown feature 'dokcer' (asked for by recipe)",
        "",
        "did you mean `docker`?",
    ),
    (
        '{"base": "debian-12", "features": ["docker", "podman"]}',
        "feature-conflict",
        "the features `docker` and `podman` exclude each other (both are `docker-cli`)",
        'request "Docker" > feature docker\nrecipe > feature podman',
        "leave out `docker` or `podman`",
    ),
    (
        '{"base": "debian-12", "features": ["nginx", "apache"]}',
        "port-clash",
        "two features listen on port 80/tcp",
        "recipe > feature apache\nrecipe > feature nginx",
        "give one of them another port in its options",
    ),
    (
        '{"base": "debian-12", "features": ["kiosk", "desktop-xfce"]}',
        "feature-conflict",
        "the features `desktop-xfce` and `kiosk` exclude each other (both are `graphical-session`)",
        "recipe > feature desktop-xfce\nrecipe > feature kiosk",
        "leave out `desktop-xfce` or `kiosk`",
    ),
]


@pytest.mark.parametrize(("text", "reason", "message", "detail", "hint"), GOLDEN)
def test_golden_messages(text: str, reason: str, message: str, detail: str, hint: str):
    error = refusal(text)
    assert (error.reason, error.message, error.detail, error.hint) == (reason, message, detail, hint)


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        ('"base": "debian-99"', "unknown-base"),
        ('"base": "debian-12", "features": [{"ssh": {"prot": 22}}]', "unknown-option"),
        ('"base": "debian-12", "features": [{"ssh": {"port": "22"}}]', "bad-option"),
        ('"base": "debian-12", "features": [{"ssh": {"port": 0}}]', "bad-option"),
        ('"base": "debian-12", "features": [{"ssh": {"root_login": "yes"}}]', "bad-option"),
        ('"base": "debian-12", "features": [{"kiosk": {"url": "https://x/\\nExecStart=/bin/sh"}}]', "bad-option"),
        ('"base": "debian-12", "features": [{"backup": {"paths": ["/etc", "-rf"]}}]', "bad-option"),
        ('"base": "ubuntu-24.04", "features": ["php"]', "unsupported-base"),
        (
            '"base": "debian-12", "customPackages": [{"name": "ab", "gitUrl": "https://x.org/a"}]',
            "not-supported-yet",
        ),
        ('"base": "fedora", "features": ["ssh"]', "not-supported-yet"),
        ('"base": "debian-12", "desktop": {"theme": "Adwaita"}', "not-supported-yet"),
        (
            '"base": "debian-12", "features": ["desktop-xfce"], "desktop": {"wallpaper": "/usr/share/a.png"}',
            "not-supported-yet",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_never_dropped(fragment: str, reason: str):
    assert refusal(f"{{{fragment}}}").reason == reason


def test_the_theme_of_a_desktop_reaches_its_feature():
    resolution = of('{"base": "debian-12", "features": ["desktop-xfce"], "desktop": {"theme": "Adwaita-dark"}}')
    assert ("theme", "Adwaita-dark") in resolution.features[-1].options


def test_a_circle_of_requirements_is_an_error_with_its_path():
    circle = small(
        made_up("a", requires=("b",)), made_up("b", requires=("c",)), made_up("c", requires=("a",)), made_up("d")
    )
    error = refusal('{"base": "debian-12", "features": ["a"], "security_level": "none"}', circle)
    assert error.reason == "feature-cycle"
    assert error.message == "features require each other in a circle: a > b > c > a"


def test_a_requirement_is_met_by_what_is_there_already():
    catalog = small(
        made_up("app", requires=("db",)),
        made_up("db-one", provides=("db",), order=1),
        made_up("db-two", provides=("db",)),
    )

    def chosen(features: str) -> Iterable[str]:
        text = f'{{"base": "debian-12", "features": {features}, "security_level": "none"}}'
        return [feature.id for feature in of(text, catalog).features]

    assert chosen('["app"]') == ["db-one", "app"]
    assert chosen('["app", "db-two"]') == ["db-two", "app"]


def test_two_features_that_write_one_file_clash_unless_they_agree():
    def catalog(content: str) -> Catalog:
        return small(
            made_up("a", files=(FileEntry(path="/etc/x", content="one\n"),)),
            made_up("b", files=(FileEntry(path="/etc/x", content=content),)),
        )

    text = '{"base": "debian-12", "features": ["a", "b"], "security_level": "none"}'
    error = refusal(text, catalog("two\n"))
    assert error.reason == "file-clash"
    assert "recipe > feature a" in error.detail
    assert "recipe > feature b" in error.detail
    (wish,) = [wish for wish in of(text, catalog("one\n")).files if wish.path == "/etc/x"]
    assert wish.reason.also == ("recipe > feature b",)


def test_two_features_with_different_kernel_settings_clash():
    catalog = small(made_up("a", sysctls=(("vm.x", "1"),)), made_up("b", sysctls=(("vm.x", "2"),)))
    text = '{"base": "debian-12", "features": ["a", "b"], "security_level": "none"}'
    assert refusal(text, catalog).reason == "sysctl-clash"


def test_a_package_asked_for_and_excluded_is_a_clash():
    catalog = small(made_up("a", packages=(("common", ("pack",)),)), made_up("b", removes_packages=("pack",)))
    text = '{"base": "debian-12", "features": ["a", "b"], "security_level": "none"}'
    assert refusal(text, catalog).reason == "package-clash"


def test_two_protocols_may_share_a_port_number():
    catalog = small(
        made_up("a", ports=(PortEntry(port="53"),)), made_up("b", ports=(PortEntry(port="53", protocol="udp"),))
    )
    text = '{"base": "debian-12", "features": ["a", "b"], "security_level": "none"}'
    assert len(of(text, catalog).ports) == 2


def test_the_stored_resolution_is_read_back_equal():
    resolution = of(MAIN)
    data = resolution_bytes(resolution)
    assert read_resolution(data, "resolution.json") == resolution
    assert resolution_digest(of(MAIN)) == resolution_digest(resolution)
    with pytest.raises(KilnError) as caught:
        read_resolution(data.replace(b"kiln.resolution/v1", b"kiln.resolution/v9"), "resolution.json")
    assert caught.value.reason == "bad-resolution"


def test_every_assertion_of_every_feature_is_in_the_vocabulary():
    for feature in CATALOG.features:
        for base in ("debian-12", "debian-13", "ubuntu-24.04"):
            try:
                resolution = of(f'{{"base": "{base}", "features": ["{feature.id}"], "security_level": "strict"}}')
            except KilnError as error:
                assert error.reason == "unsupported-base"
                continue
            for wish in resolution.assertions:
                entry = VOCABULARY[wish.assertion.type]
                assert params_problems(entry, wish.assertion.params) == []


IDS = sorted(feature.id for feature in CATALOG.features)
REFUSALS = {"not-supported-yet", "feature-conflict", "port-clash", "kernel-clash", "unsupported-base", "unknown-kernel"}


@given(
    st.lists(st.sampled_from(IDS), unique=True, max_size=8),
    st.sampled_from(("none", "minimal", "standard", "strict")),
    st.sampled_from(sorted(known(CATALOG).bases)),
)
@settings(max_examples=150, deadline=None)
def test_any_set_of_features_resolves_or_is_refused_with_a_reason(features: list[str], level: str, base: str):
    recipe = Recipe("x", base, tuple(FeatureChoice(name) for name in features))
    recipe = replace(recipe, security=replace(recipe.security, hardening_level=level))  # type: ignore[arg-type]
    try:
        resolution = resolve(recipe, CATALOG)
    except KilnError as error:
        assert error.reason in REFUSALS, error
        return
    got = [feature.id for feature in resolution.features]
    assert set(features) <= set(got)
    position = {name: number for number, name in enumerate(got)}
    for name in got:
        feature = CATALOG.feature(name)
        assert feature is not None
        assert all(
            any(
                position[provider.id] <= position[name]
                for provider in CATALOG.providers(needed)
                if provider.id in position
            )
            for needed in feature.requires
        )
    again = resolve(replace(recipe, features=tuple(reversed(recipe.features))), CATALOG)
    assert {wish.path: wish.content for wish in again.files} == {wish.path: wish.content for wish in resolution.files}
    assert [wish.name for wish in again.packages] == [wish.name for wish in resolution.packages]


def test_content_knows_its_empty_value():
    assert Content() == Content(packages=())


def test_a_repository_of_the_recipe_is_read_beside_those_of_the_base():
    text = '"base": "debian-12", "extraRepos": [{"name": "a", "mirror": "m", "suite": "s", "signedBy": "keys/k.gpg"}]'
    mirrors = of(f"{{{text}}}").base.mirrors
    assert [(entry.mirror, entry.suite, entry.components, entry.keyring) for entry in mirrors[-1:]] == [
        ("m", "s", ("main",), "k.gpg")
    ]
    assert len(mirrors) == 4


def test_a_password_that_is_a_secret_is_set_at_boot_and_not_in_the_image():
    found = of('{"base": "debian-12", "users": [{"username": "ops", "passwordHash": {"secret": "ops-hash"}}]}')
    files = {wish.path: wish.content for wish in found.files}
    assert files["/usr/local/lib/kiln/password-secrets"] == "ops ops-hash\n"
    assert ("kiln-passwords.service", "enabled") in {(wish.unit, wish.state) for wish in found.services}
    assert [wish.password_hash for wish in found.users] == [""]
