"""The canonical form: reading it back gives an equal recipe, whatever the recipe."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.authoring.recipe.canonical import recipe_bytes, recipe_digest, recipe_document
from kiln.authoring.recipe.load import read_recipe
from kiln.authoring.recipe.model import (
    Assertion,
    CustomPackage,
    Desktop,
    Disk,
    ExtraRepository,
    FeatureChoice,
    Interface,
    Kernel,
    Networking,
    PackageOverride,
    Recipe,
    RecipeTest,
    Security,
    ServiceConfig,
    StartupScript,
    User,
)
from kiln.errors import KilnError

WORD = st.from_regex(r"[a-z][a-z0-9]{1,8}", fullmatch=True)
LINE = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f", exclude_categories=("Cc",)),
    min_size=1,
).filter(lambda text: bool(text.strip()) and len(text) < 100)
SCALAR = st.one_of(
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
)
OPTIONS = st.dictionaries(
    WORD.filter(lambda word: word not in ("secret", "token", "passwd", "password")),
    st.one_of(SCALAR, st.lists(SCALAR, max_size=3).map(tuple)),
    max_size=3,
).map(lambda options: tuple(sorted(options.items())))


def unique(strategy, key):
    return st.lists(strategy, max_size=3, unique_by=key).map(tuple)


FEATURES = unique(st.builds(FeatureChoice, WORD, OPTIONS), lambda choice: choice.id)
USERS = unique(
    st.builds(
        User,
        WORD.map(lambda word: f"u{word}"),
        st.just("/bin/bash"),
        unique(WORD, str),
        st.sampled_from(("", "/srv/x")),
    ),
    lambda user: user.username,
)
INTERFACES = unique(
    st.one_of(
        st.builds(Interface, WORD),
        st.builds(Interface, WORD, st.just(False), st.just("192.0.2.10/24"), st.sampled_from(("", "192.0.2.1"))),
    ),
    lambda interface: interface.name,
)
PORTS = unique(st.builds("{}/{}".format, st.integers(1, 65535), st.sampled_from(("tcp", "udp"))), str)
ASSERTIONS = st.sampled_from(
    (
        Assertion("systemd_no_failed"),
        Assertion("service_running", (("name", "ssh"),)),
        Assertion("mount", (("options", ("nosuid", "nodev")), ("path", "/tmp"))),
        Assertion("port_listening", (("port", 22),)),
    )
)
TESTS = unique(
    st.builds(RecipeTest, LINE, unique(ASSERTIONS, repr).filter(bool)), lambda recipe_test: recipe_test.description
)
RECIPES = st.builds(
    Recipe,
    name=WORD,
    base_image=WORD,
    features=FEATURES,
    packages=unique(WORD, str),
    extra_repos=unique(
        st.builds(ExtraRepository, WORD, WORD, WORD, st.just(("main",)), st.just("keys/a.gpg")), lambda repo: repo.name
    ),
    custom_packages=unique(
        st.builds(CustomPackage, WORD, st.just("https://example.org/a.git"), WORD), lambda package: package.name
    ),
    package_overrides=unique(
        st.one_of(
            st.builds(PackageOverride, WORD, st.just("add")), st.builds(PackageOverride, WORD, st.just("replace"), WORD)
        ),
        lambda override: override.name,
    ),
    services=unique(st.builds(ServiceConfig, WORD, OPTIONS), lambda service: service.name),
    users=USERS,
    security=st.builds(
        Security, st.sampled_from(("none", "minimal", "standard", "strict")), st.booleans(), st.booleans()
    ),
    networking=st.builds(
        Networking, st.sampled_from(("", "web1")), INTERFACES, unique(st.just("192.0.2.1"), str), PORTS
    ),
    desktop=st.one_of(
        st.none(), st.builds(Desktop, st.sampled_from(("", "Adwaita")), st.sampled_from(("", "/usr/share/a.png")))
    ),
    startup_scripts=unique(st.builds(StartupScript, WORD, LINE), lambda script: script.name),
    locale=st.sampled_from(("C.UTF-8", "de_DE.UTF-8")),
    timezone=st.sampled_from(("UTC", "Europe/Berlin")),
    kernel=st.builds(Kernel, st.sampled_from(("", "cloud")), st.sampled_from(("", "quiet loglevel=3"))),
    disk=st.builds(Disk, st.integers(1024, 2048).map(lambda mib: mib * 1024**2)),
    tests=TESTS,
)


@given(RECIPES)
@settings(max_examples=60, deadline=None)
def test_reading_a_canonical_recipe_back_gives_an_equal_recipe(recipe: Recipe):
    data = recipe_bytes(recipe)
    again = read_recipe(data, "recipe.json")
    assert again == recipe
    assert recipe_bytes(again) == data


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes):
    try:
        read_recipe(data, "fuzz")
    except KilnError:
        return


@given(
    st.recursive(
        SCALAR | st.none() | st.floats(allow_nan=False),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    sorted(
                        (
                            "base",
                            "features",
                            "users",
                            "name",
                            "disk",
                            "security",
                            "tests",
                            "networking",
                            "id",
                            "options",
                            "size",
                            "assertions",
                            "username",
                        )
                    )
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_json_is_read_or_refused(document: object):
    try:
        read_recipe(json.dumps({"base": "debian-12", "x": 0} | {"features": document}).encode(), "fuzz")
    except KilnError:
        return


def test_spelling_does_not_change_the_digest():
    one = read_recipe(b'{"base": "debian-12", "features": ["ssh"], "security_level": "strict"}', "a")
    other = read_recipe(
        b"baseImage: debian-12\nname: server-ssh\nsecurity: {level: strict}\nfeatures: [{id: ssh}]\n", "b"
    )
    assert recipe_digest(one) == recipe_digest(other)


def test_the_digest_is_pinned():
    # A changed digest is a decision: it makes every lock stale.
    recipe = read_recipe(
        b'{"base": "debian-12", "features": ["ssh", "docker", "monitoring"], "security_level": "strict"}', "a"
    )
    assert recipe_document(recipe) == {
        "kind": "kiln.recipe/v1",
        "name": "server-ssh-docker-monitoring",
        "baseImage": "debian-12",
        "features": [{"id": "ssh"}, {"id": "docker"}, {"id": "monitoring"}],
        "security": {"hardeningLevel": "strict", "auditLogging": False, "automaticUpdates": False},
        "locale": "C.UTF-8",
        "timezone": "UTC",
    }
    assert str(recipe_digest(recipe)) == "sha256:12f8691e09044370ed24a2fa3d8aa6e22b90895fe4219b69c6e1dae7c1fdbf54"


def test_every_assertion_type_has_a_meaning_and_distinct_parameters():
    for entry in VOCABULARY.values():
        assert entry.meaning
        assert len({param.name for param in entry.params}) == len(entry.params)
