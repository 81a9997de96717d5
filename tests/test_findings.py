"""The summary and the ranking of a report: sentences and tests that claim no more than the seeds allow."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_html import nothing, run

from agmbench.errors import AgmbenchError
from agmbench.outcomes import Outcome
from agmbench.records import Record
from agmbench.report.findings import Summary, summary
from agmbench.report.html import page
from agmbench.report.ranking import critical_difference, friedman, groups, ranking, rankings
from agmbench.report.tables import Table, compare

SIX = [50.0, 51, 52, 53, 54, 55]


def runs(modulator: str, accuracies: Sequence[float], cell: str = "cell", **more: Any) -> list[Record]:
    """One run per seed, with these accuracies in percent."""
    return [
        replace(
            run(modulator, {"test/accuracy": value / 100, "best/epoch": 3}, seed, dataset=cell),
            cell=cell,
            digest=f"{modulator} {seed} {cell}",
            **more,
        )
        for seed, value in enumerate(accuracies, 1)
    ]


def said(*records: Record) -> Summary:
    tables = compare(records)
    return summary(tables, rankings(tables), "joint")


def test_a_difference_that_passes_its_test_is_said_with_its_numbers() -> None:
    found = said(*runs("joint", SIX), *runs("agm", [each + 1.2 + seed / 10 for seed, each in enumerate(SIX)]))
    (difference, best) = found.can
    assert re.fullmatch(
        r"agm is 1\.45 points of Acc above joint, 95 % interval \[\+1\.25, \+1\.65\], n = 6, "
        r"significant \(p = 0\.0312 after Holm's correction\)\.",
        difference,
    )
    assert best == "agm has the best mean, and passes its test against every other method."
    assert found.cannot == []


def test_five_seeds_show_an_interval_and_no_test() -> None:
    found = said(*runs("joint", SIX[:5]), *runs("agm", [each + 5 + seed / 10 for seed, each in enumerate(SIX[:5])]))
    (only,) = found.can
    assert "agm is 5.20 points of Acc above joint" in only
    assert "the exact test does not reach 0.05 (with 5 pairs no result could)" in only


def test_many_intervals_are_not_taken_for_findings() -> None:
    ahead = runs("agm", [each + 5 + seed / 10 for seed, each in enumerate(SIX[:5])])
    found = said(*runs("joint", SIX[:5]), *ahead, *runs("ogm", [50, 52, 51, 54, 53.5]))
    assert "No difference from joint can be shown for ogm." in found.cannot
    assert any(
        words.startswith("This report has 2 intervals of 95 %, not corrected for their number") for words in found.cannot
    )


def test_one_seed_says_nothing_of_differences() -> None:
    found = said(*runs("joint", [50]), *runs("agm", [90]))
    assert found.can == []
    assert "With one seed per method, nothing can be said about differences: another seed may reverse them." in found.cannot
    assert "With one seed in common, nothing can be said about the difference between agm and joint." in found.cannot


def test_noise_is_no_difference() -> None:
    found = said(*runs("joint", [50, 60, 55]), *runs("agm", [55, 54, 57]))
    assert (found.can, found.cannot) == ([], ["No difference from joint can be shown for agm."])


def test_the_facts_name_protocol_seeds_and_origin() -> None:
    tags = {"version.agmbench": "0.1.0", "mlflow.source.git.commit": "0123456789abcdef", "device": "cpu"}
    found = said(*runs("joint", [50, 60], tags=tags, selected="test", started=1_700_000_000_000))
    facts = dict(found.facts)
    assert facts["Protocol"] == "The epoch is chosen ON TEST, so figures are those of the best epoch there."
    assert facts["Seeds"] == "2 per method (1, 2)"
    assert facts["Run"] == "2023-11-14"
    assert facts["Made by"] == "agmbench 0.1.0, commit 0123456789ab"
    assert any("figures are too high" in words for words in found.cannot)
    assert "joint is the only method, so there is nothing to compare it with." in found.cannot


# ranking


def grid(orders: Sequence[Mapping[str, float]]) -> list[Table]:
    """One cell per mapping of a method to its accuracy."""
    return compare([one for place, found in enumerate(orders) for m, v in found.items() for one in runs(m, [v], f"set{place}")])


def test_the_published_example_of_ranks() -> None:
    # Demšar 2006, section 3.2.3: 4 methods on 14 data sets, mean ranks 3.143, 2.000, 2.893, 1.964; CD of Nemenyi 1.25, q 2.569
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14) / np.sqrt(4 * 5 / (6 * 14)) == pytest.approx(2.569, abs=0.001)
    assert groups([1.964, 2.0, 2.893, 3.143], 1.25) == [(1.964, 3.143)]


def test_friedmans_p_is_of_the_f_form() -> None:
    values = np.array([[1.0, 2, 3], [1, 2, 3], [2, 1, 3], [1, 3, 2], [1, 2, 3]])
    # mean ranks 1.2, 2, 2.8: chi2 = 12 * 5 / 12 * (1.44 + 4 + 7.84 - 12) = 6.4; F = 4 * 6.4 / (10 - 6.4) = 7.11 on (2, 8)
    assert friedman(values) == pytest.approx(0.0168, abs=0.0005)
    assert friedman(np.ones((5, 3))) == 1
    assert friedman(np.array([[1.0, 2, 3]] * 5)) == 0


def test_methods_are_ranked_over_the_cells_that_have_them() -> None:
    cells = [{"joint": 50.0, "agm": 60.0, "ogm": 55.0} for _ in range(6)]
    tables = grid([*cells, {"joint": 50.0, "agm": 60.0}])
    found = ranking(tables)
    assert found.ranks == {"agm": 1, "ogm": 2, "joint": 3}
    assert found.cells == 6
    assert [*found.left_out] == ["set6, fusion concat"]
    assert found.groups == [(1, 2), (2, 3)]
    text = page(tables, nothing, "joint")
    assert "critical difference 1.35" in text
    assert "agm (1.00)" in text
    assert "Over 6 cells agm has the best mean rank, 1.00 of 3." in text


def test_too_few_cells_have_no_ranking_and_say_why() -> None:
    tables = grid([{"joint": 50.0, "agm": 60.0, "ogm": 55.0} for _ in range(4)])
    assert "at least 3 methods that at least 5 cells (data set, fusion, settings) have in common; there are 4." in page(
        tables, nothing, "joint"
    )


# pictures


def test_settings_that_vary_are_drawn_against_the_figure() -> None:
    def with_alpha(alpha: float) -> list[Record]:
        found = runs("agm", [50 + alpha, 51 + alpha])
        return [
            replace(one, digest=f"{alpha} {place}", spec={**one.spec, "modulator": {"name": "agm", "params": {"alpha": alpha}}})
            for place, one in enumerate(found)
        ]

    text = page(compare([*runs("joint", [50, 51]), *with_alpha(0.5), *with_alpha(2.0)]), nothing, "joint")
    assert "Acc by modulator.alpha" in text
    assert "Sensitivity" not in page(compare([*runs("joint", [50, 51]), *with_alpha(0.5)]), nothing, "joint")


def test_classes_are_told_by_modality_where_outcomes_were_kept() -> None:
    logits = np.eye(3)[[0, 1, 1, 0]] * 2.0  # the targets are 0, 1, 0, 2: class 0 is right once of two times, 1 always, 2 never
    both, audio, image = (frozenset(names) for names in (("audio", "image"), ("audio",), ("image",)))
    outcome = Outcome(
        "classification",
        ("audio", "image"),
        ("<b>", "one", "two"),
        {both: logits, audio: logits, image: 0 * logits},
        np.array([0, 1, 0, 2]),
    )
    table = compare(runs("joint", [50, 51]))
    text = page(table, nothing, "joint", kept=lambda record: {"test": outcome})
    row = re.findall(r"<tr><th>joint</th>(.*?)</tr>", text[text.index("Accuracy per class, %, with all modalities") :])[0]
    assert re.findall(r">(\d+)</td>", row) == ["50", "100", "0"]
    assert "by the Shapley response of audio" in text
    assert "&lt;b&gt;" in text

    def lost(record: Record) -> Mapping[str, Outcome]:
        raise AgmbenchError("lost")

    assert "Accuracy per class" not in page(table, nothing, "joint", kept=lost)


def test_runs_are_linked_where_a_server_has_them() -> None:
    from agmbench.report.export import Origin

    table = compare(runs("joint", [50]))
    assert 'href="http://host:5000/#/runs/joint 1"' in page(table, nothing, "joint", origin=Origin("http://host:5000/"))
    assert "http:" not in page(table, nothing, "joint", origin=Origin("sqlite:////runs/mlflow.db"))
