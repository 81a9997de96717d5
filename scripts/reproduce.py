"""Runs the paper's experiments on AV-MNIST at a size for two cores; docs/reproduction.md has the results.

    python scripts/reproduce.py --scale small --estimate     # estimate the time by a probe of a minute; nothing is kept
    python scripts/reproduce.py --scale small --background   # all of it
    python scripts/reproduce.py --scale small late           # one part: features, late, early, tables
    python scripts/reproduce.py --scale small table          # the results so far, as Markdown

It needs AV-MNIST from real files: agmbench data prepare avmnist --from FOLDER (docs/avmnist.md). Runs go into the store of the working
directory. Two processes run at the same time, with one thread each. If it is started again, it resumes; finished jobs are not trained
again.

features: plain models on the features (scripts/baselines.py). late, early: learning rate and strength of each method are chosen on
valid with seed 999, with the same number of trials for each method. Then the chosen ones are trained with seeds 1 to 5, and competition
strength is measured with unimodal models of the same recipe. tables: the suites table5, table6 and table8 at this scale, with a report
each. These are the paper's own experiments, and choose the epoch on test, as the paper does.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from agmbench import build, jobs, registry, suite, sweep
from agmbench.errors import AgmbenchError
from agmbench.execute import execute
from agmbench.execute.evaluation import make_feed
from agmbench.records import Record
from agmbench.report.published import published
from agmbench.report.statistics import interval
from agmbench.trackers.mlflow import MlflowTracker, sqlite
from agmbench.train import Epoch, train

Settings = list[tuple[str, Any]]
DATA, RATE = "avmnist", "training.lr"
PROTOCOL = "dataset.protocol"  # left out of the settings, so that the epoch is chosen on valid, which is the data set's default
FUSIONS = {"late": "concat", "early": "early"}
CLIPPED = {"training.clip_norm": 1, "training.clip_when": "head"}  # every method under early fusion, as in the official code
SHAPLEY = {"modulator.responses": "shapley"}  # for OGM-GE under a fusion that is not additive
SHARED = {"modulator.coalitions": "shared"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # by title: the modulator, and settings of its own
    "joint": ("joint", {}),
    "ogm-ge": ("ogm-ge", {}),
    "ogm-ge-ra": ("ogm-ge-ra", {}),
    "mslr": ("mslr", {}),
    "mses": ("mses", {}),
    "agm": ("agm", {}),
    "agm shared": ("agm", SHARED),
    "agm-1": ("agm-1", {}),
    "agm-ge": ("agm-ge", {}),
    "unimodal": ("unimodal", {}),
    "ensemble": ("ensemble", {}),
}
UNTUNED = ("unimodal", "ensemble")  # these train nothing; they use the unimodal models of joint training
# the methods of early fusion in two parts, so that two processes have about equal work (one of them also does late fusion)
HALVES = {
    "early-1": ("joint", "ogm-ge", "mslr", "mses", "agm", "unimodal", "ensemble"),
    "early-2": ("ogm-ge-ra", "agm shared", "agm-1", "agm-ge"),
}
PARTS = ("features", *FUSIONS, *HALVES, "tables", "table")
PROBED = 640  # number of samples that the estimate trains on
QUANTITIES = ("accuracy", "response/audio", "response/image", "strength/audio", "strength/image")
SHOWN = ("Acc", "Acc_audio", "Acc_image", "d_audio", "d_image")


@dataclass(frozen=True)
class Size:
    """The number of trials and seeds at a scale. Network, samples and epochs are those of the suites' scale of the same name."""

    trials: int  # trials per method; with 0, the scale's rate and the data set's strengths are used without a search
    seeds: int


SIZES = {"small": Size(trials=9, seeds=5), "pilot": Size(trials=0, seeds=3)}


