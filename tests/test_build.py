"""From a spec to live objects: parameters, digests, cells, unimodal models, and refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import agmbench.registry as registry
from agmbench import build
from agmbench.build import Job
from agmbench.contracts import Encoder
from agmbench.errors import AgmbenchError
from agmbench.jobs import Component, JobSpec, Training, compose, parse_settings
from agmbench.parameters import check_parameters, parameters
from agmbench.registry import Entry, Registry

ENTRIES = registry.load(Path("no plugins")).entries()
SETTINGS = [(entry, name) for entry in ENTRIES for name in parameters(entry).model_fields]
IMPOSSIBLE: list[list[int]] = [[]]  # a value that fits the type of no parameter


def builtin() -> Registry:
    return registry.load(Path("no plugins"))


def changed(name: str, **fields: Any) -> Registry:
    """The built-in registry with one entry changed."""
    return Registry([replace(entry, **fields) if str(entry) == name else entry for entry in builtin().entries()])


def spec(*settings: str, **names: Any) -> JobSpec:
    return compose(builtin(), "synthetic", settings=[("dataset.samples", 64), *parse_settings(settings)], **names)


def job(*settings: str, **names: Any) -> Job:
    return build.resolve(spec(*settings, **names), builtin())


def refused(*settings: str, **names: Any) -> str:
    """The one line that says why a job cannot be built."""

    def prepare() -> None:
        made = job(*settings, **names)
        build.modulator(made, build.model(made))

    with pytest.raises(AgmbenchError) as error:
        prepare()
    assert "\n" not in str(error.value)
    return str(error.value)


# parameters


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_entry_has_defaults_that_it_accepts(entry: Entry) -> None:
    defaults = check_parameters(entry, {})
    assert list(defaults) == list(parameters(entry).model_fields)
    assert check_parameters(entry, defaults) == defaults


@pytest.mark.parametrize("entry", ENTRIES, ids=str)
def test_every_entry_rejects_a_parameter_that_it_does_not_have(entry: Entry) -> None:
    with pytest.raises(AgmbenchError, match=f"{entry} has no parameter 'zzzzz': Known: "):
        check_parameters(entry, {"zzzzz": 1})


@pytest.mark.parametrize(("entry", "name"), SETTINGS, ids=str)
def test_every_parameter_rejects_what_is_not_of_its_type(entry: Entry, name: str) -> None:
    with pytest.raises(AgmbenchError) as error:
        check_parameters(entry, {name: IMPOSSIBLE})
    assert f"parameter '{name}' of {entry} is " in str(error.value)
    assert ": should be " in str(error.value)
    assert "anything" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.search], ids=str)
def test_every_search_range_is_of_a_parameter_and_holds_allowed_values(entry: Entry) -> None:
    for name, domain in entry.search.items():
        for value in domain.get("choices") or (domain["low"], domain["high"]):
            if entry.kind == "dataset":
                assert (name, Training(lr=value).lr) == ("training.lr", value)
                continue
            assert check_parameters(entry, {name: value})[name] == value


def test_the_nearest_parameter_is_named() -> None:
    assert "modulator/agm has no parameter 'alhpa': did you mean 'alpha'?" in refused("modulator.alhpa=1", modulator="agm")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("modulator.alpha=much", "parameter 'alpha' of modulator/agm is 'much': should be a number >= 0"),
        ("modulator.alpha=.nan", "parameter 'alpha' of modulator/agm is nan: should be a number >= 0"),
        ("modulator.cap=0", "parameter 'cap' of modulator/agm is 0: should be a number > 0 or null"),
        ("modulator.coalitions=fast", "should be one of exact, shared"),
        ("modulator.starts=1.5", "should be a whole number >= 0"),
        ("modulator.muted_gradient=maybe", "should be true or false"),
        ("encoder.m0.hidden=0", "parameter 'hidden' of encoder/mlp is 0: should be a whole number > 0"),
        ("encoder.*.dropout=1", "should be a number >= 0 and < 1"),
        ("dataset.modalities=6", "should be a whole number >= 1 and <= 5"),
        ("fusion.hidden=8", "fusion/concat has no parameter 'hidden': Known: none."),
    ],
)
def test_a_bad_parameter_says_what_it_should_be(setting: str, expected: str) -> None:
    assert expected in refused(setting, modulator="agm")


def test_an_entry_overrides_the_signature_and_a_setting_overrides_both() -> None:
    tuned = changed("modulator/agm", params={"alpha": 2.5, "cap": 3})
    entry = tuned.get("modulator", "agm")
    assert (check_parameters(entry, {})["alpha"], check_parameters(entry, {})["cap"]) == (2.5, 3)
    assert check_parameters(entry, {"alpha": 1})["alpha"] == 1
    assert check_parameters(entry, {"cap": None})["cap"] is None


def test_a_wrong_override_in_an_entry_names_the_parameter() -> None:
    entry = changed("modulator/agm", params={"alhpa": 2.5}).get("modulator", "agm")
    with pytest.raises(AgmbenchError, match="modulator/agm has no parameter 'alhpa': did you mean 'alpha'"):
        check_parameters(entry, {})


def test_numbers_written_as_text_are_numbers() -> None:
    assert job("modulator.alpha=1e-3", modulator="agm").spec.modulator.params["alpha"] == 0.001


def test_a_parameter_without_default_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "needy"
    folder.mkdir(parents=True)
    (folder / "registry.yaml").write_text("encoders:\n  needy: {target: needy:Needy}\n")
    code = "from agmbench.contracts import Encoder\n\n\nclass Needy(Encoder):\n    def __init__(self, shape, *, width: int):\n"
    (folder / "needy.py").write_text(f"{code}        super().__init__(shape)\n")
    entry = registry.load(tmp_path / "plugins").get("encoder", "needy")
    with pytest.raises(AgmbenchError, match=r"'width' of encoder/needy") as error:
        check_parameters(entry, {})
    assert "is {}" not in str(error.value)


# digests and cells


def test_a_resolved_job_knows_every_parameter() -> None:
    full = job(modulator="agm", fusion="early").spec
    assert list(full.encoders) == ["m0", "m1"]
    assert full.modulator.params["coalitions"] == "exact"
    assert full.fusion.params["hidden"] == 2048
    assert full.encoders["m0"].params == {"hidden": 32, "layers": 1, "dropout": 0.0}
    assert full.dataset.params["strength"] == 2.0


@pytest.mark.parametrize("modulator", [entry.name for entry in ENTRIES if entry.kind == "modulator"])
def test_defaults_given_explicitly_are_the_same_job(modulator: str) -> None:
    plain = job(modulator=modulator)
    again = build.resolve(plain.spec, builtin())
    assert (again.digest, again.cell) == (plain.digest, plain.cell)


@pytest.mark.parametrize(
    "setting",
    [
        "modulator.alpha=1",
        "modulator.alpha=1.0",
        "modulator.cap=null",
        "encoder.m0.hidden=32",
        "dataset.strength=2",
        "seed=999",
    ],
)
def test_one_default_given_explicitly_is_the_same_job(setting: str) -> None:
    assert job(setting, modulator="agm").digest == job(modulator="agm").digest


def test_an_alias_is_the_same_job() -> None:
    assert job(fusion="late").digest == job(fusion="concat").digest


@pytest.mark.parametrize(
    "setting",
    [
        "seed=1",
        "dataset.samples=128",
        "dataset.noise=2",
        "modulator.alpha=2",
        "encoder.m0.hidden=8",
        "training.lr=0.5",
        "training.schedule.name=step",
        "training.select_by=macro-f1",
    ],
)
def test_what_changes_a_number_changes_the_digest(setting: str) -> None:
    assert job(setting, modulator="agm").digest != job(modulator="agm").digest


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("dataset/synthetic", True),
        ("encoder/mlp", True),
        ("fusion/concat", True),
        ("modulator/agm", True),
        ("metric/macro-f1", False),
        ("modulator/ogm", False),
        ("encoder/conv", False),
    ],
)
def test_the_version_of_each_component_used_is_in_the_digest(name: str, counts: bool) -> None:
    plain = job(modulator="agm")
    raised = build.resolve(spec(modulator="agm"), changed(name, version="2"))
    assert (raised.digest != plain.digest) == counts


def test_the_fingerprint_of_the_data_is_in_the_digest(tmp_path: Path) -> None:
    folder = tmp_path / "plugins" / "renewed"
    folder.mkdir(parents=True)
    (folder / "registry.yaml").write_text(
        "datasets:\n  renewed: {target: 'renewed:Renewed', job: {encoders: {'*': mlp}, fusion: concat}}\n"
    )
    (folder / "renewed.py").write_text(
        "from agmbench.datasets.synthetic import Synthetic\n\n\nclass Renewed(Synthetic):\n    data = 'old'\n\n"
        "    def __init__(self, seed: int):\n        super().__init__(seed)\n        self.fingerprint = self.data\n"
    )
    found = registry.load(tmp_path / "plugins")
    before = build.resolve(compose(found, "renewed"), found)
    found.get("dataset", "renewed").load().data = "new"
    assert build.resolve(compose(found, "renewed"), found).digest != before.digest


@pytest.mark.parametrize("settings", [["seed=1"], ["modulator.alpha=2"]], ids=str)
def test_seeds_and_modulators_share_a_cell(settings: list[str]) -> None:
    plain = job()
    other = job(*settings, modulator="agm")
    assert other.cell == plain.cell
    assert other.digest != plain.digest


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (["dataset.noise=2"], {}),
        (["encoder.m0.hidden=8"], {}),
        (["training.epochs=2"], {}),
        (["training.select_by=macro-f1"], {}),
        ([], {"fusion": "sum"}),
        ([], {"encoders": {"m0": "mlp"}, "fusion": "early"}),
    ],
    ids=str,
)
def test_other_settings_are_another_cell(settings: list[str], names: dict[str, Any]) -> None:
    assert job(*settings, **names).cell != job().cell


@pytest.mark.parametrize(("name", "same"), [("encoder/mlp", False), ("modulator/agm", True)])
def test_a_cell_knows_the_versions_of_all_but_the_modulator(name: str, same: bool) -> None:
    raised = build.resolve(spec(modulator="agm"), changed(name, version="2"))
    assert (raised.cell == job().cell) == same


# concepts


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_a_concept_of_an_additive_fusion_has_one_encoder(fusion: str) -> None:
    made = job(fusion=fusion, modulator="agm")
    concepts = build.concepts(made)
    assert list(concepts) == ["m0", "m1"]
    for modality, concept in concepts.items():
        assert list(concept.encoders) == [modality]
        assert (concept.present, concept.modulator) == ((modality,), Component(name="joint"))
        alone = build.resolve(concept, builtin())
        assert alone.modalities == (modality,)
        assert list(build.model(alone).encoders) == [modality]


def test_a_concept_of_another_fusion_is_the_same_network_with_the_others_muted() -> None:
    made = job("fusion.hidden=8", "fusion.out=6", fusion="early", modulator="agm")
    for modality, concept in build.concepts(made).items():
        assert concept.encoders == made.spec.encoders
        alone = build.resolve(concept, builtin())
        model = build.model(alone)
        assert list(model.encoders) == ["m0", "m1"]
        assert model.modalities == alone.modalities == (modality,)


@pytest.mark.parametrize("fusion", ["concat", "early"])
def test_all_modulators_share_their_concepts(fusion: str) -> None:
    def digests(modulator: str, *settings: str) -> list[str]:
        made = job(*settings, modulator=modulator, fusion=fusion)
        return [build.resolve(concept, builtin()).digest for concept in build.concepts(made).values()]

    assert digests("agm", "modulator.alpha=3") == digests("joint") == digests("agm-ge")
    assert digests("joint", "seed=1") != digests("joint")
    assert len(set(digests("joint"))) == 2


def test_a_concept_has_no_concepts() -> None:
    concept = build.concepts(job())["m0"]
    assert build.concepts(build.resolve(concept, builtin())) == {}


# live objects


@pytest.mark.parametrize("fusion", ["concat", "early", "sum"])
def test_the_seed_gives_the_weights(fusion: str) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return list(build.model(job(f"seed={seed}", fusion=fusion)).state_dict().values())

    for one, two in zip(weights(3), weights(3), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert not all(torch.equal(one, two) for one, two in zip(weights(3), weights(4), strict=True))


def test_parameters_reach_the_components() -> None:
    made = job("modulator.alpha=3", "encoder.m1.hidden=5", "dataset.classes=3", modulator="agm")
    model = build.model(made)
    assert model.encoders["m1"].out_features == 5
    assert model.encoders["m0"].out_features == 32
    assert model.fusion.heads()[0].weight.shape == (3, 37)
    assert build.modulator(made, model).alpha == 3


# refusals


def test_ogm_refuses_a_fusion_that_is_not_additive() -> None:
    for modulator in ("ogm", "ogm-ge"):
        text = refused(modulator=modulator, fusion="early")
        assert f"modulator '{modulator}' needs a term of each modality's own, which the fusion Early does not have" in text
        assert "modulator.responses=shapley, an additive fusion (concat, sum), or agm" in text


@pytest.mark.parametrize("modulator", ["agm", "agm-ge", "ogm", "ogm-ge"])
def test_modulators_that_compare_refuse_a_single_modality(modulator: str) -> None:
    text = refused("dataset.modalities=1", modulator=modulator)
    assert f"modulator '{modulator}' needs two or more modalities to compare; found m0" in text


def test_joint_takes_a_single_modality() -> None:
    made = job("dataset.modalities=1")
    assert build.modulator(made, build.model(made)).modalities == ("m0",)


def test_ogm_of_convolutions_alone_refuses_a_network_without_any() -> None:
    assert "finds no tensor to modulate in the encoder of 'm0'" in refused("modulator.only_conv=true", modulator="ogm")


@pytest.mark.parametrize("encoder", ["conv", "resnet", "transformer"])
def test_an_encoder_refuses_a_shape_that_it_cannot_take(encoder: str) -> None:
    text = refused(encoders={"m1": encoder})
    assert f"encoder/{encoder} of 'm1': takes " in text
    assert "found the shape [16]; take encoder mlp" in text


HEARD = nn.Linear(16, 4)


class Sharing(Encoder):
    """An encoder that shares its layer with all others."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.layer, self.out_features = HEARD, 4

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layer(x)
        return features


