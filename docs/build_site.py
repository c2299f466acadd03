"""Builds the site of these pages, with an API reference from the docstrings: `make docs` writes it to build/site.

Zensical reads one folder, so README.md and its neighbours are copied beside the pages first, and their links follow. A
link that leads nowhere is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "build" / "docs"
FRONT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "license.md",
}
"""Files of the repository's top, and their names in the site."""


def with_links_of_the_site(text: str) -> str:
    """Links to files of the repository's top, and from there into docs/, lead to their pages."""
    for file, page in FRONT.items():
        text = re.sub(rf"\]\((?:\.\./)?{re.escape(file)}(?=[)#])", f"]({page}", text)
    return text.replace("](docs/", "](")


def reference() -> str:
    """The public names in the order and under the headings of python.md, each with its docstring."""
    lines = ["# API reference", "", "Everything that `import prunesweep` offers, as its docstrings describe it."]
    listed = {*re.findall(r'^    "(\w+)": "', (ROOT / "prunesweep/__init__.py").read_text(), re.MULTILINE)} - {"torch"}
    for section in re.split(r"^## ", (ROOT / "docs/python.md").read_text(), flags=re.MULTILINE)[1:]:
        cells = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
        names = [name for name in dict.fromkeys(re.findall(r"`(\w+)", cells)) if name in listed]
        listed -= {*names}
        if names:
            lines += ["", f"## {section.splitlines()[0]}", "", *(f"::: prunesweep.{name}\n" for name in names)]
    return "\n".join(
        [*lines, *(["## Types", ""] if listed else []), *(f"::: prunesweep.{name}\n" for name in sorted(listed))]
    )


def main() -> int:
    shutil.rmtree(PAGES, ignore_errors=True)
    shutil.copytree(ROOT / "docs", PAGES, ignore=shutil.ignore_patterns("*.py", "*.yaml", "__pycache__"))
    for file, page in FRONT.items():
        shutil.copy(ROOT / file, PAGES / page)
    for page in PAGES.glob("*.md"):
        page.write_text(with_links_of_the_site(page.read_text()))
    (PAGES / "api.md").write_text(reference())
    return subprocess.run(
        [Path(sys.executable).parent / "zensical", "build", "--clean", "--strict"], cwd=ROOT
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
