"""The templates of the catalogue: tiny, and nothing is evaluated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.authoring.catalog.template import TemplateError, render

VALUES: dict[str, object] = {
    "port": 22,
    "on": True,
    "off": False,
    "names": ("a", "b"),
    "none": (),
    "text": 'say "x"',
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("Port {{ port }}", "Port 22"),
        ("{{ on }} {{ off }} {{ on | json }}", "yes no true"),
        ("{{ names }}; {{ names | words }}; {{ names | json }}", 'a, b; a b; ["a", "b"]'),
        ("{{ text | json }}", '"say \\"x\\""'),
        ("a\n{{ if on }}\nb\n{{ end }}\nc\n", "a\nb\nc\n"),
        ("a\n{{ if off }}\nb\n{{ end }}\nc\n", "a\nc\n"),
        ("{{ if not none }}\nb\n{{ end }}\n", "b\n"),
        ("{{ each names }}\n{{ number }}={{ item }}\n{{ end }}\n", "1=a\n2=b\n"),
        ("{{ each none }}\n{{ item }}\n{{ end }}\n", ""),
        ("tcp dport { {{ names }} } accept", "tcp dport { a, b } accept"),
    ],
)
def test_values_and_blocks(template: str, text: str):
    assert render(template, VALUES) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{ unknown }}",
        "{{port}}",
        "{{ port | shell }}",
        "{{ __class__ }}",
        "{{ port.real }}",
        "{{ if on }}\nx\n",
        "x\n{{ end }}\n",
        "{{ if off }}\n{{ unknown }}\n{{ end }}\n",
        "{{ each none }}\n{{ unknown }}\n{{ end }}\n",
        "{{ each port }}\nx\n{{ end }}\n",
        "{{ if on }}\n{{ if on }}\nx\n{{ end }}\n{{ end }}\n",
    ],
)
def test_a_wrong_template_is_refused_even_where_it_would_not_show(template: str):
    with pytest.raises(TemplateError):
        render(template, VALUES)


@given(st.text(st.characters(exclude_characters="{")))
def test_text_without_braces_stays_as_it_is(text: str):
    assert render(text, VALUES) == text


@given(st.text())
def test_a_value_is_never_a_template_itself(value: str):
    assert render("{{ x }}", {"x": "{{ port }}" + value, "port": 22}) == "{{ port }}" + value
