//go:build tools

// Package tools names the program that the black-box tests drive, so that go.mod keeps what it is made of.
package tools

import _ "github.com/docker/compose/v2/cmd"
