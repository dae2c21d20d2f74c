"""The policy pack: `pulumi up --policy-pack ../policies`, in any folder of platform/."""

from slipway_platform.policies.pack import make_pack

make_pack()
