//go:build tools

// Package tools names the suite, so that go.mod keeps what it is made of.
package tools

import _ "github.com/opencontainers/distribution-spec/conformance"
