"""The rules as a policy pack of Pulumi: `pulumi up --policy-pack ../policies`.

It judges nothing itself. Caps come from the pack's configuration (`--policy-pack-config`), with the defaults of
`rules.Limits`; one cap is set once, for the rule that uses it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from pulumi_policy import (
    EnforcementLevel,
    PolicyConfigSchema,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)

from slipway_platform.policies.rules import RULES, Limits, Rule
from slipway_platform.policies.stacks import STACK_RULES, Resource, StackRule

__all__ = ["NAME", "make_pack", "resource_policies", "stack_policies"]

NAME = "slipway"

_SCHEMA = PolicyConfigSchema(
    properties={
        "max_replicas": {"type": "integer", "minimum": 1},
        "max_gpus": {"type": "integer", "minimum": 0},
        "max_cpus": {"type": "integer", "minimum": 0},
        "public_load_balancers": {"type": "array", "items": {"type": "string"}},
    }
)


def make_pack() -> PolicyPack:
    """Registers the pack with Pulumi, which is what a policy program is for; blocks until Pulumi is done."""
    return PolicyPack(
        name=NAME,
        enforcement_level=EnforcementLevel.MANDATORY,
        policies=[*resource_policies(), *stack_policies()],
    )


def resource_policies() -> list[ResourceValidationPolicy]:
    """One for each rule about an object."""
    return [
        ResourceValidationPolicy(
            name=rule.name, description=rule.asks, validate=_of_object(rule), config_schema=_SCHEMA
        )
        for rule in RULES
    ]


def stack_policies() -> list[StackValidationPolicy]:
    """One for each rule about a stack."""
    return [
        StackValidationPolicy(name=rule.name, description=rule.asks, validate=_of_stack(rule), config_schema=_SCHEMA)
        for rule in STACK_RULES
    ]


def _of_object(rule: Rule) -> Callable[[ResourceValidationArgs, ReportViolation], None]:
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if not args.resource_type.startswith("kubernetes:"):
            return
        one = {"kind": args.resource_type.rpartition(":")[2], **args.props}
        for message in rule.check(one, _limits(args.get_config())):
            report(f"{args.name}: {message}", None)

    return validate


def _of_stack(rule: StackRule) -> Callable[[StackValidationArgs, ReportViolation], None]:
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        resources = [
            Resource(type=one.resource_type, name=one.name, properties=one.props, is_protected=bool(one.opts.protect))
            for one in args.resources
        ]
        for message in rule.check(resources, _limits(args.get_config())):
            report(message, None)

    return validate


def _limits(config: Mapping[str, Any]) -> Limits:
    return msgspec.convert(dict(config), Limits, strict=False)
