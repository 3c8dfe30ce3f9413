"""From the file of a chain to the runs of its steps, and back from its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib import calibrations
from calib.calibrations.base import Calibration
from calib.calibrations.capabilities import corrects
from calib.errors import InputError
from jobs.config import complete as configuration
from jobs.config.chain import Chain, Step, before, chain_of, config_of, order
from jobs.config.complete import Work
from jobs.config.schema import dump, is_chain, plain_values
from jobs.config.sites import with_site
from jobs.storage.files import RunDirectory, write_text

KEY = "chain"


@dataclass(frozen=True)
class ChainWork:
    """A chain with its directory; its paths are absolute."""

    directory: RunDirectory
    chain: Chain

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order in which they run."""
        return order(self.chain.chain)

    def folder(self, step: Step) -> Path:
        """Return the directory of a step, that of an ordinary run."""
        return self.directory.path / step.name

    def before(self, step: Step) -> tuple[Step, ...]:
        """Return the steps that one depends on."""
        return before(self.chain.chain, step.name)

    def read_by(self, step: Step) -> tuple[Step, ...]:
        """Return the steps whose payloads one reads: those that correct muons or pairs."""
        own = [s for s in self.before(step)]
        return tuple(s for s in own if corrects(calibrations.get(s.calibration)) != "nothing")

    def work(self, step: Step) -> Work:
        """Return the run of a step, without writing anything.

        Raises
        ------
        InputError
            If its configuration is wrong, or its directory holds another run.
        """
        payloads = [str(self.folder(s).resolve() / "payload.json") for s in self.read_by(step)]
        return _work(self.chain, step, payloads, self.folder(step), _where(self.directory.path))


def _where(path: Path) -> str:
    return str(path / "config.yaml")


def _work(chain: Chain, step: Step, payloads: list[str], out: Path, path: str) -> Work:
    where = f"{path}: step {step.name!r}"
    config = config_of(chain, step, payloads, where)
    complete = configuration.filled(config, where, Path.cwd())
    return configuration.in_directory(complete, Path(path), out)


def prepare(path: Path, out: Path) -> ChainWork:
    """Return the chain of a configuration in a directory, without writing anything.

    Raises
    ------
    InputError
        If it is wrong, or the directory holds something else; each step is looked at.
    """
    chain = _complete(path)
    directory = RunDirectory(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file, expected a directory; choose another --out")
    if directory.exists:
        if not is_chain(out):
            raise InputError(
                f"{out}: the directory of a single run, not of a chain; choose another --out"
            )
        _require_same(chain, _complete(directory / "config.yaml"), path, out)
    elif out.is_dir() and any(p.name != ".calib" for p in out.iterdir()):
        raise InputError(
            f"{out}: has files in it but no config.yaml, so it is not the directory of a chain;"
            " choose another --out"
        )
    return ChainWork(directory, chain)


def resume(path: Path) -> ChainWork:
    """Return the chain that a directory holds."""
    directory = RunDirectory(path)
    directory.require()
    return ChainWork(directory, _complete(directory / "config.yaml"))


def adopt(work: ChainWork) -> None:
    """Write the configuration into the directory (its lock held)."""
    path, text = work.directory / "config.yaml", dump(work.chain)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _require_same(new: Chain, old: Chain, path: Path, out: Path) -> None:
    """Raise InputError where a directory holds another chain; steps are compared as they run."""
    for key, mine, theirs in (
        ("name", new.name, old.name),
        ("chain", _outline(new), _outline(old)),
    ):
        if mine != theirs:
            raise InputError(
                f"{out}: holds another chain: key {key!r} is {theirs!r} there and {mine!r} in"
                f" {path}; choose another --out, or remove the directory"
            )


def _outline(chain: Chain) -> str:
    return ", ".join(
        f"{s.name} ({s.calibration}) after {[b.name for b in before(chain.chain, s.name)]}"
        for s in order(chain.chain)
    )


def _complete(path: Path) -> Chain:
    """Return the chain in a file with every default filled in and absolute paths."""
    base, where = path.resolve().parent, str(path)
    values = with_site(plain_values(path), base, where)
    if isinstance(values, dict) and isinstance(values.get(KEY), list):
        values[KEY] = [with_site(step, base, where) for step in values[KEY]]
    chain = chain_of(values, where)
    _refuse_names(chain, where)
    steps = []
    for step in chain.chain:
        config = config_of(chain, step, (), f"{where}: step {step.name!r}")
        config, calibration = configuration.filled(config, f"{where}: step {step.name!r}", base)
        steps.append(step.model_copy(update=_filled(step, config, calibration)))
    update: dict[str, Any] = {"chain": tuple(steps)}
    update["samples"] = tuple(
        s.model_copy(update=configuration.absolute_in(s, base)) for s in chain.samples
    )
    update["payloads"] = tuple(configuration.absolute(p, base) for p in chain.payloads)
    return chain.model_copy(update=update)


def _filled(step: Step, config: Any, calibration: Calibration) -> dict[str, Any]:
    """Return the keys of a step with defaults and absolute paths, where it has its own."""
    found: dict[str, Any] = {"settings": calibration.settings.model_dump(mode="json")}
    if step.payloads is not None:
        found["payloads"] = config.payloads
    if step.samples is not None:
        own = {s.name: s.model_dump(mode="json", exclude_unset=True) for s in config.samples}
        found["samples"] = tuple(
            s if isinstance(s, str) else own[config.samples[i].name]
            for i, s in enumerate(step.samples)
        )
    return found


def _refuse_names(chain: Chain, where: str) -> None:
    """Raise InputError for steps whose directories would not be theirs alone."""
    taken = {"plots", "report.html", "verdict.json", "provenance.json", "config.yaml"}
    for step in chain.chain:
        if step.name in taken:
            raise InputError(f"{where}: step {step.name!r} is named as a file of ours; rename it")
