from __future__ import annotations

from pathlib import Path

import pytest

from fakes import POLICY, FakeGenerator
from safelight.canary import Trusted
from safelight.config import Part, Runtime, build_guard, read_settings
from safelight.errors import ConfigError
from safelight.screens.llm_judge import LLMJudge
from safelight.store import open_store
from safelight.verdict_cache import CachedScreen

FULL = """
[generator]
use = "diffusers"
model = "some/model"
[[prompt_screens]]
use = "terms"
terms = ["zorblax"]
category = "sentinel"
[[prompt_screens]]
use = "fakes:FakeJudge"
[[image_screens]]
use = "fakes:MarkerScreen"
name = "mine"
[store]
url = "sqlite:///somewhere.db"
[policy]
file = "policy.toml"
[guard]
history_turns = 7
[gateway]
port = 9999
models = ["sdxl"]
[ui]
port = 0
"""


@pytest.fixture
def full(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text(POLICY)
    file = tmp_path / "safelight.toml"
    file.write_text(FULL)
    return file


def test_without_a_file_the_embedded_default_is_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = read_settings(environ={})
    assert settings.generator == Part("embedded")
    assert [part.use for part in settings.prompt_screens] == ["sentence_head"]
    assert [part.use for part in settings.image_screens] == ["open_nsfw", "image_safety"]
    assert settings.gateway.host == settings.ui.host == "127.0.0.1"
    assert settings.policy.name == "safelight-default"


def test_every_key_of_the_file_is_read(full: Path) -> None:
    settings = read_settings(full, {})
    assert settings.generator == Part("diffusers", {"model": "some/model"})
    assert settings.prompt_screens[0] == Part("terms", {"terms": ["zorblax"], "category": "sentinel"})
    assert settings.policy.name == "sentinel"
    assert (settings.guard.history_turns, settings.gateway.port, settings.ui.port) == (7, 9999, 0)
    assert settings.gateway.models == ("sdxl",)
    assert settings.store_url == "sqlite:///somewhere.db"


def test_the_screens_that_are_configured_are_the_ones_that_run(full: Path) -> None:
    guard = build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))
    assert [screen.name for screen in guard.prompt_screens] == ["blocked_before", "terms", "judge"]
    assert [screen.name for screen in guard.image_screens] == ["mine"]


def test_the_environment_is_laid_over_the_file(full: Path) -> None:
    environ = {
        "SAFELIGHT_STORE_URL": "sqlite:///other.db",
        "SAFELIGHT_GATEWAY_PORT": "1234",
        "SAFELIGHT_GATEWAY_MAX_WAITING": "3",
        "SAFELIGHT_GENERATOR_USE": "embedded",
        "SAFELIGHT_IMAGE_SCREENS": '["open_nsfw", {use = "image_safety", threads = 2}]',
        "PATH": "/bin",
    }
    settings = read_settings(full, environ)
    assert settings.store_url == "sqlite:///other.db"
    assert (settings.gateway.port, settings.gateway.max_waiting) == (1234, 3)
    assert settings.generator.use == "embedded"
    assert settings.image_screens == (Part("open_nsfw"), Part("image_safety", {"threads": 2}))


def test_the_environment_can_name_the_file(full: Path) -> None:
    assert read_settings(environ={"SAFELIGHT_CONFIG": str(full)}).policy.name == "sentinel"


def test_the_llm_judge_is_added_by_itself_where_a_gemini_key_is(full: Path) -> None:
    added = read_settings(full, {"GEMINI_API_KEY": "x"}).prompt_screens[-1]
    assert added == Part("llm_judge", {"model": "gemini/gemini-2.5-flash-lite"})
    assert "GEMINI_API_KEY" in read_settings(full, {}).judge_note


