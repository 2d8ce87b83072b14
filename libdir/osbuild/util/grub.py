"""Texts that GRUB reads."""

ENVIRONMENT_BYTES = 1024  # GRUB manual, "Environment block": the file has this size and is never made longer
SETTINGS = (
    ("timeout", "GRUB_TIMEOUT"),
    ("timeout_style", "GRUB_TIMEOUT_STYLE"),
    ("default", "GRUB_DEFAULT"),
    ("disable_recovery", "GRUB_DISABLE_RECOVERY"),
    ("disable_submenu", "GRUB_DISABLE_SUBMENU"),
    ("distributor", "GRUB_DISTRIBUTOR"),
    ("terminal", "GRUB_TERMINAL"),
    ("terminal_input", "GRUB_TERMINAL_INPUT"),
    ("terminal_output", "GRUB_TERMINAL_OUTPUT"),
    ("serial", "GRUB_SERIAL_COMMAND"),
)
SAVED = """\
if [ "${next_entry}" ]; then
  set default="${next_entry}"
  set next_entry=
  save_env next_entry
  set boot_once=true
else
  set default="${saved_entry}"
fi
"""
GREENBOOT = """\
if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then
  if [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then
    set default=1
    set boot_counter=-1
  else
    insmod increment
    decrement boot_counter
  fi
  save_env boot_counter
fi
set boot_success=0
save_env boot_success
"""
IGNITION = """\
set ignition_firstboot=""
if [ -f "/ignition.firstboot" ]; then
  set ignition_network_kcmdline=''
  source "/ignition.firstboot"
  set ignition_firstboot="ignition.firstboot ${ignition_network_kcmdline}"
fi
"""


def defaults(config, command_line):
    """Return the text of /etc/default/grub."""
    values = dict({"timeout": 0}, **config)
    lines = ["%s=%s" % (name, _shell(values[key])) for key, name in SETTINGS if key in values]
    if command_line:
        lines.append("GRUB_CMDLINE_LINUX=%s" % _shell(command_line))
    return "\n".join(lines + ["GRUB_ENABLE_BLSCFG=true"]) + "\n"


def environment(values):
    """Return an environment block. Raises ValueError if the values do not fit."""
    text = "# GRUB Environment Block\n"
    for key, value in values:
        text += "%s=%s\n" % (key, value.replace("\\", "\\\\").replace("\n", "\\\n"))
    if len(text.encode("utf-8")) > ENVIRONMENT_BYTES:
        raise ValueError("the variables need more than the %d bytes of an environment block" % ENVIRONMENT_BYTES)
    return text + "#" * (ENVIRONMENT_BYTES - len(text.encode("utf-8")))


def search(filesystem):
    """Return the arguments of GRUB's `search` that find a file system {"uuid"} or {"label"}."""
    if filesystem.get("uuid"):
        return "--fs-uuid " + filesystem["uuid"]
    return "--label " + filesystem["label"]


def main(filesystem, config, greenboot=False, ignition=False):
    """Return grub.cfg with the entries of the Boot Loader Specification."""
    lines = ["set timeout=%d" % config.get("timeout", 0)]
    if "timeout_style" in config:
        lines.append("set timeout_style=" + config["timeout_style"])
    lines += ["load_env"]
    if "serial" in config:
        lines.append(config["serial"])
    for key in ("terminal_input", "terminal_output"):
        names = config.get(key, config.get("terminal"))
        if names:
            lines.append("%s %s" % (key, " ".join(names)))
    lines += ["search --no-floppy --set=root " + search(filesystem), "set boot=${root}"]
    lines += ["function load_video {", "  insmod all_video", "}"]
    text = "\n".join(lines) + "\n"
    if config.get("default") in (None, "saved"):
        text += SAVED
    else:
        text += 'set default="%s"\n' % config["default"]
    return text + GREENBOOT * bool(greenboot) + IGNITION * bool(ignition) + "blscfg\n"


def redirect(filesystem, directory):
    """Return a grub.cfg that goes on with the one in *directory* of a file system."""
    return "search --no-floppy --set=prefix %s\nset prefix=($prefix)%s\nconfigfile $prefix/grub.cfg\n" % (
        search(filesystem),
        directory,
    )


def _shell(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = " ".join(value) if isinstance(value, list) else value
    for letter in '\\"$`':
        text = text.replace(letter, "\\" + letter)
    return '"%s"' % text
