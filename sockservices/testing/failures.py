"""The failure of a contract: the rule, the input that breaks it, and the usual fix."""

from __future__ import annotations

import attrs


@attrs.frozen
class Rule:
    """One rule of a contract.

    Parameters:
        text: what must hold for every service.
        hint: the usual fix.
    """

    text: str
    hint: str


class ContractError(AssertionError):
    """The error of a service that breaks a rule.

    Parameters:
        rule: the rule.
        what: what happened.
        given: the shortest input that was found, as text.
    """

    def __init__(self, rule: Rule, what: str, given: str) -> None:
        super().__init__(
            f"\n  rule:  {rule.text}\n  input: {given}\n  seen:  {what}\n  hint:  {rule.hint}"
        )
        self.rule = rule
        self.what = what
        self.given = given
