"""What the documentation names exists: files and headings that links point to, commands, options, stages, targets, settings."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from ppdl.cli import main as cli
from ppdl.config import CONF, PROJECT, reference
from tests.browser import browser, keep, opened  # noqa: F401

WRITTEN = {"data", "models", "reports", "crossval", "multirun", "outputs", "mlartifacts", "build", "dvc_plots"}  # by the stages
SHELLS = {"sh", "bash", "shell", "console"}
PAGES = sorted(
    path
    for path in PROJECT.rglob("*.md")
    if not any(part.startswith(".") or part in WRITTEN or part.endswith("egg-info") for part in path.relative_to(PROJECT).parts)
)
PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]+\b")  # NAME, PATH: what a reader fills in
LOCATION = re.compile(r"^(?:\S.*)?`([\w./-]+)`:$")  # the line above a block that shows a whole file
OPTIONS_WITH_VALUE = {"-S", "--set-param", "-r", "--remote", "-j", "--jobs", "-n", "--name", "-cn", "--config-name"}
EXTERNAL = "evaluation.external"  # its entries are data sets
MAPPINGS = {*reference.SEVERAL.values(), EXTERNAL}
MULTIRUN = {"hydra/launcher": {"basic", "joblib"}, "hydra/sweeper": {"basic", "optuna_study"}}


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield language, text and the line above (of words, or empty) of each fenced block."""
    fence, language, body, above = "", "", [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = re.match(r"\s*(`{3,}|~{3,})(\w*)", line)
        if not fence and mark:
            fence, language, body = mark[1], mark[2], []
        elif fence and line.strip() == fence:
            yield language, "\n".join(body), above
            fence, above = "", ""
        elif fence:
            body.append(line)
        elif line.strip():
            above = line.strip()
    assert not fence, f"{page}: a block is not closed"


def words_of(page: Path) -> str:
    """Return the page without code."""
    text = re.sub(r"^\s*(`{3,}|~{3,}).*?^\s*\1\s*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "code", text)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of each simple command in the page's shell blocks, and in the comments of whole configuration files."""
    for language, text, _ in blocks(page):
        if language in SHELLS:
            yield from simple_commands(text)
        elif language == "yaml":
            yield from simple_commands("\n".join(re.findall(r"^# ((?:dvc|ppdl|python -m) .*)", text, re.MULTILINE)))


def simple_commands(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("&|;"):
                while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
                    command.pop(0)  # an environment variable
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, by GitHub's rule."""
    text = re.sub(r"^\s*(`{3,}|~{3,}).*?^\s*\1\s*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#{1,6} +(.+?)\s*#*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    found = []
    for link in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", words_of(page)):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            found.append(f"{link}: there is no {target}")
        elif PROJECT / "docs" in page.parents and PROJECT / "docs" not in target.parents:
            found.append(f"{link}: leaves docs/, so the built site lacks it")
        elif anchor and anchor not in headings(target):
            found.append(f"{link}: {target.name} has no heading #{anchor}")
    return found


class Settings:
    """What the configuration knows, and what a page adds to it by showing whole files."""

    def __init__(self, page: Path | None = None) -> None:
        self.fields = {field.name for field in reference.read_fields() if field.meaning != reference.SECTION}
        self.files = {path.relative_to(CONF).as_posix() for path in CONF.glob("**/*.yaml")}
        for language, text, above in blocks(page) if page else ():
            shown = LOCATION.match(above)
            if language == "yaml" and shown and shown[1].startswith("conf/"):
                path = shown[1].removeprefix("conf/")
                self.files.add(path)
                group, name = Path(path).parent.name, Path(path).stem
                prefix = f"{reference.SEVERAL[group]}.{name}" if group in reference.SEVERAL else group
                self.fields |= set(_names(yaml.safe_load(text), prefix))
        self.nodes = {".".join(parts[:i]) for field in self.fields for parts in [field.split(".")] for i in range(1, len(parts) + 1)}
        self.groups = {Path(path).parent.as_posix() for path in self.files} - {"."}

    def wrong(self, override: str) -> str | None:
        """Say what is wrong with an override, None when nothing is."""
        if PLACEHOLDER.search(override.partition("=")[0]):
            return None
        key, equals, value = override.lstrip("+~").partition("=")
        if key in MULTIRUN:
            return None if value in MULTIRUN[key] else f"{key} has no {value}"
        group, at, package = key.partition("@")
        if group in self.groups and key not in self.fields:
            missing = [
                name for name in value.strip("[]").split(",") if name and not PLACEHOLDER.fullmatch(name) and not self._is_file(group, name)
            ]
            if missing:
                return f"there is no conf/{group}/{missing[0]}.yaml"
            return None if not at or package.rpartition(".")[0] in MAPPINGS else f"nothing has entries like {package}"
        key = re.sub(rf"^{re.escape(EXTERNAL)}\.\w+\.", "dataset.", key)
        if override.startswith("~"):
            return None if key in self.nodes else f"there is no {key}"
        if not equals:
            return "an override needs ="
        return None if key in self.nodes or key.startswith("hydra.") else f"there is no {key}"

    def _is_file(self, group: str, name: str) -> bool:
        return f"{group}/{name}.yaml" in self.files


def _names(node: object, prefix: str) -> Iterator[str]:
    for key, value in node.items() if isinstance(node, dict) else ():
        yield f"{prefix}.{key}"
        yield from _names(value, f"{prefix}.{key}")


def overrides_of(command: list[str]) -> list[str]:
    if command[0] == "dvc":
        return [after for word, after in itertools.pairwise(command) if word in ("-S", "--set-param")]
    skip = {i + 1 for i, word in enumerate(command) if word in OPTIONS_WITH_VALUE}
    return [w for i, w in enumerate(command[3:], 3) if i not in skip and not w.startswith("-") and ("=" in w or w.startswith("~"))]


def positional(words: list[str]) -> list[str]:
    skip = {i + 1 for i, word in enumerate(words) if word in OPTIONS_WITH_VALUE}
    return [word for i, word in enumerate(words) if i not in skip and not word.startswith("-")]


def wrong(command: list[str], settings: Settings) -> list[str]:
    """Say what a command names that does not exist."""
    program, rest = Path(command[0]).name, command[1:]
    if program == "ppdl":
        kept = rest[1:] if rest[:1] == ["keep"] else []
        return _wrong_ppdl(rest) + [f"{word}: {reason}" for word in kept if (reason := settings.wrong(word))]
    if program == "make":
        targets = set(re.findall(r"^([a-z][\w-]*):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
        return [f"the Makefile has no target {word}" for word in rest if "=" not in word and word not in targets]
    if program.startswith("python") and rest[:1] == ["-m"]:
        module = rest[1]
        if module.split(".")[0] not in ("stages", "ppdl", "benchmarks"):
            return []
        path = PROJECT / Path(*module.split("."))
        if not path.with_suffix(".py").is_file() and not (path / "__main__.py").is_file():
            return [f"there is no module {module}"]
        checked = overrides_of(command) if module.startswith("stages.") else []
        return [f"{override}: {reason}" for override in checked if (reason := settings.wrong(override))]
    if program == "dvc":
        found = [f"{override}: {reason}" for override in overrides_of(command) if (reason := settings.wrong(override))]
        return found + _wrong_targets(rest)
    return []


def _wrong_ppdl(rest: list[str]) -> list[str]:
    command, name = cli, "ppdl"
    while isinstance(command, click.Group):
        if not rest or rest[0].startswith("-"):
            return [] if command is cli else [f"{name} needs a command"]
        context = click.Context(command)
        if rest[0] not in command.list_commands(context):
            return [f"{name} has no command {rest[0]}"]
        command, name, rest = command.get_command(context, rest[0]), f"{name} {rest[0]}", rest[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    return [f"{name} has no option {option}" for option in given if option not in options]


def _wrong_targets(rest: list[str]) -> list[str]:
    verbs = {("repro",): 1, ("push",): 1, ("pull",): 1, ("exp", "run"): 2}
    skip = next((n for verb, n in verbs.items() if tuple(rest[: len(verb)]) == verb), None)
    if skip is None:
        return []
    stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    outs = [str(next(iter(out)) if isinstance(out, dict) else out) for stage in stages.values() for out in stage.get("do", stage)["outs"]]
    roots = {out.partition("${")[0].rstrip("/") for out in outs}
    names = [word for word in positional(rest[skip:]) if not PLACEHOLDER.fullmatch(word)]
    return [f"DVC has no target {n}" for n in names if n.partition("@")[0] not in stages and not any(n.startswith(root) for root in roots)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_point_to_what_exists(page: Path):
    assert not broken_links(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_commands_name_what_exists(page: Path):
    settings = Settings(page)
    found = [f"{shlex.join(command)}\n    {reason}" for command in commands(page) for reason in wrong(command, settings)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_block_says_its_language(page: Path):
    assert all(language for language, _, _ in blocks(page)), "a block without a language is checked by nobody"


def test_the_site_shows_every_page_once():
    def files(nav: object) -> Iterator[str]:
        for entry in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else [nav]:
            yield from [entry] if isinstance(entry, str) else files(entry)

    listed = list(files(yaml.safe_load((PROJECT / "mkdocs.yml").read_text())["nav"]))
    docs = PROJECT / "docs"
    assert sorted(listed) == sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does: MkDocs fails on what its own links and headings lack."""
    pytest.importorskip("material", reason="no mkdocs-material: pip install 'ppdl[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["index", "tutorial", "howto/mlflow-server"])
def test_the_built_site_opens_from_a_folder_without_network(browser, site: Path, name: str):  # noqa: F811
    path = site / f"{name}.html"
    with opened(browser, path, width=1400) as (page, complaints):
        assert page.evaluate("() => getComputedStyle(document.querySelector('.md-content')).display") == "block"  # its style was loaded
        assert page.locator("h1").inner_text()
        keep(page, f"docs-{path.stem}", path.parent)
    assert [url for url in complaints.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ppdl inspekt X", "ppdl has no command inspekt"),
        ("ppdl artifact inspekt X", "ppdl artifact has no command inspekt"),
        ("ppdl keep dataset=folder dataset.rot=/x", "no dataset.rot"),
        ("cd X && ppdl artifact audit X --originale Y", "no option --originale"),
        ("make reproduce", "no target reproduce"),
        ("python -m stages.train", "no module stages.train"),
        ("python -m ppdl.konfig --write", "no module ppdl.konfig"),
        ("dvc exp run -S training.epoch=40", "no training.epoch"),
        ("dvc exp run -S +experiment=smoky", "no conf/experiment/smoky.yaml"),
        ("dvc exp run -S '~protections.opaqe'", "no protections.opaqe"),
        ("dvc exp run -S dataset=foldr -S dataset.root=/x", "no conf/dataset/foldr.yaml"),
        ("dvc exp run -S +attack@attack.as_is=as_is", "nothing has entries like attack.as_is"),
        ("dvc exp run -S evaluation.external.b.rot=/x", "no dataset.rot"),
        ("python -m stages.train_plain -m training.learning_rate=1,2 model.alfa=1", "no model.alfa"),
        ("A=1 python -m stages.crossval crossval.nam=x  # a comment", "no crossval.nam"),
        ("dvc push -r remote keygen encrypted@homomorphic", "no target encrypted@homomorphic"),
    ],
)
def test_mistakes_are_found(text: str, reason: str):
    found = [problem for command in simple_commands(text) for problem in wrong(command, Settings())]
    assert len(found) == 1 and reason in found[0]


@pytest.mark.parametrize(
    "text",
    [
        "dvc exp run --queue -S split.seed=1,2,3 && dvc exp run --run-all",
        "dvc exp run -S +protection@protections.NAME=NAME -S '~protections.opaque' -S training.augmentation=null",
        "python -m stages.train_plain -m hydra/launcher=joblib hydra.launcher.n_jobs=2 model=mobilenet_v2",
        "dvc push keygen encrypt@homomorphic data/revealed/homomorphic",
        "make ui PORT=5001 | tee log; ppdl --help",
    ],
)
def test_what_is_right_passes(text: str):
    assert not [problem for command in simple_commands(text) for problem in wrong(command, Settings())]


def test_broken_links_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A title: of `it`\n[a](page.md) [b](gone.md) [c](#a-title-of-it) [d](#gone) `[e](gone.md)` [f](https://a.b/c)\n")
    assert [problem.split(":")[0] for problem in broken_links(page)] == ["gone.md", "#gone"]
