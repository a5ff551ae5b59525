"""Every option: its names, its default, what it takes and what it refuses, and how the routes merge."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from pytest_memleak import settings, units
from pytest_memleak.settings import (
    ALL_OPTIONS,
    BY_NAME,
    MARKER_NAMES,
    OPTIONS,
    SOAK_NAMES,
    SOAK_OPTIONS,
    SettingError,
    Settings,
    SoakSettings,
)

NUMBERS = ("max_mb_per_min", "rps", "max_bytes_per_request", "max_objects_per_request", "max_time")
COUNTS = ("max_fds", "max_threads", "max_tasks", "min_calls")
ABOVE_ZERO = ("rps", "max_time")


def parsed(name: str, value: object) -> Any:
    return settings.parse(BY_NAME[name], value, name)


def test_the_table_and_the_dataclass_have_the_same_names_and_defaults() -> None:
    table = {option.name: option.default for option in OPTIONS if option.marker}
    fields = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert fields == table


def test_the_table_of_soaks_and_its_dataclass_have_the_same_names_and_defaults() -> None:
    table = {option.name: option.default for option in SOAK_OPTIONS if option.marker}
    fields = {field.name: field.default for field in dataclasses.fields(SoakSettings)}
    # A soak is a service under load, and allows what the command line's does.
    assert fields == {**table, "max_mb_per_min": 1.0, "reason": ""}
    assert set(fields) == set(SOAK_NAMES)


def test_names_in_the_table_are_unique() -> None:
    assert len(BY_NAME) == len(ALL_OPTIONS)


def test_the_marker_takes_the_options_that_the_table_gives_to_it() -> None:
    assert tuple(BY_NAME[name].marker for name in MARKER_NAMES) == (True,) * len(MARKER_NAMES)
    assert {"memleak", "inconclusive", "canary", "json"}.isdisjoint(MARKER_NAMES)


@pytest.mark.parametrize(
    "name, default",
    [
        ("memleak", False),
        ("max_mb_per_min", None),
        ("rps", 50.0),
        ("max_bytes_per_request", None),
        ("max_objects_per_request", None),
        ("max_fds", 0),
        ("max_threads", 0),
        ("max_tasks", 0),
        ("min_calls", 0),
        ("max_time", 30.0),
        ("ignore", ()),
        ("reason", ""),
        ("inconclusive", "warn"),
        ("canary", False),
        ("json", ""),
        ("duration", 1800.0),
        ("locustfile", ""),
        ("users", 10),
        ("app", ""),
        ("soak", None),
    ],
)
def test_an_option_has_the_default_that_users_were_promised(name: str, default: object) -> None:
    assert BY_NAME[name].default == default


@pytest.mark.parametrize("option", ALL_OPTIONS, ids=lambda option: str(option.name))
def test_a_default_is_accepted_by_its_own_option(option: settings.Option) -> None:
    # To name nothing to ignore is to leave the option out.
    if option.default is not None and option.kind != "names":
        assert settings.parse(option, option.default, option.name) == option.default
    assert option.help
    assert (option.kind == "choice") == bool(option.choices)


@pytest.mark.parametrize(
    "name, flag, ini",
    [
        ("memleak", "--memleak", "memleak"),
        ("max_mb_per_min", "--memleak-max-mb-per-min", "memleak_max_mb_per_min"),
        ("rps", "--memleak-rps", "memleak_rps"),
        ("json", "--memleak-json", "memleak_json"),
        ("soak", "--memleak-soak", "memleak_soak"),
        ("app", "--memleak-app", "memleak_app"),
    ],
)
def test_an_option_is_spelt_with_dashes_on_the_command_line_and_underscores_in_the_ini_file(
    name: str, flag: str, ini: str
) -> None:
    assert (BY_NAME[name].flag, BY_NAME[name].ini) == (flag, ini)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value, number", [(2, 2.0), (0.5, 0.5), ("2", 2.0), (" 0.5 ", 0.5), ("1e3", 1000.0)])
def test_a_number_is_taken_from_a_number_or_from_text(name: str, value: object, number: float) -> None:
    found = parsed(name, value)
    assert (found, type(found)) == (number, float)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value, count", [(0, 0), (3, 3), (3.0, 3), ("3", 3)])
def test_a_count_is_taken_from_a_whole_number_or_from_text(name: str, value: object, count: int) -> None:
    found = parsed(name, value)
    assert (found, type(found)) == (count, int)


@pytest.mark.parametrize("name", NUMBERS + COUNTS)
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        "nan",
        float("nan"),
        "inf",
        float("inf"),
        float("-inf"),
        -1,
        "-0.5",
        "many",
        "",
        "5KB",
        [1],
        b"1",
        1j,
    ],
    ids=repr,
)
def test_a_number_refuses_what_is_none(name: str, value: object) -> None:
    with pytest.raises(SettingError) as error:
        parsed(name, value)
    text = str(error.value)
    assert text.startswith(f"{name}: expects a ")
    assert text.endswith(f", got {value!r}")


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [2.5, "2.5", 1e-9])
def test_a_count_refuses_a_fraction(name: str, value: object) -> None:
    with pytest.raises(SettingError, match=rf"^{name}: expects a whole number of at least 0, got "):
        parsed(name, value)


@pytest.mark.parametrize("name", NUMBERS)
def test_zero_is_a_limit_but_neither_a_rate_nor_a_time(name: str) -> None:
    if name in ABOVE_ZERO:
        with pytest.raises(SettingError, match=rf"^{name}: expects a number above 0, got 0$"):
            parsed(name, 0)
    else:
        assert parsed(name, 0) == 0.0


@pytest.mark.parametrize("value", [0, "0", 0.5, -1, "ten"])
def test_a_soak_has_one_user_at_least(value: object) -> None:
    with pytest.raises(SettingError) as error:
        parsed("users", value)
    assert str(error.value) == f"users: expects a whole number of at least 1, got {value!r}"
    assert parsed("users", "1") == 1


@pytest.mark.parametrize("name", ["duration", "soak"])
@pytest.mark.parametrize(
    "value, seconds",
    [
        ("30m", 1800),
        ("90s", 90),
        ("1h30m", 5400),
        ("2min", 120),
        ("24h", 86_400),
        (" 1m 5s ", 65),
        ("12", 12),
        (0.5, 0.5),
    ],
)
def test_a_duration_is_taken_from_text_with_units_or_from_seconds(name: str, value: object, seconds: float) -> None:
    found = parsed(name, value)
    assert (found, type(found)) == (seconds, float)


@pytest.mark.parametrize(
    "value",
    ["", " ", "soon", "5KB", "30m!", "m", "-5", "0s", 0, -1, True, float("nan"), float("inf"), [1], None],
    ids=repr,
)
def test_a_duration_refuses_what_is_none(value: object) -> None:
    with pytest.raises(SettingError) as error:
        parsed("duration", value)
    assert str(error.value) == f"duration: expects a time such as 30m, 90s or 1h30m, got {value!r}"


def test_names_are_split_at_blanks_in_text_and_kept_whole_in_a_list() -> None:
    assert parsed("ignore", "app.cache.SEEN  app.py:17\nOrder") == ("app.cache.SEEN", "app.py:17", "Order")
    assert parsed("ignore", ["a file with blanks.py:3"]) == ("a file with blanks.py:3",)
    assert parsed("ignore", ("a", "b")) == ("a", "b")


@pytest.mark.parametrize("value", [5, [5], b"ab", ["a", None], "", " \n", [], (), [""], ["a", ""]], ids=repr)
def test_names_refuse_what_is_no_list_of_text_and_an_empty_one(value: object) -> None:
    with pytest.raises(SettingError) as error:
        parsed("ignore", value)
    assert str(error.value) == f"ignore: expects a list of names, got {value!r}"


@pytest.mark.parametrize("name", ["memleak", "canary"])
def test_a_flag_is_true_or_false_and_nothing_that_looks_like_it(name: str) -> None:
    assert (parsed(name, True), parsed(name, False)) == (True, False)
    refused: tuple[object, ...] = (1, 0, "yes", "true", "", [], 1.0)
    for value in refused:
        with pytest.raises(SettingError) as error:
            parsed(name, value)
        assert str(error.value) == f"{name}: expects true or false, got {value!r}"


@pytest.mark.parametrize("value", ["warn", "fail"])
def test_a_choice_takes_what_it_lists(value: str) -> None:
    assert parsed("inconclusive", value) == value


@pytest.mark.parametrize("value", ["Warn", "", "ignore", True, 0], ids=repr)
def test_a_choice_refuses_all_else_and_names_what_it_takes(value: object) -> None:
    with pytest.raises(SettingError) as error:
        parsed("inconclusive", value)
    assert str(error.value) == f"inconclusive: expects one of warn, fail, got {value!r}"


def test_text_is_kept_as_it_is() -> None:
    assert parsed("reason", "one session per user") == "one session per user"
    with pytest.raises(SettingError, match=r"^reason: expects text, got 3$"):
        parsed("reason", 3)


def test_marker_arguments_are_parsed_under_their_names() -> None:
    found = settings.parse_arguments({"max_mb_per_min": "1", "max_fds": 2, "ignore": "a b", "reason": "why"}, "no_leak")
    assert found == {"max_mb_per_min": 1.0, "max_fds": 2, "ignore": ("a", "b"), "reason": "why"}


def test_none_means_that_an_argument_was_not_given() -> None:
    assert settings.parse_arguments({"max_mb_per_min": None, "max_fds": 0}, "no_leak") == {"max_fds": 0}


def test_a_bad_argument_is_told_with_the_marker_and_its_name() -> None:
    with pytest.raises(SettingError) as error:
        settings.parse_arguments({"max_fds": "few"}, "no_leak")
    assert str(error.value) == "no_leak: max_fds: expects a whole number of at least 0, got 'few'"


@pytest.mark.parametrize(
    "misspelt, meant",
    [("max_mb_per_minute", "max_mb_per_min"), ("max_fd", "max_fds"), ("ignored", "ignore"), ("timeout", "")],
)
def test_an_unknown_argument_names_the_valid_ones_and_the_one_that_was_meant(misspelt: str, meant: str) -> None:
    with pytest.raises(SettingError) as error:
        settings.parse_arguments({misspelt: 1}, "no_leak")
    text = str(error.value)
    assert text.startswith(f"no_leak: unknown argument {misspelt!r}")
    assert (f"did you mean {meant!r}" in text) if meant else ("did you mean" not in text)
    assert text.endswith(f"{', '.join(MARKER_NAMES)} (memleak explain unknown-argument)")


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if not option.marker])
def test_an_option_of_the_whole_run_is_no_marker_argument(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^no_leak: unknown argument '{name}'"):
        settings.parse_arguments({name: BY_NAME[name].default}, "no_leak")


def test_an_unknown_argument_is_refused_even_as_none() -> None:
    with pytest.raises(SettingError, match="unknown argument 'max_mb'"):
        settings.parse_arguments({"max_mb": None}, "no_leak")


def test_a_marker_is_of_a_soak_or_of_a_measurement_in_process() -> None:
    found = settings.parse_marker({"duration": "2m", "max_mb_per_min": 2, "users": 3, "reason": "why"}, "no_leak")
    assert found == {"duration": 120.0, "max_mb_per_min": 2.0, "users": 3, "reason": "why"}
    assert settings.is_soak([{}, found])
    assert not settings.is_soak([{"users": 3}, {"max_fds": 1}])
    for name in sorted(set(MARKER_NAMES) - set(SOAK_NAMES)):
        with pytest.raises(
            SettingError, match=rf"^no_leak: {name} is not for soaks, and locustfile makes the test one"
        ):
            settings.parse_marker(
                {"locustfile": "a.py", name: BY_NAME[name].default or 1 if name != "ignore" else "a"}, "no_leak"
            )


def test_what_only_a_soak_heeds_is_refused_on_a_test_that_is_none() -> None:
    settings.refuse_idle([{"users": 3, "max_fds": 1}, {"duration": 5.0}], "no_leak")
    settings.refuse_idle([{"max_fds": 1}], "no_leak")
    with pytest.raises(SettingError, match=r"^no_leak: app is for soaks: add duration or locustfile, or leave it out$"):
        settings.refuse_idle([{"max_fds": 1}, {"app": "shop:app"}], "no_leak")


def test_the_layers_of_a_soak_merge_and_what_is_no_soaks_is_left_out() -> None:
    assert settings.merge_soak({}) == SoakSettings()
    configured = {"memleak": True, "ignore": ("a",), "users": 3, "app": "ini:app", "max_mb_per_min": 2.0}
    merged = settings.merge_soak(configured, {"duration": 60.0, "max_fds": 1}, {"app": "marker:app"})
    assert merged == SoakSettings(users=3, app="marker:app", max_mb_per_min=2.0, duration=60.0)


def test_the_duration_of_the_whole_run_is_above_that_of_each_soak() -> None:
    assert settings.merge_soak({"soak": 120.0}, {"duration": 60.0}, {"duration": 90.0}).duration == 120.0


def test_without_layers_the_defaults_hold() -> None:
    assert settings.merge() == Settings()
    assert settings.merge({}, {}) == Settings()


def test_the_nearer_layer_wins_option_by_option() -> None:
    merged = settings.merge({"rps": 10.0, "max_fds": 1}, {"rps": 20.0, "max_tasks": 2}, {"max_tasks": 3})
    assert merged == Settings(rps=20.0, max_fds=1, max_tasks=3)


def test_a_nearer_layer_can_take_a_limit_back_to_its_default() -> None:
    assert settings.merge({"max_fds": 4}, {"max_fds": 0}).max_fds == 0


def test_ignore_adds_up_from_the_farthest_to_the_nearest() -> None:
    merged = settings.merge({"ignore": ("ini",)}, {"rps": 1.0}, {"ignore": ("class", "class2")}, {"ignore": ("test",)})
    assert merged.ignore == ("ini", "class", "class2", "test")


def test_merging_leaves_the_layers_as_they_were() -> None:
    layer = {"ignore": ("a",), "rps": 5.0}
    settings.merge(layer, {"ignore": ("b",), "rps": 6.0})
    assert layer == {"ignore": ("a",), "rps": 5.0}


def test_without_limits_no_growth_at_all_is_allowed() -> None:
    budget = Settings().budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (0.0, 0.0)
    assert (budget.fds, budget.threads, budget.tasks, budget.children) == (0, 0, 0, 0)
    assert (budget.requests_per_s, budget.max_mb_per_min) == (50.0, None)


def test_one_megabyte_a_minute_is_333_bytes_a_request_at_the_default_rate() -> None:
    budget = Settings(max_mb_per_min=1).budget()
    assert budget.bytes_per_request == pytest.approx(333.33, abs=0.01)
    assert budget.max_mb_per_min == 1


@pytest.mark.parametrize("rps, bytes_per_request", [(1, 16_666.67), (50, 333.33), (1_000, 16.67)])
def test_a_limit_per_minute_allows_less_per_request_the_more_requests_there_are(
    rps: float, bytes_per_request: float
) -> None:
    budget = Settings(max_mb_per_min=1, rps=rps).budget()
    assert budget.bytes_per_request == pytest.approx(bytes_per_request, abs=0.01)
    assert budget.requests_per_s == rps


@pytest.mark.parametrize("limit", [0.1, 1, 2.9, 48])
def test_growth_of_exactly_the_budget_is_reported_as_exactly_the_limit(limit: float) -> None:
    budget = Settings(max_mb_per_min=limit, rps=33).budget()
    assert budget.bytes_per_request is not None
    assert units.mb_per_min(budget.bytes_per_request, 33) == pytest.approx(limit)


@pytest.mark.parametrize("own, stricter", [(333.0, 333.0), (334.0, pytest.approx(333.33, abs=0.01)), (0.0, 0.0)])
def test_of_two_limits_on_memory_the_stricter_holds(own: float, stricter: float) -> None:
    budget = Settings(max_mb_per_min=1, max_bytes_per_request=own).budget()
    assert budget.bytes_per_request == stricter


def test_a_limit_on_memory_lifts_the_default_of_no_object() -> None:
    assert Settings(max_bytes_per_request=100).budget().objects_per_request is None
    assert Settings(max_mb_per_min=1).budget().objects_per_request is None


def test_a_limit_on_objects_lifts_the_default_of_no_byte() -> None:
    budget = Settings(max_objects_per_request=2).budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (None, 2)


def test_limits_on_memory_and_on_objects_hold_both() -> None:
    budget = Settings(max_bytes_per_request=100, max_objects_per_request=2).budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (100, 2)


def test_a_limit_on_descriptors_threads_or_tasks_leaves_memory_at_zero() -> None:
    budget = Settings(max_fds=1, max_threads=2, max_tasks=3).budget()
    assert (budget.fds, budget.threads, budget.tasks) == (1, 2, 3)
    assert (budget.bytes_per_request, budget.objects_per_request) == (0.0, 0.0)


@pytest.mark.parametrize("zero", ["max_mb_per_min", "max_bytes_per_request", "max_objects_per_request"])
def test_an_explicit_budget_of_zero_loosens_nothing(zero: str) -> None:
    budget = settings.merge({zero: 0.0}).budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (0.0, 0.0)


def test_a_zero_beside_a_limit_on_the_other_view_of_memory_holds_as_it_stands() -> None:
    budget = Settings(max_bytes_per_request=0.0, max_objects_per_request=2).budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (0.0, 2)
    budget = Settings(max_bytes_per_request=100, max_objects_per_request=0.0).budget()
    assert (budget.bytes_per_request, budget.objects_per_request) == (100, 0.0)