class Late(Sharing):
    """An encoder whose layer has no weights before its first input."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self.layer = nn.LazyLinear(4)


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        (
            "Sharing",
            "the encoder of 'm1' shares its layer.weight with the encoder of 'm0'; each should have tensors of its own",
        ),
        (
            "Late",
            "the encoder of 'm0' does not know the shape of its layer.weight yet; make it in __init__, without Lazy layers",
        ),
    ],
)
def test_parts_that_cannot_be_taken_by_themselves_are_refused(encoder: str, reason: str) -> None:
    known = changed("encoder/linear", target=f"{__name__}:{encoder}")
    with pytest.raises(AgmbenchError) as error:
        build.model(build.resolve(spec(encoders={"*": "linear"}), known))
    assert str(error.value) == reason


def avmnist(*settings: str, **names: Any) -> Job:
    return build.resolve(compose(builtin(), "avmnist-mini", settings=parse_settings(settings), **names), builtin())


@pytest.mark.parametrize(
    ("encoder", "setting", "expected"),
    [
        ("transformer", "width=10", "width should be a multiple of heads; found width 10 and 8 heads"),
        ("resnet", "model=resnet1", "timm has no model 'resnet1'"),
        ("resnet", "model_args={no_such: 1}", "timm cannot build 'resnet18' with {'no_such': 1}"),
    ],
)
def test_an_encoder_refuses_parameters_that_do_not_go_together(encoder: str, setting: str, expected: str) -> None:
    made = avmnist(f"encoder.image.{setting}", encoders={"image": encoder})
    with pytest.raises(AgmbenchError) as error:
        build.model(made)
    assert f"encoder/{encoder} of 'image': " in str(error.value)
    assert expected in str(error.value)


def test_a_width_is_for_resnets_alone() -> None:
    made = avmnist("encoder.image.model=mobilenetv3_small_050", "encoder.image.width=8", encoders={"image": "resnet"})
    with pytest.raises(AgmbenchError, match="width shrinks ResNets alone; found model 'mobilenetv3_small_050'"):
        build.model(made)


def test_a_modality_that_the_data_set_does_not_have() -> None:
    assert "data set 'synthetic' has no modality 'text': Known: m0, m1." in refused(encoders={"text": "mlp"})
    assert "has no modality 'n1': did you mean 'm1'?" in refused("encoder.n1.hidden=3")


def test_a_modality_without_encoder_is_named_with_the_way_out() -> None:
    found = changed("dataset/synthetic", job={"encoders": {"m0": "mlp"}})
    with pytest.raises(AgmbenchError, match="no encoder for m1 of 'synthetic'; name one with --encoder m1=NAME"):
        build.resolve(compose(found, "synthetic"), found)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("dataset.redundancy=2", "dataset/synthetic: redundancy should be between 0 and 1; found 2"),
        ("dataset.size=3", "dataset/synthetic: size should be at least the number of classes"),
        ("dataset.strength=[1, 2, 3]", "dataset/synthetic: strength should be one number, or 2 numbers"),
    ],
)
def test_data_sets_refuse_parameters_that_do_not_go_together(setting: str, expected: str) -> None:
    assert expected in refused(setting)


def test_devices() -> None:
    assert build.device("cpu") == torch.device("cpu")
    assert build.device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cuda:", "", "mps"])
def test_a_device_that_is_not_there_is_one_line_with_those_that_are(name: str) -> None:
    with pytest.raises(AgmbenchError, match=rf"no device '{name}' on this machine: .*Known: auto, cpu"):
        build.device(name)


def test_cuda_without_a_gpu_is_one_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(AgmbenchError, match="no device 'cuda' on this machine"):
        build.device("cuda")