def test_a_judge_that_is_configured_is_not_added_again(full: Path) -> None:
    full.write_text(FULL.replace("fakes:FakeJudge", "llm_judge"))
    settings = read_settings(full, {"GEMINI_API_KEY": "x"})
    assert [part.use for part in settings.prompt_screens] == ["terms", "llm_judge"]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("[store]", "[stor]", "stor: unknown key; did you mean 'store'"),
        ("url =", "ulr =", "store.ulr: unknown key; did you mean 'url'"),
        ("history_turns = 7", "history_turns = -1", "guard.history_turns"),
        ("history_turns = 7", 'history_turns = "7"', "guard.history_turns"),
        ("history_turns = 7", "screen_deadline_s = nan", "guard.screen_deadline_s"),
        ("port = 9999", "port = 99999", "gateway.port"),
        ('models = ["sdxl"]', "models = [1]", "gateway.models"),
        ('use = "diffusers"', "", "generator.use"),
        ('file = "policy.toml"', 'file = "missing.toml"', "policy.file"),
        ("[generator]", "[generator", "not valid TOML"),
    ],
)
def test_a_wrong_key_of_the_file_is_named(full: Path, old: str, new: str, named: str) -> None:
    full.write_text(FULL.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        read_settings(full, {})
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("SAFELIGHT_STOER_URL", "SAFELIGHT_STOER_URL"),
        ("SAFELIGHT_STORE_ULR", "store.ulr"),
        ("SAFELIGHT_STORE", "without a key"),
        ("SAFELIGHT_IMAGE_SCREENS_USE", "set whole"),
        ("SAFELIGHT_GATEWAY_PORT", "gateway.port"),
    ],
)
def test_a_wrong_variable_is_named(full: Path, variable: str, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_settings(full, {variable: "x"})
    assert named in str(error.value)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ('use = "open_nfsw"', "image_screens[0].use: 'open_nfsw' is none of"),
        ('use = "nowhere.at.all:Screen"', "no module named"),
        ('use = "fakes:Missing"', "Missing"),
        ('use = "fakes:make_guard"', "is no class"),
        ('use = "fakes:MarkerScreen"\nnmae = "x"', "image_screens[0].nmae: unknown key"),
        ('use = "image_safety"\nsession = "x"', "image_screens[0].session: unknown key"),
        ('use = "image_safety"\nthreads = "2"', "image_screens[0].threads: must be of type int"),
        ('use = "fakes:FakeJudge"', "needs a 'name' and a method 'screen_images'"),
    ],
)
def test_a_screen_that_cannot_be_loaded_stops_the_start(full: Path, part: str, named: str) -> None:
    full.write_text(FULL.replace('use = "fakes:MarkerScreen"\nname = "mine"', part))
    with pytest.raises(ConfigError) as error:
        build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))
    assert named in str(error.value)


@pytest.mark.parametrize("kind", ["prompt_screens", "image_screens"])
def test_a_stage_without_screens_stops_the_start(full: Path, kind: str) -> None:
    settings = read_settings(full, {f"SAFELIGHT_{kind.upper()}": "[]"})
    with pytest.raises(ConfigError, match=f"{kind}: at least one"):
        build_guard(settings, open_store("sqlite:///:memory:"))


def test_a_term_for_a_category_that_the_policy_lacks_stops_the_start(full: Path) -> None:
    full.write_text(FULL.replace('category = "sentinel"', 'category = "sentinal"'))
    with pytest.raises(ConfigError, match=r"terms.category: 'sentinal' is none of the policy's"):
        build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))


def test_a_policys_threshold_for_a_screen_that_does_not_exist_stops_the_start(full: Path) -> None:
    policy = full.parent / "policy.toml"
    policy.write_text(POLICY.replace('[categories."teapots"]', 'screens = { mien = 0.9 }\n[categories."teapots"]'))
    with pytest.raises(ConfigError, match="mien: no screen has this name"):
        build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))


def test_a_judge_named_by_its_import_string_is_not_added_again(full: Path) -> None:
    full.write_text(FULL.replace("fakes:FakeJudge", "safelight.screens.llm_judge:LLMJudge"))
    assert len(read_settings(full, {"GEMINI_API_KEY": "x"}).prompt_screens) == 2


