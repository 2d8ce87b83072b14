"""TOML recipes: the same values as the standard library reads, and the place of each."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.authoring.recipe.load import read_recipe
from kiln.authoring.recipe.nodes import Node, NodeError
from kiln.authoring.recipe.toml_nodes import read_toml
from kiln.errors import KilnError

RECIPE = """\
base = "debian-12"          # the newest of them is not wanted
features = ["ssh", {nginx = {port = 8080}}]
security_level = 'strict'
networking.hostname = "web1"

[[users]]
username = "alice"
groups = [
  "sudo",
]

[[startupScripts]]
name = "hello"
script = \"\"\"
echo "hello"
\"\"\"

[disk]
size = "10G"
"""


def plain(node: Node) -> object:
    if node.kind == "object":
        return {str(key.scalar): plain(value) for key, value in node.entries}
    return [plain(item) for item in node.items] if node.kind == "array" else node.scalar


def test_a_toml_recipe_means_what_the_same_in_yaml_means():
    yaml = b"""
      base: debian-12
      features: [ssh, {nginx: {port: 8080}}]
      security: {level: strict}
      networking: {hostname: web1}
      users: [{username: alice, groups: [sudo]}]
      startup_scripts: [{name: hello, script: "echo \\"hello\\"\\n"}]
      disk: {size: 10G}
    """
    assert read_recipe(RECIPE.encode(), "a.toml") == read_recipe(yaml, "a.yaml")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("features =", "fetures =", "a.toml:2:1 (fetures)"),
        ("port = 8080", "port = 1.5", "a.toml:2:37 (features[1].nginx.port)"),
        ('"alice"', '"Alice Smith"', "a.toml:7:12 (users[0].username)"),
        ('"sudo"', '"SUDO"', "a.toml:9:3 (users[0].groups[0])"),
        ("size =", "sise =", "a.toml:19:1 (disk.sise)"),
        ("hostname", "hostnaem", "a.toml:4:12 (networking.hostnaem)"),
        ("[disk]", "[disc]", "a.toml:18:2 (disc)"),
        ('"10G"', "10G", "a.toml:19:10"),
    ],
)
def test_what_is_wrong_has_its_place(old: str, new: str, place: str):
    assert old in RECIPE
    with pytest.raises(KilnError) as caught:
        read_recipe(RECIPE.replace(old, new, 1).encode(), "a.toml")
    assert str(caught.value.place) == place


KEYS = st.text(st.sampled_from("ab-1_ .\"'#"), min_size=1, max_size=4)
SCALARS = st.one_of(st.booleans(), st.integers(-(10**15), 10**15), st.text(st.characters(codec="utf-8"), max_size=8))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


def text_of(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text_of(key)} = {text_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[ # items\n" + ",\n".join(map(text_of, value)) + "\n]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    escaped = "".join(
        char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08X}" for char in str(value)
    )
    return f'"{escaped}"'


@given(st.dictionaries(KEYS, VALUES, max_size=3), st.dictionaries(KEYS, st.lists(SCALARS, max_size=2), max_size=3))
@settings(max_examples=80, deadline=None)
def test_any_document_has_the_values_that_the_standard_library_reads(top: dict[str, object], table: dict[str, object]):
    lines = [f"{text_of(key)} = {text_of(value)}" for key, value in top.items()]
    for _ in range(2):
        lines += ["", "[[ zz . 'list' ]]  # one more", *(f"  {text_of(k)}={text_of(v)}" for k, v in table.items())]
    text = "\n".join(lines) + "\n"
    assert plain(read_toml(text.encode())) == tomllib.loads(text)


@given(st.text(st.sampled_from("[]{}=.,\"'#\n \\abc1-_"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_as_the_standard_library_reads_it_or_refused(text: str):
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(NodeError):
            read_toml(text.encode())
        return
    assert plain(read_toml(text.encode())) == expected


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a." * 5000 + "b = 1", "a = " + "9" * 5000, "a = \x00", "\xff"])
def test_a_text_that_would_cost_too_much_is_refused(text: str):
    with pytest.raises(NodeError):
        read_toml(text.encode("latin-1"))
