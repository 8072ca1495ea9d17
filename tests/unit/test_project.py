"""What belongs together in the project stays together."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, set[str]]:
    """Package -> the versions locked; some differ between Python versions."""
    versions: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", LOCK, flags=re.MULTILINE):
        versions.setdefault(canonical(name), set()).add(version)
    return versions


def declared() -> list[Requirement]:
    project = PROJECT["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["dev"], *PROJECT["build-system"]["requires"]]
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", declared(), ids=lambda requirement: requirement.name)
def test_the_lock_satisfies_every_declared_requirement(requirement: Requirement) -> None:
    versions = locked().get(canonical(requirement.name), set())
    assert versions, f"{requirement.name} is not locked: make lock"
    assert all(requirement.specifier.contains(version, prereleases=True) for version in versions)


def test_every_locked_package_has_hashes_and_no_address() -> None:
    blocks = re.split(r"\n(?=\S)", LOCK.strip())
    packages = [block for block in blocks if not block.startswith("#")]
    assert len(packages) > 100
    assert [block.splitlines()[0] for block in packages if "--hash=sha256:" not in block] == []
    assert not re.search(r"https?://|--index-url|--find-links", LOCK)


def test_duckdb_and_its_extensions_have_one_version() -> None:
    versions = {name: found for name, found in locked().items() if name.startswith("duckdb")}
    assert len(versions) >= 4
    assert len(set.union(*versions.values())) == 1


def test_conda_users_get_the_same_environment() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python = next(one for one in environment["dependencies"] if isinstance(one, str) and one.startswith("python"))
    assert SpecifierSet(python.removeprefix("python").strip()) == SpecifierSet(PROJECT["project"]["requires-python"])
    pip = next(one["pip"] for one in environment["dependencies"] if isinstance(one, dict))
    assert "-r requirements.lock" in pip
    assert "--require-hashes" in pip


def test_supported_pythons_are_named_the_same_everywhere() -> None:
    classifiers = {line.rsplit(" ", 1)[1] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line}
    assert classifiers == {"3.11", "3.12", "3.13"}
    allowed = SpecifierSet(PROJECT["project"]["requires-python"])
    assert {f"3.{minor}" for minor in range(9, 17) if f"3.{minor}.1" in allowed} == classifiers
    assert "3.11, 3.12 or 3.13" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_notebooks_are_committed_without_outputs() -> None:
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == [], path.name


def test_the_deployments_point_at_flows_that_exist() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert {one["name"] for one in deployments} >= {"deliver", "analyze", "refresh-cache", "clean-up"}
    for one in deployments:
        file, function = one["entrypoint"].split(":")
        assert re.search(rf"^def {function}\(", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_file_of_the_project_holds_a_machine_s_path_or_a_registry_s_host() -> None:
    # Put together here, so that this file does not hold them itself.
    hosts = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "deb.deb" + "ian.org"]
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    texts = {name: (ROOT / name).read_bytes() for name in files if (ROOT / name).is_file()}
    assert [name for name, text in texts.items() if any(host.encode() in text for host in hosts)] == []
