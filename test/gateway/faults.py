"""The rules that make a gateway misbehave: which fault, for which requests, how often.

What each fault then does to a request is in fault_behaviours.py.
"""

from __future__ import annotations

import random
import re
import typing
from dataclasses import dataclass

import fault_behaviours
from protocol import GOOD, NOTIFICATION, QUERY, REFUND, Protocol

# Which parameter names a way to sign wrongly.
SIGNING_FAULTS = {"bad_signature": "how", "provider_error": "signature", "notify_forged": "how"}
COMMON_KEYS = {"fault", "on", "probability", "count", "match"}


class BadRule(Exception):
    """A rule that cannot be followed; the text says why."""


@dataclass(slots=True)
class Rule:
    fault: str
    on: str
    probability: float
    count: int | None
    match: str | None
    parameters: dict[str, typing.Any]
    applied: int = 0

    def as_json(self) -> dict[str, typing.Any]:
        return {
            "fault": self.fault,
            "on": self.on,
            "probability": self.probability,
            "count": self.count,
            "match": self.match,
            **self.parameters,
            "applied": self.applied,
        }


class FaultPlan:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.replace([])

    def replace(self, rules: list[Rule]) -> None:
        """New rules start with a fresh generator, so that a test's run does not depend on what
        was drawn before."""
        self.rules = rules
        self._random = random.Random(self._seed)

    def choose(
        self, kind: str, refund_no: str, only: str | None = None, but: str | None = None
    ) -> Rule | None:
        """The first rule that applies to this request, if any; it counts as applied. `only` and
        `but` name the one fault that comes into question, or does not."""
        for rule in self.rules:
            if rule.on != kind and (rule.on != "any" or kind == NOTIFICATION):
                continue
            if rule.fault == but or only not in (None, rule.fault):
                continue
            if rule.count is not None and rule.applied >= rule.count:
                continue
            if rule.match is not None and not re.search(rule.match, refund_no):
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.applied += 1
            return rule
        return None


def parse_rules(rules: typing.Any, protocol: Protocol) -> list[Rule]:
    """The ways to sign wrongly are the protocol's."""
    if not isinstance(rules, list):
        raise BadRule("the rules are a JSON list")
    parsed = [_parse_rule(rule) for rule in rules]
    for rule in parsed:
        if rule.fault not in SIGNING_FAULTS:
            continue
        key = SIGNING_FAULTS[rule.fault]
        is_news = rule.on == NOTIFICATION
        known = protocol.news_signatures if is_news else protocol.answer_signatures
        known = (GOOD, *known) if key == "signature" else known
        if rule.parameters[key] not in known:
            raise BadRule(f"{key} of {rule.fault} is one of {', '.join(known) or 'none'} here")
    return parsed


def _parse_rule(rule: typing.Any) -> Rule:
    if not isinstance(rule, dict) or "fault" not in rule:
        raise BadRule("a rule is a JSON object with the key fault")
    name = str(rule["fault"])
    if name not in fault_behaviours.FAULTS:
        raise BadRule(f"there is no fault {name}; there are {', '.join(fault_behaviours.FAULTS)}")
    fault = fault_behaviours.FAULTS[name]
    on = rule.get("on", "any" if fault.only_on is None else fault.only_on)
    probability = rule.get("probability", 1)
    count = rule.get("count")
    match = rule.get("match")
    if on not in (REFUND, QUERY, "any") and on != fault.only_on:
        raise BadRule("on is refund, query or any")
    if fault.only_on is not None and on != fault.only_on:
        raise BadRule(f"{name} is only possible on {fault.only_on}")
    if type(probability) not in (int, float) or not 0 <= probability <= 1:
        raise BadRule("probability is a number from 0 to 1")
    if count is not None and (type(count) is not int or count < 0):
        raise BadRule("count is a whole number")
    _check_match(match)
    given = {key: value for key, value in rule.items() if key not in COMMON_KEYS}
    return Rule(name, on, probability, count, match, _parameters(name, fault, given))


def _check_match(match: typing.Any) -> None:
    if match is None:
        return
    if not isinstance(match, str):
        raise BadRule("match is a regular expression")
    try:
        re.compile(match)
    except re.error as error:
        raise BadRule(f"match is not a regular expression: {error}") from None


def _parameters(
    name: str, fault: fault_behaviours.Fault, given: dict[str, typing.Any]
) -> dict[str, typing.Any]:
    unknown = sorted(given.keys() - fault.parameters.keys())
    if unknown:
        raise BadRule(f"{name} has no parameter {unknown[0]}")
    values = {}
    for key, parameter in fault.parameters.items():
        value = given.get(key, parameter.default)
        if not parameter.is_valid(value):
            raise BadRule(f"{key} of {name} is {parameter.wanted}")
        values[key] = value
    return values