class Study:
    def __init__(self, scale: str) -> None:
        self.scale, self.size = scale, SIZES[scale]
        self.known, self.tracker = registry.load(), MlflowTracker()
        self.suite = suite.read(self.known, "main")
        self.folder = Path("runs") / "reproduce"

    def given(self, fusion: str, title: str) -> Settings:
        """The fixed settings of a method's job. They include the learning rate if it is not tuned."""
        name, own = METHODS[title]
        early = {**CLIPPED, **(SHAPLEY if name.startswith("ogm") else {})} if fusion == "early" else {}
        at = self.suite.at(self.scale, DATA, fusion)
        fixed = {key: value for key, value in at.items() if key != PROTOCOL and (key != RATE or not self.size.trials)}
        return [*{**fixed, **early, **own}.items()]

    def chosen(self, fusion: str, title: str) -> Mapping[str, Any]:
        """The learning rate and the strength of a method's best trial on valid. The trials are run if there is no result yet."""
        if title in UNTUNED:
            return {key: value for key, value in self.chosen(fusion, "joint").items() if key == RATE}
        if not self.size.trials:
            return {}
        kept = self.folder / f"{self.scale}-{fusion}-{title.replace(' ', '-')}.json"
        if not kept.exists():
            tuned = sweep.tune(self.sweep(fusion, title), self.known, MlflowTracker, None, Lines(), print)
            kept.write_text(json.dumps(dict(tuned.best.params)))
        return dict(json.loads(kept.read_text()))

    def sweep(self, fusion: str, title: str) -> sweep.Sweep:
        storage = sqlite(self.tracker.folder / "optuna.db")
        search = sweep.Search(self.size.trials, "grid", "none", storage, device="cpu", fair=True)
        return sweep.plan(self.known, DATA, METHODS[title][0], fusion, self.given(fusion, title), search)

    def job(self, fusion: str, title: str, seed: int) -> jobs.JobSpec:
        settings = {**dict(self.given(fusion, title)), **self.chosen(fusion, title), "seed": seed}
        return jobs.compose(self.known, DATA, METHODS[title][0], fusion, settings=settings.items())

    def run(self, fusion: str, titles: Collection[str]) -> None:
        for title in titles:
            self.chosen(fusion, title)
        for seed in range(1, self.size.seeds + 1):
            for title in titles:
                execute(self.job(fusion, title, seed), self.known, self.tracker, build.device("cpu"), Lines())

    def part(self, name: str) -> None:
        if name in FUSIONS:
            self.run(FUSIONS[name], METHODS)
        elif name in HALVES:
            self.run(FUSIONS["early"], HALVES[name])
        elif name == "table":
            for name, fusion in FUSIONS.items():
                print("\n".join(self.rows(name, fusion)), end="\n\n")
        else:
            {"tables": self.tables, "features": self.features}[name]()

    def tables(self) -> None:
        for name in ("table5", "table6", "table8"):
            for verb in ("run", "report"):
                subprocess.run([sys.executable, "-m", "agmbench", "suite", verb, name, "--scale", self.scale], check=True)

    def features(self) -> None:
        script = Path(__file__).with_name("baselines.py")
        with (self.folder / "features.md").open("w") as file:
            subprocess.run([sys.executable, str(script), DATA], stdout=file, check=True)

    # how long it takes

    def hours(self, fusion: str) -> tuple[float, str]:
        """Estimate how many hours a fusion takes, and say from which times. Joint training and AGM are timed for an epoch on some samples.
        A unimodal model is counted as half of joint training under late fusion, and as all of it under early fusion. Strength and reports
        are not counted."""
        joint, agm = (self.seconds(fusion, title) for title in ("joint", "agm"))
        dear = (
            ("agm", "agm-1", "agm-ge")
            if fusion == "concat"
            else ("ogm-ge", "ogm-ge-ra", "agm", "agm shared", "agm-1", "agm-ge")
        )
        runs = self.size.trials + (2 if self.size.trials else 0) + self.size.seeds
        trained = sum(agm if title in dear else joint for title in METHODS if title not in UNTUNED) * runs
        rates = 4 if self.size.trials else 1
        concepts = 2 * (0.5 if fusion == "concat" else 1.0) * joint * rates * self.size.seeds
        return (trained + concepts) / 3600, f"a job of joint training {joint:.0f} s, of agm {agm:.0f} s"

    def seconds(self, fusion: str, title: str) -> float:
        """The estimated processor time of one job at this scale, in seconds."""
        whole = self.spec_of_scale(fusion, title)
        job = build.resolve(whole.model_copy(update={"limit": PROBED}), self.known)
        model = build.model(job)
        feed = make_feed(job, build.device("cpu"), ("train", "dev", "valid"))
        epochs = train(model, build.modulator(job, model), feed, job.spec.training, 1)
        next(epochs)
        begun = time.process_time()
        next(epochs)
        return (time.process_time() - begun) * (whole.limit or 50_000) / PROBED * whole.training.epochs

    def spec_of_scale(self, fusion: str, title: str) -> jobs.JobSpec:
        settings = {RATE: self.suite.at(self.scale, DATA, fusion)[RATE], **dict(self.given(fusion, title))}
        return jobs.compose(self.known, DATA, METHODS[title][0], fusion, settings=settings.items())

    # results

    def rows(self, name: str, fusion: str) -> Iterator[str]:
        """Yield the lines of a Markdown table: mean and half of the 95 % interval over seeds, and the differences from joint training,
        paired by seed."""
        found = {title: self.found(fusion, title) for title in METHODS}
        yield f"| {name} fusion | n | {' | '.join(SHOWN)} | Acc less joint | printed |"
        yield f"|{'---|' * (len(SHOWN) + 4)}"
        printed = {row.method: row.figures for row in published(DATA, fusion)}
        baseline = {seed: record.metrics["test/accuracy"] for seed, record in found["joint"].items()}
        for title, records in found.items():
            if not records:
                continue
            cells = [spread([record.metrics.get(f"test/{key}") for record in records.values()], key) for key in QUANTITIES]
            less = [record.metrics["test/accuracy"] - baseline[seed] for seed, record in records.items() if seed in baseline]
            theirs = printed.get(METHODS[title][0], {}).get("accuracy") if title != "agm shared" else None
            against = "" if title == "joint" else spread(less, "accuracy")
            yield f"| {title} | {len(records)} | {' | '.join(cells)} | {against} | {'' if theirs is None else theirs} |"

    def found(self, fusion: str, title: str) -> dict[int, Record]:
        """The finished runs of a method by seed; empty if it is not tuned yet."""
        tuned = self.folder / f"{self.scale}-{fusion}-{('joint' if title in UNTUNED else title).replace(' ', '-')}.json"
        if self.size.trials and not tuned.exists():
            return {}
        seeds = range(1, self.size.seeds + 1)
        known = {seed: build.resolve(self.job(fusion, title, seed), self.known).digest for seed in seeds}
        records = {seed: self.tracker.find(digest) for seed, digest in known.items()}
        return {seed: record for seed, record in records.items() if record is not None}


