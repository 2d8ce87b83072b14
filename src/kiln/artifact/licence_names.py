"""How Debian's short names of licences are called in the SPDX licence list. Data.

Sources: copyright-format 1.0, "Short name"; SPDX licence list 3; Debian's /usr/share/common-licenses.
"""

from __future__ import annotations

import re
from typing import Final

_GNU: Final = re.compile(
    r"(?P<family>A?L?GPL|GFDL)(?P<niv>-NIV)?[-_ ]?v?(?P<version>[0-9](?:\.[0-9])?)?(?:\.0)?(?P<later>\+)?", re.I
)
_NAMES: Final = {
    "afl-2.1": "AFL-2.1",
    "apache": "Apache-2.0",
    "apache-2": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "artistic": "Artistic-1.0",
    "artistic-2": "Artistic-2.0",
    "artistic-2.0": "Artistic-2.0",
    "boost": "BSL-1.0",
    "boost-1.0": "BSL-1.0",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "bsd-4-clause-uc": "BSD-4-Clause-UC",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "bsd0": "0BSD",
    "cc0": "CC0-1.0",
    "cc0-1.0": "CC0-1.0",
    "cc-by-3": "CC-BY-3.0",
    "cc-by-sa-3": "CC-BY-SA-3.0",
    "cddl": "CDDL-1.0",
    "cpl-1.0": "CPL-1.0",
    "epl-1": "EPL-1.0",
    "expat": "MIT",
    "fsfap": "FSFAP",
    "fsful": "FSFUL",
    "fsfullr": "FSFULLR",
    "isc": "ISC",
    "lppl": "LPPL-1.3c",
    "mit": "MIT",
    "mpl-1.1": "MPL-1.1",
    "mpl-2": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "openssl": "OpenSSL",
    "perl": "Artistic-1.0-Perl OR GPL-1.0-or-later",
    "psf-2": "PSF-2.0",
    "python": "Python-2.0",
    "unicode": "Unicode-DFS-2016",
    "unlicense": "Unlicense",
    "vim": "Vim",
    "w3c": "W3C",
    "wtfpl": "WTFPL",
    "wtfpl-2": "WTFPL",
    "x11": "X11",
    "zlib": "Zlib",
    "zlib/libpng": "Zlib",
    "zpl-2.1": "ZPL-2.1",
    "zpl": "ZPL-2.1",
    "ofl-1.1": "OFL-1.1",
    "sil-1.1": "OFL-1.1",
    "curl": "curl",
    "ftl": "FTL",
    "ijg": "IJG",
    "libpng": "Libpng",
    "ntp": "NTP",
    "postgresql": "PostgreSQL",
    "sleepycat": "Sleepycat",
    "tcl": "TCL",
    "blessing": "blessing",
}
_EXCEPTIONS: Final = {
    "autoconf": "Autoconf-exception-2.0",
    "autoconf-2": "Autoconf-exception-2.0",
    "autoconf-3": "Autoconf-exception-3.0",
    "bison": "Bison-exception-2.2",
    "bison-2.2": "Bison-exception-2.2",
    "classpath": "Classpath-exception-2.0",
    "font": "Font-exception-2.0",
    "gcc": "GCC-exception-3.1",
    "gcc-runtime-library": "GCC-exception-3.1",
    "libtool": "Libtool-exception",
    "linux-syscall-note": "Linux-syscall-note",
    "llvm": "LLVM-exception",
}
_GNU_FIRST: Final = {"GPL": "1.0", "LGPL": "2.0", "AGPL": "3.0", "GFDL": "1.1"}
"""Where a GNU licence stands without a version, its receiver may choose any (GPL-2, section 9)."""


def spdx_name(short: str) -> str | None:
    """Return the SPDX identifier (or expression) of a Debian short name, or None if it is none that is known."""
    known = _NAMES.get(short.lower())
    if known is not None:
        return known
    match = _GNU.fullmatch(short)
    if match is None:
        return None
    family = match["family"].upper()
    version, later = match["version"], bool(match["later"])
    if version is None:
        version, later = _GNU_FIRST[family], True
    elif "." not in version:
        version += ".0"
    if family == "GFDL":
        version = {"1.0": "1.1"}.get(version, version)
        return f"GFDL-{version}{'-no-invariants' if match['niv'] else ''}-{'or-later' if later else 'only'}"
    return f"{family}-{version}-{'or-later' if later else 'only'}"


def spdx_exception(words: str) -> str | None:
    """Return the SPDX identifier of an exception, from the words between `with` and `exception`."""
    key = "-".join(words.lower().replace("exception", " ").split()).strip("-")
    return _EXCEPTIONS.get(key)
