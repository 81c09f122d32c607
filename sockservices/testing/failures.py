"""How a contract says what is wrong: the rule, the input that breaks it, and the usual mend."""

from __future__ import annotations

import attrs


@attrs.frozen
class Rule:
    """One rule of a contract.

    Parameters:
        text: what holds for every service.
        hint: how it is usually mended.
    """

    text: str
    hint: str


class ContractError(AssertionError):
    """A service breaks a rule.

    Parameters:
        rule: which one.
        what: what happened.
        given: the shortest input that was found, as it is shown.
    """

    def __init__(self, rule: Rule, what: str, given: str) -> None:
        super().__init__(
            f"\n  rule:  {rule.text}\n  input: {given}\n  seen:  {what}\n  hint:  {rule.hint}"
        )
        self.rule = rule
        self.what = what
        self.given = given
