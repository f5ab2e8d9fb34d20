"""What cannot be is told with its limit, never in a library's words."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.command_line import field_at, model_of
from paceline.limits import told
from paceline_tools.cli.app import Paceline
from target_server.settings import TargetSettings


class Values(BaseModel):
    whole: int = 1
    some: Annotated[int, Field(ge=1, le=9)] = 1
    share: float = Field(0.5, gt=0, lt=1)
    least: float = Field(1.0, ge=0.1)
    finite: float = Field(1.0, allow_inf_nan=False)
    flag: bool = False
    word: Literal["one", "two"] = "one"
    pattern: str = Field("a", pattern="^(a|b)$")
    named: str = Field("x", min_length=1, max_length=4)
    several: list[str] = Field(["x"], min_length=1, max_length=2)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("whole", "x", "a whole number"),
        ("whole", "1.5", "a whole number"),
        ("some", 0, "from 1 to 9"),
        ("some", "ten", "a whole number from 1 to 9"),
        ("share", 0, "more than 0 and less than 1"),
        ("least", 0, "at least 0.1"),
        ("finite", "nan", "a number"),
        ("flag", "perhaps", "yes or no"),
        ("word", "three", "one of one, two"),
        ("word", "TWOO", "one of one, two; did you mean two?"),
        ("pattern", "c", "one of a, b"),
        ("named", "", "a text that is not empty"),
        ("named", "xxxxx", "at most 4 characters"),
        ("several", [], "at least one"),
        ("several", ["x"] * 3, "at most 2 of them"),
        ("named", 3, "a text"),
    ],
)
def test_a_limit_is_told(field: str, value: object, said: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Values.model_validate({field: value})
    [problem] = raised.value.errors()
    assert told(problem, Values.model_fields[field].metadata) == f"; it must be {said}"


COMMANDS = [model_of(field) for field in Paceline.model_fields.values()]


@pytest.mark.parametrize("kind", [OrchestratorSettings, DraftSettings, TargetSettings, *COMMANDS])
@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "1e99", {}, []])
def test_no_setting_is_refused_in_the_librarys_words(kind: type[BaseModel], value: object) -> None:
    for name, field in kind.model_fields.items():
        try:
            kind.model_validate({field.alias or name: value})
        except ValidationError as error:
            for problem in error.errors():
                its = field_at(kind, [part for part in problem["loc"] if isinstance(part, str)])
                said = told(problem, its.metadata if its else ())
                assert "nput" not in said, (name, said)
                assert "valid" not in said.replace("valid UTF-8", ""), (name, said)
