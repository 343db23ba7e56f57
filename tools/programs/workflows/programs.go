//go:build never

// Package workflows only names the main packages of other modules that are built with this go.mod, so that
// `go mod tidy` keeps what they need.
package workflows

import (
	_ "github.com/nektos/act"
	_ "github.com/rhysd/actionlint/cmd/actionlint"
)
