"""Where the ``medisync`` command begins: what needs nothing imported is answered first, everything else by the app."""

from __future__ import annotations

import json
import sys

from medisync.runs import standstill


def main() -> None:
    """Run the command line; ``medisync run`` after which nothing moved is answered from the last round's note."""
    if not _answered(sys.argv[1:]):
        from medisync.cli import main as commands

        commands.main()


def _answered(words: list[str]) -> bool:
    """Whether ``run``, names of analyses and ``--json`` were all that was asked, and nothing moved since."""
    if words[:1] != ["run"]:
        return False
    names = [word for word in words[1:] if word != "--json"]
    if any(name.startswith("-") for name in names):
        return False
    known = standstill.answers(names)
    if known is None:
        return False
    for answer in known:
        text = json.dumps(answer, default=str) if "--json" in words else line_of(answer)
        sys.stdout.write(f"{text}\n")
    return True


def line_of(answer: dict[str, object]) -> str:
    """An unchanged analysis in words."""
    return f"✓ {answer['analysis']} (unchanged): {answer['headline']}"


if __name__ == "__main__":
    main()
