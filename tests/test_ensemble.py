"""The baselines that combine finished unimodal models: ensemble and unimodal, from the command line to the numbers."""

import numpy as np
import pytest
from conftest import SMALL, CommandLine
from pyarrow import parquet

from agmbench import predictions
from agmbench.records import Record
from agmbench.trackers.mlflow import MlflowTracker


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    line = CommandLine(tmp_path_factory.mktemp("ensemble"))
    for words in (("ensemble", "--no-strength"), ("unimodal",), ("unimodal", "--set", "modulator.modality=m0")):
        result = line("run", "--modulator", *words, *SMALL)
        assert result.status == 0, result.err
    return line


def records(line: CommandLine) -> tuple[MlflowTracker, dict[str, list[Record]]]:
    tracker = MlflowTracker(line.folder / "runs")
    found: dict[str, list[Record]] = {}
    for record in reversed(tracker.records()):
        key = f"concept {record.modalities[0]}" if record.concept else record.spec["modulator"]["name"]
        found.setdefault(key, []).append(record)
    return tracker, found


def logits(tracker: MlflowTracker, record: Record) -> dict[str, np.ndarray]:
    with tracker.artifact(record, "predictions.parquet") as path:
        found = predictions.outcomes(path, "classification", ("m0", "m1"))
    return {split: outcome.full for split, outcome in found.items()}


def test_an_ensemble_answers_with_the_mean_of_the_concepts_probabilities(store: CommandLine) -> None:
    tracker, found = records(store)
    concepts = [logits(tracker, found[f"concept {m}"][0])["test"] for m in ("m0", "m1")]
    said = logits(tracker, found["ensemble"][0])["test"]

    def probabilities(logits: np.ndarray) -> np.ndarray:
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)

    expected = (probabilities(concepts[0]) + probabilities(concepts[1])) / 2
    np.testing.assert_allclose(np.exp(said), expected, atol=1e-5)


def test_no_strength_leaves_strength_out_though_the_concepts_are_there(store: CommandLine) -> None:
    _, found = records(store)
    assert not any(name.startswith("test/strength") for name in found["ensemble"][0].metrics)
    assert any(name.startswith("test/strength") for name in found["unimodal"][0].metrics)


def test_strength_can_be_measured_later(store: CommandLine) -> None:
    result = store("run", "--modulator", "ensemble", *SMALL)
    assert result.status == 0, result.err
    _, found = records(store)
    assert len(found["ensemble"]) == 1
    assert "test/strength/m0" in found["ensemble"][0].metrics


def test_unimodal_is_the_concept_that_is_best_on_valid_or_the_one_named(store: CommandLine) -> None:
    tracker, found = records(store)

    def table(record: Record) -> np.ndarray:
        return logits(tracker, record)["test"]

    def right_on_valid(m: str) -> float:
        with tracker.artifact(found[f"concept {m}"][0], "predictions.parquet") as path:
            rows = parquet.read_table(path).to_pandas()
        valid = rows[rows["split"] == "valid"]
        return float((valid["prediction"] == valid["target"]).mean())

    best = max(("m0", "m1"), key=right_on_valid)
    free, named = found["unimodal"]
    for record, modality in ((free, best), (named, "m0")):
        concept = found[f"concept {modality}"][0]
        assert record.metrics["test/accuracy"] == concept.metrics["test/accuracy"]
        np.testing.assert_array_equal(table(record).argmax(axis=1), table(concept).argmax(axis=1))


@pytest.mark.bad_input
def test_a_modality_that_is_not_there_is_refused(line: CommandLine) -> None:
    error = line.refused("run", "--modulator", "unimodal", "--set", "modulator.modality=smell", *SMALL)
    assert "cannot take 'smell' alone, no modality of this data set: m0, m1" in error