JUDGED = """
[[prompt_screens]]
use = "llm_judge"
model = "gemini/gemini-2.5-flash-lite"
api_key = "k"
api_base = "http://127.0.0.1:9/v1beta"
[[image_screens]]
use = "fakes:MarkerScreen"
category = "violence"
"""


def judged(tmp_path: Path, more: str = "") -> Path:
    file = tmp_path / "judged.toml"
    file.write_text(JUDGED + more)
    return file


def test_an_llm_judge_is_watched_by_canaries_and_remembers_its_verdicts(tmp_path: Path) -> None:
    guard = build_guard(read_settings(judged(tmp_path), {}), open_store("sqlite:///:memory:"))
    screen = guard.prompt_screens[-1]
    assert isinstance(screen, Trusted) and isinstance(screen.inner, CachedScreen)
    assert screen.name == "llm_judge"


def test_canaries_and_the_memory_can_be_turned_off(tmp_path: Path) -> None:
    file = judged(tmp_path, "[canary]\nevery_s = 0\n[guard]\nverdict_cache_s = 0\n")
    guard = build_guard(read_settings(file, {}), open_store("sqlite:///:memory:"))
    assert isinstance(guard.prompt_screens[-1], LLMJudge)


def test_a_spending_limit_needs_a_model_whose_price_is_known(tmp_path: Path) -> None:
    settings = read_settings(judged(tmp_path, "[spending]\nusd_per_day = 2.5\n"), {})
    assert settings.spending.usd_per_day == 2.5
    build_guard(settings, open_store("sqlite:///:memory:"))
    file = tmp_path / "unpriced.toml"
    unpriced = JUDGED.replace("gemini/gemini-2.5-flash-lite", "hosted_vllm/mine")
    file.write_text(unpriced + "[spending]\nusd_per_day = 1\n")
    with pytest.raises(ConfigError, match="nobody knows what hosted_vllm/mine costs"):
        build_guard(read_settings(file, {}), open_store("sqlite:///:memory:"))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[spending]\nusd_per_day = 0", "spending.usd_per_day"),
        ("[spending]\nusd_per_day = nan", "spending.usd_per_day"),
        ("[spending]\nusd = 3", "spending.usd"),
        ("[canary]\nevery_s = 1", "canary.every_s"),
        ("[canary]\ncount = 10\nneeded = 5", "canary.needed"),
        ("[canary]\non_fail = 'ignore'", "canary.on_fail"),
        ("[guard]\nverdict_cache_s = 601", "guard.verdict_cache_s"),
        ("[guard]\nverdict_cache_s = -1", "guard.verdict_cache_s"),
    ],
)
def test_a_wrong_limit_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_settings(file, {})
    assert named in str(error.value)


def test_fewer_canaries_need_no_more_than_there_are(tmp_path: Path) -> None:
    file = tmp_path / "few.toml"
    file.write_text("[canary]\ncount = 4\n")
    assert read_settings(file, {}).canary.needed == 4


def test_a_cascade_that_skips_every_prompt_screen_or_an_unknown_one_is_refused(full: Path) -> None:
    policy = full.parent / "policy.toml"
    for skip, said in (('["terms", "judge"]', "names every prompt screen"), ('["typo"]', "no screen is called 'typo'")):
        policy.write_text(POLICY.replace("[categories", f"[cascade]\nskip = {skip}\n[categories", 1))
        with pytest.raises(ConfigError, match=said):
            build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))


def test_the_memory_of_blocked_pictures_goes_with_its_rule(full: Path) -> None:
    text = POLICY.replace("[categories", "[enforcement]\nremember_hours = 0\n[categories", 1)
    (full.parent / "policy.toml").write_text(text)
    guard = build_guard(read_settings(full, {}), open_store("sqlite:///:memory:"))
    assert [screen.name for screen in guard.prompt_screens] == ["terms", "judge"]


