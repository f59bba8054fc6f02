"""Image builds reach packages as the machine does, and keep nothing of how."""

import configparser
from pathlib import Path

from devcluster.base import mirror
from devcluster.buildsettings import CA_FILE, PIP_CACHE, apt_conf, ca_bundle, pip_conf, pip_settings


def test_the_bundle_is_the_first_that_is_named_and_there(tmp_path: Path) -> None:
    bundle, usual = tmp_path / "bundle.pem", tmp_path / "usual.crt"
    assert ca_bundle({"SSL_CERT_FILE": str(bundle)}, usual) is None
    usual.touch()
    assert ca_bundle({"SSL_CERT_FILE": str(bundle)}, usual) == usual
    bundle.touch()
    assert ca_bundle({"SSL_CERT_FILE": str(tmp_path / "gone"), "PIP_CERT": str(bundle)}, usual) == bundle


def test_later_files_win_and_the_environment_wins_over_files(tmp_path: Path) -> None:
    machine, user = tmp_path / "pip.conf", tmp_path / "user.conf"
    machine.write_text("[global]\nindex-url = one\nretries = 3\ncache-dir = /nowhere\n[install]\ntrusted-host = h\n")
    user.write_text("[global]\nindex-url = two%20\n")
    found = pip_settings([machine, user, tmp_path / "missing"], {"PIP_RETRIES": "9", "PIP_DEFAULT_TIMEOUT": "180"})
    assert found == {"index-url": "two%20", "retries": "9", "trusted-host": "h", "timeout": "180"}


def test_pips_settings_can_be_read_back_with_the_bundle_where_the_image_has_it() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(pip_conf({"extra-index-url": "one\ntwo", "timeout": "5"}, bundle=True))
    wanted = {"cache-dir": PIP_CACHE, "extra-index-url": "one\ntwo", "timeout": "5", "cert": str(CA_FILE)}
    assert dict(parser.items("global")) == wanted
    assert "cert" not in pip_conf({}, bundle=False)


def test_apt_is_told_of_proxies_and_the_bundle_and_of_nothing_else() -> None:
    dump = (
        'APT::Architecture "amd64";\n'
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        'Acquire::https::packages.example::CaInfo "/opt/company.pem";\n'
        'Acquire::Retries "5";\n'
        'Acquire::IndexTargets::deb::Contents "x";\n'
    )
    assert apt_conf(dump) == (
        'Acquire::http::Proxy "http://proxy.example:3128";\n'
        f'Acquire::https::packages.example::CaInfo "{CA_FILE}";\n'
        'Acquire::Retries "5";\n'
    )


def test_the_debian_mirror_is_found_in_both_kinds_of_lists(tmp_path: Path) -> None:
    assert mirror(tmp_path) is None
    (tmp_path / "sources.list.d").mkdir()
    other = tmp_path / "sources.list.d" / "other.sources"
    other.write_text("Types: deb\nURIs: https://elsewhere.example/node\nSuites: x\n")
    assert mirror(tmp_path) is None
    debian = tmp_path / "sources.list.d" / "debian.sources"
    debian.write_text("Types: deb\nURIs: http://first.example/debian\nSuites: bookworm\n")
    assert mirror(tmp_path) == "http://first.example/debian"
    debian.unlink()
    (tmp_path / "sources.list").write_text("# c\ndeb [signed-by=/k] http://mirror.example/debian bookworm main\n")
    assert mirror(tmp_path) == "http://mirror.example/debian"
