//go:build never

// Package programs only names the main packages of other modules that are built with this go.mod, so that
// `go mod tidy` keeps what they need.
package programs

import (
	_ "github.com/google/go-containerregistry/cmd/crane"
	_ "github.com/moby/buildkit/cmd/buildkitd"
)
