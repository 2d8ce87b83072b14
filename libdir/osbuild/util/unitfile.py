"""The text of systemd's unit files: sections of assignments, systemd.syntax(7)."""


def render(sections):
    """Return the text of *sections*: {section: {key: value}}.

    A list gives one assignment for each entry; entries {"key", "value"} are environment variables.
    """
    return "\n".join(
        "[%s]\n%s" % (name, "".join(_lines(key, value) for key, value in section.items()))
        for name, section in sections.items()
    )


def _lines(key, value):
    values = value if isinstance(value, list) else [value]
    return "".join("%s=%s\n" % (key, _text(item)) for item in values)


def _text(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        # Quoted: a value may hold spaces, which separate assignments here.
        assignment = "%s=%s" % (value["key"], value["value"])
        return '"%s"' % assignment.replace("\\", "\\\\").replace('"', '\\"')
    return str(value)
