from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from fakes import POLICY, sentinel_policy
from safelight.adapter_rule import AdapterRule, is_listed
from safelight.errors import ConfigError
from safelight.policy import Policy

DIGEST = "0123456789abcdef" * 4
ENTRIES = ("owner/name", "owner/other/folder/Our Style 2.safetensors", "cup.safetensors", f"sha256:{DIGEST}")


def policy(adapters: str) -> Policy:
    return Policy.parse(f"{POLICY}\n[adapters]\n{adapters}")


def test_a_policy_that_says_nothing_and_the_shipped_one_allow_any_adapter() -> None:
    assert sentinel_policy().adapters == Policy.default().adapters == AdapterRule(None, None)


def test_every_form_of_an_entry_is_read() -> None:
    read = policy(f"loras = {list(ENTRIES)}\ntextual_inversions = []").adapters
    assert read == AdapterRule(ENTRIES, ())


def test_the_example_in_the_shipped_policy_is_one() -> None:
    text = (files("safelight") / "policies" / "default.toml").read_text("utf-8")
    example = text[text.index("# [adapters]") :].partition("\n\n")[0].replace("# ", "")
    read = policy(example.removeprefix("[adapters]")).adapters
    assert read.loras and read.textual_inversions


def test_the_lists_are_part_of_the_policys_hash() -> None:
    hashes = {sentinel_policy().hash, policy("loras = []").hash, policy('loras = ["owner/name"]').hash}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "pixel",
        "/home/cup.safetensors",
        "./cup.safetensors",
        "../cup.safetensors",
        "loras/cup.safetensors",
        "owner/name/",
        "owner//cup.safetensors",
        "owner/name/folder",
        " owner/name",
        "owner/name ",
        "~/cup.safetensors",
        "C:\\cup.safetensors",
        "https://host/owner/name.bin",
        f"sha256:{DIGEST[1:]}",
        f"sha256:{DIGEST.upper()}",
        f"sha1:{DIGEST[:40]}",
        DIGEST,
        3,
        ["owner/name"],
    ],
)
def test_an_entry_of_no_known_form_is_named(entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"^adapters\.loras\[1\]: must be 'owner/name'"):
        policy(f"loras = ['cup.safetensors', {entry!r}]")


def test_an_unknown_key_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"adapters\.lora: unknown key; did you mean 'loras'\?"):
        policy("lora = []")


def test_a_list_must_be_a_list() -> None:
    with pytest.raises(ConfigError, match=r"adapters\.textual_inversions: must be list"):
        policy('textual_inversions = "owner/name"')


@pytest.mark.parametrize(
    ("repository", "file", "sha256"),
    [
        ("owner/name", "any.safetensors", ""),
        ("owner/name", "", ""),
        ("owner/other", "folder/Our Style 2.safetensors", ""),
        ("", "cup.safetensors", ""),
        ("another/one", "x.bin", DIGEST),
        ("", "", DIGEST),
    ],
)
def test_what_has_a_listed_name_or_digest_is_listed(repository: str, file: str, sha256: str) -> None:
    assert is_listed(ENTRIES, repository=repository, file=file, sha256=sha256)


@pytest.mark.parametrize(
    ("repository", "file", "sha256"),
    [
        ("owner/other", "cup.safetensors", ""),
        ("owner/other", "Our Style 2.safetensors", ""),
        ("owner/name2", "any.safetensors", ""),
        ("", "any.safetensors", "1" + DIGEST[1:]),
        ("", "", ""),
    ],
)
def test_what_only_looks_like_an_entry_is_not_listed(repository: str, file: str, sha256: str) -> None:
    assert not is_listed(ENTRIES, repository=repository, file=file, sha256=sha256)


def test_an_empty_entry_does_not_let_in_what_nobody_knows() -> None:
    assert not is_listed([""], repository="", file="", sha256="")