def spread(values: list[Any], key: str) -> str:
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    scale, decimals = (1, 3) if key.startswith("strength") else (100, 2)
    found = interval(values)
    half = "" if found is None else f" ± {scale * (found.high - found.low) / 2:.{decimals}f}"
    return f"{scale * mean(values):.{decimals}f}{half}"


class Lines:
    """A display that prints one line per trained job."""

    def started(self, name: str, epochs: int, done: int) -> None: ...
    def warned(self, text: str) -> None: ...
    def epoch(self, epoch: Epoch) -> None: ...
    def finished(self, record: Record, trained: bool) -> None:
        if trained:
            print(f"{time.strftime('%H:%M:%S')} {record.name}: {record.metrics['test/accuracy']:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [default: all of them]")
    parser.add_argument("--scale", choices=SIZES, default="small")
    parser.add_argument("--estimate", action="store_true", help="say how many hours it takes, and end")
    parser.add_argument("--background", action="store_true", help="begin, say how to follow and how to stop it, and end")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no part '{min(unknown)}'; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)  # another number of threads rounds differently, which gives other means
    study = Study(asked.scale)
    try:
        build.opened(study.known, DATA, {})  # raises if the data are not here, before anything is written
        study.folder.mkdir(parents=True, exist_ok=True)
        if asked.estimate:
            found = {name: study.hours(fusion) for name, fusion in FUSIONS.items()}
            for name, (hours, why) in found.items():
                print(f"scale {asked.scale}, {name} fusion: {hours:.1f} h of one core ({why})")
            print(f"on two cores that nobody else uses: {sum(hours for hours, _ in found.values()) / 2:.1f} h")
        elif asked.background:
            background(study, asked.parts)
        elif asked.parts:
            for part in asked.parts:
                study.part(part)
        else:
            whole(study)
    except AgmbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def whole(study: Study) -> None:
    """Run the parts in two processes at the same time, and then the parts that need both."""
    parts = (["features", "late", "early-1"], ["early-2"])
    processes = [subprocess.Popen([sys.executable, __file__, "--scale", study.scale, *each]) for each in parts]
    ended = [process.wait() for process in processes]
    if any(ended):
        sys.exit("error: a part was not finished; run the same command again to resume it")
    study.part("tables")
    study.part("table")


def background(study: Study, parts: list[str]) -> None:
    log = study.folder / "log"
    with log.open("a") as file:
        words = ["nice", "-n", "19", sys.executable, __file__, "--scale", study.scale, *parts]
        process = subprocess.Popen(words, stdout=file, stderr=file, start_new_session=True)
    print(
        f"it runs in the background; follow it with: tail -f {log}\nstop it with: kill -- -{process.pid}; started again it goes on"
    )


if __name__ == "__main__":
    main()
