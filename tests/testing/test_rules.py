from __future__ import annotations

import inspect

from sockservices.testing import checking, datagrams, rules, streams
from sockservices.testing.failures import Rule

RULES = {name: each for name, each in vars(rules).items() if isinstance(each, Rule)}


def test_each_rule_is_its_own_and_has_a_way_to_mend_it() -> None:
    assert len(RULES) > 10
    assert len({each.text for each in RULES.values()}) == len(RULES)
    assert len({each.hint for each in RULES.values()}) == len(RULES)
    for each in RULES.values():
        for line in (each.text, each.hint):
            assert line == " ".join(line.split())
            assert line


def test_each_rule_is_held_by_a_contract() -> None:
    source = "".join(map(inspect.getsource, (checking, datagrams, streams)))
    assert [name for name in RULES if f"rules.{name}" not in source] == []
