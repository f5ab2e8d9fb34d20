"""Settings: flags before environment, every field explained, bad ones named with their limit."""

import json

import pytest
from pydantic_settings import CliApp

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.engine.settings import CORES
from paceline.engine_server.process import check_threads
from paceline.errors import InvalidArgument
from paceline.settings import ServerSettings, parse
from target_server.settings import TargetSettings

ALL: tuple[type[ServerSettings], ...] = (OrchestratorSettings, TargetSettings, DraftSettings)


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT", "a:1,b:2")
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT_LENGTH", "7")
    settings = parse(OrchestratorSettings, ["--draft-length=3"])
    assert settings.draft == {"draft": ["a:1", "b:2"]}
    assert settings.draft_length == 3


def test_a_candidate_is_named_as_a_draft_is_but_not_as_one_of_them() -> None:
    found = parse(OrchestratorSettings, ["--shadow-draft=a:1", "--shadow-draft=small=b:1,c:1"])
    assert found.shadow_draft == {"candidate": ["a:1"], "small": ["b:1", "c:1"]}
    assert parse(OrchestratorSettings, []).shadow_draft == {}


@pytest.mark.parametrize("nothing", ["", ",", "none", "None"])
def test_an_orchestrator_may_have_no_draft(nothing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(OrchestratorSettings, [f"--draft={nothing}"]).draft == {}
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT", nothing)
    assert parse(OrchestratorSettings, []).draft == {}


@pytest.mark.parametrize(
    ("arguments", "pools"),
    [
        (["--draft=small=a:1,b:2"], {"small": ["a:1", "b:2"]}),
        (["--draft=small=a:1,b:2,large=c:1"], {"small": ["a:1", "b:2"], "large": ["c:1"]}),
        (["--draft=small=a:1", "--draft=large=c:1"], {"small": ["a:1"], "large": ["c:1"]}),
        (["--draft=a:1", "--draft=b:1"], {"draft": ["a:1", "b:1"]}),
        (["--draft=a:1", "--draft=large=c:1"], {"draft": ["a:1"], "large": ["c:1"]}),
        (["--draft=x=a:1", "--draft=x=a:1"], {"x": ["a:1"]}),
        (["--draft=unix:/tmp/a=b"], {"draft": ["unix:/tmp/a=b"]}),
        (["--draft=x=unix:/tmp/a=b"], {"x": ["unix:/tmp/a=b"]}),
        (["--draft=x=[::1]:7072"], {"x": ["[::1]:7072"]}),
    ],
)
def test_draft_pools_have_names_and_an_order(
    arguments: list[str], pools: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(parse(OrchestratorSettings, arguments).draft.items()) == list(pools.items())
    flags = [argument.removeprefix("--draft=") for argument in arguments]
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_DRAFT", ",".join(flags))
    assert parse(OrchestratorSettings, []).draft == pools


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draft-length=99"], "--draft-length is '99'; it must be from 0 to 32"),
        (["--target="], "--target is []; it must be at least one"),
        (
            ["--draft==a:1"],
            "--draft is '=a:1': the name '' must be a small letter, then at most 62",
        ),
        (["--draft=My=a:1"], "--draft is 'My=a:1': the name 'My' must be a small letter"),
        ([f"--draft={'a' * 64}=a:1"], "must be a small letter, then at most 62"),
        (["--draft=x=a:1", "--draft=x=b:1"], "the name 'x' must stand for one pool"),
        (["--draft=a:1,draft=b:1"], "the name 'draft' must stand for one pool"),
        (
            ["--draft=x=a:1", "--shadow-draft=x=b:1"],
            "--shadow-draft must have names that --draft has not: 'x'",
        ),
        (["--draft=x=a:1,y=a:1"], "the address 'a:1' must be in one pool, not x and y"),
        (["--draft=none,a:1"], "--draft is 'none,a:1': none must be given alone"),
        (["--draft=x="], "the address '' must be host:port, [IPv6]:port or unix:/path"),
        (["--target=http://host:7071"], "--target is 'http://host:7071': the address"),
        (["--target=a:1,host:99999"], "the address 'host:99999' must be host:port, [IPv6]:port"),
        (["--draft=here"], "the address 'here' must be host:port, [IPv6]:port or unix:/path"),
        (["--port=x"], "--port is 'x'; it must be a whole number from 0 to 65535"),
    ],
)
def test_a_bad_setting_is_named_with_its_limit(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(OrchestratorSettings, arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_missing_setting_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TargetSettings, [])
    assert json.loads(capsys.readouterr().err)["reason"] == "--model is missing"


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        (DraftSettings, [], "--model is missing; the hybrid drafter needs one"),
        (
            TargetSettings,
            ["--model=x", "--kv-tokns=1"],
            "unknown flag --kv-tokns; did you mean --kv-tokens?",
        ),
        (
            OrchestratorSettings,
            ["--bogus", "3"],
            "unknown flag --bogus; python -m orchestrator --help lists them",
        ),
        (
            OrchestratorSettings,
            ["--port=7", "--health-port=7"],
            "--port is 7; it must be another port than --health-port has",
        ),
        (
            OrchestratorSettings,
            ["--metrics-port=7170"],
            "--health-port is 7170; it must be another port than --metrics-port has",
        ),
        (
            OrchestratorSettings,
            ["--draft-length=20", "--max-draft-length=16"],
            "--draft-length is 20; it must be at most --max-draft-length, 16",
        ),
        (
            OrchestratorSettings,
            ["--objective=cost", "--draft-price=1"],
            "--target-price is missing; --objective cost needs it",
        ),
        (
            OrchestratorSettings,
            ["--objective=cost", "--target-price=4"],
            "--draft-price is missing; --objective cost needs it",
        ),
        (
            OrchestratorSettings,
            ["--objective=cost", "--target-price=0", "--draft-price=1"],
            "--target-price is '0'; it must be more than 0 and at most 1000000",
        ),
        (
            OrchestratorSettings,
            ["--draft-price=0.5"],
            "--draft-price is 0.5; it must be given with --objective cost",
        ),
        (
            OrchestratorSettings,
            ["--max-token-latency-ms=40"],
            "--max-token-latency-ms is 40; it must be given with --objective cost",
        ),
        (
            OrchestratorSettings,
            ["--drain-seconds=inf"],
            "--drain-seconds is 'inf'; it must be from 0 to 86400",
        ),
        (
            OrchestratorSettings,
            ["--draft-wait-seconds=nan"],
            "--draft-wait-seconds is 'nan'; it must be from 0 to 3600",
        ),
        (
            OrchestratorSettings,
            ["--log-format=xml"],
            "--log-format is 'xml'; it must be one of auto, json, console",
        ),
        (
            TargetSettings,
            ["--model=x", "--threads=99999"],
            "--threads is '99999'; it must be from 1 to 4096",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_said_in_one_line(
    kind: type[ServerSettings],
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(kind, arguments)
    assert ended.value.code == 2
    assert json.loads(capsys.readouterr().err)["reason"] == said


def test_a_draft_length_over_the_default_maximum_is_as_it_was() -> None:
    settings = parse(OrchestratorSettings, ["--draft-length=20"])
    assert (settings.draft_length, settings.max_draft_length) == (20, 16)
    equal = parse(OrchestratorSettings, ["--draft-length=20", "--max-draft-length=20"])
    assert equal.draft_length == 20


def test_ports_that_are_any_or_unused_may_be_equal() -> None:
    parse(OrchestratorSettings, ["--port=0", "--health-port=0", "--metrics-port=0"])
    parse(OrchestratorSettings, ["--socket=/tmp/s", "--port=7170"])


@pytest.mark.parametrize("kind", ALL)
def test_help_explains_every_setting(
    kind: type[ServerSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        CliApp.run(kind, cli_args=["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in kind.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert field.description
        assert field.description.split(":")[0][:30] in text
        assert f"{kind.model_config['env_prefix']}{name.upper()}" in text


def test_a_socket_takes_the_place_of_host_and_port() -> None:
    assert OrchestratorSettings(host="h", port=1, plaintext=True).address == "h:1"
    assert parse(OrchestratorSettings, ["--socket=/tmp/s"]).address == "unix:/tmp/s"


@pytest.mark.parametrize("kind", [TargetSettings, DraftSettings])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kv-tokens=2048"], "--kv-tokens is '2048'; it must be at least 4608, a page of 512"),
        (["--kv-tokens=4096"], "beyond --kv-reserve-tokens, 4096"),
        (["--kv-reserve-tokens=70000"], "--kv-tokens is 65536; it must be at least 70144"),
        (
            ["--kv-tokens=511", "--kv-reserve-tokens=0"],
            "--kv-tokens is '511'; it must be from 512 to 1099511627776",
        ),
        (["--kv-tokens=1023", "--kv-reserve-tokens=512"], "it must be at least 1024, a page"),
    ],
)
def test_kv_that_takes_no_stream_is_refused_at_start(
    kind: type[ServerSettings],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(kind, ["--model=x", *arguments])
    assert message in capsys.readouterr().err


def test_kv_of_a_page_beyond_the_reserve_is_enough() -> None:
    for tokens, reserve in ((512, 0), (512, 511), (1024, 512), (1024, 1023), (1535, 1023)):
        flags = [f"--kv-tokens={tokens}", f"--kv-reserve-tokens={reserve}"]
        assert parse(TargetSettings, ["--model=x", *flags]).kv_tokens == tokens


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("::1", "[::1]:1"),
        ("[::1]", "[::1]:1"),
        ("::", "[::]:1"),
        ("fe80::1%eth0", "[fe80::1%eth0]:1"),
    ],
)
def test_a_server_listens_on_ipv6(host: str, address: str) -> None:
    flags = [f"--host={host}", "--port=1", "--plaintext"]
    assert parse(OrchestratorSettings, flags).address == address


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--host=0.0.0.0"],
            "--host is 0.0.0.0: calls from other machines need --tls-certificate and --tls-key, "
            "or --plaintext where the network is trusted",
        ),
        (["--host=here"], "--host is here: calls from other machines need --tls-certificate"),
        (["--tls-certificate=a"], "--tls-certificate and --tls-key are given both or not at all"),
        (["--tls-key=a"], "--tls-certificate and --tls-key are given both or not at all"),
        (["--tls-client-ca=a"], "--tls-client-ca needs --tls-certificate and --tls-key beside it"),
    ],
)
@pytest.mark.parametrize("kind", ALL)
def test_a_door_is_whole_or_an_error(
    kind: type[ServerSettings],
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse(kind, [*arguments, *(["--model=m"] if kind is not OrchestratorSettings else [])])
    assert raised.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_this_machine_needs_no_lock(host: str) -> None:
    assert parse(OrchestratorSettings, [f"--host={host}"]).host == host


def test_tokens_are_given_by_name_and_never_shown() -> None:
    found = parse(OrchestratorSettings, ["--tokens=a=secret-of-a,b=secret=of=b"])
    assert {name: token.get_secret_value() for name, token in found.tokens.items()} == {
        "a": "secret-of-a",
        "b": "secret=of=b",
    }
    assert "secret" not in f"{found!r} {found}"


@pytest.mark.parametrize("value", ["secret", "a=", "=secret", "a=b,secret"])
def test_tokens_without_a_name_are_refused_unquoted(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(OrchestratorSettings, [f"--tokens={value}"])
    said = capsys.readouterr().err
    assert "each must be NAME=TOKEN, separated by commas" in said
    assert "secret" not in said


@pytest.mark.parametrize("host", ["", " ", "localhost:7070", "[::1]:7070", "http://here", "a b"])
def test_a_host_is_no_address(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(OrchestratorSettings, [f"--host={host}"])
    assert (
        f"--host is {host!r}; it must be a name or an address to listen on"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("service", ["", "HEALTH_", "METRICS_"])
def test_links_to_services_of_a_cluster_are_no_settings(
    kind: type[ServerSettings], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{kind.model_config['env_prefix']}MODEL", "simulated")
    expected = parse(kind, [])
    name = f"{kind.model_config['env_prefix']}{service}"
    for variable, value in service_links(name).items():
        monkeypatch.setenv(variable, value)
    assert parse(kind, []) == expected


def service_links(name: str) -> dict[str, str]:
    """What Kubernetes sets for a service: https://kubernetes.io/docs/concepts/containers."""
    port = f"{name}PORT_7070_TCP"
    return {
        f"{name}SERVICE_HOST": "10.0.0.1",
        f"{name}SERVICE_PORT": "7070",
        f"{name}SERVICE_PORT_GRPC": "7070",
        f"{name}PORT": "tcp://10.0.0.1:7070",
        port: "tcp://[fd00::1]:7070",
        f"{port}_PROTO": "tcp",
        f"{port}_PORT": "7070",
        f"{port}_ADDR": "10.0.0.1",
    }


def test_a_port_of_the_environment_is_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_PORT", "7999")
    assert parse(OrchestratorSettings, []).port == 7999
    monkeypatch.setenv("PACELINE_ORCHESTRATOR_PORT", "tcp")
    with pytest.raises(SystemExit):
        parse(OrchestratorSettings, [])
    assert "--port is 'tcp'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse(OrchestratorSettings, ["--port=tcp://10.0.0.1:7070"])


def test_a_port_is_shared_only_where_there_is_one_to_share(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not parse(OrchestratorSettings, []).port_is_shared
    assert parse(OrchestratorSettings, ["--share-port"]).port_is_shared
    for flag, said in {
        "--socket=/tmp/x": "--share-port is for a port; a Unix socket, --socket, has one listener",
        "--port=0": "--share-port needs a --port that others know; 0 takes a free one",
    }.items():
        with pytest.raises(SystemExit) as raised:
            parse(OrchestratorSettings, ["--share-port", flag])
        assert raised.value.code == 2
        assert said in capsys.readouterr().err


def test_a_server_has_no_more_threads_than_there_are_cores() -> None:
    check_threads(CORES)
    with pytest.raises(InvalidArgument) as raised:
        check_threads(CORES + 1)
    assert str(raised.value) == (
        f"--threads is {CORES + 1}; it must be at most {CORES}, the cores that it may use here"
    )
