// Modules of which the lab reads files and compiles nothing: the CRDs that the platform's objects are checked against.
module slipway/tools/crds

go 1.26.0

require (
	github.com/external-secrets/external-secrets v1.3.2
	github.com/kedacore/keda/v2 v2.20.2
	github.com/prometheus-operator/prometheus-operator v0.93.0
	sigs.k8s.io/gateway-api v1.6.1
	sigs.k8s.io/kueue v0.19.2
)
