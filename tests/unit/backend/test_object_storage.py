"""Keys for the object storage: where they come from, and that nothing repeats them."""

from __future__ import annotations

from pathlib import Path

import pytest

from medisync.backend.object_storage import StorageKeysError, storage_keys


def test_the_environment_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = file\naws_secret_access_key = hidden\n", encoding="utf-8")
    told = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    assert storage_keys(told).key_id == "id"
    assert storage_keys({**told, "AWS_SESSION_TOKEN": "t"}).session_token == "t"
    del told["AWS_SECRET_ACCESS_KEY"]  # one without the other says nothing
    assert storage_keys(told).key_id == "file"


def test_a_profile_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        "[default]\naws_access_key_id=a\naws_secret_access_key=b\n"
        "[ward]\naws_access_key_id=c\naws_secret_access_key=d%e\naws_session_token=f\n",
        encoding="utf-8",
    )
    told = {"AWS_SHARED_CREDENTIALS_FILE": str(file)}
    assert storage_keys(told).key_id == "a"
    ward = storage_keys({**told, "AWS_PROFILE": "ward"})
    assert (ward.key_id, ward.secret, ward.session_token) == ("c", "d%e", "f")
    assert "d%e" not in repr(ward)


@pytest.mark.parametrize("content", ["", "no section\n", "[default]\naws_secret_access_key = verysecret\n", "\x00"])
def test_what_is_no_key_is_refused_without_repeating_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "credentials"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(StorageKeysError) as refused:
        storage_keys({"AWS_SHARED_CREDENTIALS_FILE": str(file)})
    assert "verysecret" not in str(refused.value)


def test_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(StorageKeysError, match="AWS_ACCESS_KEY_ID"):
        storage_keys({"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")})
