"""A job is made of names and settings: everything that fixes its numbers is checked, and identified by a digest."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import agmbench.registry as registry
from agmbench.errors import AgmbenchError
from agmbench.jobs import LATER, Component, JobSpec, compose, digest, parse_settings
from agmbench.parameters import resolved
from agmbench.registry import Entry, Registry


def builtin() -> Registry:
    return registry.load(Path("no plugins"))


def changed(name: str, **fields: Any) -> Registry:
    """The built-in registry with one entry changed."""
    return Registry([replace(entry, **fields) if str(entry) == name else entry for entry in builtin().entries()])


def synthetic(*settings: str, **names: Any) -> JobSpec:
    return compose(builtin(), "synthetic", settings=parse_settings(settings), **names)


def avmnist(*settings: str, **names: Any) -> JobSpec:
    return compose(builtin(), "avmnist-mini", settings=parse_settings(settings), **names)


def refused(*settings: str, **names: Any) -> str:
    with pytest.raises(AgmbenchError) as error:
        synthetic(*settings, **names)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_data_set_brings_the_defaults_of_its_jobs() -> None:
    job = {
        "encoders": {"m0": {"name": "mlp", "params": {"hidden": 8}}, "m1": "conv"},
        "fusion": {"name": "early", "params": {"out": 6}},
        "training": {"epochs": 7, "lr": 0.5, "schedule": {"name": "cosine"}},
        "seed": 3,
    }
    spec = compose(changed("dataset/synthetic", job=job), "synthetic")
    assert spec.dataset == Component(name="synthetic")
    assert spec.encoders == {"m0": Component(name="mlp", params={"hidden": 8}), "m1": Component(name="conv")}
    assert spec.fusion == Component(name="early", params={"out": 6})
    assert (spec.modulator.name, spec.seed, spec.present) == ("joint", 3, None)
    assert (spec.training.epochs, spec.training.lr, spec.training.schedule.name) == (7, 0.5, "cosine")
    assert spec.training.optimizer == "sgd"


def test_what_a_data_set_does_not_say_is_the_paper_s() -> None:
    spec = compose(changed("dataset/synthetic", job={"encoders": {"*": "mlp"}}), "synthetic")
    assert (spec.fusion.name, spec.modulator.name, spec.seed) == ("concat", "joint", 999)
    recipe = spec.training
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer, recipe.lr) == (100, 64, "sgd", 1e-3)
    assert (recipe.momentum, recipe.weight_decay, recipe.schedule.name, recipe.select) == (0.9, 1e-4, "constant", "valid")


@pytest.mark.parametrize("entry", builtin().entries("dataset"), ids=str)
def test_every_builtin_data_set_composes(entry: Entry) -> None:
    assert compose(builtin(), entry.name).dataset.name == entry.name


def test_named_components_replace_the_defaults() -> None:
    spec = avmnist(modulator="agm", fusion="early", encoders={"audio": "resnet"})
    assert (spec.modulator.name, spec.fusion.name, spec.encoders["audio"].name) == ("agm", "early", "resnet")
    assert spec.encoders["image"].name == "conv"


@pytest.mark.parametrize(
    ("setting", "path", "value"),
    [
        ("dataset.samples=128", ("dataset", "params", "samples"), 128),
        ("fusion.hidden=7", ("fusion", "params", "hidden"), 7),
        ("modulator.alpha=1.5", ("modulator", "params", "alpha"), 1.5),
        ("modulator.cap=null", ("modulator", "params", "cap"), None),
        ("encoder.m0.hidden=9", ("encoders", "m0", "params", "hidden"), 9),
        ("encoders.m0.hidden=9", ("encoders", "m0", "params", "hidden"), 9),
        ("encoder.*.hidden=9", ("encoders", "*", "params", "hidden"), 9),
        ("training.lr=1e-3", ("training", "lr"), 0.001),
        ("training.schedule.name=step", ("training", "schedule", "name"), "step"),
        ("training.schedule.gamma=0.5", ("training", "schedule", "gamma"), 0.5),
        ("seed=5", ("seed",), 5),
    ],
)
def test_a_dotted_key_sets_one_value(setting: str, path: tuple[str, ...], value: object) -> None:
    found: Any = synthetic(setting, modulator="agm", fusion="early").canonical()
    for key in path:
        found = found[key]
    assert found == value


def test_a_setting_changes_nothing_else() -> None:
    before, after = synthetic().canonical(), synthetic("training.lr=0.5").canonical()
    assert after["training"].pop("lr") != before["training"].pop("lr")
    assert after == before


@pytest.mark.parametrize(
    "settings",
    [
        ["training.lr=0.5"],
        ["training.schedule.name=step"],
        ["encoder.*.hidden=9"],
        ["encoder.m0.layers=2"],
        ["training.select_by=macro-f1"],
        ["dataset.samples=128"],
        ["modulator.alpha=3"],
    ],
    ids=str,
)
def test_settings_of_one_job_do_not_reach_the_next(settings: list[str]) -> None:
    nested = {"encoders": {"*": {"name": "mlp", "params": {"hidden": 32}}}, "training": {"schedule": {"name": "cosine"}}}
    shared = changed("dataset/synthetic", job={**nested, "modulators": {"agm": {"cap": 3}}})
    before = compose(shared, "synthetic", "agm")
    compose(shared, "synthetic", "agm", settings=parse_settings(settings))
    assert compose(shared, "synthetic", "agm") == before


def test_a_data_set_has_defaults_for_single_modulators() -> None:
    job = {"encoders": {"*": "mlp"}, "modulators": {"agm": {"alpha": 2.5}}}
    tuned = changed("dataset/synthetic", job=job)
    assert compose(tuned, "synthetic", "agm").modulator.params == {"alpha": 2.5}
    assert compose(tuned, "synthetic", "ogm").modulator.params == {}
    assert compose(tuned, "synthetic", "agm", settings=[("modulator.alpha", 1)]).modulator.params == {"alpha": 1}
    assert compose(tuned, "synthetic", "agm").modulator.params == {"alpha": 2.5}


def test_aliases_become_names() -> None:
    assert synthetic(fusion="late") == synthetic(fusion="concat")
    assert (
        compose(changed("dataset/synthetic", job={"encoders": {"*": "mlp"}, "fusion": "late"}), "synthetic").fusion.name
        == "concat"
    )


def test_an_alias_of_the_default_keeps_its_parameters() -> None:
    aliased = changed("encoder/mlp", aliases=("perceptron",))
    assert compose(aliased, "synthetic", encoders={"*": "perceptron"}) == compose(aliased, "synthetic")


def test_a_default_under_an_alias_keeps_its_parameters() -> None:
    job = {"encoders": {"*": "mlp"}, "fusion": {"name": "late", "params": {"x": 1}}}
    assert compose(changed("dataset/synthetic", job=job), "synthetic", fusion="concat").fusion.params == {"x": 1}


def test_another_component_brings_none_of_the_old_parameters() -> None:
    spec = avmnist(encoders={"audio": "mlp"})
    assert spec.encoders["audio"] == Component(name="mlp")
    assert spec.encoders["image"] == avmnist().encoders["image"]
    assert spec.encoders["image"].params


def test_the_same_component_named_again_keeps_its_parameters() -> None:
    assert avmnist(encoders={"audio": "conv"}) == avmnist()


def test_a_setting_of_one_modality_starts_from_the_wildcard() -> None:
    spec = synthetic("encoder.m1.hidden=8")
    assert spec.encoders["*"].params == {"hidden": 32, "layers": 1}
    assert spec.encoders["m1"] == Component(name="mlp", params={"hidden": 8, "layers": 1})


def test_the_wildcard_encoder_can_be_replaced() -> None:
    assert synthetic(encoders={"*": "transformer"}).encoders == {"*": Component(name="transformer")}


def test_a_wildcard_encoder_asked_for_is_not_ignored() -> None:
    assert {component.name for component in avmnist(encoders={"*": "mlp"}).encoders.values()} == {"mlp"}


def test_an_encoder_may_be_named_by_a_setting_in_any_order() -> None:
    spec = compose(builtin(), "avmnist-mini", settings=[("encoder.image.hidden", 8), ("encoder.image", "mlp")])
    assert spec.encoders["image"] == Component(name="mlp", params={"hidden": 8})
    assert spec.encoders["audio"] == avmnist().encoders["audio"]
    assert synthetic("encoder.*=transformer").encoders == {"*": Component(name="transformer")}
    assert synthetic("encoder.m0=mlp") == synthetic(encoders={"m0": "mlp"}), "its own name changes nothing"


def test_the_wildcard_s_component_named_for_one_modality_keeps_its_parameters() -> None:
    spec = synthetic(encoders={"m0": "mlp"})
    assert spec.encoders["m0"] == spec.encoders["*"]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("modulatr.alpha=3", "--set modulatr.alpha: no such setting: did you mean 'modulator.P'?"),
        ("alpha=3", "--set alpha: no such setting: "),
        ("modulator=agm", "--set modulator: no such setting"),
        ("modulator.name=agm", "--set modulator.name: no such setting"),
        ("fusion.a.b=1", "--set fusion.a.b: no such setting"),
        ("encoder.hidden=1", "--set encoder.hidden: no such setting"),
        ("present=[m0]", "--set present: no such setting"),
        (
            "training.epoch=3",
            "unknown setting 'training.epoch': did you mean 'epochs'? Known: accumulate, batch_size, cache_features, class_weights,",
        ),
        (
            "training.schedule.gama=1",
            "unknown setting 'training.schedule.gama': did you mean 'gamma'? Known: args, gamma, last, name,",
        ),
        ("training.epochs=many", "'training.epochs' is 'many': input should be a valid integer"),
        ("training.epochs=2.5", "'training.epochs' is 2.5: input should be a valid integer"),
        ("training.lr=0", "'training.lr' is 0: input should be greater than 0"),
        ("training.clip_norm=0", "'training.clip_norm' is 0: input should be greater than 0"),
        ("training.clip_value=-1", "'training.clip_value' is -1: input should be greater than 0"),
        ("training.early_stopping=0", "'training.early_stopping' is 0: input should be greater than or equal to 1"),
        ("training.reduction=median", "'training.reduction' is 'median': input should be 'mean' or 'sum'"),
        ("training.schedule.last=0", "'training.schedule.last' is 0: input should be greater than or equal to 1"),
        (
            "training.schedule.name=plato",
            "'training.schedule.name' is 'plato': input should be 'constant', 'step', 'cosine',",
        ),
        ("training.lr=.inf", "'training.lr' is inf: input should be a finite number"),
        ("training.batch_size=1", "'training.batch_size' is 1: input should be greater than or equal to 2"),
        ("training.optimizer=3", "'training.optimizer' is 3: input should be a valid string"),
        ("training.schedule=cosine", "'training.schedule' is 'cosine'"),
        ("training.select=test", "'training.select' is 'test': input should be 'valid' or 'last'"),
        ("training.lr.x=0", "'training.lr_of.x' is 0: input should be greater than 0"),
        ("training.momentum.x=1", "training.momentum"),
        ("seed=-1", "'seed' is -1"),
        ("seed=2147483648", "'seed' is 2147483648"),
        (
            "metrics=[accuracy]",
            "metrics are not part of a job, because every run is measured by all of them; choose what is shown with agmbench compare",
        ),
    ],
)
def test_a_bad_setting_is_one_line(setting: str, expected: str) -> None:
    assert expected in refused(setting)


def test_a_value_and_a_part_of_it_cannot_both_be_set() -> None:
    with pytest.raises(AgmbenchError, match=r"training\.schedule"):
        synthetic("training.schedule=cosine", "training.schedule.gamma=0.5")


def test_a_setting_of_an_unknown_modality_names_the_known_ones() -> None:
    with pytest.raises(AgmbenchError) as error:
        avmnist("encoder.audi.width=8")
    assert "--set encoder.audi.width: no encoder for 'audi': did you mean 'audio'? Known: audio, image." in str(error.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"modulator": "amg"}, "unknown modulator 'amg': did you mean 'agm'?"),
        ({"fusion": "lat"}, "unknown fusion 'lat': did you mean 'late'?"),
        ({"encoders": {"m0": "resnt"}}, "unknown encoder 'resnt': did you mean 'resnet'?"),
    ],
)
def test_an_unknown_component_is_one_line(names: Mapping[str, Any], expected: str) -> None:
    assert expected in refused(**names)


def test_an_unknown_data_set_is_one_line() -> None:
    with pytest.raises(AgmbenchError, match="unknown dataset 'sinthetic': did you mean 'synthetic'"):
        compose(builtin(), "sinthetic")


@pytest.mark.parametrize(
    "job",
    [
        {"encoders": ["mlp"]},
        {"encoders": {"*": 3}},
        {"encoders": {"*": {"name": "mlp", "params": 3}}},
        {"encoders": {"*": {"params": {"hidden": 3}}}},
        {"encoders": {"*": "mlp"}, "fusion": 3},
        {"encoders": {"*": "mlp"}, "fusion": {"nam": "concat"}},
        {"encoders": {"*": "mlp"}, "training": 3},
        {"encoders": {"*": "mlp"}, "modulators": ["agm"]},
        {"encoders": {"*": "mlp"}, "modulators": {"agm": 3}},
        {"encoders": {"*": "mlp"}, "epochs": 3},
    ],
    ids=str,
)
def test_malformed_defaults_of_a_data_set_are_an_error_with_a_reason(job: Mapping[str, Any]) -> None:
    with pytest.raises(AgmbenchError):
        compose(
            changed("dataset/synthetic", job=job), "synthetic", "agm", settings=[("training.lr", 0.1), ("modulator.alpha", 1)]
        )


# --set texts


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("modulator.alpha=0.1", "modulator.alpha", 0.1),
        ("modulator.only_conv=true", "modulator.only_conv", True),
        ("modulator.cap=null", "modulator.cap", None),
        ("modulator.cap=", "modulator.cap", None),
        ("dataset.strength=[1, 2.5]", "dataset.strength", [1, 2.5]),
        ("encoder.image.model_args={depth: 2}", "encoder.image.model_args", {"depth": 2}),
        ("dataset.split=takes", "dataset.split", "takes"),
        (" seed = 3 ", "seed", 3),
        ("encoder.image.model=a=b", "encoder.image.model", "a=b"),
    ],
)
def test_values_are_read_as_yaml(text: str, key: str, value: object) -> None:
    assert parse_settings([text]) == [(key, value)]


@pytest.mark.parametrize("text", ["alpha", "=1", " =1", ""])
def test_a_setting_without_key_or_value_shows_the_form(text: str) -> None:
    with pytest.raises(AgmbenchError, match=r"should be key=value, such as modulator\.alpha"):
        parse_settings([text])


@pytest.mark.parametrize("value", ["[1", "{a: b: c}", "!!python/name:os.system", "2026-99-99", "{[1]: 2}"])
def test_a_value_that_is_no_yaml_is_one_line(value: str) -> None:
    with pytest.raises(AgmbenchError, match="the value is not YAML"):
        parse_settings([f"seed={value}"])


# digests


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert len(digest({})) == 16
    assert set(digest({})) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"encoder": {"*": "mlp"}}, "unknown setting 'encoder': did you mean 'encoders'?"),
        ({"encoders": {"*": "mpl"}}, "unknown encoder 'mpl': did you mean 'mlp'?"),
        ({"training": {"lr": "high"}}, "'training.lr' is 'high': "),
        ({"encoders": {"*": {"name": "mlp", "parms": {}}}}, "unknown setting 'encoders.*.parms': did you mean 'params'?"),
    ],
)
def test_what_is_wrong_in_a_data_set_s_job_names_its_place_and_not_the_command(job: Mapping[str, Any], said: str) -> None:
    with pytest.raises(AgmbenchError) as error:
        compose(changed("dataset/synthetic", job=job), "synthetic", settings=[("training.lr", 0.1)])
    assert str(error.value).startswith(f"{builtin().get('dataset', 'synthetic').place}: job of dataset/synthetic: {said}")


def test_the_digest_of_a_job_does_not_depend_on_the_order_of_settings() -> None:
    settings = ["modulator.alpha=2", "modulator.cap=3", "encoder.m0.hidden=8", "training.epochs=3"]
    one, two = (synthetic(*each, modulator="agm") for each in (settings, settings[::-1]))
    assert digest(one.canonical()) == digest(two.canonical())


def test_the_digest_is_the_same_in_every_release() -> None:
    assert digest({"b": [1, 2.5, None, True], "a": "ä"}) == "f11879da5f07e530"


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "training.select_by=macro-f1",
        "dataset.samples=128",
        "modulator.alpha=2",
        "fusion.hidden=7",
        "encoder.*.hidden=8",
        "encoder.m0.hidden=32",
        "training.epochs=3",
        "training.batch_size=32",
        "training.optimizer=adam",
        "training.lr=0.01",
        "training.momentum=0.5",
        "training.weight_decay=0",
        "training.select=last",
        "training.schedule.name=step",
        "training.schedule.step_size=3",
        "training.schedule.gamma=0.5",
        "training.reduction=sum",
        "training.clip_value=1",
        "training.clip_norm=1",
        "training.clip_when=head",
        "training.early_stopping=3",
        "training.drop_last=true",
        "training.schedule.last=2",
        "training.schedule.patience=2",
        "training.schedule.reload=true",
        "training.optimizer_args.nesterov=true",
        "training.lr.m0=0.1",
        "training.weight_decay.fusion=0",
        "training.layer_decay=0.5",
        "training.label_smoothing=0.1",
        "training.class_weights=balanced",
        "training.sampling=balanced",
        "training.mixup=0.2",
        "training.ema=0.99",
        "training.cache_features=true",
        "training.schedule.warmup=2",
        "training.schedule.args.min_lr=0.1",
    ],
)
def test_every_field_is_in_the_digest(setting: str) -> None:
    assert digest(synthetic(setting).identity()) != digest(synthetic().identity())


def test_what_came_later_is_in_no_digest_where_it_is_not_made_use_of() -> None:
    training = synthetic().identity()["training"]
    first = "epochs batch_size accumulate optimizer lr momentum weight_decay schedule select precision"
    assert set(training) == set(first.split())
    assert set(training["schedule"]) == {"name", "step_size", "gamma"}
    for place, later in LATER.items():
        kind, _, name = place.partition("/")
        if kind == "dataset":
            continue  # data sets are tested in test_identity.py
        at = {"encoder": "encoder.*", "fusion": "fusion"}.get(kind, place)
        settings = [(f"{at}.{key}", value) for key, value in later.items()]
        named: dict[str, Any] = {"fusion": name} if kind == "fusion" else {"encoders": {"*": name}} if kind == "encoder" else {}
        plain = compose(builtin(), "synthetic", **named).identity()
        assert compose(builtin(), "synthetic", settings=settings, **named).identity() == plain
        if name:
            defaults = resolved(builtin(), kind, Component(name=name)).params
            assert {key: defaults[key] for key in later} == later, "a job's file of before is that job"
        assert all(
            compose(builtin(), "synthetic", settings=[(key, 7)], **named).identity() != plain for key, _ in settings if name
        )


def test_components_and_presence_are_in_the_digest() -> None:
    plain = synthetic()
    others = [
        synthetic(modulator="agm"),
        synthetic(fusion="sum"),
        synthetic(encoders={"*": "transformer"}),
        plain.model_copy(update={"present": ("m0",)}),
        plain.model_copy(update={"dataset": Component(name="other")}),
    ]
    assert len({digest(spec.canonical()) for spec in [plain, *others]}) == 6


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        synthetic().seed = 3


def test_a_spec_comes_back_from_its_plain_form() -> None:
    spec = synthetic("dataset.strength=[1, 2]", modulator="agm")
    assert JobSpec.model_validate(spec.canonical()) == spec
