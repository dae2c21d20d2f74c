"""The network of an EKS cluster: private subnets for nodes, public ones for load balancers and the way out.

It makes a network, and never changes one that somebody else owns. The invariant: no node gets a public address; a node
reaches out through a NAT gateway, or not at all.
Tags: https://docs.aws.amazon.com/eks/latest/userguide/network-load-balancing.html, "subnet auto discovery".
"""

import ipaddress

import pulumi
import pulumi_aws as aws

from slipway_platform.cluster.settings import Network

__all__ = ["EksNetwork"]

SUBNET_PREFIX = 20
"""4,094 addresses: EKS takes sixteen for each node at once."""


class EksNetwork(pulumi.ComponentResource):
    """A VPC with a private and a public subnet in each zone.

    Args:
        name: Of the component, and the prefix of its children.
        network: Its addresses and zones; `zones` is not empty.
        opts: With the provider of AWS.
    """

    private_subnets: list[pulumi.Output[str]]
    """Ids, one for each zone."""

    def __init__(self, name: str, network: Network, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("slipway:cluster:EksNetwork", name, None, opts)
        blocks = ipaddress.ip_network(network.cidr).subnets(new_prefix=SUBNET_PREFIX)
        self._vpc = aws.ec2.Vpc(
            name,
            cidr_block=network.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={"Name": name},
            opts=pulumi.ResourceOptions(parent=self, protect=True),
        )
        gateway = aws.ec2.InternetGateway(name, vpc_id=self._vpc.id, opts=self._child())
        public = [self._subnet(name, zone, str(next(blocks)), tier="public") for zone in network.zones]
        self._route(f"{name}-public", public, gateway_id=gateway.id)
        private = [self._subnet(name, zone, str(next(blocks)), tier="private") for zone in network.zones]
        if network.nat_per_zone:
            for zone, outside, inside in zip(network.zones, public, private, strict=True):
                self._route(f"{name}-{zone}", [inside], nat_gateway_id=self._nat(f"{name}-{zone}", outside))
        else:
            self._route(f"{name}-private", private, nat_gateway_id=self._nat(name, public[0]))
        self.private_subnets = [subnet.id for subnet in private]
        self.register_outputs({"private_subnets": self.private_subnets})

    def _subnet(self, name: str, zone: str, block: str, *, tier: str) -> aws.ec2.Subnet:
        role = "kubernetes.io/role/elb" if tier == "public" else "kubernetes.io/role/internal-elb"
        return aws.ec2.Subnet(
            f"{name}-{tier}-{zone}",
            vpc_id=self._vpc.id,
            availability_zone=zone,
            cidr_block=block,
            map_public_ip_on_launch=False,
            tags={"Name": f"{name}-{tier}-{zone}", role: "1"},
            opts=self._child(),
        )

    def _nat(self, name: str, subnet: aws.ec2.Subnet) -> pulumi.Output[str]:
        address = aws.ec2.Eip(name, domain="vpc", opts=self._child())
        gateway = aws.ec2.NatGateway(name, allocation_id=address.allocation_id, subnet_id=subnet.id, opts=self._child())
        identity: pulumi.Output[str] = gateway.id
        return identity

    def _route(
        self,
        name: str,
        subnets: list[aws.ec2.Subnet],
        *,
        gateway_id: pulumi.Input[str] | None = None,
        nat_gateway_id: pulumi.Input[str] | None = None,
    ) -> None:
        way_out = aws.ec2.RouteTableRouteArgs(
            cidr_block="0.0.0.0/0", gateway_id=gateway_id, nat_gateway_id=nat_gateway_id
        )
        table = aws.ec2.RouteTable(name, vpc_id=self._vpc.id, routes=[way_out], opts=self._child())
        for number, subnet in enumerate(subnets):
            aws.ec2.RouteTableAssociation(
                f"{name}-{number}", route_table_id=table.id, subnet_id=subnet.id, opts=self._child()
            )

    def _child(self) -> pulumi.ResourceOptions:
        return pulumi.ResourceOptions(parent=self)