def test_a_policy_that_ships_goes_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "safelight.toml"
    file.write_text('[policy]\nname = "harmless"\n')
    assert read_settings(file, {}).policy.name == "harmless"
    assert read_settings(environ={"SAFELIGHT_POLICY_NAME": "harmless"}).policy.name == "harmless"


def test_a_policy_by_file_and_by_name_is_refused(full: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        read_settings(full, {"SAFELIGHT_POLICY_NAME": "harmless"})


def test_a_configuration_that_ships_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for settings in (read_settings("harmless", {}), read_settings(environ={"SAFELIGHT_CONFIG": "harmless"})):
        assert settings.source == "harmless, as it ships"
        assert settings.policy.name == "harmless"
        assert [part.use for part in settings.prompt_screens] == ["terms", "teapot_head"]
        assert [part.use for part in settings.image_screens] == ["teapots"]
    assert read_settings("harmless", {"SAFELIGHT_UI_PORT": "0"}).ui.port == 0


def test_a_file_of_ones_own_goes_before_a_configuration_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("harmless").write_text("[ui]\nport = 77\n")
    settings = read_settings("harmless", {})
    assert (settings.ui.port, settings.policy.name) == (77, "safelight-default")


def test_a_file_that_is_not_there_is_answered_with_the_names_of_those_that_ship(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="by its name: harmless"):
        read_settings(tmp_path / "nothing.toml", {})


def test_the_harmless_configuration_shares_no_store_with_the_default_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stores = [read_settings(name, {}).store_url for name in (None, "harmless")]
    assert stores == ["sqlite:///safelight.db", "sqlite:///safelight-harmless.db"]


def test_a_name_that_no_file_can_have_is_answered_like_one_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="cannot read a{300}"):
        read_settings("a" * 300, {})


@pytest.mark.parametrize("key", ["name", "file"])
def test_an_empty_policy_is_not_the_default_one(tmp_path: Path, key: str) -> None:
    file = tmp_path / "safelight.toml"
    file.write_text(f'[policy]\n{key} = ""\n')
    with pytest.raises(ConfigError, match=f"policy.{key}: must not be empty"):
        read_settings(file, {})


def test_a_policy_that_no_screen_looks_for_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "safelight.toml"
    file.write_text('[policy]\nname = "harmless"\n')
    with pytest.raises(
        ConfigError, match=r"no configured screen scores what it forbids \(teapots\).*--config harmless"
    ):
        build_guard(read_settings(file, {}), open_store("sqlite:///:memory:"))
    # A look at prompts alone would be as empty.
    with pytest.raises(ConfigError, match="teapots"):
        build_guard(read_settings(file, {}), open_store("sqlite:///:memory:"), image=False)


def test_a_category_that_no_screen_looks_for_is_named_at_the_start(full: Path) -> None:
    text = POLICY.replace('action = "flag"', 'action = "block"')

    def warnings(screens: str, policy: str = text) -> list[str]:
        (full.parent / "policy.toml").write_text(policy)
        environ = {"SAFELIGHT_PROMPT_SCREENS": screens, "SAFELIGHT_IMAGE_SCREENS": '[{use = "image_safety"}]'}
        store = open_store("sqlite:///:memory:")
        settings = read_settings(full, environ)
        lines = Runtime(settings, build_guard(settings, store), FakeGenerator(), store).describe()
        return [line for line in lines if line.startswith("warning")]

    terms = '{use = "terms", terms = ["zorblax"], category = "sentinel"}'
    assert warnings(f"[{terms}]") == ["warning         forbidden, but scored by no configured screen: teapots"]
    # What is only noted is not forbidden, and what a screen of somebody's own scores is not known.
    assert warnings(f"[{terms}]", POLICY) == []
    assert warnings(f'[{terms}, {{use = "fakes:FakeJudge"}}]') == []
