// Package ext holds the two types that Traefik's configuration embeds for its commercial edition.
// Upstream keeps it as a nested module that is never published, so a build from the published module needs its own.
package ext

// HTTP extends the HTTP configuration: with nothing.
type HTTP struct{}

// Router extends a router's configuration: with nothing.
type Router struct{}
